"""Open a source from a path, a folder, a glob, a pipe, a frame or an array."""

import glob
import os
import shutil
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keyhole.core.files import hint_of
from keyhole.data.csv import CsvSource, PeekedStream
from keyhole.data.frames import frame_source
from keyhole.data.image_rows import ImageSource, file_images
from keyhole.data.lazy import pa, pq
from keyhole.data.parquet import ParquetSource
from keyhole.data.source import ArrowRows, Rows, Source, TableSource, check_names
from keyhole.errors import DataError, FileError

MEMORY_BYTES = 256 << 20  # a larger CSV is spooled to disk for training
SPOOL_ROWS = 65_536


def open_source(data: Any, columns: Sequence[str] | None = None) -> Source:
    """The source of these rows; `columns` are those to read from Parquet files.

    Raises: FileError for a path that does not exist, DataError for data that is not a table.
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
        return ParquetSource(paths, path, None if columns is None else list(columns))
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
    """A source whose groups can be read at random: itself, in memory, or spooled to Parquet.

    `folder` creates the folder for the spool; it is called only if memory is not enough.
    """
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
        return TableSource(ArrowRows(table), name)
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
