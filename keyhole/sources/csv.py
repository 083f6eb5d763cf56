"""CSV, as a file or a pipe: every cell is read as text, so no later block can surprise.

The delimiter and the decimal comma are guessed from the first lines, and can be told.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
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
BLOCK_BYTES = 1 << 22
MOSTLY = 0.9  # of a column's cells must read as decimals; the others are odd texts
DECIMAL_COMMA = r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?$"
THOUSANDS_COMMA = r"^[+-]?[1-9]\d{0,2}(,\d{3})*$"
UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Joined:
    """A stream whose first bytes were read already: pipes cannot be rewound."""

    closed = False

    def __init__(self, start: bytes, rest: Any, *, ours: bool = False) -> None:
        self.start = start
        self.rest = rest
        self.ours = ours

    def read(self, size: int = -1) -> bytes:
        """The next bytes, all of them for a negative size."""
        head, self.start = (self.start, b"") if size < 0 else self._cut(size)
        return head + self.rest.read(size if size < 0 else size - len(head))

    def peek(self, size: int) -> bytes:
        """The next bytes, which stay to be read."""
        self.start += self.rest.read(max(size - len(self.start), 0))
        return self.start[:size]

    def close(self) -> None:
        """Close the stream where it is ours; standard input is not."""
        if self.ours:
            self.rest.close()

    def _cut(self, size: int) -> tuple[bytes, bytes]:
        return self.start[:size], self.start[size:]


@dataclass
class CsvSource:
    """Rows of delimited text; a pipe is read once, a file as often as asked."""

    path: str
    pipe: Any = None  # a buffered binary stream, read in place of the path
    delimiter: str = field(init=False)
    encoding: str = field(init=False)
    header: list[str] = field(init=False)
    blank: int = field(init=False)  # empty lines before the header
    bare: bool = field(init=False)  # a header and no more

    def __post_init__(self) -> None:
        start = self._peek()
        if not start.strip():
            raise DataError(f"{self.name} is empty: a header line and rows were expected")
        wide = start.startswith(UTF16)
        if b"\0" in start and not wide:
            raise DataError(f"{self.name} is neither CSV nor Parquet: it holds zero bytes")
        self.encoding = "utf16" if wide else "utf8" if _decodes(start) else "latin-1"
        text = start.decode(self.encoding, errors="replace").lstrip("\ufeff")
        lines = list(io.StringIO(text, newline=""))
        self.blank = next(i for i, line in enumerate(lines) if line.strip())
        lines = lines[self.blank : self.blank + 50]
        with self._faults():
            self.delimiter = sniff(lines)
            first = list(csv.reader(lines, delimiter=self.delimiter))
        self.header, self.bare = [name.strip() for name in first[0]], not any(first[1:])
        self.bare = self.bare and len(start) < PEEK_BYTES
        check_names(self.header, self.name)

    @property
    def name(self) -> str:
        """The path, or «standard input»."""
        return self.path

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
        if self.bare:
            return
        with self._faults():
            for batch in self._reader():
                table = _cleaned(pa.table(batch), comma, self.delimiter)
                for start in range(0, table.num_rows, rows):
                    yield ArrowRows(table.slice(start, rows))
        if self.pipe is not None:
            self.pipe.close()

    def _reader(self) -> Any:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        raw = self.pipe if self.pipe is not None else pa.input_stream(self.path)
        return arrow_csv.open_csv(
            raw,
            read_options=arrow_csv.ReadOptions(
                encoding=self.encoding,
                column_names=self.header,
                skip_rows_after_names=1 + self.blank,
                block_size=BLOCK_BYTES,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=self.delimiter, newlines_in_values=True
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(self.header, pa.string()), strings_can_be_null=False
            ),
        )

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Raises: DataError or FileError in one line, with the row where it is known."""
        import pyarrow as pa

        try:
            yield
        except csv.Error as fault:
            raise DataError(f"{self.name} cannot be read as CSV: {fault}") from fault
        except (pa.ArrowInvalid, UnicodeError) as fault:
            said = _first_line(fault)
            if "UTF8" in said or isinstance(fault, UnicodeError):
                said = f"it does not stay {self.encoding}; save it as UTF-8 throughout"
            elif "columns, got" in said:
                said = self._ragged() or said
            elif "straddl" in said:
                said = f"a row is longer than {BLOCK_BYTES >> 20} MB; is a quote left open?"
            raise DataError(f"{self.name} cannot be read as CSV: {said}") from fault
        except OSError as fault:
            raise FileError(
                f"{self.name} cannot be read: {_first_line(fault)}; is it complete?"
            ) from fault

    def _ragged(self) -> str | None:
        """Where the first row stands that has more or fewer cells than the header."""
        import pyarrow as pa

        if self.pipe is not None:
            return None  # it cannot be read again
        with pa.input_stream(self.path) as stream:
            text = io.TextIOWrapper(stream, encoding=self.encoding, newline="")
            reader = csv.reader(text, delimiter=self.delimiter)
            rows = (row for row in reader if row)
            next(rows)
            for place, row in enumerate(rows, 1):
                if len(row) != len(self.header):
                    return (
                        f"data row {place:,} (line {reader.line_num:,}) has {len(row)} cells, the "
                        f"header {len(self.header)}; is it parted by {self.delimiter!r}, is a "
                        "quote left open?"
                    )
        return None

    def _peek(self) -> bytes:
        import pyarrow as pa

        if self.pipe is not None:
            return self.pipe.peek(PEEK_BYTES)
        with self._faults(), pa.input_stream(self.path) as stream:
            return stream.read(PEEK_BYTES)


