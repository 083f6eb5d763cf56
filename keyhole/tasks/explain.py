"""Why a row is surprising: the cells that cost most, and what was expected in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from keyhole.tasks.answer import Cell
from keyhole.training.settle import members_mean

if TYPE_CHECKING:
    from keyhole.estimator import Autoencoder, Block

MOST_CELLS = 3
SHARE = 0.9  # of the probability lies within the range that is said to be expected


def explain(
    model: Autoencoder, block: Block, places: np.ndarray, most: int = MOST_CELLS
) -> dict[int, list[Cell]]:
    """The strongest cells of the rows at these places of the block.

    What is expected in their place is asked with those cells hidden, so that a strange value
    cannot vouch for itself.
    """
    if not len(places):
        return {}
    table = model.table_
    seen = block.seen[places].numpy()
    excess = np.where(seen, block.nats[places].numpy() - model.typical_nats_, -np.inf)
    strongest = np.argsort(-excess, axis=1, kind="stable")[:, :most]
    positive = np.maximum(np.where(seen, excess, 0.0), 0.0)
    share = positive / np.maximum(positive.sum(1, keepdims=True), 1e-12)
    shown = np.zeros(excess.shape, bool)
    np.put_along_axis(shown, strongest, True, 1)
    shown &= share > 0.01
    texts = _texts(model, block, places, shown)
    found: dict[int, list[Cell]] = {}
    for line, place in enumerate(places):
        found[int(place)] = [
            Cell(table.layout.columns[c], *texts[line, c], float(share[line, c]))
            for c in strongest[line]
            if shown[line, c]
        ]
    return found


def _texts(
    model: Autoencoder, block: Block, places: np.ndarray, shown: np.ndarray
) -> dict[tuple[int, int], tuple[str, str]]:
    """(line, column) -> value and expectation in words, column by column."""
    table = model.table_
    hidden = torch.from_numpy(shown[:, table.layout.column_of_cell])
    rows = torch.from_numpy(places)
    with torch.no_grad():
        batch = block.batch.take(rows).hide(hidden).to(next(model.network_.parameters()).device)
        likelihood = model.network_(batch).likelihood
        middle = table.cells(members_mean(likelihood.mean))
        low, high = (end[0].mean(0).cpu().numpy() for end in likelihood.interval(SHARE))
    found = {}
    for c, name in enumerate(table.layout.columns):
        lines = np.flatnonzero(shown[:, c])
        if not len(lines):
            continue
        column, cells = table.by_name[name], table.cells_of(name)
        values = column.text(block.rows.column(name).take(places[lines]))
        ends = (part[lines][:, cells] for part in (middle, low, high))
        for line, value, expected in zip(lines, values, column.expected(*ends), strict=True):
            found[int(line), c] = (value, expected)
    return found
