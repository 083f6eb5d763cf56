"""Write answers as CSV, Parquet or JSON lines, to a file or standard output, block by block."""

from __future__ import annotations

import json
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyhole.core.files import atomic_write, faults_of, is_stream
from keyhole.data import cast
from keyhole.data.csv_dialect import dialect_of, encoded, header_of, lines_of
from keyhole.data.lazy import arrow_csv, pa, pc, pq, pt
from keyhole.errors import SettingError, printable, printable_json

# A spreadsheet would run a text that begins with one of these (full-width forms included).
FORMULA = "^[=+\\-@\\t\\r\\n\\x00＝＋－＠]"
# Numbers, money, telephone numbers and dashes are not formulas.
HARMLESS = r"^[+-]?(inf|[\p{Sc}\d\s.,:/%()'’-]*(e[+-]?\d+)?)[\s\p{Sc}%]*$"
FORMATS = {
    ".csv": "csv", ".parquet": "parquet", ".pq": "parquet", ".jsonl": "json", ".json": "json",
}  # fmt: skip


class Sink(ABC):
    """Writes tables with the same columns, one after the other."""

    @abstractmethod
    def write(self, table: pa.Table) -> None:
        """Add the rows of a table."""

    def close(self) -> None:  # noqa: B027
        """Finish the output."""


@contextmanager
def open_sink(path: str, *, json: bool = False, raw_text: bool = False) -> Iterator[Sink]:
    """A sink that writes `path` atomically when the block ends; `-` is standard output.

    The ending decides the format. On a terminal, texts are made printable.
    Raises: SettingError for an unknown ending.
    """
    kind = format_of(path, json=json)
    if path == "-":
        with faults_of(Path("standard output")):
            sink = _sink(kind, sys.stdout.buffer, raw_text)
            yield TerminalSink(sink) if sys.stdout.isatty() else sink
            sink.close()
            sys.stdout.flush()
        return
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        sink = _sink(kind, file, raw_text)
        yield sink
        sink.close()


def format_of(path: str, *, json: bool = False) -> str:
    """The format by the ending; CSV for standard output or a pipe; JSON lines if `json`."""
    if json:
        return "json"
    if path == "-" or is_stream(Path(path)):
        return "csv"
    for ending, kind in FORMATS.items():
        if path.lower().endswith(ending):
            return kind
    raise SettingError(f"{path}: unknown file extension; use one of {', '.join(FORMATS)}")


def _sink(kind: str, file: Any, raw_text: bool) -> Sink:
    if kind == "parquet":
        return ParquetSink(file)
    return JsonSink(file) if kind == "json" else CsvSink(file, raw_text)


@dataclass(frozen=True)
class TerminalSink(Sink):
    """Writes to a terminal, without control sequences."""

    sink: Sink

    def write(self, table: pa.Table) -> None:
        """Add rows with printable texts and names."""
        columns = []
        for column in table.columns:
            values = cast.plain(column)
            if cast.is_text(values.type) or pt.is_nested(values.type):
                texts = cast.texts(values).to_pylist()
                values = pa.array([t if t is None else printable(t) for t in texts], pa.string())
            columns.append(values)
        self.sink.write(pa.table(columns, names=[printable(n) for n in table.column_names]))

    def close(self) -> None:
        """Finish the output."""
        self.sink.close()


@dataclass
class CsvSink(Sink):
    """CSV, in the dialect of its rows; a text that a spreadsheet would run gets an apostrophe."""

    file: Any
    raw_text: bool
    begun: bool = False

    def write(self, table: pa.Table) -> None:
        """Add rows, after the header if they are the first."""
        dialect = dialect_of(table.schema)
        if dialect is not None:
            text = lines_of(table, dialect)
            if not self.begun:
                header = header_of(table.column_names, dialect)
                text = dialect.preamble + header + dialect.line_end + text
            self.file.write(encoded(text, dialect, first=not self.begun))
        else:
            table = table if self.raw_text else without_formulas(table)
            options = arrow_csv.WriteOptions(include_header=not self.begun, quoting_style="needed")
            arrow_csv.write_csv(_plain(table, nested=False), self.file, options)
        self.begun = True


@dataclass
class ParquetSink(Sink):
    """Parquet, with a row group for every table."""

    file: Any
    writer: Any = None

    def write(self, table: pa.Table) -> None:
        """Add a row group."""
        if self.writer is None:
            # Numbers hardly repeat, so a dictionary would cost time and save nothing.
            texts: Any = [f.name for f in table.schema if cast.is_text(f.type)]
            self.writer = pq.ParquetWriter(
                self.file, table.schema, compression="lz4", use_dictionary=texts
            )
        self.writer.write_table(table.cast(self.writer.schema))

    def close(self) -> None:
        """Write the footer."""
        if self.writer is not None:
            self.writer.close()


@dataclass
class JsonSink(Sink):
    """One JSON object a line."""

    file: Any

    def write(self, table: pa.Table) -> None:
        """Add lines; NaN and infinite numbers become null."""
        for row in _plain(table).to_pylist():
            text = json.dumps(_finite(row), ensure_ascii=False, default=str, allow_nan=False)
            self.file.write(printable_json(text).encode() + b"\n")


def without_formulas(table: pa.Table) -> pa.Table:
    """The table with an apostrophe before every text and name that a spreadsheet would run."""
    columns = []
    for column in table.columns:
        values = cast.plain(column)
        if cast.is_text(values.type):
            formula = pc.and_(
                pc.match_substring_regex(values, FORMULA),
                pc.invert(pc.match_substring_regex(values, HARMLESS)),
            )
            if pc.any(formula).as_py():
                quoted = pc.binary_join_element_wise(pa.scalar("'"), values.cast(pa.string()), "")
                values = pc.if_else(formula, quoted, values)
        columns.append(values)
    names = [f"'{n}" if n.startswith(tuple("=+-@\t\r\n")) else n for n in table.column_names]
    return pa.table(columns, names=names).replace_schema_metadata(table.schema.metadata)


def _finite(value: Any) -> Any:
    """The value with null for numbers that JSON cannot hold, also in lists and objects."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list) else value


def _plain(table: pa.Table, *, nested: bool = True) -> pa.Table:
    """The table with durations in seconds, which models can read; `nested`: JSON holds lists."""
    texts = () if nested else (pt.is_dictionary, pt.is_nested, pt.is_null)
    for index, field in enumerate(table.schema):
        column = table.column(index)
        if pt.is_duration(field.type):
            table = table.set_column(index, field.name, cast.numbers_or_gaps(column))
        elif any(test(field.type) for test in texts):
            table = table.set_column(index, field.name, cast.texts(column))
    return table
