"""Rows of a text that goes on: a file that grows and is rotated, or standard input."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from keyhole.data.csv_dialect import Dialect, cleaned, csv_reader, decimal_sign, sniff
from keyhole.data.lazy import pa
from keyhole.data.source import ArrowRows, check_columns
from keyhole.errors import BundleError, DataError, FileError

READ_BYTES = 1 << 20  # at once
MAX_LINE_BYTES = 1 << 24
KNOWN_BYTES = 256  # by which a file is known again
DELIMITERS = ",;\t|"
HEADER_SHARE = 0.5  # of the names of a header: a line with so many of them is one


class Lines:
    """Complete lines of bytes that come in pieces; what is after the last line end waits."""

    def __init__(self) -> None:
        self.rest = b""

    def add(self, piece: bytes) -> list[str]:
        """The lines that are complete now. Raises: DataError for a text without line ends."""
        whole, end, self.rest = (self.rest + piece).rpartition(b"\n")
        if len(self.rest) > MAX_LINE_BYTES:
            raise DataError(f"a line of more than {MAX_LINE_BYTES >> 20} MB: is this a text file?")
        return _lines(whole) if end else []

    def end(self) -> list[str]:
        """The last line, which no line end follows."""
        rest, self.rest = self.rest, b""
        return _lines(rest) if rest else []


def _lines(text: bytes) -> list[str]:
    """Lines of UTF-8, or else of Windows-1252."""
    try:
        decoded = text.decode("utf8")
    except UnicodeDecodeError:
        decoded = text.decode("cp1252", errors="replace")
    return [line.rstrip("\r") for line in decoded.split("\n")]


class Follower:
    """The lines of a file that another process writes, and of the files that take its place.

    A file that is renamed is read to its end before the new one is opened, once that holds
    something; one that is cut is read from its start again. `position` is where the next line
    begins, and what stands before it: by that a file is known again.
    """

    def __init__(self, path: str, position: dict[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.lines = Lines()
        self.file: BinaryIO | None = None
        self.offset = 0
        self.missed = False  # True where a file was rotated while nobody read it
        self.before = b""  # the last bytes before the offset
        opened = self._open()
        if position is not None:
            self.before = bytes.fromhex(position["before"])
            self.offset = int(position["offset"])
            self.missed = not opened or not self._is_known()
            if self.missed:
                self.offset, self.before = 0, b""

    @property
    def position(self) -> dict[str, Any]:
        """The place in the file where the next line begins, and what stands before it."""
        rest = len(self.lines.rest)
        before = self.before[: len(self.before) - rest] if rest else self.before
        return {"offset": self.offset - rest, "before": before[-KNOWN_BYTES:].hex()}

    def read(self) -> list[str]:
        """The lines that are new; none where nothing was written. Raises: DataError."""
        if self.file is None and not self._open():
            return []
        assert self.file is not None
        if not self._is_known():
            self.offset, self.lines, self.before = 0, Lines(), b""
        replaced = self._is_replaced()  # before it is read: nothing is written to it afterwards
        self.file.seek(self.offset)
        piece = self.file.read(READ_BYTES)
        self.offset += len(piece)
        lines = self.lines.add(piece)
        self.before = (self.before + piece)[-KNOWN_BYTES - len(self.lines.rest) :]
        if not piece and replaced:
            lines = self.lines.end()
            self.file.close()
            self.file, self.offset, self.before = None, 0, b""
            return [*lines, *self.read()]
        return lines

    @property
    def at_end(self) -> bool:
        """True where all that was written is read."""
        return self.file is None or self._size() <= self.offset

    def end(self) -> list[str]:
        """The last line, which no line end follows."""
        return self.lines.end()

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()

    def _open(self) -> bool:
        with suppress(FileNotFoundError):
            self.file = open(self.path, "rb")  # noqa: SIM115, it stays open
            if not stat.S_ISREG(os.fstat(self.file.fileno()).st_mode):
                raise FileError(f"{self.path} is not a regular file: pipe it to standard input")
        return self.file is not None

    def _is_known(self) -> bool:
        """True where the file goes on from the offset: what stands before it is as it was."""
        assert self.file is not None
        if self._size() < self.offset:
            return False
        self.file.seek(self.offset - len(self.before))
        return self.file.read(len(self.before)) == self.before

    def _is_replaced(self) -> bool:
        """True where another file that holds something has its name."""
        try:
            other = os.stat(self.path)
        except FileNotFoundError:
            return False  # renamed, and the new file is not there yet
        own = os.fstat(self.file.fileno()) if self.file else other
        return (other.st_dev, other.st_ino) != (own.st_dev, own.st_ino) and other.st_size > 0

    def _size(self) -> int:
        return os.fstat(self.file.fileno()).st_size if self.file else 0


class RowReader:
    """Rows of lines of CSV, or of JSON objects: every cell a text, null for a gap.

    A line that names all columns of `needed` is a header, wherever it stands. `broken` counts
    lines that are no rows, such as one that was cut.
    """

    def __init__(self, needed: Sequence[str], what: str) -> None:
        self.needed = list(needed)
        self.what = what
        self.header: list[str] | None = None
        self.delimiter = ","
        self.is_json = False
        self.decimal = ""
        self.broken = 0

    def rows(self, lines: list[str]) -> ArrowRows | None:
        """The rows of some lines; None for none. Raises: DataError for an unsuitable header."""
        lines = [line for line in lines if line.strip()]
        if not lines:
            return None
        if self.header is None and not self.is_json:
            self._begin(lines[0].lstrip("\ufeff"))
        cells = self._of_json(lines) if self.is_json else self._of_csv(lines)
        if not cells:
            return None
        if not self.is_json and not self.decimal:
            rows: Any = cells
            self.decimal = decimal_sign(rows, self.delimiter)
        columns = zip(*cells, strict=True)
        texts = (cleaned(pa.array(column, pa.string())) for column in columns)
        table = pa.table(dict(zip(self.needed, texts, strict=True)))
        return ArrowRows(Dialect(delimiter=self.delimiter, decimal=self.decimal).note(table))

    def _begin(self, line: str) -> None:
        self.is_json = line.lstrip().startswith("{")
        if self.is_json:
            with suppress(ValueError, AttributeError):
                check_columns(self.needed, list(json.loads(line)), f"a row of {self.what}")
            return
        for delimiter in DELIMITERS:
            if set(self.needed) <= set(_cells(line, delimiter)):
                self.delimiter = delimiter
                return
        check_columns(self.needed, _cells(line, sniff([line])), f"the header of {self.what}")

    def _of_csv(self, lines: list[str]) -> list[list[str]]:
        rows: list[list[str]] = []
        places: list[int] = []
        if self.header is not None:
            places = [self.header.index(name) for name in self.needed]
        for line in lines:
            cells = _cells(line.lstrip("\ufeff"), self.delimiter)
            if set(self.needed) <= set(cells):
                self.header = cells
                places = [cells.index(name) for name in self.needed]
            elif self._is_header(cells):
                check_columns(self.needed, cells, f"a later header of {self.what}")
            elif len(cells) == len(self.header or ()):
                rows.append([cells[place] for place in places])
            else:
                self.broken += 1
        return rows

    def _is_header(self, cells: list[str]) -> bool:
        """True for the names of columns, of which some that are needed are absent."""
        names = set(self.header or ())
        return len(names & set(cells)) > HEADER_SHARE * len(names)

    def _of_json(self, lines: list[str]) -> list[list[str | None]]:
        rows = []
        for line in lines:
            try:
                values = json.loads(line.lstrip("\ufeff"))
                rows.append([_text(values.get(name)) for name in self.needed])
            except (ValueError, AttributeError, RecursionError):
                self.broken += 1
        return rows

    def to_json(self) -> dict[str, Any]:
        """The header, to read on from the middle of a file."""
        return {
            "header": self.header, "delimiter": self.delimiter, "json": self.is_json,
            "broken": self.broken, "decimal": self.decimal,
        }  # fmt: skip

    def take_json(self, state: dict[str, Any]) -> None:
        """Read on as `to_json` says. Raises: BundleError for another model's columns."""
        self.header, self.delimiter = state["header"], state["delimiter"]
        self.is_json, self.broken = state["json"], state["broken"]
        self.decimal = state["decimal"]
        if self.header is not None and not set(self.needed) <= set(self.header):
            raise BundleError(
                f"the saved state belongs to a file that lacks some columns of {self.what}"
            )


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv_reader([line], delimiter))]


def _text(value: Any) -> str | None:
    """A value of JSON as it would be written in a CSV."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)
