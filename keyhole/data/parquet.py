"""Parquet files, read row group by row group.

`ParquetFile.iter_batches` needs constant memory; the memory of the dataset reader grows with the
file (apache/arrow issue 39808).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from keyhole.data.source import BLOCK_BYTES, ArrowRows, Rows, TableSource, Weighted, check_names
from keyhole.errors import DataError, FileError

MOST_CHUNKS = 2_000  # columns that are asked for their size
READ_BYTES = 1 << 16  # read as decoded: whole column chunks at once take half as much again


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
        wanted = set(self.wanted or [])
        if self.wanted is None or not wanted <= set(self.header):
            return self.header  # all, so that a message can show the nearest name
        return [name for name in self.header if name in wanted]

    @cached_property
    def places(self) -> list[tuple[str, int, int]]:
        """Path, row group and number of rows, for every row group."""
        found = []
        for path in self.paths:
            if set(self._names(path)) != set(self.header):
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
                return self._rows(file.read_row_group(group, columns=self.names))
            except (pa.ArrowException, OSError) as fault:
                raise damaged(path, fault) from fault

    def group_blocks(self, place: int, rows: int) -> Iterator[Rows]:
        """The rows of one row group in order."""
        path, group, _ = self.places[place]
        yield from self.file_blocks(path, rows, [group])

    def blocks(self, rows: int) -> Iterator[Rows]:
        """All rows in order."""
        for path in dict.fromkeys(path for path, _, _ in self.places):
            yield from self.file_blocks(path, rows)

    def file_blocks(self, path: str, rows: int, groups: list[int] | None = None) -> Iterator[Rows]:
        """The rows of one of the files, or of some of its row groups, in order."""
        import pyarrow as pa

        with self._open(path) as file:
            try:
                rows = min(rows, self._rows_a_block(file.metadata))
                batches = file.iter_batches(rows, columns=self.names, row_groups=groups)
                for batch in batches:
                    yield self._rows(pa.Table.from_batches([batch]))
            except (pa.ArrowException, OSError) as fault:
                raise damaged(path, fault) from fault

    def _rows_a_block(self, meta: Any) -> int:
        """Rows whose wanted columns take `BLOCK_BYTES`, by the sizes in the file's footer."""
        wanted = set(self.names)
        wide = [0, 0]
        for group in range(min(meta.num_row_groups, 4)):
            part = meta.row_group(group)
            chunks = map(part.column, range(min(part.num_columns, MOST_CHUNKS)))
            wide[0] += sum(
                c.total_uncompressed_size
                for c in chunks
                if c.path_in_schema.partition(".")[0] in wanted
            )
            wide[1] += part.num_rows
        return max(BLOCK_BYTES * wide[1] // max(wide[0], 1), 1)

    def _open(self, path: str) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BYTES)
        except (pa.ArrowException, OSError) as fault:
            raise damaged(path, fault) from fault

    def _names(self, path: str) -> list[str]:
        with self._open(path) as file:
            names = file.schema_arrow.names
        return [name for name in names if not name.startswith("__index_level_")]

    def _differing(self, path: str) -> list[str]:
        return sorted(set(self.header) ^ set(self._names(path)))

    @cached_property
    def schema(self) -> Any:
        """For each column a type that holds the values of all files.

        Raises: DataError where a column is numbers in one file and texts in another.
        """
        import pyarrow as pa

        with self._open(self.paths[0]) as file:
            found = {name: file.schema_arrow.field(name).type for name in self.header}
        for path in self.paths[1:]:
            with self._open(path) as file:
                for name in self.header:
                    found[name] = self._common(name, found[name], file, path)
        return pa.schema(list(found.items()))

    def _common(self, name: str, was: Any, file: Any, path: str) -> Any:
        import pyarrow as pa

        now = file.schema_arrow.field(name).type
        if now == was:
            return was
        plain = (t.value_type if pa.types.is_dictionary(t) else t for t in (was, now))
        try:
            pair = [pa.schema([(name, t)]) for t in plain]
            return pa.unify_schemas(pair, promote_options="permissive").field(0).type
        except pa.ArrowTypeError as fault:
            raise DataError(
                f"{path}: column {name!r} holds {now}, but {was} in {self.paths[0]}; convert one"
            ) from fault

    def _rows(self, table: Any) -> Rows:
        """The table with its columns in the order and types of all files."""
        import pyarrow as pa

        table = table.select(self.names)
        if len(self.paths) > 1:
            wanted = pa.schema([self.schema.field(name) for name in self.names])
            table = table.cast(wanted, safe=False)
        return ArrowRows(table)


def narrow(source: Any, names: set[str]) -> Any:
    """The source with these columns only; long texts that nobody asks for stay where they are."""
    if isinstance(source, Weighted):
        return replace(source, source=narrow(source.source, names))
    wanted = [name for name in source.names if name in names]
    if isinstance(source, ParquetSource):
        source.wanted = wanted
    if isinstance(source, TableSource) and isinstance(source.held, ArrowRows):
        return replace(source, held=ArrowRows(source.held.table.select(wanted)))
    return source


def damaged(path: str, fault: Exception) -> FileError:
    """The error for a Parquet file that cannot be read."""
    message = (str(fault).splitlines() or [""])[0][:160].rstrip(".")
    return FileError(f"{path} cannot be read as Parquet: {message}; is it complete?")
