"""Frozen records that all layers share: batches, codes, likelihoods."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

EVEN_ROWS = 32  # a matrix product adds its terms in another order for other numbers of rows


def even_places(rows: int) -> Int64[Tensor, " place"]:
    """The positions of these rows, the last one again up to a multiple of `EVEN_ROWS`."""
    return torch.arange(rows + -rows % EVEN_ROWS).clamp(max=max(rows - 1, 0))


@dataclass(frozen=True)
class Batch:
    """Encoded rows: number features, code features, and which of all features were observed.

    A masked or missing feature is 0 in `numbers` or `codes` and False in `observed`. `lead` is
    empty, or the axis of ensemble members with rows of their own. `target` are the second images
    of pairs: clean ones, or second exposures. `grid` is the (height, width, channels) of images
    of another size than the layout's. `items` are the lists of rows that are lists of items: item
    i is i + 1, and 0 fills up the shorter lists.
    """

    numbers: Float[Tensor, "*lead batch number"]
    codes: Int64[Tensor, "*lead batch code"]
    observed: Bool[Tensor, "*lead batch feature"]
    weight: Float[Tensor, "*lead batch"] | None = None
    target: Float[Tensor, "*lead batch number"] | None = None
    grid: tuple[int, int, int] | None = None
    items: Int64[Tensor, "*lead batch place"] | None = None

    def __len__(self) -> int:
        return self.observed.shape[-2]

    def feature(self, index: int) -> Tensor:
        """The values of one feature: numbers, or codes."""
        first_code = self.numbers.shape[-1]
        if index < first_code:
            return self.numbers[..., index]
        return self.codes[..., index - first_code]

    def counts(self) -> Float[Tensor, "*lead batch"]:
        """The number of values in each row: items of a list, or observed features."""
        known = self.observed if self.items is None else self.items > 0
        return known.sum(-1).to(self.numbers.dtype)

    def take(self, rows: Tensor | slice) -> "Batch":
        """The rows at these positions; a (member, batch) index gives a member axis."""
        if isinstance(rows, Tensor) and rows.dim() == 1 and rows.dtype == torch.int64:
            return self._each(lambda part: part.index_select(0, rows))  # half of indexing's time
        return self._each(lambda part: part[rows])

    def even(self) -> "Batch":
        """The rows, the last one repeated up to a multiple of `EVEN_ROWS`.

        So the results of a row do not depend on the number of other rows.
        """
        rows = len(self)
        return self.take(even_places(rows)) if rows % EVEN_ROWS else self

    def hide(self, hidden: Bool[Tensor, "*row feature"]) -> "Batch":
        """The same rows with these features masked as if they were missing."""
        observed = self.observed & ~hidden
        width = self.numbers.shape[-1]
        numbers = self.numbers * observed[..., :width]
        codes = self.codes * observed[..., width:]
        return replace(self, numbers=numbers, codes=codes, observed=observed)

    def exchanged(
        self, order: Int64[Tensor, " batch"], where: Bool[Tensor, "*row feature"]
    ) -> "Batch":
        """The rows with these features of the rows in this order; a gap stays a gap."""
        where = where & self.observed & self.observed[..., order, :]
        width = self.numbers.shape[-1]
        numbers = torch.where(where[..., :width], self.numbers[..., order, :], self.numbers)
        codes = torch.where(where[..., width:], self.codes[..., order, :], self.codes)
        return replace(self, numbers=numbers, codes=codes)

    def to(self, device: torch.device | str) -> "Batch":
        """The same rows on a device."""
        return self._each(lambda part: part.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        optional = (self.weight, self.target, self.items)
        weight, target, items = (None if part is None else change(part) for part in optional)
        numbers, codes, observed = map(change, (self.numbers, self.codes, self.observed))
        return Batch(numbers, codes, observed, weight, target, self.grid, items)

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
    """The code of rows, from a bottleneck.

    `z` has a leading sample axis; `mean` is deterministic: `transform` returns it. `cost` is the
    rate in nats per code dimension; `log_ratio` = log p(z) - log q(z|x) of each sample if the
    bottleneck has a posterior.
    """

    z: Float[Tensor, "sample *lead batch code"]
    mean: Float[Tensor, "*lead batch code"]
    cost: Float[Tensor, "*lead batch code"]
    log_ratio: Float[Tensor, "sample *lead batch"] | None = None
    stats: dict[str, Tensor] = field(default_factory=dict)


class Likelihood(Protocol):
    """A distribution over the features of each row: the output of a head."""

    def log_prob(self, batch: Batch) -> Float[Tensor, "*lead batch feature"]:
        """Log-probability of each feature in nats; undefined where a feature is missing."""
        ...

    def deviance(self, batch: Batch) -> Float[Tensor, "*lead batch feature"]:
        """Nats of each feature beyond those of a perfect prediction, at least 0."""
        ...

    @property
    def mean(self) -> Batch:
        """The expected value of each number feature, the most probable code of each other one."""
        ...

    def interval(self, share: float) -> tuple[Tensor, Tensor]:
        """The central interval with this share of each number feature's probability."""
        ...

    def levels(self, feature: int) -> Float[Tensor, "*lead batch level"]:
        """The probabilities of a code feature's levels; the last is that of all unknown ones."""
        ...

    def sample(self, generator: torch.Generator) -> Batch:
        """One draw of each feature."""
        ...


@dataclass(frozen=True)
class Pass:
    """The result of one forward pass."""

    code: Code
    likelihood: Likelihood
