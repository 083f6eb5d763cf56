"""Why a row is surprising: the cells without which it would be less so, and what was expected.

A strange cell drags its neighbours along: the net reads it and expects them to be strange too. So
the strongest columns are hidden one at a time, and the cause is the one whose absence calms the
rest of the row most, not the one that costs most itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from keyhole.core.nats import column_nats
from keyhole.core.records import Batch
from keyhole.tasks.answer import Cell
from keyhole.training.settle import members_mean

if TYPE_CHECKING:
    from keyhole.estimator import Autoencoder
    from keyhole.fitting import Block

MOST_CELLS = 3
LEAST_SHARE = 0.01
CANDIDATES = 8  # columns of a row that are hidden in turn
SHARE = 0.9  # of the probability lies within the range that is said to be expected


def explain(
    model: Autoencoder, block: Block, places: np.ndarray, most: int = MOST_CELLS
) -> dict[int, list[Cell]]:
    """The cells that made the rows at these places of the block surprising, strongest first.

    A cell's share is the part of the row's excess over its usual cost that goes when the cell is
    hidden. What is expected in its place is asked with all cells shown hidden, so that a strange
    value cannot vouch for itself.
    """
    if not len(places):
        return {}
    names = model.table_.layout.columns
    seen = block.seen[places].numpy()
    excess = np.where(seen, block.nats[places].numpy() - model.typical_nats_, 0.0)
    ranked = np.argsort(-np.where(seen, excess, -np.inf), axis=1, kind="stable")
    asked = ranked[:, : max(CANDIDATES, most)]
    share = _shares(model, block, places, excess, asked)
    order = np.argsort(-share, axis=1, kind="stable")[:, :most]
    asked, share = np.take_along_axis(asked, order, 1), np.take_along_axis(share, order, 1)
    shown = np.zeros(excess.shape, bool)
    np.put_along_axis(shown, asked, share > LEAST_SHARE, 1)
    texts = _texts(model, block, places, shown)
    return {
        int(place): [
            Cell(names[c], *texts[line, c], float(part))
            for c, part in zip(asked[line], share[line], strict=True)
            if shown[line, c]
        ]
        for line, place in enumerate(places)
    }


def _shares(
    model: Autoencoder, block: Block, places: np.ndarray, excess: np.ndarray, asked: np.ndarray
) -> np.ndarray:
    """(line, candidate): the part of the row's excess that goes when the candidate is hidden."""
    layout, (lines, count) = model.table_.layout, asked.shape
    hidden = np.zeros((lines, count, excess.shape[1]), bool)
    np.put_along_axis(hidden, asked[:, :, None], True, 2)
    hidden = hidden.reshape(lines * count, -1)
    rows = torch.from_numpy(np.repeat(places, count))
    given = block.batch.take(rows).hide(torch.from_numpy(hidden[:, layout.column_of_cell]))
    nats, seen = _nats(model, given)
    left = np.where(seen, nats - model.typical_nats_, 0.0).sum(1).reshape(lines, count)
    whole = excess.sum(1, keepdims=True)
    return np.clip((whole - left) / np.maximum(np.abs(whole), 1e-9), 0.0, 1.0)


@torch.no_grad()
def _nats(model: Autoencoder, given: Batch) -> tuple[np.ndarray, np.ndarray]:
    """(row, column): what the columns in sight cost, averaged over members, and which they are."""
    here = given.to(next(model.network_.parameters()).device)
    log_prob = model.network_(here).likelihood.log_prob(here)[0].mean(0).cpu()
    nats, seen = column_nats(log_prob, given.seen, model.table_.layout)
    return nats.numpy(), seen.numpy()


@torch.no_grad()
def _texts(
    model: Autoencoder, block: Block, places: np.ndarray, shown: np.ndarray
) -> dict[tuple[int, int], tuple[str, str]]:
    """(line, column) -> value and expectation in words, column by column."""
    table, found = model.table_, {}
    hidden = torch.from_numpy(shown[:, table.layout.column_of_cell])
    batch = block.batch.take(torch.from_numpy(places)).hide(hidden)
    likelihood = model.network_(batch.to(next(model.network_.parameters()).device)).likelihood
    middle = table.cells(members_mean(likelihood.mean))
    low, high = (end[0].mean(0).cpu().numpy() for end in likelihood.interval(SHARE))
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
