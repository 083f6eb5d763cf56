"""Write answers as CSV, Parquet or JSON lines, to a file or standard output, block by block."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from keyhole.core.files import aside, faults_of, is_stream
from keyhole.data import cast
from keyhole.data.csv_dialect import Dialect, dialect_of, encoded, header_of, lines_of
from keyhole.errors import SettingError, printable, printable_json

if TYPE_CHECKING:
    import pyarrow as pa


# What a spreadsheet would run where a text cell begins with it, full-width forms included.
RUNS = "^[=+\\-@\\t\\r\\n\\x00＝＋－＠]"
# Numbers, money, telephone numbers and dashes are no formulas, whatever sign they begin with.
HARMLESS = r"^[+-]?(inf|[\p{Sc}\d\s.,:/%()'’-]*(e[+-]?\d+)?)[\s\p{Sc}%]*$"
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
    """Comma-separated text; a text cell that a spreadsheet would run gets an apostrophe before.

    Not so the rows of a CSV that come back with their gaps filled: these stay as they were.
    """

    def __init__(self, file: Any, raw_text: bool) -> None:
        self.file = file
        self.raw_text = raw_text
        self.begun = False

    def write(self, table: pa.Table) -> None:
        """Add rows, the header before the first."""
        from pyarrow import csv

        dialect = dialect_of(table.schema)
        if dialect is not None:
            self._write_like(table, dialect)
            return
        table = table if self.raw_text else neutral(table)
        options = csv.WriteOptions(include_header=not self.begun, quoting_style="needed")
        csv.write_csv(_plain(table), self.file, options)
        self.begun = True

    def _write_like(self, table: pa.Table, dialect: Dialect) -> None:
        """Add rows as the file that they came from is written."""
        head = "" if self.begun else dialect.preamble
        head += "" if self.begun else header_of(table.column_names, dialect) + dialect.line_end
        text = head + lines_of(table, dialect)
        self.file.write(encoded(text, dialect, first=not self.begun))
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
        """Add lines; NaN and infinite numbers become null, which JSON has instead."""
        import json

        for row in _with_seconds(table).to_pylist():
            text = json.dumps(_finite(row), ensure_ascii=False, default=str, allow_nan=False)
            line = printable_json(text)
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
                pc.invert(pc.match_substring_regex(values, HARMLESS)),  # pyright: ignore
            )
            if pc.any(runs).as_py():  # pyright: ignore
                quoted = pc.binary_join_element_wise(pa.scalar("'"), values.cast(pa.string()), "")  # pyright: ignore
                values = pc.if_else(runs, quoted, values)  # pyright: ignore
        columns.append(values)
    names = [
        f"'{name}" if name[:1] in "=+-@\t\r\n" and name else name for name in table.column_names
    ]
    return pa.table(columns, names=names).replace_schema_metadata(table.schema.metadata)


def _finite(value: Any) -> Any:
    """The value with null for numbers that JSON cannot hold, lists and objects within too."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list) else value


def _with_seconds(table: pa.Table) -> pa.Table:
    """Durations as seconds: CSV and JSON have no type for them, and models read such numbers."""
    import pyarrow as pa
    import pyarrow.types as pt

    for place, field in enumerate(table.schema):
        if pt.is_duration(field.type):
            numbers = pa.array(cast.floats(table.column(place))[0], from_pandas=True)
            table = table.set_column(place, field.name, numbers)
    return table


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

    table = _with_seconds(table)
    for place, field in enumerate(table.schema):
        if pt.is_dictionary(field.type) or pt.is_nested(field.type) or pt.is_null(field.type):
            texts = cast.texts(table.column(place)) if not pt.is_null(field.type) else (
                pa.nulls(len(table), pa.string())
            )  # fmt: skip
            table = table.set_column(place, field.name, texts)
    return table
