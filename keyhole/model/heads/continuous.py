"""Heads of continuous features: Gaussian, Student's t, histogram (binned)."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor, nn

from keyhole.core.layout import Shape, Slot
from keyhole.model.heads.base import (
    FeatureHead,
    FeatureLikelihood,
    FeatureValues,
    Observed,
    to_width,
    visible_or_masked,
)
from keyhole.model.layers import (
    Linear,
    Places,
    State,
    linear,
    some_outputs,
    to_features,
    to_numbers,
)

GAIN = 10.0  # the scale is settled in a hundred steps, not in a thousand
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
FAR_SHARE = 1e-4  # of the probability, spread widely: a value beyond the last bin is possible
FAR_SCALE = 3.0  # of the spread


@dataclass(frozen=True)
class GaussianFeatures(FeatureLikelihood):
    """Normal around `location`, `scale` wide."""

    location: FeatureValues
    scale: Float[Tensor, "*row feature"]

    def log_prob(self, target: Tensor) -> FeatureValues:
        """The normal log-density."""
        return -self.deviance(target) - (torch.log(self.scale) + HALF_LOG_2PI)

    def deviance(self, target: Tensor) -> FeatureValues:
        """Nats below the density's peak."""
        ratio = ((target - self.location) * (1 / self.scale)).clamp(-1e15, 1e15)
        return 0.5 * ratio * ratio

    @property
    def mean(self) -> Tensor:
        """The location."""
        return self.location

    def interval(self, share: float) -> tuple[Tensor, Tensor]:
        """Symmetric around the location."""
        reach = float(stats.norm.ppf((1 + share) / 2)) * self.scale
        return self.location - reach, self.location + reach

    def sample(self, generator: torch.Generator) -> Tensor:
        """A normal draw."""
        like = {"generator": generator, "device": generator.device}
        normal = torch.randn(self.location.shape, **like).to(self.location)
        return self.location + self.scale * normal


def learned_scale(log_scale: Tensor) -> Tensor:
    """The positive scale of a weight that starts at zero."""
    return (GAIN * log_scale.clamp(-1.5, 1.5)).exp()


@dataclass(eq=False, repr=False)
class Gaussian(FeatureHead):
    """Location from the state; the best scale, "shared" by all features or one a "column".

    A decoder whose scale is fixed at 1 ("mean squared error") tells a code of features scaled to
    [0, 1] that nothing is worth a nat, and it collapses. The best shared scale is the root mean
    square error (Rybkin et al. 2021, eq. 4); it is learned here, starts at the data's own spread
    and has a floor. Masked features have a scale of their own, as for Student's t. A number for
    `scale` is fixed, in the columns' own units.
    """

    kind = "gaussian"

    scale: str | float = "shared"
    floor: float = field(default=0.01, kw_only=True)

    def bind_slots(self, shape: Shape, slots: list[Slot]) -> None:
        """Scales start at the columns' own spread."""
        self.to_location = to_features(shape, len(slots))
        self.add_constants({"spread": [slot.scale for slot in slots]})
        if not isinstance(self.scale, str):
            self.add_constants({"fixed": [self.scale / slot.unit for slot in slots]})
            return
        wide = 1 if self.scale == "shared" else len(slots)
        self.log_scale = nn.Parameter(torch.zeros(2, shape.members, 1, wide))

    def forward(self, state: State, observed: Observed) -> FeatureLikelihood:
        """The distribution of each feature."""
        return self.from_parameter(self.to_location(state), observed)

    @property
    def to_parameter(self) -> Linear | None:
        """The map to the location."""
        return linear(self.to_location)

    def from_parameter(self, parameter: Tensor, observed: Observed) -> FeatureLikelihood:
        """The distribution of each feature, from its location."""
        location = parameter
        if not isinstance(self.scale, str):
            return GaussianFeatures(location, to_width(self.get_buffer("fixed"), location))
        scales = (learned_scale(self.log_scale) + self.floor) * self.get_buffer("spread")
        return GaussianFeatures(location, visible_or_masked(scales, observed, location))


