"""Bottlenecks with a distribution over codes: variational, mmd, hyperspherical."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor
from torch.nn import functional

from keyhole.core.layout import Shape
from keyhole.core.parts import Json
from keyhole.core.records import Code
from keyhole.errors import SettingError
from keyhole.model.bottlenecks.base import Bottleneck, Codes, noise_like
from keyhole.model.layers import Linear, State

LOG_2PI = math.log(2 * math.pi)
MIN_LOG_SD, MAX_LOG_SD = -6.0, 2.0
START_SD = 0.1  # of untrained codes
MAX_SAMPLES = 1_000  # of the code of a row
RATE_WEIGHT = 10.0  # nats charged for each nat beside the target rate
# What a stochastic code asks for: whole rows and a Gaussian scale that is learned.
RECOMMENDED_PARTS: dict[str, dict[str, Json]] = {
    "corruption": {"kind": "none"},
    "head": {"kind": "mixed", "continuous": "gaussian"},
}
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of MMD's kernel, in units of its own
MAX_CONCENTRATION = 1e4  # of a von Mises-Fisher code


@dataclass(eq=False, repr=False, kw_only=True)
class Variational(Bottleneck):
    """Each row has a normal posterior over codes; its divergence from N(0, I) is the cost.

    `beta` weighs the cost (Higgins et al. 2017, eq. 4); `free_bits` nats a dimension are free
    (Kingma et al. 2016, eq. 15); `rate` is the target for the code's nats a row (Burgess et al.
    2018, eq. 8); `samples` above 1 train the importance-weighted bound (Burda et al. 2016, eq. 8).
    """

    kind = "variational"
    stochastic = True
    purpose = "generation, likelihoods, codes with an uncertainty"
    formula = "beta KL(N(mu, sigma^2) || N(0, 1)), z = mu + sigma eps"
    source = "Kingma and Welling 2014, eq. 10; beta: Higgins et al. 2017, eq. 4"
    recommended_parts = RECOMMENDED_PARTS
    weights = ("beta", "free_bits")

    beta: float = 1.0
    free_bits: float = 0.0
    rate: float | None = None
    samples: int = 1

    def check(self) -> None:
        """Raises: SettingError for an invalid argument."""
        super().check()
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise SettingError(f"rate={self.rate!r}: expected nats per row (above zero), or None")
        if not 1 <= self.samples <= MAX_SAMPLES or self.samples != int(self.samples):
            raise SettingError(
                f"samples={self.samples!r}: give a whole number from 1 to {MAX_SAMPLES:,}"
            )
        if self.samples > 1 and (self.beta, self.free_bits, self.rate) != (1.0, 0.0, None):
            raise SettingError(
                f"samples={self.samples}: the importance-weighted bound does not use beta, "
                "free_bits or rate; leave them at their defaults, or set samples=1"
            )

    def bind(self, shape: Shape) -> Shape:
        """Make the maps to mean and log standard deviation."""
        self.check()
        wide = self.width_for(shape)
        self.to_mean, self.to_log_sd = normal_maps(shape, wide, START_SD)
        return shape.widened(wide)

    def forward(self, state: State, generator: Generator | None = None) -> Code:
        """With a generator, `samples` draws of the posterior and their log p(z) - log q(z|x)."""
        code = normal_code(self.to_mean(state), self.to_log_sd(state), generator, self.samples)
        return replace(code, cost=self._penalty(code.stats["nats"]))

    def _penalty(self, nats: Tensor) -> Tensor:
        if self.rate is not None:
            rate = nats.mean(-2, keepdim=True).sum(-1, keepdim=True)  # of the batch, a member
            sign = RATE_WEIGHT * torch.sign(rate - self.rate).detach()
            return sign * (nats - self.rate / nats.shape[-1])
        if self.free_bits:
            mean = nats.mean(-2, keepdim=True)  # a dimension's nats, over the batch
            return self.beta * torch.where(mean < self.free_bits, self.free_bits, nats)
        return self.beta * nats


def normal_maps(shape: Shape, wide: int, start_sd: float) -> tuple[Linear, Linear]:
    """The maps to mean and log standard deviation of a normal code, at `start_sd` at first."""
    to_mean = Linear(shape.wide, wide, shape.members)
    to_log_sd = Linear(shape.wide, wide, shape.members)
    with torch.no_grad():
        to_log_sd.weight.mul_(0.1)
        to_log_sd.bias.fill_(math.log(start_sd))
    return to_mean, to_log_sd


def normal_code(
    mean: Tensor, log_sd: Tensor, generator: Generator | None, samples: int = 1
) -> Code:
    """The code of normal posteriors; its cost is their divergence from N(0, I) in nats.

    With a generator, `samples` draws and their log p(z) - log q(z|x).
    """
    log_sd = log_sd.clamp(MIN_LOG_SD, MAX_LOG_SD)
    variance = torch.exp(2 * log_sd)
    nats = 0.5 * (mean.square() + variance - 1) - log_sd
    code = Code(mean[None], mean, nats, stats={"nats": nats, "log_sd": log_sd})
    if generator is None:
        return code
    noise = noise_like(mean.expand(samples, *mean.shape), generator)
    z = mean + noise * log_sd.exp()
    ratio = 0.5 * (noise.square() - z.square()).sum(-1) + log_sd.sum(-1)
    return replace(code, z=z, log_ratio=ratio)


@dataclass(eq=False, repr=False, kw_only=True)
class MMD(Bottleneck):
    """Charges the maximum mean discrepancy between a batch's codes and N(0, I).

    Each row keeps an exact code; only all together are normal.
    """

    kind = "mmd"
    purpose = "normally distributed codes without noise: generation, sharp reconstructions"
    formula = "weight MMD^2(z, N(0, I)), kernel sum_s C_s / (C_s + ||z - z'||^2), C_s = 2 width s"
    source = "Tolstikhin et al. 2018, algorithm 2; Zhao et al. 2019, eq. 6"
    weights = ("weight",)

    weight: float = 10.0

    def penalised(self, code: Code, encode: object, embedded: State, generator: Generator) -> Code:
        """With the batch's discrepancy, in even shares to rows' dimensions."""
        z, wide = code.mean, code.mean.shape[-1]
        normal = noise_like(z, generator)
        between = 2 * _kernel(z, normal).mean((-2, -1))
        apart = _within(z) + _within(normal) - between  # (*lead)
        cost = (self.weight / wide) * apart[..., None, None].expand_as(z)
        return replace(code, cost=cost)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """The inverse multiquadratic kernel, its mean over scales: (*lead, row of x, row of y)."""
    sizes = x.square().sum(-1)[..., :, None] + y.square().sum(-1)[..., None, :]
    square = (sizes - 2 * x @ y.transpose(-2, -1)).clamp(min=0)
    scales = [2 * x.shape[-1] * scale for scale in SCALES]
    return torch.stack([c / (c + square) for c in scales]).mean(0)


def _within(x: Tensor) -> Tensor:
    """The mean kernel between different rows: the estimate without bias."""
    rows = x.shape[-2]
    return (_kernel(x, x).sum((-2, -1)) - rows) / max(rows * (rows - 1), 1)


@dataclass(eq=False, repr=False, kw_only=True)
class Hyperspherical(Bottleneck):
    """Each row has a power spherical posterior around its direction; the prior is uniform.

    As the von Mises-Fisher's, but entropy and draws have closed forms.
    """

    kind = "hyperspherical"
    stochastic = True
    least_width = 2
    purpose = "directions, phases, topics; codes compared by cosine similarity"
    formula = "q(z|x) ~ (1 + mu z)^kappa on the sphere; beta KL(q || uniform)"
    source = "Davidson et al. 2018; the posterior: De Cao and Aziz 2020, eq. 3 and 8"
    recommended_parts = RECOMMENDED_PARTS
    weights = ("beta",)

    beta: float = 1.0

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

    def forward(self, state: State, generator: Generator | None = None) -> Code:
        """The direction; with a generator, one draw around it."""
        mean = self.project(self.to_mean(state))
        kappa = functional.softplus(self.to_spread(state)).clamp(max=MAX_CONCENTRATION) + 1.0
        wide = mean.shape[-1]
        a, b = (wide - 1) / 2 + kappa, (wide - 1) / 2 + torch.zeros_like(kappa)
        log_norm = (a + b) * math.log(2) + b * math.log(math.pi)
        log_norm = log_norm + torch.lgamma(a) - torch.lgamma(a + b)
        expected = math.log(2) + torch.digamma(a) - torch.digamma(a + b)  # of log(1 + mu z)
        log_area = math.log(2) + wide / 2 * math.log(math.pi) - math.lgamma(wide / 2)
        nats = ((kappa * expected - log_norm + log_area) / wide).expand_as(mean)  # even shares
        code = Code(mean[None], mean, self.beta * nats, stats={"nats": nats})
        if generator is None:
            return code
        z, cosine = _draw(mean, a, b, generator)
        log_q = kappa[..., 0] * torch.log1p(cosine.clamp(-1 + 1e-6, 1)) - log_norm[..., 0]
        return replace(code, z=z[None], log_ratio=(-log_area - log_q)[None])

    def project(self, z: Codes) -> Codes:
        """The direction, of length one."""
        return functional.normalize(z, dim=-1, eps=1e-6)


def _draw(mean: Tensor, a: Tensor, b: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """A draw around each direction, and its cosine to it: De Cao and Aziz 2020, algorithm 1."""
    # Private, since nothing public draws with a gradient to the shape from a generator handed in:
    # torch.distributions.Gamma calls this very function with the process's own generator.
    first, second = (
        torch._standard_gamma(x.to(generator.device), generator=generator).to(x) for x in (a, b)
    )
    cosine = 2 * (first / (first + second).clamp(min=1e-12)) - 1  # (*lead, B, 1)
    other = noise_like(mean, generator)
    other = other - (other * mean).sum(-1, keepdim=True) * mean
    across = functional.normalize(other, dim=-1, eps=1e-6)
    z = cosine * mean + (1 - cosine.square()).clamp(min=1e-12).sqrt() * across
    return z, cosine[..., 0]
