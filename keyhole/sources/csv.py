"""CSV, as a file or a pipe: every cell is read as text, so no later block can surprise.

The delimiter and the decimal comma are guessed from the first lines, and can be told.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from keyhole.errors import DataError, FileError
from keyhole.sources.base import ArrowRows, Rows, check_names

if TYPE_CHECKING:
    import pyarrow as pa

MISSING = [
    "",
    "NA",
    "N/A",
    "n/a",
    "nan",
    "NaN",
    "NAN",
    "null",
    "NULL",
    "None",
    "?",
    "#N/A",
    "<NA>",
]
PEEK_BYTES = 1 << 16
DECIMAL_COMMA = r"^[+-]?\d+(,\d+)?$"


@dataclass
class CsvSource:
    """Rows of delimited text; a pipe is read once, a file as often as asked."""

    path: str
    pipe: Any = None  # a buffered binary stream, read in place of the path
    delimiter: str = field(init=False)
    encoding: str = field(init=False)
    header: list[str] = field(init=False)

    def __post_init__(self) -> None:
        start = self._peek()
        if not start.strip():
            raise DataError(f"{self.name} is empty: a header line and rows were expected")
        if b"\0" in start:
            raise DataError(f"{self.name} is neither CSV nor Parquet: it holds zero bytes")
        self.encoding = "utf8" if _decodes(start) else "latin-1"
        text = start.decode(self.encoding, errors="replace").lstrip("\ufeff")
        lines = text.splitlines()[: 1 if len(text) >= PEEK_BYTES and text.count("\n") < 2 else 50]
        self.delimiter = sniff(lines)
        self.header = [name.strip() for name in next(csv.reader(lines, delimiter=self.delimiter))]
        check_names(self.header, self.name)

    @property
    def name(self) -> str:
        """The path, or «standard input»."""
        return "standard input" if self.pipe is not None else self.path

    @property
    def names(self) -> list[str]:
        """The header."""
        return self.header

    @property
    def rows(self) -> int | None:
        """Not known before the last line."""
        return None

    @property
    def groups(self) -> int:
        """None: text is read in order."""
        return 0

    def group(self, place: int) -> Rows:
        """Text has no groups; spool it first."""
        raise NotImplementedError

    def blocks(self, rows: int) -> Iterator[Rows]:
        """The rows in order, cells as trimmed texts, missing ones null."""
        import pyarrow as pa

        comma: dict[str, bool] = {}
        try:
            for batch in self._reader():
                table = _cleaned(pa.table(batch), comma, self.delimiter == ";")
                for start in range(0, table.num_rows, rows):
                    yield ArrowRows(table.slice(start, rows))
        except pa.ArrowInvalid as fault:
            raise DataError(f"{self.name} cannot be read as CSV: {_first_line(fault)}") from fault

    def _reader(self) -> Any:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        raw = self.pipe if self.pipe is not None else pa.input_stream(self.path)
        return arrow_csv.open_csv(
            raw,
            read_options=arrow_csv.ReadOptions(
                encoding=self.encoding, column_names=self.header, skip_rows=1, block_size=1 << 22
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=self.delimiter, newlines_in_values=True
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(self.header, pa.string()), strings_can_be_null=False
            ),
        )

    def _peek(self) -> bytes:
        import pyarrow as pa

        if self.pipe is not None:
            return self.pipe.peek(PEEK_BYTES)[:PEEK_BYTES]
        try:
            with pa.input_stream(self.path) as stream:
                return stream.read(PEEK_BYTES)
        except OSError as fault:
            raise FileError(f"{self.path} cannot be read: {_first_line(fault)}") from fault


def sniff(lines: list[str]) -> str:
    """The delimiter: the one that splits every line into the same number of cells, most of them."""
    found = {}
    for delimiter in ",;\t|":
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        same = sum(width == widths[0] for width in widths)
        found[delimiter] = (widths[0] > 1, same / len(widths), widths[0])
    return max(found, key=lambda delimiter: found[delimiter])


def _cleaned(table: pa.Table, comma: dict[str, bool], may_be_comma: bool) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    gaps = pa.array(MISSING)
    columns = []
    for name in table.column_names:
        texts = pc.utf8_trim_whitespace(table.column(name).combine_chunks())  # pyright: ignore
        texts = pc.if_else(pc.is_in(texts, value_set=gaps), None, texts)  # pyright: ignore
        if may_be_comma and comma.setdefault(name, _decimal_comma(texts)):
            texts = pc.replace_substring(texts, ",", ".")  # pyright: ignore
        columns.append(texts)
    return pa.table(columns, names=table.column_names)


def _decimal_comma(texts: Any) -> bool:
    import pyarrow.compute as pc

    held = texts.drop_null()
    with_comma = pc.any(pc.match_substring(held, ",")).as_py()  # pyright: ignore
    return bool(with_comma) and pc.all(pc.match_substring_regex(held, DECIMAL_COMMA)).as_py()  # pyright: ignore


def _decodes(start: bytes) -> bool:
    try:
        start[: max(len(start) - 3, 1)].decode("utf8")
    except UnicodeDecodeError as fault:
        return fault.start >= len(start) - 8  # a character cut by the end of the peek
    return True


def _first_line(fault: Exception) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0][:200]