def sniff(lines: list[str]) -> str:
    """The delimiter: the one that splits every line into the same, largest number of cells."""
    found = {}
    for delimiter in ",;\t|":
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        same = sum(width == widths[0] for width in widths)
        found[delimiter] = (widths[0] > 1, same / len(widths), widths[0])
    return max(found, key=lambda delimiter: found[delimiter])


def _cleaned(table: pa.Table, comma: dict[str, bool], delimiter: str) -> pa.Table:
    """Cells trimmed, gaps null, decimal commas as points; `comma` keeps what was found of each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    gaps = pa.array(MISSING)
    columns = []
    for name in table.column_names:
        texts = pc.utf8_trim_whitespace(table.column(name).combine_chunks())  # pyright: ignore
        texts = pc.if_else(pc.is_in(texts, value_set=gaps), None, texts)  # pyright: ignore
        if delimiter != "," and name not in comma:
            found = _decimal_comma(texts, delimiter)
            comma.update({} if found is None else {name: found})
        if comma.get(name):
            texts = pc.replace_substring(texts, ".", "")  # pyright: ignore
            texts = pc.replace_substring(texts, ",", ".")  # pyright: ignore
        columns.append(texts)
    return pa.table(columns, names=table.column_names)


def _decimal_comma(texts: Any, delimiter: str) -> bool | None:
    """Whether a column writes decimals with a comma; None while no cell has one.

    Where semicolons part the cells, commas are decimal; elsewhere not if all could part thousands.
    """
    import pyarrow.compute as pc

    held = texts.drop_null()
    held_comma = held.filter(pc.match_substring(held, ","))  # pyright: ignore
    if not len(held_comma):
        return None
    if delimiter != ";" and pc.all(pc.match_substring_regex(held_comma, THOUSANDS_COMMA)).as_py():  # pyright: ignore
        return False
    reads = pc.sum(pc.match_substring_regex(held, DECIMAL_COMMA)).as_py()  # pyright: ignore
    return reads >= MOSTLY * len(held)


def _decodes(start: bytes) -> bool:
    try:
        start[: max(len(start) - 3, 1)].decode("utf8")
    except UnicodeDecodeError as fault:
        return fault.start >= len(start) - 8  # a character cut by the end of the peek
    return True


def _first_line(fault: Exception) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0][:200]
