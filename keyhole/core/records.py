"""The records that travel from room to room; all frozen."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

EVEN_ROWS = 32  # a matrix product of fewer rows, or of odd ones, adds its terms in other orders


@dataclass(frozen=True)
class Batch:
    """Encoded rows: number cells, code cells, and which of all cells were observed.

    A hidden or missing cell holds 0 in `numbers` or `codes` and False in `observed`.
    `lead` is empty, or the member axis where each member has rows of its own. `target` are the
    second images of rows that come in pairs: clean ones, or second exposures. `grid` is the
    (height, width, channels) of images of another size than the layout's.
    """

    numbers: Float[Tensor, "*lead batch number"]
    codes: Int64[Tensor, "*lead batch code"]
    observed: Bool[Tensor, "*lead batch feature"]
    weight: Float[Tensor, "*lead batch"] | None = None
    target: Float[Tensor, "*lead batch number"] | None = None
    grid: tuple[int, int, int] | None = None

    def __len__(self) -> int:
        return self.observed.shape[-2]

    def feature(self, index: int) -> Tensor:
        """The values of one feature: numbers, or codes."""
        first_code = self.numbers.shape[-1]
        if index < first_code:
            return self.numbers[..., index]
        return self.codes[..., index - first_code]

    def take(self, rows: Tensor | slice) -> "Batch":
        """The rows at these positions; a (member, batch) index gives a member axis."""
        return self._each(lambda part: part[rows])

    def even(self) -> "Batch":
        """The rows, the last one repeated up to a multiple of `EVEN_ROWS`.

        So a row's figures do not depend on how many others are asked about with it.
        """
        short = -len(self) % EVEN_ROWS
        if not short or not len(self):
            return self
        return self.take(torch.arange(len(self) + short).clamp(max=len(self) - 1))

    def hide(self, hidden: Bool[Tensor, "*row feature"]) -> "Batch":
        """The same rows with these cells hidden as if they were missing."""
        kept = self.observed & ~hidden
        wide = self.numbers.shape[-1]
        numbers, codes = kept[..., :wide], kept[..., wide:]
        return replace(
            self, numbers=self.numbers * numbers, codes=self.codes * codes, observed=kept
        )

    def to(self, device: torch.device | str) -> "Batch":
        """The same rows on a device."""
        return self._each(lambda part: part.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The rows with every tensor changed."""
        optional = (None if part is None else change(part) for part in (self.weight, self.target))
        features = (change(part) for part in (self.numbers, self.codes, self.observed))
        return Batch(*features, *optional, grid=self.grid)

    @staticmethod
    def join(batches: "list[Batch]") -> "Batch":
        """The rows of several batches, one after the other."""
        weights = [b.weight for b in batches if b.weight is not None]
        return Batch(
            torch.cat([b.numbers for b in batches]),
            torch.cat([b.codes for b in batches]),
            torch.cat([b.observed for b in batches]),
            torch.cat(weights) if len(weights) == len(batches) else None,
        )


@dataclass(frozen=True)
class Code:
    """What a bottleneck makes of a row.

    `z` has a leading sample axis; `mean` is deterministic and is what `transform` returns.
    `cost` is the rate in nats per code dimension; `log_ratio` = log p(z) - log q(z|x) of each
    sample, where the bottleneck has a posterior.
    """

    z: Float[Tensor, "sample *lead batch code"]
    mean: Float[Tensor, "*lead batch code"]
    cost: Float[Tensor, "*lead batch code"]
    log_ratio: Float[Tensor, "sample *lead batch"] | None = None
    stats: dict[str, Tensor] = field(default_factory=dict)


class Likelihood(Protocol):
    """A distribution over the cells of each row: what a head returns."""

    def log_prob(self, batch: Batch) -> Float[Tensor, "*lead batch feature"]:
        """Log-probability of each cell in nats; the value at an unseen cell means nothing."""
        ...

    def deviance(self, batch: Batch) -> Float[Tensor, "*lead batch feature"]:
        """Nats of each cell beyond what a perfect expectation would have cost, at least 0."""
        ...

    @property
    def mean(self) -> Batch:
        """The expected number of each number cell, the most probable code of each code cell."""
        ...

    def interval(self, share: float) -> tuple[Tensor, Tensor]:
        """The central interval that holds this share of each number cell's probability."""
        ...

    def levels(self, feature: int) -> Float[Tensor, "*lead batch level"]:
        """The probabilities of a code cell's levels; the last is that of all without their own."""
        ...

    def sample(self, generator: torch.Generator) -> Batch:
        """One draw of each cell."""
        ...


@dataclass(frozen=True)
class Pass:
    """What one forward pass returns."""

    code: Code
    likelihood: Likelihood
