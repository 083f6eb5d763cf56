"""CSV from a file or a pipe; every cell is read as its raw text.

Columns parse the texts, so no later block can fail on a type, and cells can be written back
unchanged. Pipes and encodings other than UTF-8 are read by Python in blocks of whole rows: the
read-ahead threads of Arrow would call Python, which can deadlock and delays signals.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from keyhole.data.csv_dialect import Head, csv_reader, read_head
from keyhole.data.lazy import arrow_csv, pa
from keyhole.data.source import ArrowRows, Rows, Source, check_names
from keyhole.errors import DataError, FileError

PEEK_BYTES = 1 << 16
MAX_HEADER_BYTES = 1 << 26  # 64 MB: a longer first line is no header
BLOCK_BYTES = 1 << 22
READ_BYTES = 1 << 20  # at most in one read of a pipe
ROW = re.compile(r"Row #(\d+)")  # in Arrow's messages, counted within a block


@dataclass
class PeekedStream:
    """A pipe whose first bytes have been read: it cannot be rewound."""

    start: bytes
    rest: Any
    ours: bool = False  # True if it is closed at the end, unlike standard input

    def read(self, size: int = -1) -> bytes:
        """The next bytes; all of them for a negative size."""
        end = len(self.start) if size < 0 else size
        head, self.start = self.start[:end], self.start[end:]
        return head + self._bytes(size - len(head) if size >= 0 else None)

    def peek(self, size: int) -> bytes:
        """The next bytes, which are read again later."""
        self.start += self._bytes(size - len(self.start))
        return self.start[:size]

    def _bytes(self, size: int | None) -> bytes:
        """The next `size` bytes, fewer at the end of the pipe; None for all.

        Python looks for signals between two calls of `read1`. Within one call of `read` it does
        not, and a signal that comes between two reads of the system waits for more data.
        """
        if not hasattr(self.rest, "read1"):  # without a buffer, `read` reads the system once
            return self.rest.read(-1 if size is None else max(size, 0))
        parts, most = [], READ_BYTES if size is None else size
        while most > 0 and (part := self.rest.read1(min(most, READ_BYTES))):
            parts.append(part)
            most -= len(part) if size is not None else 0
        return b"".join(parts)

    def close(self) -> None:
        """Close the stream if it is `ours`."""
        if self.ours:
            self.rest.close()


@dataclass
class CsvSource(Source):
    """Rows of delimited text; a pipe can be read only once."""

    path: str
    pipe: PeekedStream | None = None  # read instead of the path
    head: Head = field(init=False)

    def __post_init__(self) -> None:
        if self.pipe is not None:
            start, whole = _past_header(self.pipe)
        else:
            with self._faults(), io.BufferedReader(pa.input_stream(self.path)) as stream:
                start, whole = _past_header(PeekedStream(b"", stream))
        if not start.strip():
            raise DataError(f"{self.name} is empty: expected a header line and rows")
        with self._faults():
            self.head = read_head(start, whole, self.name)
        check_names(self.head.names, self.name)

    @property
    def name(self) -> str:
        """The path, or "standard input"."""
        return self.path

    @property
    def names(self) -> list[str]:
        """The header."""
        return self.head.names

    def blocks(self, rows: int) -> Iterator[Rows]:
        """The rows in order, with raw cells."""
        if self.head.bare:
            return
        with self._faults():
            table = pa.table({})
            for batch in self._parsed():
                table = self.head.dialect.note(pa.table(batch))
                for start in range(0, table.num_rows, rows):
                    yield ArrowRows(table.slice(start, rows))
            last = table.slice(max(table.num_rows - 1, 0)).to_pydict()
            if any("\\n" in str(cell) for cell in last.values()):
                message = self._ragged()  # Arrow swallows rows after an open quote
                if message is not None and "end of data" in message:
                    raise DataError(f"{self.name} cannot be read as CSV: {message}")
        if self.pipe is not None:
            self.pipe.close()

    def _parsed(self) -> Iterator[Any]:
        dialect = self.head.dialect
        if self.pipe is None and dialect.encoding == "utf8":  # Arrow reads ahead by itself
            yield from arrow_csv.open_csv(pa.input_stream(self.name), **self._options())
            return
        stream = self.pipe if self.pipe is not None else pa.input_stream(self.name)
        settings = stream.read, self._block_bytes, dialect.encoding, dialect.delimiter
        start = 0
        for block in whole_rows(*settings, self.name):
            options = self._options(first=not start, size=len(block))
            try:
                table = arrow_csv.read_csv(pa.BufferReader(block), **options)
            except pa.ArrowInvalid as fault:
                message = ROW.sub(lambda row: f"Row #{int(row[1]) + start}", str(fault))  # noqa: B023
                raise pa.ArrowInvalid(message) from fault
            start += table.num_rows + (0 if start else 1 + self.head.skipped)
            yield table

    def _options(self, first: bool = True, size: int = 0) -> dict[str, Any]:
        names = self.head.names
        return {
            "read_options": arrow_csv.ReadOptions(
                use_threads=not size,
                column_names=names,
                skip_rows_after_names=1 + self.head.skipped if first else 0,
                block_size=max(self._block_bytes, size),
            ),
            "parse_options": arrow_csv.ParseOptions(
                delimiter=self.head.dialect.delimiter, newlines_in_values=True
            ),
            "convert_options": arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        }

    @property
    def _block_bytes(self) -> int:
        """The size of a block: several times the header, because wide rows are long too."""
        return max(BLOCK_BYTES, 4 * len(self.head.dialect.header.encode()))

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Raises: DataError or FileError in one line, with the row if it is known."""
        try:
            yield
        except csv.Error as fault:
            raise DataError(f"{self.name} cannot be read as CSV: {fault}") from fault
        except (pa.ArrowInvalid, UnicodeError) as fault:
            message = _first_line(fault)
            if "UTF8" in message or isinstance(fault, UnicodeError):
                encoding = self.head.dialect.encoding if hasattr(self, "head") else "one encoding"
                message = f"not all of it is {encoding}; save it as UTF-8"
            elif "columns, got" in message:
                message = self._ragged() or message
            elif "straddl" in message:
                most = f"a row is longer than {self._block_bytes >> 20} MB"
                message = self._ragged() or f"{most}; is a quote left open?"
            raise DataError(f"{self.name} cannot be read as CSV: {message}") from fault
        except OSError as fault:
            raise FileError(
                f"{self.name} cannot be read: {_first_line(fault)}; is it complete?"
            ) from fault

    def _ragged(self) -> str | None:
        """A message about the first row that has more or fewer cells than the header."""
        if self.pipe is not None:
            return None  # it cannot be read again
        head, width = self.head, len(self.head.names)
        with pa.input_stream(self.name) as stream:
            text = io.TextIOWrapper(stream, encoding=head.dialect.encoding, newline="")
            for _ in range(head.skipped):
                next(text)
            reader = csv_reader(text, head.dialect.delimiter, strict=True)
            row_index, line = -1, head.skipped
            try:
                for row in reader:
                    row_index += bool(row)
                    if row and len(row) != width:
                        break
                    line = head.skipped + reader.line_num
                else:
                    return None
            except csv.Error as fault:
                return f"line {line + 1:,}: {fault}; is a quote left open there?"
        lines = reader.line_num + head.skipped - line
        position = f"data row {row_index:,} (line {line + 1:,})"
        quote = f"it has {lines:,} lines; " if lines > 1 else ""
        return (
            f"{position} has {len(row)} cells, the header {width}; {quote}is its delimiter "
            f"{head.dialect.delimiter!r}, is a quote left open?"
        )


