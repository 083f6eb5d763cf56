"""Interfaces of rows and sources, rows in memory, and row weights."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from scipy import sparse

from keyhole.data import cast, levels
from keyhole.data.csv_dialect import Dialect, cleaned, dialect_of
from keyhole.data.lazy import pa, pt
from keyhole.data.vectors import list_column, unequal
from keyhole.errors import DataError

BLOCK_BYTES = 1 << 26  # of the rows of a block, however long their texts are


@dataclass(frozen=True)
class ArrowRows:
    """The rows of an Arrow table; `column` cleans the raw texts of a CSV, `arrow` does not."""

    table: pa.Table

    @cached_property
    def dialect(self) -> Dialect | None:
        """The dialect of the CSV from which the rows come; None for other rows."""
        return dialect_of(self.table.schema)

    @property
    def names(self) -> list[str]:
        """The names of the columns, in order."""
        return self.table.column_names

    def __len__(self) -> int:
        return self.table.num_rows

    def column(self, name: str) -> pa.Array:
        """One column as one Arrow array; float NaN and null both mean missing."""
        values = cast.plain(self.table.column(name))
        return values if self.dialect is None else cleaned(values)

    def matrix(self, names: Sequence[str], start: int = 0) -> np.ndarray:
        """Numeric columns as floats, NaN for gaps. Raises: DataError; rows count from `start`."""
        table = self.table.select(list(names))
        floats = all(pt.is_floating(t) and not pt.is_float16(t) for t in table.schema.types)
        if names and floats and len(self) > 1:
            batch = table.combine_chunks().to_batches()[0]
            return batch.to_tensor(null_to_nan=True, row_major=True).to_numpy()
        matrix = np.empty((len(self), len(names)))
        for i, name in enumerate(names):
            matrix[:, i] = levels.numbers(name, self.column(name), start, self.decimal)
        return matrix

    @property
    def decimal(self) -> str:
        """The decimal sign of texts whose column does not show it."""
        return (self.dialect and self.dialect.decimal) or "."

    def take(self, rows: slice | np.ndarray) -> ArrowRows:
        """The rows at these positions; a slice copies nothing."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            return ArrowRows(self.table.slice(start, max(stop - start, 0)))
        return ArrowRows(self.table.take(rows))

    def arrow(self) -> pa.Table:
        """The table itself."""
        return self.table


@dataclass(frozen=True)
class ArrayRows:
    """The rows of a NumPy array of numbers, or of a SciPy sparse array."""

    values: Any
    names: list[str]

    def __len__(self) -> int:
        return self.values.shape[0]

    def column(self, name: str) -> pa.Array:
        """One column as an Arrow array, NaN as missing."""
        return pa.array(np.ascontiguousarray(self._dense([name])[:, 0]), from_pandas=True)

    def matrix(self, names: Sequence[str], start: int = 0) -> np.ndarray:
        """The columns as floats; a view if these are all columns of an array, in order."""
        values = self._dense(names)
        return values if values.dtype.kind == "f" else values.astype(np.float64)

    def _dense(self, names: Sequence[str]) -> np.ndarray:
        values = self.values
        if list(names) != self.names:
            values = values[:, [self.names.index(name) for name in names]]
        if sparse.issparse(values):
            return values.toarray().astype(np.float64, copy=False)
        return values

    def take(self, rows: slice | np.ndarray) -> ArrayRows:
        """The rows at these positions."""
        return ArrayRows(self.values[rows], self.names)

    def arrow(self) -> pa.Table:
        """The columns as an Arrow table."""
        return pa.table([self.column(name) for name in self.names], names=self.names)


Rows = ArrowRows | ArrayRows  # a block of rows with named columns


class Source(Protocol):
    """Where rows come from; may be larger than memory, may be standard input."""

    @property
    def name(self) -> str:
        """For messages: a path, "standard input", "the frame"."""
        ...

    @property
    def names(self) -> list[str]:
        """The names of the columns, in order."""
        ...

    def blocks(self, rows: int) -> Iterator[Rows]:
        """All rows in order, at most `rows` in a block."""
        ...

    @property
    def groups(self) -> int:
        """The number of groups of rows that can be read at random; 0 if there are none."""
        return 0

    def group(self, index: int) -> Rows:
        """The rows of one group."""
        raise IndexError(f"{self.name} has no group {index}")

    @property
    def rows(self) -> int | None:
        """The number of rows, if known."""
        return None


