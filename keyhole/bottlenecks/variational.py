"""The variational bottleneck: a code with noise, at a price in nats."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from keyhole.bottlenecks.base import Bottleneck, noise_like
from keyhole.core.layout import Shape
from keyhole.core.linear import Linear
from keyhole.core.records import Code
from keyhole.errors import SettingError

LOG_2PI = math.log(2 * math.pi)
LEAST_LOG_SD, MOST_LOG_SD = -6.0, 2.0
MOST_SAMPLES = 1_000
RATE_WEIGHT = 10.0  # nats charged for each nat beside the target rate


class Variational(Bottleneck):
    """Each row has a normal posterior over codes; its divergence from N(0, I) is the price.

    `beta` weighs the price (Higgins et al. 2017, eq. 4); `free_bits` nats a dimension are free
    (Kingma et al. 2016, eq. 15); with `rate` the price holds the code near so many nats a row
    (Burgess et al. 2018, eq. 8); `samples` above 1 train the importance-weighted bound (Burda et
    al. 2016, eq. 8).
    """

    kind = "variational"
    noisy = True
    purpose = "generation, likelihoods, codes whose noise says what matters"
    formula = "beta KL(N(mu, sigma^2) || N(0, 1)), z = mu + sigma eps"
    source = "Kingma and Welling 2014, eq. 10; beta: Higgins et al. 2017, eq. 4"
    partners = {
        "corruption": {"kind": "nothing"},
        "head": {"kind": "mixed", "continuous": "gaussian"},
    }

    def __init__(
        self,
        width: int | Literal["auto"] | None = None,
        *,
        beta: float = 1.0,
        free_bits: float = 0.0,
        rate: float | None = None,
        samples: int = 1,
    ) -> None:
        super().__init__()
        self.width = width
        self.beta = beta
        self.free_bits = free_bits
        self.rate = rate
        self.samples = samples

    def check(self) -> None:
        """Raises: SettingError for a price that is none."""
        for name in ("beta", "free_bits"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise SettingError(f"{name}={value!r}: it must be zero or above")
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise SettingError(f"rate={self.rate!r}: give nats a row above zero, or None")
        if not 1 <= self.samples <= MOST_SAMPLES or self.samples != int(self.samples):
            raise SettingError(
                f"samples={self.samples!r}: give a whole number from 1 to {MOST_SAMPLES:,}"
            )
        if self.samples > 1 and (self.beta, self.free_bits, self.rate) != (1.0, 0.0, None):
            raise SettingError(
                f"samples={self.samples}: the importance-weighted bound has no beta, free bits or "
                "rate; leave them as they are, or use samples=1"
            )

    def bind(self, shape: Shape) -> Shape:
        """Make the maps to mean and log standard deviation, which starts at a tenth."""
        self.check()
        wide = self.width_for(shape)
        self.to_mean = Linear(shape.wide, wide, shape.members)
        self.to_log_sd = Linear(shape.wide, wide, shape.members)
        with torch.no_grad():
            self.to_log_sd.weight.mul_(0.1)
            self.to_log_sd.bias.fill_(math.log(0.1))
        return shape.widened(wide)

    def forward(
        self, state: Float[Tensor, "*lead batch wide"], generator: Generator | None = None
    ) -> Code:
        """With a generator, `samples` draws of the posterior and their log p(z) - log q(z|x)."""
        mean = self.to_mean(state)
        log_sd = self.to_log_sd(state).clamp(LEAST_LOG_SD, MOST_LOG_SD)
        variance = torch.exp(2 * log_sd)
        nats = 0.5 * (mean.square() + variance - 1) - log_sd
        stats = {"nats": nats, "log_sd": log_sd}
        if generator is None:
            return Code(mean[None], mean, self._price(nats), stats=stats)
        noise = noise_like(mean.expand(self.samples, *mean.shape), generator)
        z = mean + noise * log_sd.exp()
        ratio = 0.5 * (noise.square() - z.square()).sum(-1) + log_sd.sum(-1)
        return Code(z, mean, self._price(nats), log_ratio=ratio, stats=stats)

    def _price(self, nats: Tensor) -> Tensor:
        if self.rate is not None:
            held = nats.mean(-2, keepdim=True).sum(-1, keepdim=True)  # of the batch, a member
            sign = RATE_WEIGHT * torch.sign(held - self.rate).detach()
            return sign * (nats - self.rate / nats.shape[-1])
        if self.free_bits:
            held = nats.mean(-2, keepdim=True)  # a dimension's nats, over the batch
            return self.beta * torch.where(held < self.free_bits, self.free_bits, nats)
        return self.beta * nats