def _past_header(stream: PeekedStream) -> tuple[bytes, bool]:
    """The first bytes with a row after the header, and whether the file ends there."""
    size = PEEK_BYTES
    while True:
        start = stream.peek(size)
        lines = max(start.count(b"\n"), start.count(b"\r"))
        if len(start) < size or lines > 1:
            return start, len(start) < size
        if size >= MAX_HEADER_BYTES:
            raise DataError(f"the header is longer than {MAX_HEADER_BYTES >> 20} MB")
        size *= 4


def _first_line(fault: Exception) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0][:200]


MAX_BLOCKS = 4  # blocks that the longest row may take


def whole_rows(
    read: Callable[[int], bytes], size: int, encoding: str, delimiter: str, name: str
) -> Iterator[bytes]:
    """The text as UTF-8, in blocks of whole rows of about `size` bytes.

    Raises: UnicodeError, csv.Error; DataError for a row longer than `MAX_BLOCKS` blocks.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    text, ended = "", False
    while not ended:
        part = read(size)
        ended = not part
        text += decoder.decode(part, final=ended)
        end = len(text) if ended else _end_of_rows(text, delimiter)
        if end:
            yield text[:end].encode()
            text = text[end:]
        elif len(text) > MAX_BLOCKS * size:
            most = f"a row is longer than {MAX_BLOCKS * size >> 20} MB"
            raise DataError(f"{name} cannot be read as CSV: {most}; is a quote left open?")


def _end_of_rows(text: str, delimiter: str) -> int:
    """The end of the last row that is certainly complete; 0 if none is."""
    end = max(text.rfind("\n"), text.rfind("\r", 0, -1)) + 1  # a last \r may be half of \r\n
    if '"' not in text:
        return end
    position = before = last = 0

    def lines() -> Iterator[str]:
        nonlocal position
        for line in io.StringIO(text[:end], newline=""):
            position += len(line)
            yield line

    for _ in csv_reader(lines(), delimiter):
        before, last = last, position
    return before  # the last row may be cut within a quote