@dataclass(frozen=True)
class StudentTFeatures(FeatureLikelihood):
    """Student's t with `nu` degrees of freedom, around `location`, `scale` wide."""

    location: FeatureValues
    scale: Float[Tensor, "*row feature"]
    nu: float

    def log_prob(self, target: Tensor) -> FeatureValues:
        """Written out: torch.distributions takes 2.5 times as long."""
        nu = self.nu
        constant = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(nu * math.pi)
        peak = constant - torch.log(self.scale)
        return torch.addcmul(peak, self._log_square(target), peak.new_tensor(-(nu + 1) / 2))

    def deviance(self, target: Tensor) -> FeatureValues:
        """Nats below the density's peak."""
        return (self.nu + 1) / 2 * self._log_square(target)

    def _log_square(self, target: Tensor) -> Tensor:
        ratio = (target - self.location) * (1 / (self.scale * math.sqrt(self.nu)))
        ratio = ratio.clamp(-1e15, 1e15)  # its square stays a float32
        return torch.log1p(ratio * ratio)

    @property
    def mean(self) -> Tensor:
        """The location."""
        return self.location

    def interval(self, share: float) -> tuple[Tensor, Tensor]:
        """Symmetric around the location."""
        reach = float(stats.t.ppf((1 + share) / 2, self.nu)) * self.scale
        return self.location - reach, self.location + reach

    def sample(self, generator: torch.Generator) -> Tensor:
        """A normal over the root of a chi-square's mean."""
        like = {"generator": generator, "device": self.location.device}
        normal = torch.randn(self.location.shape, **like)
        if self.nu in range(1, 31):  # by its definition: a tenth of the time of a quantile
            chi = torch.randn((int(self.nu), *self.location.shape), **like).square().sum(0)
        else:
            uniform = torch.rand(self.location.shape, **like).clamp(1e-7, 1 - 1e-7)
            chi = torch.from_numpy(stats.chi2.ppf(uniform.cpu().numpy(), self.nu)).to(normal)
        return self.location + self.scale * normal / torch.sqrt(chi / self.nu)


@dataclass(eq=False, repr=False)
class StudentT(FeatureHead):
    """Location from the state; two scales a column, for visible and for masked features.

    A visible value is rebuilt more closely than a masked one is predicted: one scale for both
    would call every prediction wrong and every copy right. Neither falls below `floor` of the
    spread.
    """

    kind = "student_t"

    nu: float = 3.0
    floor: float = field(default=0.3, kw_only=True)

    def bind_slots(self, shape: Shape, slots: list[Slot]) -> None:
        """The scales start at the column's own spread."""
        self.to_location = to_features(shape, len(slots))
        self.add_constants({"spread": [slot.scale for slot in slots]})
        self.log_scale = nn.Parameter(torch.zeros(2, shape.members, 1, len(slots)))

    def forward(self, state: State, observed: Observed) -> FeatureLikelihood:
        """The distribution of each continuous feature."""
        return self.from_parameter(self.to_location(state), observed)

    @property
    def to_parameter(self) -> Linear | None:
        """The map to the location."""
        return linear(self.to_location)

    def from_parameter(self, parameter: Tensor, observed: Observed) -> FeatureLikelihood:
        """The distribution of each continuous feature, from its location."""
        scale = visible_or_masked(self._scales(), observed, parameter)
        return StudentTFeatures(parameter, scale, self.nu)

    def some(self, state: State, observed: Observed, places: Places) -> FeatureLikelihood:
        """The distribution of those at these places alone, without a map to the others."""
        location = some_outputs(self.to_location, state, places)
        own = None if observed is None else observed.index_select(-1, places)
        scale = visible_or_masked(self._scales(places), own, location)
        return StudentTFeatures(location, scale, self.nu)

    def _scales(self, places: Places | None = None) -> Float[Tensor, "2 member 1 feature"]:
        parts = self.log_scale, self.get_buffer("spread")
        if places is not None:
            parts = [part.index_select(-1, places) for part in parts]
        return (parts[0].exp() + self.floor) * parts[1]


@dataclass(frozen=True)
class Bins:
    """The bins of each feature; those with fewer bins than others are padded at the end."""

    edges: Float[Tensor, "feature edge"]  # ascending; of padding, infinite
    low: Float[Tensor, "feature bin"]  # values that a draw from the bin lies between:
    high: Float[Tensor, "feature bin"]  # equal ones where the bin is a heap
    spread: Float[Tensor, " feature"]

    def take(self, places: Places) -> "Bins":
        """The bins of the features at these places."""
        return Bins(*(part[places] for part in (self.edges, self.low, self.high, self.spread)))


