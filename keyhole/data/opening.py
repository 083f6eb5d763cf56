"""Sources of rows: Parquet files, CSV, images, folders, globs, pipes, frames and arrays.

Parquet is read row group by row group: `ParquetFile.iter_batches` needs constant memory; the
memory of the dataset reader grows with the file (apache/arrow issue 39808).
"""

from __future__ import annotations

import glob
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from keyhole.core.files import hint_of
from keyhole.data.csv import CsvSource, PeekedStream
from keyhole.data.frames import frame_source
from keyhole.data.image_rows import ImageSource, file_images
from keyhole.data.lazy import pa, pq, pt
from keyhole.data.source import (
    BLOCK_BYTES,
    ArrowRows,
    Rows,
    Source,
    TableSource,
    Weighted,
    check_names,
)
from keyhole.data.vectors import (
    length_of,
    list_column,
    spread,
    spread_names,
    vector_columns,
)
from keyhole.errors import DataError, FileError, KeyholeError

MEMORY_BYTES = 256 << 20  # a larger CSV is spooled to disk for training
SPOOL_ROWS = 65_536


def open_source(data: Any, columns: Sequence[str] | None = None) -> Source:
    """The source of rows, of Parquet these `columns`; lists of one length become columns.

    Raises: FileError, DataError.
    """
    if not isinstance(data, str | os.PathLike):
        return frame_source(data)
    path = os.fspath(data)
    if path == "-":
        return _open_pipe(sys.stdin.buffer, "standard input")
    if "://" in path:
        raise FileError(f"{path}: only local paths are read; fetch the file first")
    # The image libraries are not loaded for tables.
    table = os.path.isfile(path) and path.endswith((".csv", ".parquet", ".pq", ".gz", ".txt"))
    if not table:
        from keyhole.data.images import is_images

        if is_images(path):
            return file_images(path)
    paths = _files(path)
    if stat.S_ISFIFO(os.stat(paths[0]).st_mode):  # <(zcat big.csv.gz): it can be read only once
        return _open_pipe(open(paths[0], "rb"), path, ours=True)
    if _is_parquet(paths[0]):
        wanted = None if columns is None else list(columns)
        return ParquetSource(paths, path, wanted, spreads=True)
    if len(paths) > 1:
        raise FileError(f"{path} names {len(paths)} text files; give one CSV, or Parquet files")
    return CsvSource(paths[0])


