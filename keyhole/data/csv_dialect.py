"""The dialect of a CSV file: detected, kept in a schema's metadata, and used to write rows."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from keyhole.data import cast
from keyhole.data.lazy import pa, pc
from keyhole.errors import DataError

KEY = b"keyhole.csv"
MISSING = [
    "", "NA", "N/A", "n/a", "nan", "NaN", "NAN", "null", "NULL", "None", "?", "#N/A", "<NA>",
]  # fmt: skip


@dataclass(frozen=True)
class Dialect:
    """Delimiter, decimal sign, encoding, quoting and first lines of a CSV file.

    `decimal` is empty if no column shows it, `mark` is True with a byte order mark, `quoted` are
    the columns whose cells are all in quotes, `preamble` is the text before the header line.
    """

    delimiter: str = ","
    decimal: str = ""
    encoding: str = "utf8"
    line_end: str = "\n"
    mark: bool = False
    quoted: list[str] = field(default_factory=list)
    quotes_empty: bool = False
    preamble: str = ""
    header: str = ""

    def note(self, table: pa.Table) -> pa.Table:
        """The table with this dialect in its metadata."""
        return table.replace_schema_metadata({KEY: json.dumps(asdict(self)).encode()})


def dialect_of(schema: Any) -> Dialect | None:
    """The dialect of the CSV from which a table comes; None for other tables."""
    note = (schema.metadata or {}).get(KEY)
    return None if note is None else Dialect(**json.loads(note))


def cleaned(values: Any) -> Any:
    """Cells of a CSV without padding; markers of missing values become null."""
    texts = pc.utf8_trim_whitespace(cast.texts(values))
    return pc.if_else(pc.is_in(texts, value_set=pa.array(MISSING)), None, texts)


HEAD_LINES = 200
SAMPLE_CELLS = 50_000  # from which the decimal sign is learned
EXCEL_NOTE = re.compile(r"sep=(.)\s*$", re.IGNORECASE)  # a first line that names the delimiter
UTF16 = (b"\xff\xfe", b"\xfe\xff")
UTF32 = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
BINARY = {
    b"PK\x03\x04": "a ZIP archive, such as an Excel .xlsx workbook; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel .xls workbook; save the sheet as CSV",
    b"\x1f\x8b": "gzip; give the file the extension .gz",
    b"SQLite format 3": "an SQLite database; export a table as CSV",
}
MAX_CELL_LETTERS = 1 << 26  # a header with another delimiter is a single cell
POINT = re.compile(r"[^\d.,]*(?:\d+|\d{1,3}(?:,\d{3})+)\.(?:\d{1,2}|\d{4,})\D*")
COMMA = re.compile(r"[^\d.,]*(?:\d+|\d{1,3}(?:\.\d{3})+),(?:\d{1,2}|\d{4,})\D*")


@dataclass(frozen=True)
class Head:
    """The dialect, the columns and the lines before the header; `bare`: a header without rows."""

    dialect: Dialect
    names: list[str]
    skipped: int
    bare: bool


def read_head(start: bytes, whole: bool, name: str) -> Head:
    """The head of a file, from its first bytes (`whole`: all). Raises: DataError, csv.Error."""
    encoding = _encoding(start, name)
    text = start.decode(encoding, errors="replace")
    lines = list(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    if not whole and len(lines) > 1:
        lines = lines[:-1]  # the last line may be cut
    first = next(i for i, line in enumerate(lines) if line.strip())
    note = EXCEL_NOTE.match(lines[first])
    if note is not None:
        first += 1
        if not any(line.strip() for line in lines[first:]):
            raise DataError(f"{name} is empty: expected a header line and rows")
        first += next(i for i, line in enumerate(lines[first:]) if line.strip())
    preamble, lines = "".join(lines[:first]), lines[first : first + HEAD_LINES]
    delimiter = note[1] if note is not None else sniff(lines)
    reader = csv_reader(lines, delimiter)
    names = [cell.strip() for cell in next(reader)]
    header, body = lines[: reader.line_num], lines[reader.line_num :]
    line_end = next((end for end in ("\r\n", "\n", "\r") if header[-1].endswith(end)), "\n")
    rows = [cells for line in body if len(cells := raw_cells(line, delimiter)) == len(names)]
    quoted, quotes_empty = _quoting(names, rows)
    dialect = Dialect(
        delimiter=delimiter,
        decimal=decimal_sign(rows, delimiter),
        encoding=encoding,
        mark=start[:3] == b"\xef\xbb\xbf" or start[:2] in UTF16,
        line_end=line_end,
        quoted=quoted,
        quotes_empty=quotes_empty,
        preamble=preamble,
        header="".join(header).rstrip("\r\n"),
    )
    return Head(dialect, names, first, whole and not any(line.strip() for line in body))


def sniff(lines: list[str]) -> str:
    """The delimiter that splits most lines into the same, largest number of cells."""
    scores = {}
    for delimiter in ",;\t|":
        widths = [len(row) for row in csv_reader(lines[:50], delimiter) if row]
        same = sum(width == widths[0] for width in widths)
        scores[delimiter] = (widths[0] > 1, same / len(widths), widths[0])
    return max(scores, key=lambda delimiter: scores[delimiter])


def csv_reader(lines: Iterable[str], delimiter: str, *, strict: bool = False) -> Any:
    """The csv module's reader, for long cells."""
    # The limit is global; it is never lowered, because another thread may be reading.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL_LETTERS))
    return csv.reader(lines, delimiter=delimiter, strict=strict)


