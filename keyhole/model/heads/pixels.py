"""Heads of pixels: discretised logistic, and the Poisson-Gaussian noise of cameras."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from keyhole.core.layout import Shape, Slot
from keyhole.model.heads.base import (
    FeatureHead,
    FeatureLikelihood,
    FeatureValues,
    Observed,
    to_width,
    visible_or_masked,
)
from keyhole.model.heads.continuous import GaussianFeatures, learned_scale
from keyhole.model.layers import State, to_features

FARTHEST = 1e15  # scales away, that a float32 can still tell
LIGHT_SHARE = 0.1  # of the variance at the start


@dataclass(frozen=True)
class LogisticFeatures(FeatureLikelihood):
    """Logistic around `location`, its mass between halves of a `step`; the density at step 0.

    The least and the most level, `low` and `high`, hold all that lies beyond them.
    """

    location: FeatureValues
    scale: Float[Tensor, "*row feature"]
    step: Float[Tensor, " feature"]
    low: Float[Tensor, " feature"]
    high: Float[Tensor, " feature"]

    def log_prob(self, target: Tensor) -> FeatureValues:
        """Log of the mass between half-steps. Source: Salimans et al. 2017, eq. 2."""
        away = (target - self.location) / self.scale
        return self._log_mass(away.clamp(-FARTHEST, FARTHEST), target)

    def deviance(self, target: Tensor) -> FeatureValues:
        """Nats beyond those of a logistic around the level itself; an end level can cost none."""
        away = torch.zeros((), device=target.device).expand_as(target)
        perfect = self._log_mass(away, target)
        first, last = self._ends
        at_end = self._discrete & ((target <= first) | (target >= last))
        perfect = torch.where(at_end, 0.0, perfect)
        return (perfect - self.log_prob(target)).clamp(min=0)

    def _log_mass(self, away: Tensor, target: Tensor) -> Tensor:
        density = -away.abs() - 2 * functional.softplus(-away.abs()) - torch.log(self.scale)
        if not bool(self._discrete.any()):
            return density
        half = torch.where(self._discrete, self.step, 1.0) / (2 * self.scale)
        upper, lower = away + half, away - half
        # The difference of two sigmoids, written so that none of it cancels.
        between = torch.log(-torch.expm1(-2 * half)) - lower
        between = between - functional.softplus(-upper) - functional.softplus(-lower)
        first, last = self._ends
        mass = torch.where(target <= first, functional.logsigmoid(upper), between)
        mass = torch.where(target >= last, functional.logsigmoid(-lower), mass)
        return torch.where(self._discrete, mass, density)

    @property
    def _discrete(self) -> Bool[Tensor, " feature"]:
        return self.step > 0

    @property
    def _ends(self) -> tuple[Tensor, Tensor]:
        return self.low + self.step / 4, self.high - self.step / 4  # encoding rounds levels

    @property
    def mean(self) -> Tensor:
        """The location, within the levels."""
        return torch.where(self._discrete, self.location.clamp(self.low, self.high), self.location)

    def interval(self, share: float) -> tuple[Tensor, Tensor]:
        """Symmetric around the location, within the levels."""
        reach = math.log((1 + share) / (1 - share)) * self.scale
        return self._levels(self.location - reach), self._levels(self.location + reach)

    def sample(self, generator: torch.Generator) -> Tensor:
        """A draw, at the nearest level."""
        like = {"generator": generator, "device": generator.device}
        share = torch.rand(self.location.shape, **like).clamp(1e-7, 1 - 1e-7).to(self.location)
        return self._levels(self.location + self.scale * torch.logit(share))

    def _levels(self, values: Tensor) -> Tensor:
        """The nearest level of each value that has levels."""
        step = torch.where(self._discrete, self.step, 1.0)
        place = ((values.clamp(self.low, self.high) - self.low) / step).round()
        return torch.where(self._discrete, self.low + place * step, values)


@dataclass(eq=False, repr=False, kw_only=True)
class Logistic(FeatureHead):
    """Location from the state; two scales shared by all features, for visible and masked ones."""

    kind = "logistic"

    floor: float = 0.01

    def bind_slots(self, shape: Shape, slots: list[Slot]) -> None:
        """Scales start at the features' own spread."""
        self.to_location = to_features(shape, len(slots))
        ends = [slot.ends if slot.step > 0 and slot.ends else (-1e9, 1e9) for slot in slots]
        spread = [slot.scale * math.sqrt(3) / math.pi for slot in slots]
        step = [slot.step if slot.ends else 0.0 for slot in slots]
        low, high = [end[0] for end in ends], [end[1] for end in ends]
        self.add_constants({"spread": spread, "step": step, "low": low, "high": high})
        self.log_scale = nn.Parameter(torch.zeros(2, shape.members, 1, 1))

    def forward(self, state: State, observed: Observed) -> FeatureLikelihood:
        """The distribution of each feature."""
        scales = (learned_scale(self.log_scale) + self.floor) * self.get_buffer("spread")
        location = self.to_location(state)
        scale = visible_or_masked(scales, observed, location)
        ends = (to_width(self.get_buffer(name), location) for name in ("step", "low", "high"))
        return LogisticFeatures(location, scale, *ends)


