"""From log-probabilities of cells to nats of columns and rows."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from keyhole.core.layout import Layout


def column_nats(
    log_prob: Float[Tensor, "batch cell"], seen: Bool[Tensor, "batch cell"], layout: Layout
) -> tuple[Float[Tensor, "batch column"], Bool[Tensor, "batch column"]]:
    """Negative log-likelihood of each column in nats, and whether the column was observed.

    A cell that is unseen while another of its column is seen does not apply there (the value of
    a column that stands at its atom) and costs nothing.
    """
    if len(layout.columns) == len(layout):
        return -log_prob, seen
    place = torch.from_numpy(layout.column_of_cell).to(log_prob.device)
    nats = log_prob.new_zeros(log_prob.shape[0], len(layout.columns))
    nats.index_add_(1, place, torch.where(seen, -log_prob, 0.0))
    count = nats.new_zeros(nats.shape).index_add_(1, place, seen.to(nats.dtype))
    return nats, count > 0


def row_nats(
    nats: Float[Tensor, "batch column"],
    seen: Bool[Tensor, "batch column"],
    typical: Float[Tensor, " column"],
) -> Float[Tensor, " batch"]:
    """Negative log-likelihood of each row in nats, gaps counted as typical columns.

    `typical` is each column's mean held-out nats, so a gap makes a row neither calm nor loud.
    A row with no observed column is NaN: nothing was asked of it.
    """
    total = torch.where(seen, nats, typical).sum(1)
    return torch.where(seen.any(1), total, torch.nan)
