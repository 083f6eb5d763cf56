"""A normal code whose prior remembers: RecVAE's composite prior, with a weight for each row."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from keyhole.core.layout import Shape
from keyhole.core.records import Code
from keyhole.model.bottlenecks.base import Bottleneck
from keyhole.model.bottlenecks.stochastic import (
    LOG_2PI,
    RECOMMENDED_PARTS,
    normal_code,
    normal_maps,
)
from keyhole.model.layers import State

# Shares of the prior: the standard normal, the row's earlier posterior, and the wide normal.
STANDARD, EARLIER, WIDE = 0.15, 0.75, 0.1
WIDE_LOG_SD = 5.0  # half of a log variance of 10
START_SD = 1.0  # of untrained codes: the prior keeps a posterior about as wide as it was


@dataclass(eq=False, repr=False, kw_only=True)
class Composite(Bottleneck):
    """A normal posterior, charged its divergence from a mixture that has the row's earlier one.

    A nat costs `gamma` for each value of the row: an item of a list, or an observed feature. The
    earlier posterior is that of the running average of the weights, given the whole row; in the
    paper it is that of the epoch before. Codes cost nothing beside themselves, so held-out rows
    are judged by how well they are rebuilt.
    """

    kind = "composite"
    stochastic = True
    recalls = True
    purpose = "lists of items: codes that change slowly in training; long lists cost more"
    formula = "gamma n(x) KL(q || .15 N(0, 1) + .75 q_earlier + .1 N(0, e^10)), n values in x"
    source = "Shenbin et al. 2020, eq. 6 and section 3.3"
    recommended_parts = RECOMMENDED_PARTS
    weights = ("gamma",)

    gamma: float = 0.005

    def bind(self, shape: Shape) -> Shape:
        """Make the maps to mean and log standard deviation."""
        self.check()
        wide = self.width_for(shape)
        self.to_mean, self.to_log_sd = normal_maps(shape, wide, START_SD)
        return shape.widened(wide)

    def forward(self, state: State, generator: Generator | None = None) -> Code:
        """With a generator, one draw of the posterior and its log N(z; 0, I) - log q(z|x)."""
        code = normal_code(self.to_mean(state), self.to_log_sd(state), generator)
        return replace(code, cost=torch.zeros_like(code.mean))

    def recalled(self, code: Code, earlier: Code, values: Float[Tensor, "*lead batch"]) -> Code:
        """With the cost beside the earlier posterior, from the code's own draw."""
        log_q = _log_normal(code.z, code.mean, code.stats["log_sd"])
        zero = torch.zeros_like(code.z)
        parts = [
            math.log(STANDARD) + _log_normal(code.z, zero, zero),
            math.log(EARLIER) + _log_normal(code.z, earlier.mean, earlier.stats["log_sd"]),
            math.log(WIDE) + _log_normal(code.z, zero, zero + WIDE_LOG_SD),
        ]
        nats = (log_q - torch.logsumexp(torch.stack(parts), 0)).mean(0)
        return replace(code, cost=self.gamma * values[..., None] * nats)


def _log_normal(z: Tensor, mean: Tensor, log_sd: Tensor) -> Tensor:
    """The log-density of each dimension under a normal distribution."""
    return -0.5 * (((z - mean) * torch.exp(-log_sd)).square() + LOG_2PI) - log_sd