def _is_parquet(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PAR1" or path.endswith((".parquet", ".pq"))
    except OSError as fault:
        raise FileError(f"{path} cannot be read: {fault.strerror}") from fault


def random_access(source: Source, folder: Callable[[], str]) -> Source:
    """A source with groups: itself, in memory, or spooled to a `folder` created if needed."""
    if source.groups:
        return source
    tables: list[Any] = []
    size, path, writer = 0, "", None
    try:
        for block in source.blocks(SPOOL_ROWS):
            tables.append(block.arrow())
            size += tables[-1].nbytes
            if size > MEMORY_BYTES:
                if writer is None:
                    path = os.path.join(folder(), "spool.parquet")
                    writer = pq.ParquetWriter(path, tables[0].schema)
                writer.write_table(pa.concat_tables(tables))
                tables, size = [], MEMORY_BYTES  # from now on every block goes to disk
    except OSError as fault:
        if isinstance(fault, FileError) or not path:
            raise
        spool = os.path.dirname(path)
        free = shutil.disk_usage(spool).free
        raise FileError(
            f"{source.name} is too large for memory and cannot be spooled to {spool} "
            f"({free >> 20} MB free): {fault.strerror or fault}; set TMPDIR to a larger disk"
        ) from fault
    finally:
        if writer is not None:
            writer.close()
    if writer is not None:
        return ParquetSource([path], source.name)
    return TableSource(_joined(tables, source.names), source.name)


def _open_pipe(stream: Any, name: str, *, ours: bool = False) -> Source:
    pipe = PeekedStream(b"", stream, ours)
    if pipe.peek(4) == b"PAR1":
        try:
            table = pq.read_table(pa.BufferReader(pipe.read()))
        except (pa.ArrowException, OSError) as fault:
            raise DataError(f"{name} is damaged Parquet: {fault!s:.160}") from fault
        pipe.close()
        check_names(table.column_names, name)
        return TableSource(ArrowRows(spread(table)), name)
    return CsvSource(name, pipe)


def _files(path: str) -> list[str]:
    if os.path.isdir(path):
        paths = sorted(str(p) for p in Path(path).iterdir() if p.suffix in (".parquet", ".pq"))
        if not paths:
            deeper = os.path.join(path, "*", "*.parquet")
            hint = f"; did you mean {deeper!r}?" if glob.glob(deeper) else ""
            raise FileError(f"folder {path} holds no .parquet file and no image{hint}")
        return paths
    if os.path.exists(path):
        return [path]
    paths = sorted(glob.glob(path))
    if not paths:
        raise FileError(f"{path} does not exist{hint_of(path)}")
    return paths


def all_rows(source: Source) -> Rows:
    """All rows of a source, which must fit into memory."""
    if isinstance(source, TableSource):
        return source.loaded
    return _joined([block.arrow() for block in source.blocks(SPOOL_ROWS)], source.names)


def _joined(tables: list[Any], names: list[str]) -> ArrowRows:
    tables = tables or [pa.table({name: pa.array([], pa.string()) for name in names})]
    return ArrowRows(pa.concat_tables(tables))


def numbers_of(data: Any) -> np.ndarray:
    """All columns of a frame or a file as a matrix of floats. Raises: DataError, FileError."""
    source = open_source(data)
    if isinstance(source, ImageSource):
        raise DataError(f"expected a matrix, got {source.name} of images")
    return all_rows(source).matrix(source.names)


FIRST_ROWS = 1_024  # whose lists show which columns hold lists of one length
MAX_COLUMNS = 2_000  # whose size is read from the footer
READ_BYTES = 1 << 16  # buffer of a column; whole column chunks need half as much memory again


@dataclass
class ParquetSource:
    """Rows of Parquet files with the same columns, in the order of the file names.

    `spreads`: lists of one length are read as a column for each of their numbers.
    """

    paths: list[str]
    label: str = ""
    wanted: list[str] | None = None  # the columns to read; None: all
    spreads: bool = False
    stored: list[str] = field(init=False)  # the columns of the files
    header: list[str] = field(init=False)  # those of the rows
    lengths: dict[str, int] = field(init=False)  # of the lists of columns that are spread

    def __post_init__(self) -> None:
        self.stored = self._names(self.paths[0])
        self.lengths = self._list_lengths() if self.spreads else {}
        self.header = spread_names(self.stored, self.lengths)
        check_names(self.header, self.paths[0])

    def _list_lengths(self) -> dict[str, int]:
        """The lengths of lists in columns where those of the first rows have one length."""
        lengths = {}
        with self._open(self.paths[0]) as file:
            for name in vector_columns(file.schema_arrow):
                batches = file.iter_batches(FIRST_ROWS, columns=[name])
                size = length_of(batch.column(0) for batch in batches)
                if size is not None:
                    lengths[name] = size
        return lengths

    @property
    def _read_names(self) -> list[str]:
        """The columns of the files that hold the columns that are read."""
        if not self.lengths:
            return self.names
        names = {n if n in self.stored else list_column(n) for n in self.names}
        return [name for name in self.stored if name in names]

    @property
    def name(self) -> str:
        """The path that the user gave."""
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
        groups = []
        for path in self.paths:
            if differing := sorted(set(self.stored) ^ set(self._names(path))):
                raise DataError(f"{path} has different columns from {self.paths[0]}: {differing}")
            with self._open(path) as file:
                for group in range(file.metadata.num_row_groups):
                    groups.append((path, group, file.metadata.row_group(group).num_rows))
        return groups

    @property
    def rows(self) -> int | None:
        """The number of rows in all files, from their footers."""
        return sum(rows for _, _, rows in self.places)

    @property
    def groups(self) -> int:
        """The number of row groups."""
        return len(self.places)

    def group(self, index: int) -> Rows:
        """One row group."""
        path, group, _ = self.places[index]
        with self._open(path) as file:
            return self._rows(file.read_row_group(group, columns=self._read_names))

    def group_blocks(self, index: int, rows: int) -> Iterator[Rows]:
        """The rows of one row group in order."""
        path, group, _ = self.places[index]
        yield from self.file_blocks(path, rows, [group])

    def blocks(self, rows: int) -> Iterator[Rows]:
        """All rows in order."""
        for path in dict.fromkeys(path for path, _, _ in self.places):
            yield from self.file_blocks(path, rows)

    def file_blocks(self, path: str, rows: int, groups: list[int] | None = None) -> Iterator[Rows]:
        """The rows of one of the files, or of some of its row groups, in order."""
        with self._open(path) as file:
            rows = min(rows, self._rows_per_block(file.metadata))
            for batch in file.iter_batches(rows, columns=self._read_names, row_groups=groups):
                yield self._rows(pa.Table.from_batches([batch]))

    def _rows_per_block(self, metadata: Any) -> int:
        """The rows that take `BLOCK_BYTES`, by the sizes in the footer."""
        size, rows, names = 0, 0, set(self._read_names)
        for index in range(min(metadata.num_row_groups, 4)):
            group = metadata.row_group(index)
            rows += group.num_rows
            for chunk in map(group.column, range(min(group.num_columns, MAX_COLUMNS))):
                if chunk.path_in_schema.partition(".")[0] in names:
                    size += chunk.total_uncompressed_size
        return max(BLOCK_BYTES * rows // max(size, 1), 1)

    @contextmanager
    def _open(self, path: str) -> Iterator[Any]:
        """Raises: FileError if the file cannot be read."""
        try:
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BYTES) as file:
                yield file
        except KeyholeError:
            raise
        except (pa.ArrowException, OSError) as fault:
            message = (str(fault).splitlines() or [""])[0][:160].rstrip(".")
            raise FileError(
                f"{path} cannot be read as Parquet: {message}; is it complete?"
            ) from fault

    def _names(self, path: str) -> list[str]:
        with self._open(path) as file:
            names = file.schema_arrow.names
        return [name for name in names if not name.startswith("__index_level_")]

    @cached_property
    def schema(self) -> Any:
        """Types for the values of all files. Raises: DataError for numbers beside texts."""
        types: dict[str, Any] = {}
        for path in self.paths:
            with self._open(path) as file:
                schema = file.schema_arrow
            for name in self.stored:
                other = schema.field(name).type
                types[name] = self._common(name, types.get(name, other), other, path)
        return pa.schema(list(types.items()))

    def _common(self, name: str, first: Any, second: Any, path: str) -> Any:
        if first == second:
            return first
        plain = (t.value_type if pt.is_dictionary(t) else t for t in (first, second))
        try:
            schemas = [pa.schema([(name, t)]) for t in plain]
            return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
        except pa.ArrowTypeError as fault:
            raise DataError(
                f"{path}: column {name!r} holds {second}, but {first} in {self.paths[0]}; "
                "convert one of them"
            ) from fault

    def _rows(self, table: Any) -> Rows:
        """The rows with the common order and types of columns."""
        table = table.select(self._read_names)
        if len(self.paths) > 1:
            wanted = pa.schema([self.schema.field(name) for name in table.column_names])
            table = table.cast(wanted, safe=False)
        if self.lengths:
            table = spread(table, self.lengths).select(self.names)
        return ArrowRows(table)


def narrow(source: Any, names: set[str]) -> Any:
    """The source with these columns only, so that long texts of others are not read."""
    if isinstance(source, Weighted):
        return replace(source, source=narrow(source.source, names))
    wanted = [name for name in source.names if name in names]
    if isinstance(source, ParquetSource):
        source.wanted = wanted
    if isinstance(source, TableSource) and isinstance(source.loaded, ArrowRows):
        return replace(source, loaded=ArrowRows(source.loaded.table.select(wanted)))
    return source
