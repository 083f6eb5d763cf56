"""Reconstruct: the row that the net expects where it sees this one."""

from typing import Any

from keyhole.data import Rows
from keyhole.data.frames_out import restored
from keyhole.tasks.base import Task


class Reconstruct(Task):
    """Expected rows in original units and types, the columns that the net knows."""

    verb = "reconstruct"

    def table(self, rows: Rows, start: int) -> Any:
        """The expected rows of a block."""
        model = self.autoencoder
        return model.table_.written(model.table_.decode(model.expect(rows, start)[1]))

    def back(self, table: Any, X: Any) -> Any:
        """The expected rows in the dtypes, labels and index of the frame that was given."""
        return restored(table, X)