@dataclass(frozen=True)
class TableSource:
    """Rows that are all in memory."""

    loaded: Rows
    name: str = "the table"

    @property
    def names(self) -> list[str]:
        """The names of the columns, in order."""
        return self.loaded.names

    @property
    def rows(self) -> int | None:
        """The number of rows."""
        return len(self.loaded)

    def blocks(self, rows: int) -> Iterator[Rows]:
        """Slices of the table, fewer rows if they have long texts: readers copy them."""
        if isinstance(self.loaded, ArrowRows):
            row_bytes = self.loaded.table.nbytes // max(len(self.loaded), 1)
            rows = min(rows, max(BLOCK_BYTES // max(row_bytes, 1), 1))
        for start in range(0, len(self.loaded), rows):
            yield self.loaded.take(slice(start, start + rows))

    @property
    def groups(self) -> int:
        """One: the table."""
        return 1

    def group(self, index: int) -> Rows:
        """The whole table."""
        return self.loaded


def check_names(names: Sequence[str], where: str, rows: int | str = "") -> None:
    """Raises: DataError for a table without columns, or with two columns of one name."""
    if not names:
        raise DataError(
            f"{where} has no columns: 0 feature(s) (shape=({rows}, 0)) while a minimum of 1 is "
            "required."
        )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{where} has columns with the same name: {twice}; rename one of each")


def check_columns(wanted: list[str], given: list[str], who: str) -> None:
    """Raises: DataError, with the closest name, if a wanted column is not given."""
    names = set(given)
    absent = [name for name in wanted if name not in names]
    if absent:
        close = difflib.get_close_matches(absent[0], given, 1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"given columns: {given[:20]}"
        if (lists := list_column(absent[0])) in names:
            hint = unequal(str(lists))
        more = f" ({len(absent)} columns are absent)" if len(absent) > 1 else ""
        raise DataError(f"column {absent[0]!r}, which {who} needs, is absent{more}; {hint}")


def finite_matrix(rows: Rows, names: list[str], start: int) -> np.ndarray:
    """Numeric columns as floats (rows, columns). Raises: DataError for an infinite one."""
    x = rows.matrix(names, start)
    with np.errstate(all="ignore"):
        total = x.sum(dtype=np.float64)
    if not np.isfinite(total):  # a sum is faster than a test of each value
        infinite = np.argwhere(np.isinf(x))
        if len(infinite):
            row, column = infinite[0]
            raise DataError(levels.infinity(names[column], start + int(row) + 1))
    return x


def weights(rows: Rows, column: str) -> np.ndarray:
    """The weight of each row, zero if missing. Raises: DataError for an invalid weight."""
    values = np.nan_to_num(levels.numbers(column, rows.column(column)))
    if (values < 0).any():
        raise DataError(
            f"weight column {column!r} holds {values.min():g}: weights must be zero or above"
        )
    return values


@dataclass(frozen=True)
class Weighted:
    """The rows of a source with a weight above zero."""

    source: Source
    column: str
    sizes: dict[int, int]  # such rows of each group that has any
    name: str = ""

    @property
    def names(self) -> list[str]:
        """The names of the columns, in order."""
        return self.source.names

    @property
    def rows(self) -> int | None:
        """The number of rows."""
        return sum(self.sizes.values())

    @property
    def groups(self) -> int:
        """The number of groups with rows."""
        return len(self.sizes)

    @property
    def places(self) -> list[tuple[str, int, int]]:
        """Name, group and number of rows, for every group."""
        return [(self.name, group, size) for group, size in self.sizes.items()]

    def group(self, index: int) -> Rows:
        """The rows of one group."""
        return self._weighted(self.source.group(list(self.sizes)[index]))

    def blocks(self, rows: int) -> Iterator[Rows]:
        """The rows in order."""
        return (self._weighted(block) for block in self.source.blocks(rows))

    def _weighted(self, rows: Rows) -> Rows:
        return rows.take(np.flatnonzero(weights(rows, self.column) > 0))


def weighted(source: Source, column: str | None) -> Source:
    """The source without its rows of weight zero. Raises: DataError if all weights are zero."""
    if column is None or column not in source.names:
        return source
    sizes, rows = {}, 0
    for group in range(source.groups):
        block = source.group(group)
        rows += len(block)
        if size := np.count_nonzero(weights(block, column)):
            sizes[group] = size
    if rows and not sizes:
        raise DataError(f"weight column {column!r}: all weights of {source.name} are zero")
    whole = sum(sizes.values()) == rows
    return source if whole else Weighted(source, column, sizes, source.name)
