"""Parquet: a file, a folder or a glob of them, read row group by row group.

`ParquetFile.iter_batches` is the one path: its memory stays flat where the dataset
reader's grows with the file (apache/arrow issue 39808).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from keyhole.errors import DataError, FileError
from keyhole.sources.base import ArrowRows, Rows, check_names

if TYPE_CHECKING:
    pass


@dataclass
class ParquetSource:
    """Rows of Parquet files with the same columns, file after file in the order of their names."""

    paths: list[str]
    label: str = ""
    wanted: list[str] | None = None  # the columns to read; None: all
    header: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.header = self._names(self.paths[0])
        check_names(self.header, self.paths[0])

    @property
    def name(self) -> str:
        """The path as it was given."""
        return self.label or self.paths[0]

    @property
    def names(self) -> list[str]:
        """The columns that are read."""
        return [n for n in self.header if self.wanted is None or n in self.wanted]

    @cached_property
    def places(self) -> list[tuple[str, int, int]]:
        """Path, row group and number of rows, for every row group."""
        found = []
        for path in self.paths:
            if self._names(path) != self.header:
                raise DataError(
                    f"{path} has other columns than {self.paths[0]}: {self._differing(path)}"
                )
            with self._open(path) as file:
                meta = file.metadata
                found += [
                    (path, g, meta.row_group(g).num_rows) for g in range(meta.num_row_groups)
                ]
        return found

    @property
    def rows(self) -> int | None:
        """The sum over all row groups, from the files' footers."""
        return sum(rows for _, _, rows in self.places)

    @property
    def groups(self) -> int:
        """The number of row groups."""
        return len(self.places)

    def group(self, place: int) -> Rows:
        """One row group."""
        import pyarrow as pa

        path, group, _ = self.places[place]
        with self._open(path) as file:
            try:
                return ArrowRows(file.read_row_group(group, columns=self.names))
            except (pa.ArrowException, OSError) as fault:
                raise damaged(path, fault) from fault

    def blocks(self, rows: int) -> Iterator[Rows]:
        """All rows in order."""
        for path in dict.fromkeys(path for path, _, _ in self.places):
            yield from self.file_blocks(path, rows)

    def file_blocks(self, path: str, rows: int) -> Iterator[Rows]:
        """The rows of one of the files in order."""
        import pyarrow as pa

        with self._open(path) as file:
            try:
                for batch in file.iter_batches(batch_size=rows, columns=self.names):
                    yield ArrowRows(pa.Table.from_batches([batch]))
            except (pa.ArrowException, OSError) as fault:
                raise damaged(path, fault) from fault

    def _open(self, path: str) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.ParquetFile(path, pre_buffer=False)
        except (pa.ArrowException, OSError) as fault:
            raise damaged(path, fault) from fault

    def _names(self, path: str) -> list[str]:
        with self._open(path) as file:
            names = file.schema_arrow.names
        return [name for name in names if not name.startswith("__index_level_")]

    def _differing(self, path: str) -> list[str]:
        return sorted(set(self.header) ^ set(self._names(path))) or ["another order"]


def damaged(path: str, fault: Exception) -> FileError:
    """The error for a Parquet file that cannot be read."""
    said = (str(fault).splitlines() or [""])[0][:160]
    return FileError(f"{path} cannot be read as Parquet: {said}; is it complete?")
