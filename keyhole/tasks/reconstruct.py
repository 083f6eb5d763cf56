"""Reconstruct: the expected row given the code of each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keyhole.tasks.base import Task

if TYPE_CHECKING:
    import pyarrow as pa

    from keyhole.data import Rows


class Reconstruct(Task):
    """Expected rows in original units and types, with the columns that the model learned."""

    verb = "reconstruct"
    summary = "The row that the model expects, for every row."
    help = "The row that the model expects, for every row of DATA."

    def table(self, rows: Rows, start: int) -> pa.Table:
        """The expected rows of a block."""
        model = self.autoencoder
        return model.model_.modality.written(
            model.model_.modality.decode(model.model_.expect(rows, start)[1])
        )

    def back(self, table: pa.Table, X: Any) -> Any:
        """The expected rows in the dtypes, labels and index of the frame that was given."""
        from keyhole.data.frames_out import restored

        return restored(table, X)
