"""Where answers go: CSV, Parquet or JSON lines, a file or standard output, block by block."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from keyhole.columns import cast
from keyhole.core.files import aside, faults_of, is_stream
from keyhole.errors import SettingError
from keyhole.printable import printable, printable_json

if TYPE_CHECKING:
    import pyarrow as pa

# What a spreadsheet would run where a text cell begins with it, full-width forms included.
RUNS = "^[=+\\-@\\t\\r\\n\\x00＝＋－＠]"
FORMATS = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "json",
    ".json": "json",
}


class Sink(Protocol):
    """Takes tables with the same columns, one after the other."""

    def write(self, table: pa.Table) -> None:
        """Add the rows of a table."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...


@contextmanager
def open_sink(path: str, *, json: bool = False, raw_text: bool = False) -> Iterator[Sink]:
    """A sink that stands at `path` whole once the block ends well; `-` is standard output.

    The ending decides the format. A file or a pipe gets the data as it is; on a terminal, texts
    are made printable. Raises: SettingError for an ending that says none.
    """
    kind = format_of(path, json=json)
    if path == "-":
        with faults_of(Path("standard output")):
            sink = _make(kind, sys.stdout.buffer, raw_text)
            yield Shown(sink) if sys.stdout.isatty() else sink
            sink.close()
            sys.stdout.flush()
        return
    with aside(path) as temporary, open(temporary, "wb") as file:
        sink = _make(kind, file, raw_text)
        yield sink
        sink.close()


def format_of(path: str, *, json: bool = False) -> str:
    """The format that a path's ending names; CSV, or JSON lines if asked, for what is no file."""
    if json:
        return "json"
    if path == "-" or is_stream(Path(path)):
        return "csv"
    ending = next((ending for ending in FORMATS if path.lower().endswith(ending)), None)
    if ending is None:
        raise SettingError(f"{path}: end the name in one of {', '.join(FORMATS)}")
    return FORMATS[ending]


def _make(kind: str, file: Any, raw_text: bool) -> Sink:
    if kind == "parquet":
        return ParquetSink(file)
    return JsonSink(file) if kind == "json" else CsvSink(file, raw_text)


@dataclass(frozen=True)
class Shown:
    """Writes to a terminal: texts cannot steer it."""

    sink: Sink

    def write(self, table: pa.Table) -> None:
        """Add rows, their texts and their names printable."""
        import pyarrow as pa

        columns = [_printable(column) for column in table.columns]
        self.sink.write(pa.table(columns, names=[printable(n) for n in table.column_names]))

    def close(self) -> None:
        """Finish the output."""
        self.sink.close()


class CsvSink:
    """Comma-separated text; a text cell that a spreadsheet would run gets an apostrophe before."""

    def __init__(self, file: Any, raw_text: bool) -> None:
        self.file = file
        self.raw_text = raw_text
        self.begun = False

    def write(self, table: pa.Table) -> None:
        """Add rows, the header before the first."""
        from pyarrow import csv

        table = table if self.raw_text else neutral(table)
        options = csv.WriteOptions(include_header=not self.begun, quoting_style="needed")
        csv.write_csv(_plain(table), self.file, options)
        self.begun = True

    def close(self) -> None:
        """Nothing is left to write."""


class ParquetSink:
    """Parquet; a row group for every block that is written."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.writer: Any = None

    def write(self, table: pa.Table) -> None:
        """Add a row group."""
        import pyarrow.parquet as pq

        if self.writer is None:
            # Numbers that hardly repeat: a dictionary would cost time and save nothing.
            texts = [f.name for f in table.schema if cast.is_text(f.type)]
            self.writer = pq.ParquetWriter(
                self.file,
                table.schema,
                compression="lz4",
                use_dictionary=texts,  # pyright: ignore
            )
        self.writer.write_table(table.cast(self.writer.schema))

    def close(self) -> None:
        """Write the footer."""
        if self.writer is not None:
            self.writer.close()


class JsonSink:
    """One JSON object a line."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, table: pa.Table) -> None:
        """Add lines; a number that is none becomes null."""
        import json

        for row in table.to_pylist():
            clean = {k: None if v != v else v for k, v in row.items()}  # noqa: PLR0124
            line = printable_json(json.dumps(clean, ensure_ascii=False, default=str))
            self.file.write(line.encode() + b"\n")

    def close(self) -> None:
        """Nothing is left to write."""


def neutral(table: pa.Table) -> pa.Table:
    """The table with every text that a spreadsheet would run made harmless; numbers untouched."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = []
    for column in table.columns:
        values = cast.plain(column)
        if cast.is_text(values.type):
            runs = pc.and_(  # pyright: ignore
                pc.match_substring_regex(values, RUNS),  # pyright: ignore
                pc.invert(pc.match_substring_regex(values, cast.NUMBER)),  # pyright: ignore
            )
            if pc.any(runs).as_py():  # pyright: ignore
                quoted = pc.binary_join_element_wise(pa.scalar("'"), values.cast(pa.string()), "")  # pyright: ignore
                values = pc.if_else(runs, quoted, values)  # pyright: ignore
        columns.append(values)
    names = [
        f"'{name}" if name[:1] in "=+-@\t\r\n" and name else name for name in table.column_names
    ]
    return pa.table(columns, names=names)


def _printable(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.types as pt

    values = cast.plain(column)
    if not cast.is_text(values.type) and not pt.is_nested(values.type):
        return values
    texts = cast.texts(values).to_pylist()
    return pa.array([None if t is None else printable(t) for t in texts], pa.string())


def _plain(table: pa.Table) -> pa.Table:
    """Without types that CSV cannot hold."""
    import pyarrow as pa
    import pyarrow.types as pt

    for place, field in enumerate(table.schema):
        if pt.is_dictionary(field.type) or pt.is_nested(field.type) or pt.is_null(field.type):
            texts = cast.texts(table.column(place)) if not pt.is_null(field.type) else (
                pa.nulls(len(table), pa.string())
            )  # fmt: skip
            table = table.set_column(place, field.name, texts)
    return table