@dataclass(frozen=True)
class BinnedFeatures(FeatureLikelihood):
    """Even density within each bin, the bins with probabilities softmax(logits)."""

    logits: Float[Tensor, "*lead batch feature bin"]
    bins: Bins

    def take(self, places: Places) -> "BinnedFeatures":
        """The distribution of the features at these places."""
        return BinnedFeatures(self.logits[..., places, :], self.bins.take(places))

    def log_prob(self, target: Tensor) -> FeatureValues:
        """The log-density, with a little of it far and wide."""
        edges = self.bins.edges
        place = torch.searchsorted(edges, target.movedim(-1, 0).contiguous().flatten(1))
        place = (place - 1).unflatten(1, target.shape[:-1]).movedim(0, -1)  # as target
        count = torch.isfinite(edges).sum(1) - 1
        inside = (place >= 0) & (place < count)
        place = place.clamp(min=0).minimum(count - 1)
        lead = np.broadcast_shapes(self.logits.shape[:-1], place.shape)
        log_soft = torch.log_softmax(self.logits, -1).expand(*lead, -1)
        log_share = _at(log_soft, place.expand(lead))
        log_width = torch.log(edges.diff(dim=1))
        column = torch.arange(len(edges), device=edges.device)
        near = torch.where(inside, log_share - log_width[column, place], -torch.inf)
        far = (target / (FAR_SCALE * self.bins.spread)).clamp(-1e15, 1e15)
        cauchy = -torch.log1p(far.square()) - torch.log(math.pi * FAR_SCALE * self.bins.spread)
        return torch.logaddexp(near + math.log1p(-FAR_SHARE), cauchy + math.log(FAR_SHARE))

    def deviance(self, target: Tensor) -> FeatureValues:
        """Nats below the highest bin's density."""
        log_width = torch.log(self.bins.edges.diff(dim=1)).nan_to_num(0.0, 0.0, 0.0)
        peak = (torch.log_softmax(self.logits, -1) - log_width).amax(-1)
        return (peak - self.log_prob(target)).clamp(min=0)

    @property
    def mean(self) -> Tensor:
        """The expected value."""
        middle = (self.bins.low + self.bins.high) / 2
        return (torch.softmax(self.logits, -1) * middle).sum(-1)

    def interval(self, share: float) -> tuple[Tensor, Tensor]:
        """The lower end of the bin with the lower quantile, the upper end of the upper one's."""
        rising = torch.softmax(self.logits, -1).cumsum(-1)
        last = (torch.isfinite(self.bins.edges).sum(1) - 2).clamp(min=0)
        ends = []
        for level, values in (((1 - share) / 2, self.bins.low), ((1 + share) / 2, self.bins.high)):
            place = (rising < level).sum(-1).minimum(last)
            ends.append(_at(values, place))
        return ends[0], torch.maximum(*ends)

    def sample(self, generator: torch.Generator) -> Tensor:
        """A bin by its probability, and a value evenly from between those met in it."""
        prob = torch.softmax(self.logits, -1)
        drawn = torch.multinomial(prob.flatten(0, -2).to(generator.device), 1, generator=generator)
        drawn = drawn.to(prob.device).reshape(prob.shape[:-1])
        low, high = _at(self.bins.low, drawn), _at(self.bins.high, drawn)
        even = torch.rand(low.shape, generator=generator, device=generator.device)
        return low + even.to(prob) * (high - low)


def _at(values: Tensor, place: Tensor) -> Tensor:
    """The value of each feature at its place on the last axis."""
    return values.expand(*place.shape, -1).gather(-1, place[..., None])[..., 0]


class Binned(FeatureHead):
    """Logits of bins that hold about equal shares of the training values (heaps by themselves).

    Source: the discrete softmax of van den Oord et al. 2016, section 3.3, over quantiles.
    """

    kind = "binned"

    def bind_slots(self, shape: Shape, slots: list[Slot]) -> None:
        """Logits start at the bins' shares."""
        most = max(len(slot.bins) for slot in slots)
        edges = np.full((len(slots), most + 1), np.inf)
        low, high = np.zeros((2, len(slots), most))
        start = np.full((len(slots), most), -30.0)
        for i, slot in enumerate(slots):
            bins = np.array(slot.bins)  # (bin, 5): edges, values, share
            edges[i, : len(bins)], edges[i, len(bins)] = bins[:, 0], bins[-1, 1]
            low[i, : len(bins)], high[i, : len(bins)] = bins[:, 2], bins[:, 3]
            start[i, : len(bins)] = np.log(bins[:, 4])
        spread = [slot.scale for slot in slots]
        self.add_constants(
            {"edges": edges, "low": low, "high": high, "spread": spread, "start": start}
        )
        self.to_logits = to_numbers(shape, most * len(slots))
        with torch.no_grad():
            self.to_logits.weight.mul_(0.1)
            self.to_logits.bias.zero_()

    def forward(self, state: State, observed: Observed) -> FeatureLikelihood:
        """The distribution of each feature."""
        start = self.get_buffer("start")
        logits = self.to_logits(state).unflatten(-1, start.shape) + start
        bins = Bins(*(self.get_buffer(name) for name in ("edges", "low", "high", "spread")))
        return BinnedFeatures(logits, bins)