def raw_cells(line: str, delimiter: str) -> list[str]:
    """The cells of one line, with their quotes."""
    mark = re.escape(delimiter)
    cells = re.findall(rf'(?:^|{mark})((?:\s*"(?:[^"]|"")*"\s*)|[^{mark}]*)', line.rstrip("\r\n"))
    return [cell.strip() for cell in cells]


def _encoding(start: bytes, name: str) -> str:
    """Raises: DataError for an unsupported encoding or a binary file."""
    if start.startswith(UTF32):
        raise DataError(f"{name} is UTF-32 text; save it as UTF-8")
    if start.startswith(UTF16):
        return "utf16"
    kind = next((kind for magic, kind in BINARY.items() if start.startswith(magic)), None)
    zeros = [start[offset::2].count(0) / max(len(start[offset::2]), 1) for offset in (0, 1)]
    if b"\0" in start and not kind:
        utf16 = max(zeros) > 0.4 and min(zeros) < 0.1
        if utf16 or start[1:4] == b"\0\0\0":
            text = f"UTF-{16 if utf16 else 32} text without a byte order mark"
            raise DataError(f"{name} is {text}; save it as UTF-8")
    if b"\0" in start or kind:
        reasons = ["it holds zero bytes"] * (b"\0" in start) + [f"it is {kind}"] * bool(kind)
        raise DataError(f"{name} is neither CSV nor Parquet: {': '.join(reasons)}")
    return next(code for code in ("utf8", "cp1252", "latin-1") if _decodes(start, code))


def _decodes(start: bytes, encoding: str) -> bool:
    try:
        start.decode(encoding)
    except UnicodeDecodeError as fault:
        return encoding == "utf8" and fault.start >= max(len(start) - 3, 1)  # a cut character
    return True


def _quoting(names: list[str], rows: list[list[str]]) -> tuple[list[str], bool]:
    """The columns whose cells are all in quotes, and whether empty cells are."""
    quoted = [
        name
        for name, cells in zip(names, zip(*rows), strict=False)
        if any(cells) and all(not cell or cell.startswith('"') for cell in cells)
    ]
    return quoted, any('""' in row for row in rows)


def decimal_sign(rows: list[list[str]], delimiter: str) -> str:
    """The decimal sign that the cells show; if none does, a comma between semicolons."""
    cells = [cell.strip('" ') for row in rows for cell in row][:SAMPLE_CELLS]
    points, commas = (
        sum(pattern.fullmatch(cell) is not None for cell in cells if sign in cell)
        for sign, pattern in ((".", POINT), (",", COMMA))
    )
    if points == commas:
        return "," if delimiter == ";" else ""
    return "." if points > commas else ","


def header_of(names: list[str], dialect: Dialect) -> str:
    """The header line of the file, with the names of other columns before and after it."""
    file_lines = dialect.header.splitlines(keepends=True)
    file_names = [name.strip() for name in next(csv_reader(file_lines, dialect.delimiter))]
    quoted = [_quoted(name, dialect.delimiter) for name in names]
    for first in range(len(names) - len(file_names) + 1):
        if names[first : first + len(file_names)] == file_names:
            quoted[first : first + len(file_names)] = [dialect.header]
            break
    return dialect.delimiter.join(quoted)


def lines_of(table: pa.Table, dialect: Dialect) -> str:
    """The rows as lines; cells with a delimiter, a quote or a line end are in quotes."""
    special = f'["\r\n{"".join(chr(92) + c for c in dialect.delimiter)}]'
    alone = table.num_columns == 1  # an empty line is not a row
    cells = []
    for name in table.column_names:
        texts = pc.fill_null(cast.texts(table.column(name)), "")
        quote = pc.match_substring_regex(texts, special)
        if name in dialect.quoted or alone:
            quote_empty = pa.array([dialect.quotes_empty or alone] * len(texts))
            always = pc.if_else(pc.equal(texts, ""), quote_empty, name in dialect.quoted)
            quote = pc.or_(quote, always)
        if pc.any(quote).as_py():
            doubled = pc.replace_substring(texts, '"', '""')
            doubled = pc.binary_join_element_wise('"', doubled, '"', "")
            texts = pc.if_else(quote, doubled, texts)
        cells.append(texts)
    lines = pc.binary_join_element_wise(*cells, dialect.delimiter)
    return "".join(line + dialect.line_end for line in lines.to_pylist())


def encoded(text: str, dialect: Dialect, *, first: bool) -> bytes:
    """The text in the file's encoding. Raises: DataError for a character that it lacks."""
    encoding = "utf-16-le" if dialect.encoding == "utf16" else dialect.encoding
    try:
        return (("\ufeff" if first and dialect.mark else "") + text).encode(encoding)
    except UnicodeEncodeError as fault:
        raise DataError(
            f"{fault.object[fault.start]!r} cannot be written in {dialect.encoding}, the encoding "
            "of the input; save the input as UTF-8, or write a .parquet file"
        ) from fault


def _quoted(name: Any, delimiter: str) -> str:
    if any(sign in name for sign in f'"\r\n{delimiter}'):
        return '"' + name.replace('"', '""') + '"'
    return name
