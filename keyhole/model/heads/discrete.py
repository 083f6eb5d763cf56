"""Heads of discrete features: Bernoulli, categorical, negative binomial (counts)."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy import special, stats
from torch import Tensor, nn
from torch.nn import functional

from keyhole.core.layout import Shape, Slot
from keyhole.model.heads.base import FeatureHead, FeatureLikelihood, FeatureValues, Observed
from keyhole.model.layers import Linear, Places, State, linear, set_bias, to_features, to_numbers

MAX_LOGITS = 1_000  # levels with a logit of their own, per column
MAX_LOG_MEAN = 14.0  # about a million: beyond, float32 counts no single things


@dataclass(frozen=True)
class BernoulliFeatures(FeatureLikelihood):
    """A flag is 1 with probability sigmoid(logit); any other value costs `nats_unobserved`."""

    logit: FeatureValues
    nats_unobserved: Float[Tensor, " feature"]

    def log_prob(self, target: Tensor) -> FeatureValues:
        """Log sigmoid(logit) at 1, log sigmoid(-logit) at 0."""
        log_prob = torch.addcmul(functional.logsigmoid(-self.logit), target, self.logit)
        # Of the rows alone, so few that to ask first is cheaper.
        if not torch.compiler.is_compiling() and target.numel() and bool(target.amax() <= 1):
            return log_prob
        return torch.where(target > 1, -self.nats_unobserved, log_prob)

    @property
    def mean(self) -> Tensor:
        """The probability of 1."""
        return torch.sigmoid(self.logit)

    def sample(self, generator: torch.Generator) -> Tensor:
        """0 or 1."""
        return torch.bernoulli(self.mean, generator=generator)


class Bernoulli(FeatureHead):
    """A logit from the state, bounded so that no value is thought rarer than one row in all."""

    kind = "bernoulli"

    def bind_slots(self, shape: Shape, slots: list[Slot]) -> None:
        """Logits start at the flags' shares."""
        self.to_logit = to_features(shape, len(slots))
        share = np.array([slot.center for slot in slots])
        bound = np.array([slot.nats_unobserved for slot in slots])
        start = special.logit(share).clip(-0.99 * bound, 0.99 * bound)
        start = bound * np.arctanh(start / bound)
        if isinstance(self.to_logit, Linear):
            set_bias(self.to_logit, start)
            start = np.zeros_like(start)
        self.add_constants({"bound": bound, "start": start})

    def forward(self, state: State, observed: Observed) -> FeatureLikelihood:
        """The distribution of each flag."""
        return self.from_parameter(self.to_logit(state), observed)

    @property
    def to_parameter(self) -> Linear | None:
        """The map to the logit."""
        return linear(self.to_logit)

    def from_parameter(self, parameter: Tensor, observed: Observed) -> FeatureLikelihood:
        """The distribution of each flag, from its logit without bound or start."""
        bound = self.get_buffer("bound")
        logit = parameter + self.get_buffer("start")
        return BernoulliFeatures(bound * torch.tanh(logit / bound), bound)


@dataclass(frozen=True)
class Column:
    """One column's place among the logits, and how levels without one of their own share it.

    `own[code - 1]` is the code's logit; `log_within` its log-share of that logit; `log_share` its
    log-share of all training rows, mixed in with weight exp(-nats) so that nothing is impossible.
    """

    start: int
    wide: int
    own: Int64[Tensor, " level"]
    log_within: Float[Tensor, " level"]
    log_share: Float[Tensor, " level"]
    nats: float


@dataclass(frozen=True)
class CategoricalFeatures(FeatureLikelihood):
    """Each column's levels with probabilities softmax(logits)."""

    logits: Float[Tensor, "*lead batch logit"]
    columns: list[Column]

    def take(self, places: Places) -> "CategoricalFeatures":
        """The distribution of the columns at these places."""
        return CategoricalFeatures(self.logits, [self.columns[i] for i in places.tolist()])

    def log_prob(self, target: Int64[Tensor, "*lead batch cell"]) -> Float[Tensor, "*out feature"]:
        """The log-probability of each code; at code 0 (masked or missing) it means nothing."""
        lead = np.broadcast_shapes(self.logits.shape[:-1], target.shape[:-1])
        log_probs = []
        for i, column in enumerate(self.columns):
            level = (target[..., i] - 1).clamp(min=0)
            log_soft = torch.log_softmax(self._logits(column), -1)
            own = column.own[level].expand(lead).unsqueeze(-1)
            log_prob = log_soft.expand(*lead, column.wide).gather(-1, own).squeeze(-1)
            log_prob = log_prob + column.log_within[level] + math.log1p(-math.exp(-column.nats))
            log_probs.append(torch.logaddexp(log_prob, column.log_share[level] - column.nats))
        return torch.stack(log_probs, -1)

    @property
    def mean(self) -> Tensor:
        """The most probable code among the known levels that have a logit of their own."""
        logits = [self._logits(c)[..., : max(c.wide - 1, 1)] for c in self.columns]
        return torch.stack([part.argmax(-1) + 1 for part in logits], -1)

    def levels(self, place: int) -> Float[Tensor, "*lead batch level"]:
        """The probabilities of a column's levels; the last is that of all without their own."""
        return torch.softmax(self._logits(self.columns[place]), -1)

    def sample(self, generator: torch.Generator) -> Tensor:
        """A level drawn by its probability."""
        codes = []
        for i, column in enumerate(self.columns):
            prob = self.levels(i)[..., column.own] * column.log_within.exp()
            drawn = torch.multinomial(prob.flatten(0, -2), 1, generator=generator)
            codes.append(drawn.reshape(prob.shape[:-1]) + 1)
        return torch.stack(codes, -1)

    def _logits(self, column: Column) -> Tensor:
        return self.logits[..., column.start : column.start + column.wide]


