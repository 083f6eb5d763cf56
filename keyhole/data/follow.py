"""Rows of a text that goes on: a file that grows and is rotated, or standard input."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from keyhole.data.csv_dialect import cleaned, csv_reader, sniff
from keyhole.data.lazy import pa
from keyhole.data.source import ArrowRows, check_columns
from keyhole.errors import BundleError, DataError

READ_BYTES = 1 << 20  # at once
MAX_LINE_BYTES = 1 << 24
DELIMITERS = ",;\t|"


class Lines:
    """Complete lines of bytes that come in pieces; what is after the last line end waits."""

    def __init__(self) -> None:
        self.rest = b""

    def add(self, piece: bytes) -> list[str]:
        """The lines that are complete now. Raises: DataError for a text without line ends."""
        whole, end, self.rest = (self.rest + piece).rpartition(b"\n")
        if len(self.rest) > MAX_LINE_BYTES:
            raise DataError(f"a line of more than {MAX_LINE_BYTES >> 20} MB: is this a text file?")
        return (whole + end).decode("utf8", errors="replace").splitlines()

    def end(self) -> list[str]:
        """The last line, which no line end follows."""
        rest, self.rest = self.rest, b""
        return rest.decode("utf8", errors="replace").splitlines()


class Follower:
    """The lines of a file that another process writes, and of the files that take its place.

    A file that is renamed is read to its end before the new one is opened; one that is cut is
    read from its start again. `position` is where the next line begins.
    """

    def __init__(self, path: str, position: dict[str, int] | None = None) -> None:
        self.path = Path(path)
        self.lines = Lines()
        self.file: BinaryIO | None = None
        self.offset = 0
        self.missed = False  # True where a file was rotated while nobody read it
        if self._open() and position is not None:
            same = self._inode() == position["inode"] and position["offset"] <= self._size()
            self.missed = not same
            self.offset = position["offset"] if same else 0

    @property
    def position(self) -> dict[str, int]:
        """The file and the place in it where the next line begins."""
        inode = 0 if self.file is None else self._inode()
        return {"inode": inode, "offset": self.offset - len(self.lines.rest)}

    def read(self) -> list[str]:
        """The lines that are new; none where nothing was written. Raises: DataError."""
        if self.file is None and not self._open():
            return []
        assert self.file is not None
        if self._size() < self.offset:
            self.offset, self.lines = 0, Lines()
        replaced = self._is_replaced()  # before it is read: nothing is written to it afterwards
        self.file.seek(self.offset)
        piece = self.file.read(READ_BYTES)
        self.offset += len(piece)
        lines = self.lines.add(piece)
        if not piece and replaced:
            lines = self.lines.end()
            self.file.close()
            self.file, self.offset = None, 0
            return [*lines, *self.read()]
        return lines

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()

    def _open(self) -> bool:
        with suppress(FileNotFoundError):
            self.file = open(self.path, "rb")  # noqa: SIM115, it stays open
        return self.file is not None

    def _is_replaced(self) -> bool:
        try:
            return os.stat(self.path).st_ino != self._inode()
        except FileNotFoundError:
            return False  # renamed, and the new file is not there yet

    def _inode(self) -> int:
        return os.fstat(self.file.fileno()).st_ino if self.file else 0

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
        columns = zip(*cells, strict=True)
        texts = (cleaned(pa.array(column, pa.string())) for column in columns)
        return ArrowRows(pa.table(dict(zip(self.needed, texts, strict=True))))

    def _begin(self, line: str) -> None:
        self.is_json = line.lstrip().startswith("{")
        if self.is_json:
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
        for cells in csv_reader((line.lstrip("\ufeff") for line in lines), self.delimiter):
            stripped = [cell.strip() for cell in cells]
            if set(self.needed) <= set(stripped):
                self.header = stripped
                places = [stripped.index(name) for name in self.needed]
            elif len(cells) == len(self.header or ()):
                rows.append([cells[place] for place in places])
            else:
                self.broken += 1
        return rows

    def _of_json(self, lines: list[str]) -> list[list[str | None]]:
        rows = []
        for line in lines:
            try:
                values = json.loads(line)
                rows.append([_text(values.get(name)) for name in self.needed])
            except (ValueError, AttributeError, RecursionError):
                self.broken += 1
        return rows

    def to_json(self) -> dict[str, Any]:
        """The header, to read on from the middle of a file."""
        return {
            "header": self.header, "delimiter": self.delimiter, "json": self.is_json,
            "broken": self.broken,
        }  # fmt: skip

    def take_json(self, state: dict[str, Any]) -> None:
        """Read on as `to_json` says. Raises: BundleError for another model's columns."""
        self.header, self.delimiter = state["header"], state["delimiter"]
        self.is_json, self.broken = state["json"], state["broken"]
        if self.header is not None and not set(self.needed) <= set(self.header):
            raise BundleError(f"the state is of a file without some columns of {self.what}")


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv_reader([line], delimiter))]


def _text(value: Any) -> str | None:
    """A value of JSON as it would be written in a CSV."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)
