"""How a CSV file is written, kept beside its rows: its cells stay texts, byte for byte.

A table of such rows names its dialect in the metadata of its schema, so it survives a spool.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from keyhole.columns import cast

if TYPE_CHECKING:
    import pyarrow as pa

KEY = b"keyhole.csv"
MISSING = [
    "", "NA", "N/A", "n/a", "nan", "NaN", "NAN", "null", "NULL", "None", "?", "#N/A", "<NA>",
]  # fmt: skip


@dataclass(frozen=True)
class Dialect:
    """Delimiter, decimal sign, encoding and quoting of a CSV file, and its first lines as texts.

    `decimal` is empty where no column shows it; `mark` is true for a byte order mark; `quoted`
    names the columns whose cells all stand in quotes; `preamble` is what stands before the header,
    `header` the header as written.
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
        """The table, noted to hold cells of such a file."""
        return table.replace_schema_metadata({KEY: json.dumps(asdict(self)).encode()})


def dialect_of(schema: Any) -> Dialect | None:
    """How the file of these cells is written; None for a table that does not come from a CSV."""
    note = (schema.metadata or {}).get(KEY)
    return None if note is None else Dialect(**json.loads(note))


def cleaned(values: Any) -> Any:
    """Cells of a CSV without padding, null where they say that nothing is known."""
    import pyarrow.compute as pc

    texts = pc.utf8_trim_whitespace(cast.texts(values))  # pyright: ignore
    return pc.if_else(pc.is_in(texts, value_set=_missing()), None, texts)  # pyright: ignore


@cache
def _missing() -> Any:
    """`MISSING` as Arrow strings."""
    import pyarrow as pa

    return pa.array(MISSING)