@dataclass(frozen=True)
class PoissonGaussianFeatures(FeatureLikelihood):
    """Normal around `location`, its variance gain * (location - zero) + own."""

    location: FeatureValues
    gain: Float[Tensor, "*row feature"]
    own: Float[Tensor, "*row feature"]
    zero: Float[Tensor, " feature"]

    def _at(self, location: Tensor) -> GaussianFeatures:
        light = (location - self.zero).clamp(min=0)
        return GaussianFeatures(location, (self.gain * light + self.own).sqrt())

    def log_prob(self, target: Tensor) -> FeatureValues:
        """The normal log-density."""
        return self._at(self.location).log_prob(target)

    def deviance(self, target: Tensor) -> FeatureValues:
        """Nats beyond those of the likeliest location, a little darker than the target itself."""
        gain, square = self.gain, self._at(target).scale.square()
        root = torch.sqrt(gain.square().square() + 4 * square.square())
        darker = 2 * gain * square / (gain.square() + 2 * square + root)
        locations = (target - darker, target)
        best = torch.maximum(*(self._at(location).log_prob(target) for location in locations))
        return (best - self.log_prob(target)).clamp(min=0)

    @property
    def mean(self) -> Tensor:
        """The location."""
        return self.location

    def interval(self, share: float) -> tuple[Tensor, Tensor]:
        """Symmetric around the location."""
        return self._at(self.location).interval(share)

    def sample(self, generator: torch.Generator) -> Tensor:
        """A normal draw."""
        return self._at(self.location).sample(generator)


@dataclass(eq=False, repr=False, kw_only=True)
class PoissonGaussian(FeatureHead):
    """Location from the state; variance gain * (location - zero) + sigma^2, both learned.

    `zero` is the least value that can be stored (no light), 0 if that is unknown. Masked features
    have a gain and a sigma of their own, as other heads have scales.

    Source: Foi et al. 2008, eq. 1 and 3.
    """

    kind = "poisson_gaussian"

    floor: float = 0.01

    def bind_slots(self, shape: Shape, slots: list[Slot]) -> None:
        """The noise starts at the features' own spread."""
        self.to_location = to_features(shape, len(slots))
        zero = [slot.ends[0] if slot.ends else 0.0 for slot in slots]
        self.add_constants({"spread": [slot.scale for slot in slots], "zero": zero})
        self.log_sigma = nn.Parameter(torch.zeros(2, shape.members, 1, 1))
        self.log_gain = nn.Parameter(torch.zeros(2, shape.members, 1, 1))

    def forward(self, state: State, observed: Observed) -> FeatureLikelihood:
        """The distribution of each feature."""
        location, spread = self.to_location(state), self.get_buffer("spread")
        gains = LIGHT_SHARE * learned_scale(self.log_gain) * spread
        variances = ((learned_scale(self.log_sigma) + self.floor) * spread).square()
        gain, own = (visible_or_masked(pair, observed, location) for pair in (gains, variances))
        zero = to_width(self.get_buffer("zero"), location)
        return PoissonGaussianFeatures(location, gain, own, zero)
