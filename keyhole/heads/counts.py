"""Negative binomial for counts: a mean from the state, one dispersion a column."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor, nn

from keyhole.core.layout import Shape, Slot
from keyhole.core.linear import to_cells
from keyhole.heads.base import CellHead, Cells

MOST_LOG_MEAN = 14.0  # about a million: beyond, float32 counts no single things


@dataclass(frozen=True)
class CountCells:
    """Counts with mean exp(log_mean), variance mean + mean^2 / size; cells are log(1 + count)."""

    log_mean: Float[Tensor, "*lead batch cell"]
    size: Float[Tensor, "*member 1 cell"]
    nats_unseen: Float[Tensor, " cell"]

    def log_prob(self, target: Tensor) -> Float[Tensor, "*lead batch cell"]:
        """The negative binomial's log-probability; below zero, where none is, `nats_unseen`."""
        count = torch.expm1(target.clamp(0, MOST_LOG_MEAN))
        size, log_mean = self.size, self.log_mean
        log_sum = torch.logaddexp(torch.log(size), log_mean)
        ways = torch.lgamma(count + size) - torch.lgamma(size) - torch.lgamma(count + 1)
        log_prob = ways + size * (torch.log(size) - log_sum) + count * (log_mean - log_sum)
        return torch.where(target < 0, -self.nats_unseen, log_prob)

    def deviance(self, target: Tensor) -> Float[Tensor, "*lead batch cell"]:
        """Nats beyond those of a negative binomial whose mean is the count itself."""
        count = torch.expm1(target.clamp(0, MOST_LOG_MEAN))
        size, log_mean = self.size, self.log_mean
        log_sum = torch.logaddexp(torch.log(size), log_mean)
        perfect = torch.xlogy(count, count) - torch.xlogy(count + size, count + size)
        deviance = perfect + (count + size) * log_sum - count * log_mean
        return torch.where(target < 0, self.nats_unseen, deviance.clamp(min=0))

    @property
    def mean(self) -> Tensor:
        """log(1 + mean count)."""
        return torch.log1p(self.log_mean.exp())

    def interval(self, share: float) -> tuple[Tensor, Tensor]:
        """Quantiles of the negative binomial, as cells."""
        mean = self.log_mean.detach().exp().double()
        size = self.size.detach().double().expand_as(mean).cpu().numpy()
        prob = size / (size + mean.cpu().numpy())
        ends = (stats.nbinom.ppf((1 + sign * share) / 2, size, prob) for sign in (-1, 1))
        low, high = (torch.log1p(torch.as_tensor(end)).to(self.log_mean) for end in ends)
        return low, high

    def sample(self, generator: torch.Generator) -> Tensor:
        """A Poisson count whose rate is a gamma draw, as a cell."""
        mean = self.log_mean.detach().exp().double()
        size = self.size.detach().double().expand_as(mean)
        uniform = torch.rand(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        spread = (mean / size).cpu().numpy()
        rate = stats.gamma.ppf(uniform.cpu().numpy(), size.cpu().numpy(), scale=spread)
        counts = torch.poisson(torch.from_numpy(rate).to(mean.device), generator=generator)
        return torch.log1p(counts).to(self.log_mean)


class Counts(CellHead):
    """log mean from the state, in units of the column's spread; a size per column."""

    kind = "counts"

    def bind_slots(self, shape: Shape, slots: list[Slot]) -> None:
        """Means start at the column's mean count."""
        self.to_log_mean = to_cells(shape, len(slots))
        self.log_size = nn.Parameter(torch.zeros(shape.members, 1, len(slots)))
        mean = torch.expm1(torch.tensor([slot.center for slot in slots])).clamp(min=1e-3)
        for name, values in {
            "start": torch.log(mean),
            "spread": torch.tensor([slot.scale for slot in slots]),
            "bound": torch.tensor([slot.nats_unseen for slot in slots]),
        }.items():
            self.register_buffer(name, values, persistent=False)

    def forward(
        self, state: Float[Tensor, "*lead batch wide"], seen: Bool[Tensor, "*row cell"] | None
    ) -> Cells:
        """The distribution of each count."""
        start, spread = self.get_buffer("start"), self.get_buffer("spread")
        log_mean = start + self.to_log_mean(state) * spread
        size = self.log_size.clamp(-6, 8).exp()
        return CountCells(log_mean.clamp(-12, MOST_LOG_MEAN), size, self.get_buffer("bound"))
