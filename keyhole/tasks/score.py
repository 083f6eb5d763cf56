"""Score: the log-likelihood of each row given its code, by one forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyhole.tasks.base import Task

if TYPE_CHECKING:
    import pyarrow as pa

    from keyhole.data import Rows


class Score(Task):
    """log p(x | code(x)) in nats, higher = more normal; null for a row with no observed value."""

    verb = "score"
    summary = "The log-likelihood of every row."
    help = "The log-likelihood of every row of DATA, in nats; one forward pass."

    def table(self, rows: Rows, start: int) -> pa.Table:
        """The log-likelihood of each row of a block."""
        import pyarrow as pa

        model = self.autoencoder
        nats = -model.model_.row_nats(model.model_.score_block(rows, start)).numpy()
        return pa.table({"log_likelihood": pa.array(nats, from_pandas=True)})
