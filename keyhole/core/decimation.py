"""Long series as a bounded number of bins: the least and the greatest value in each.

A reading that stands out alone stays visible, whatever the width of a bin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from jaxtyping import Float, Int64


@dataclass(frozen=True)
class Extremes:
    """Bins by their index, ascending: how many rows each has, and the ends of each column.

    `low` and `high` are NaN where a column has no value in a bin.
    """

    index: Int64[np.ndarray, " bin"]
    rows: Int64[np.ndarray, " bin"]
    low: Float[np.ndarray, "bin column"]
    high: Float[np.ndarray, "bin column"]

    @classmethod
    def of(cls, index: np.ndarray, values: Float[np.ndarray, "row column"]) -> Self:
        """The bins of rows, given the index of each row's bin."""
        return cls(index, np.ones(len(index), np.int64), values, values).merged()

    def merged(self) -> Self:
        """Bins of equal index as one."""
        if not len(self.index):
            return self
        order = np.argsort(self.index, kind="stable")
        index = self.index[order]
        starts = np.flatnonzero(np.diff(index, prepend=index[0] - 1))
        return type(self)(
            index[starts],
            np.add.reduceat(self.rows[order], starts),
            np.fmin.reduceat(self.low[order], starts, axis=0),
            np.fmax.reduceat(self.high[order], starts, axis=0),
        )

    def at(self, index: np.ndarray) -> Self:
        """The bins under other indices; those of equal index become one."""
        return type(self)(index, self.rows, self.low, self.high).merged()

    def joined(self, other: Extremes) -> Self:
        """These bins and those of `other`."""
        pairs = ((getattr(part, name) for part in (self, other)) for name in vars(self))
        return type(self)(*(np.concatenate(list(pair)) for pair in pairs)).merged()


class Bins:
    """At most `most` bins of equal width over rows that come block by block.

    A bin is `step` wide at first, around a multiple of it; when there are too many bins,
    neighbours are merged in pairs and each is twice as wide. Bins without a row take no memory,
    so a long pause costs no resolution.
    """

    def __init__(self, step: float, most: int, columns: int) -> None:
        self.step = step
        self.most = most
        self.doublings = 0
        none = np.zeros(0, np.int64)
        self.extremes = Extremes(none, none, np.zeros((0, columns)), np.zeros((0, columns)))

    def __len__(self) -> int:
        return len(self.extremes.index)

    @property
    def steps(self) -> int:
        """The width of a bin in steps."""
        return 1 << self.doublings

    @property
    def width(self) -> float:
        """The width of a bin."""
        return self.step * self.steps

    def add(self, x: Float[np.ndarray, " row"], values: Float[np.ndarray, "row column"]) -> None:
        """Take rows in; those whose place is not finite are left out."""
        placed = np.isfinite(x)
        index = np.rint(x[placed] / self.step).astype(np.int64) >> self.doublings
        self.extremes = self.extremes.joined(Extremes.of(index, values[placed]))
        self.limit(self.most)

    def limit(self, most: int) -> None:
        """Merge neighbours until there are at most `most` bins, at least one."""
        self.most = max(most, 1)
        while len(self) > self.most:
            self.coarsen()

    def coarsen(self) -> None:
        """Merge neighbours in pairs."""
        self.extremes = self.extremes.at(self.extremes.index >> 1)
        self.doublings += 1

    def take(self, columns: Int64[np.ndarray, " column"]) -> None:
        """Keep these columns alone, in this order."""
        low, high = self.extremes.low[:, columns], self.extremes.high[:, columns]
        self.extremes = replace(self.extremes, low=low, high=high)

    def copy(self) -> Bins:
        """The same bins, to be limited on their own."""
        bins = Bins(self.step, self.most, self.extremes.low.shape[1])
        bins.doublings, bins.extremes = self.doublings, self.extremes
        return bins

    @property
    def first(self) -> Float[np.ndarray, " bin"]:
        """The first step of each bin."""
        return self.extremes.index * float(self.steps) * self.step

    @property
    def last(self) -> Float[np.ndarray, " bin"]:
        """The last step of each bin."""
        return self.first + (self.steps - 1) * self.step

    @property
    def middle(self) -> Float[np.ndarray, " bin"]:
        """The middle of each bin."""
        return (self.first + self.last) / 2
