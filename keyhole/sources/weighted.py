"""Row weights: a row of weight zero is not there, in survey, training and calibration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from keyhole.columns import refuse
from keyhole.errors import DataError
from keyhole.sources.base import Rows, Source


def weights(rows: Rows, column: str) -> np.ndarray:
    """The weight of each row; a missing one is zero.

    Raises: DataError for a weight that is negative or no number.
    """
    found = np.nan_to_num(refuse.numbers(column, rows.column(column)))
    if (found < 0).any():
        worst = float(found.min())
        raise DataError(f"weight column {column!r} holds {worst:g}: a weight is at least zero")
    return found


@dataclass(frozen=True)
class Weighted:
    """The rows of a source that have a weight above zero."""

    source: Source
    column: str
    sizes: dict[int, int]  # rows kept of each group that keeps any
    name: str = ""

    @property
    def names(self) -> list[str]:
        """The columns' names, in order."""
        return self.source.names

    @property
    def rows(self) -> int | None:
        """How many rows are kept."""
        return sum(self.sizes.values())

    @property
    def groups(self) -> int:
        """How many groups keep a row."""
        return len(self.sizes)

    @property
    def places(self) -> list[tuple[str, int, int]]:
        """The source's name, the group and its kept rows, for every group."""
        return [(self.name, group, size) for group, size in self.sizes.items()]

    def group(self, place: int) -> Rows:
        """The kept rows of one group."""
        return self._kept(self.source.group(list(self.sizes)[place]))

    def blocks(self, rows: int) -> Iterator[Rows]:
        """The kept rows in order."""
        return (self._kept(block) for block in self.source.blocks(rows))

    def _kept(self, rows: Rows) -> Rows:
        return rows.take(np.flatnonzero(weights(rows, self.column) > 0))


def weighted(source: Source, column: str | None) -> Source:
    """The source without its rows of weight zero; itself where every row has weight.

    Raises: DataError where no row has any.
    """
    if column is None or column not in source.names:
        return source
    sizes, rows = {}, 0
    for group in range(source.groups):
        block = source.group(group)
        rows += len(block)
        sizes[group] = int((weights(block, column) > 0).sum())
    kept = {group: size for group, size in sizes.items() if size}
    if rows and not kept:
        raise DataError(f"weight column {column!r} gives no row of {source.name} any weight")
    if sum(sizes.values()) == rows:
        return source
    return Weighted(source, column, kept, source.name)
