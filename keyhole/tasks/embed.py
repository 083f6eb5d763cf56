"""Embed: the code of each row."""

from typing import Any

from keyhole.data import Rows
from keyhole.tasks.base import Task


class Embed(Task):
    """Codes named `code_0`, `code_1`, ...; deterministic, one line a row."""

    verb = "embed"

    def table(self, rows: Rows, start: int) -> Any:
        """The codes of a block of rows."""
        import pyarrow as pa

        model = self.autoencoder
        codes = model.code(rows, start)
        named = dict(zip(model.get_feature_names_out(), codes.T, strict=True))
        name = model.table_.id_column
        held = {} if name is None or name not in rows.names else {name: rows.column(name)}
        return pa.table(held | named)
