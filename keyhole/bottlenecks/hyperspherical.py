"""Codes on a sphere: direction without length, with a power spherical posterior."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional

from keyhole.bottlenecks.base import Bottleneck, noise_like
from keyhole.core.layout import Shape
from keyhole.core.linear import Linear
from keyhole.core.records import Code
from keyhole.errors import SettingError

MOST_CONCENTRATION = 1e4


class Hyperspherical(Bottleneck):
    """Each row has a power spherical posterior around its direction; the prior is uniform.

    As the von Mises-Fisher's, but entropy and draws have closed forms.
    """

    kind = "hyperspherical"
    noisy = True
    least_width = 2
    purpose = "data that go round: directions, phases, topics; cosine similarity of codes"
    formula = "q(z|x) ~ (1 + mu z)^kappa on the sphere; beta KL(q || uniform)"
    source = "Davidson et al. 2018; the posterior: De Cao and Aziz 2020, eq. 3 and 8"
    partners = {
        "corruption": {"kind": "nothing"},
        "head": {"kind": "mixed", "continuous": "gaussian"},
    }

    def __init__(self, width: int | Literal["auto"] | None = None, *, beta: float = 1.0) -> None:
        super().__init__()
        self.width = width
        self.beta = beta

    def check(self) -> None:
        """Raises: SettingError for a price below zero."""
        if not 0 <= self.beta < math.inf:
            raise SettingError(f"beta={self.beta!r}: it must be zero or above")

    def bind(self, shape: Shape) -> Shape:
        """Make the maps to direction and concentration."""
        self.check()
        wide = self.width_for(shape)
        self.to_mean = Linear(shape.wide, wide, shape.members)
        self.to_spread = Linear(shape.wide, 1, shape.members)
        with torch.no_grad():
            self.to_spread.weight.mul_(0.1)
            self.to_spread.bias.fill_(4.0 * wide)
        return shape.widened(wide)

    def forward(
        self, state: Float[Tensor, "*lead batch wide"], generator: Generator | None = None
    ) -> Code:
        """The direction; with a generator, one draw around it."""
        mean = self.onto(self.to_mean(state))
        kappa = functional.softplus(self.to_spread(state)).clamp(max=MOST_CONCENTRATION) + 1.0
        wide = mean.shape[-1]
        a, b = (wide - 1) / 2 + kappa, (wide - 1) / 2 + torch.zeros_like(kappa)
        log_norm = (a + b) * math.log(2) + b * math.log(math.pi)
        log_norm = log_norm + torch.lgamma(a) - torch.lgamma(a + b)
        expected = math.log(2) + torch.digamma(a) - torch.digamma(a + b)  # of log(1 + mu z)
        log_area = math.log(2) + wide / 2 * math.log(math.pi) - math.lgamma(wide / 2)
        nats = (kappa * expected - log_norm + log_area) / wide  # even shares
        nats = nats.expand_as(mean)
        stats = {"nats": nats}
        if generator is None:
            return Code(mean[None], mean, self.beta * nats, stats=stats)
        z, cosine = _draw(mean, a, b, generator)
        log_q = kappa[..., 0] * torch.log1p(cosine.clamp(-1 + 1e-6, 1)) - log_norm[..., 0]
        return Code(
            z[None], mean, self.beta * nats, log_ratio=(-log_area - log_q)[None], stats=stats
        )

    def onto(self, z: Float[Tensor, "*lead code"]) -> Float[Tensor, "*lead code"]:
        """The direction, of length one."""
        return functional.normalize(z, dim=-1, eps=1e-6)


def _draw(mean: Tensor, a: Tensor, b: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """A draw around each direction, and its cosine to it: De Cao and Aziz 2020, algorithm 1."""
    gammas = [
        torch._standard_gamma(x.to(generator.device), generator=generator).to(x) for x in (a, b)
    ]
    share = gammas[0] / (gammas[0] + gammas[1]).clamp(min=1e-12)
    cosine = 2 * share - 1  # (*lead, B, 1)
    other = noise_like(mean, generator)
    other = other - (other * mean).sum(-1, keepdim=True) * mean
    across = functional.normalize(other, dim=-1, eps=1e-6)
    z = cosine * mean + (1 - cosine.square()).clamp(min=1e-12).sqrt() * across
    return z, cosine[..., 0]
