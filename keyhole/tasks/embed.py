"""Embed: the code of each row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyhole.tasks.base import Task

if TYPE_CHECKING:
    import pyarrow as pa

    from keyhole.data import Rows


class Embed(Task):
    """Codes named `code_0`, `code_1`, ...; deterministic, one line a row."""

    verb = "embed"
    summary = "The code of every row."
    help = "The code of every row of DATA: code_0, code_1, ..."

    def table(self, rows: Rows, start: int) -> pa.Table:
        """The codes of a block of rows, after the id column if there is one."""
        import pyarrow as pa

        model = self.autoencoder
        codes = model.model_.code(rows, start)
        columns = dict(zip(model.get_feature_names_out(), codes.T, strict=True))
        name = model.model_.modality.id_column
        ids = {} if name is None or name not in rows.names else {name: rows.column(name)}
        return pa.table(ids | columns)
