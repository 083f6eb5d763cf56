"""Rows as the text of a CSV file in a given dialect: delimiter, quotes, line ends, encoding."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from keyhole.columns import cast
from keyhole.errors import DataError
from keyhole.sources.dialect import Dialect

if TYPE_CHECKING:
    import pyarrow as pa


def header_of(names: list[str], dialect: Dialect) -> str:
    """The header line: that of the file as it was written, names of other columns beside it."""
    own = next(csv.reader(dialect.header.splitlines(keepends=True), delimiter=dialect.delimiter))
    own = [name.strip() for name in own]
    quoted = [_quoted(name, dialect.delimiter) for name in names]
    for first in range(len(names) - len(own) + 1):
        if names[first : first + len(own)] == own:
            quoted[first : first + len(own)] = [dialect.header]
            break
    return dialect.delimiter.join(quoted)


def lines_of(table: pa.Table, dialect: Dialect) -> str:
    """The rows as lines; a cell that holds a delimiter, a quote or a line end stands in quotes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    special = f'["\r\n{"".join(chr(92) + c for c in dialect.delimiter)}]'
    alone = table.num_columns == 1  # an empty line would be no row
    cells = []
    for name in table.column_names:
        texts = pc.fill_null(cast.texts(table.column(name)), "")  # pyright: ignore
        quote = pc.match_substring_regex(texts, special)  # pyright: ignore
        if name in dialect.quoted or alone:
            empty = pc.equal(texts, "")  # pyright: ignore
            every = pa.array([dialect.quotes_empty or alone] * len(texts))
            whole = pc.if_else(empty, every, name in dialect.quoted)  # pyright: ignore
            quote = pc.or_(quote, whole)  # pyright: ignore
        if pc.any(quote).as_py():  # pyright: ignore
            doubled = pc.replace_substring(texts, '"', '""')  # pyright: ignore
            doubled = pc.binary_join_element_wise('"', doubled, '"', "")  # pyright: ignore
            texts = pc.if_else(quote, doubled, texts)  # pyright: ignore
        cells.append(texts)
    lines = pc.binary_join_element_wise(*cells, dialect.delimiter)  # pyright: ignore
    return "".join(line + dialect.line_end for line in lines.to_pylist())


def encoded(text: str, dialect: Dialect, *, first: bool) -> bytes:
    """The text in the encoding of the file, a byte order mark before it where the file has one.

    Raises: DataError for a character that the encoding lacks.
    """
    encoding = "utf-16-le" if dialect.encoding == "utf16" else dialect.encoding
    try:
        return (("\ufeff" if first and dialect.mark else "") + text).encode(encoding)
    except UnicodeEncodeError as fault:
        raise DataError(
            f"{fault.object[fault.start]!r} cannot be written in {dialect.encoding}, as the input "
            "is; save the input as UTF-8, or write a .parquet file"
        ) from fault


def _quoted(name: Any, delimiter: str) -> str:
    if any(sign in name for sign in f'"\r\n{delimiter}'):
        return '"' + name.replace('"', '""') + '"'
    return name