class Categorical(FeatureHead):
    """Logits from the state; a column's last logit is that of all levels without their own."""

    kind = "categorical"

    def bind_slots(self, shape: Shape, slots: list[Slot]) -> None:
        """Logits start at the levels' log-shares."""
        starts, wide = [], 0
        self.columns: list[tuple[int, int, float]] = []
        for i, slot in enumerate(slots):
            log_share = np.log(slot.shares)
            own = np.arange(slot.levels).clip(max=MAX_LOGITS)
            start = np.log(np.bincount(own, slot.shares))
            within = log_share - start[own]
            constants = {f"own_{i}": own, f"log_within_{i}": within, f"log_share_{i}": log_share}
            self.add_constants(constants)
            self.columns.append((wide, len(start), slot.nats_unobserved))
            starts.append(start)
            wide += len(start)
        self.to_logits = to_numbers(shape, wide)
        set_bias(self.to_logits, np.concatenate(starts))

    def forward(self, state: State, observed: Observed) -> FeatureLikelihood:
        """The distribution of each code."""
        columns = []
        for i, (start, wide, nats) in enumerate(self.columns):
            names = (f"own_{i}", f"log_within_{i}", f"log_share_{i}")
            own, log_within, log_share = map(self.get_buffer, names)
            columns.append(Column(start, wide, own, log_within, log_share, nats))
        return CategoricalFeatures(self.to_logits(state), columns)


@dataclass(frozen=True)
class CountFeatures(FeatureLikelihood):
    """Counts with mean exp(log_mean), variance mean + mean^2 / size; values are log(1 + count)."""

    log_mean: FeatureValues
    size: Float[Tensor, "*member 1 feature"]
    nats_unobserved: Float[Tensor, " feature"]

    def log_prob(self, target: Tensor) -> FeatureValues:
        """The negative binomial's log-probability; below zero, -`nats_unobserved`."""
        count = torch.expm1(target.clamp(0, MAX_LOG_MEAN))
        size, log_mean = self.size, self.log_mean
        log_sum = torch.logaddexp(torch.log(size), log_mean)
        ways = torch.lgamma(count + size) - torch.lgamma(size) - torch.lgamma(count + 1)
        log_prob = ways + size * (torch.log(size) - log_sum) + count * (log_mean - log_sum)
        return torch.where(target < 0, -self.nats_unobserved, log_prob)

    def deviance(self, target: Tensor) -> FeatureValues:
        """Nats beyond those of a negative binomial whose mean is the count itself."""
        count = torch.expm1(target.clamp(0, MAX_LOG_MEAN))
        size, log_mean = self.size, self.log_mean
        log_sum = torch.logaddexp(torch.log(size), log_mean)
        perfect = torch.xlogy(count, count) - torch.xlogy(count + size, count + size)
        deviance = perfect + (count + size) * log_sum - count * log_mean
        return torch.where(target < 0, self.nats_unobserved, deviance.clamp(min=0))

    @property
    def mean(self) -> Tensor:
        """log(1 + mean count)."""
        return torch.log1p(self.log_mean.exp())

    def interval(self, share: float) -> tuple[Tensor, Tensor]:
        """Quantiles of the negative binomial, as log(1 + count)."""
        mean = self.log_mean.detach().exp().double()
        size = self.size.detach().double().expand_as(mean).cpu().numpy()
        prob = size / (size + mean.cpu().numpy())
        ends = (stats.nbinom.ppf((1 + sign * share) / 2, size, prob) for sign in (-1, 1))
        low, high = (torch.log1p(torch.as_tensor(end)).to(self.log_mean) for end in ends)
        return low, high

    def sample(self, generator: torch.Generator) -> Tensor:
        """A Poisson count whose rate is a gamma draw, as log(1 + count)."""
        mean = self.log_mean.detach().exp().double()
        size = self.size.detach().double().expand_as(mean)
        uniform = torch.rand(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        spread = (mean / size).cpu().numpy()
        rate = stats.gamma.ppf(uniform.cpu().numpy(), size.cpu().numpy(), scale=spread)
        counts = torch.poisson(torch.from_numpy(rate).to(mean.device), generator=generator)
        return torch.log1p(counts).to(self.log_mean)


class Counts(FeatureHead):
    """log mean from the state, in units of the column's spread; a size per column."""

    kind = "counts"

    def bind_slots(self, shape: Shape, slots: list[Slot]) -> None:
        """Means start at the column's mean count."""
        self.to_log_mean = to_features(shape, len(slots))
        self.log_size = nn.Parameter(torch.zeros(shape.members, 1, len(slots)))
        mean = np.expm1([slot.center for slot in slots]).clip(min=1e-3)
        spread, bound = [s.scale for s in slots], [s.nats_unobserved for s in slots]
        self.add_constants({"start": np.log(mean), "spread": spread, "bound": bound})

    def forward(self, state: State, observed: Observed) -> FeatureLikelihood:
        """The distribution of each count."""
        return self.from_parameter(self.to_log_mean(state), observed)

    @property
    def to_parameter(self) -> Linear | None:
        """The map to the mean's logarithm."""
        return linear(self.to_log_mean)

    def from_parameter(self, parameter: Tensor, observed: Observed) -> FeatureLikelihood:
        """The distribution of each count, from its mean's logarithm in units of the spread."""
        start, spread = self.get_buffer("start"), self.get_buffer("spread")
        log_mean = start + parameter * spread
        size = self.log_size.clamp(-6, 8).exp()
        return CountFeatures(log_mean.clamp(-12, MAX_LOG_MEAN), size, self.get_buffer("bound"))
