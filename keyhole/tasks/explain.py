"""Why a row is surprising: the cells without which it would be less so, and what was expected.

A strange cell drags its neighbours along: the net reads it and expects them to be strange too. So
the loudest columns are hidden one at a time, and the cause is the one with which most of the
row's nats go: its own, and those of the columns that are guessed better without it. To its own
count those of the edge of its column: a likelihood that is robust hardly tells far from farther.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int64

from keyhole.core.layout import Slot
from keyhole.core.nats import column_nats, row_nats
from keyhole.core.records import Batch
from keyhole.surprise.hidden import hidden_deviance
from keyhole.tasks.answer import Cell
from keyhole.training.settle import members_mean

if TYPE_CHECKING:
    from keyhole.tasks.gauge import Gauge, Judged

MOST_CELLS = 3
LEAST_SHARE = 0.01
LEAST_EXCESS = 1.0  # nats: the cells of a row with less have small shares, as it is a calm one
CANDIDATES = 10  # columns of a row that are hidden in turn: nine passes each
PASS_ROWS, PASS_CELLS = 4_096, 1 << 18  # of rows with a column hidden that are held at once
SHARE = 0.9  # of the probability lies within the range that is said to be expected
EDGE = 0.1  # share of rows at an end of a column: what is farther out costs nats of its own
RARE = 0.02  # the same of levels and flags, whose likelihood tells what is rare by itself
EDGE_WEIGHT = 2.0  # of these nats


@dataclass(frozen=True)
class Ranked:
    """Columns of some rows, those first with which most goes; `share` is -1 for a gap.

    `beyond` is what each column costs beyond a guess's nats to be a cause, in nats; `excess` the
    row's own beyond its usual.
    """

    columns: Int64[np.ndarray, "line rank"]
    share: Float[np.ndarray, "line rank"]
    beyond: Float[np.ndarray, "line column"]
    excess: Float[np.ndarray, " line"]


def explain(
    gauge: Gauge, judged: Judged, places: np.ndarray, most: int = MOST_CELLS
) -> dict[int, list[Cell]]:
    """The cells that made the rows at these places of a block surprising, strongest first.

    The share of the first is the part of the row's excess over its usual cost that goes when the
    cell is hidden; it is named even where nothing stands out. A further cell counts for what it
    still costs, and is expected, with those before it hidden: a strange value can vouch neither
    for itself nor against a neighbour. All shares are between 0 and 1.
    """
    if not len(places):
        return {}
    ranked = _rank(gauge, judged, places, max(CANDIDATES, most))
    found: dict[int, list[Cell]] = {int(place): [] for place in places}
    hidden = np.zeros(ranked.beyond.shape, bool)
    for rank in range(ranked.columns.shape[1]):
        few = np.array([len(found[int(place)]) < most for place in places])
        share = ranked.share[:, rank]
        lines = np.flatnonzero(few & (share > LEAST_SHARE if rank else share >= 0))
        if not len(lines):
            continue
        asked, share = ranked.columns[lines, rank], share[lines]
        hidden[lines, asked] = True
        own, texts = _guessed(gauge, judged, places[lines], asked, hidden[lines])
        if rank:
            still = (own + ranked.beyond[lines, asked]) / ranked.excess[lines]
            share = np.minimum(share, still)
            hidden[lines, asked] = share > LEAST_SHARE
        for line in np.flatnonzero(hidden[lines, asked]):
            name = gauge.table.layout.columns[asked[line]]
            cell = Cell(name, *texts[line], float(share[line]))
            found[int(places[lines[line]])].append(cell)
    return {place: sorted(cells, key=lambda c: -c.share) for place, cells in found.items()}


def _rank(gauge: Gauge, judged: Judged, places: np.ndarray, most: int) -> Ranked:
    """The loudest columns of each row, hidden one at a time."""
    usual, rows = gauge.surprise.typical, torch.from_numpy(places)
    batch, seen = judged.batch.take(rows), judged.asked.seen[rows].numpy()
    nats = np.where(seen, judged.asked.deviance[:, rows].mean(0).double().numpy(), usual)
    edge = _edges(gauge, batch)
    loud = np.where(seen, nats - usual + edge, -np.inf)
    asked = np.argsort(-loud, axis=1, kind="stable")[:, :most]
    own, left = _tried(gauge, batch, asked)
    gone = own + np.take_along_axis(edge - nats, asked, 1) + nats.sum(1)[:, None] - left
    gone = np.where(np.take_along_axis(seen, asked, 1), gone, -np.inf)
    order = np.argsort(-gone, axis=1, kind="stable")
    asked, gone = (np.take_along_axis(part, order, 1) for part in (asked, gone))
    excess = np.maximum((nats - usual + edge).sum(1), gone[:, 0]).clip(LEAST_EXCESS)
    share = np.where(np.isfinite(gone), (gone / excess[:, None]).clip(0, 1), -1)
    return Ranked(asked, share, edge - usual, excess)


def _edges(gauge: Gauge, batch: Batch) -> np.ndarray:
    """(line, column): nats of values that stand at the edge of all that were met, else 0."""
    layout, met = gauge.table.layout, gauge.memory.batch
    found = np.zeros((len(batch), len(layout.columns)))
    for cell, slot in enumerate(layout.slots):
        if slot.kind == "pixel" or (slot.kind == "moment" and slot.part != "trend"):
            continue  # the top of a wave is an hour like any other, and white a shade
        if slot.coded:
            rarer = _rarer(slot, batch.codes[:, cell - layout.numbers].numpy())
        else:
            held = met.numbers[met.seen[:, cell], cell].numpy()
            rarer = _beyond(held, batch.numbers[:, cell].numpy())
        edge = RARE if slot.coded or slot.head == "bernoulli" else EDGE
        nats = EDGE_WEIGHT * np.log(edge / rarer).clip(0)
        column = found[:, layout.column_of_cell[cell]]
        np.maximum(column, np.where(batch.seen[:, cell].numpy(), nats, 0), out=column)
    tails = gauge.surprise.outliers.rarity(batch).cells.numpy()  # these go on beyond what was met
    return np.maximum(found, EDGE_WEIGHT * (tails + np.log(EDGE)).clip(0))


def _beyond(held: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The share of what is held that lies as far out on the same side; half a row at least."""
    held = np.sort(held)
    below = np.searchsorted(held, values, "right")
    above = len(held) - np.searchsorted(held, values, "left")
    return (np.minimum(below, above) + 0.5) / (len(held) + 1)


def _rarer(slot: Slot, codes: np.ndarray) -> np.ndarray:
    """The share of training rows whose level is as rare as these, or rarer."""
    shares = np.array(slot.shares)
    rising = np.sort(shares)
    return np.cumsum(rising)[np.searchsorted(rising, shares[codes - 1], "right") - 1]


@torch.no_grad()
def _tried(gauge: Gauge, batch: Batch, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(line, candidate): its nats as guessed from all others, and those of the row without it."""
    layout, (lines, count) = gauge.table.layout, asked.shape
    network, usual = gauge.surprise.network, torch.from_numpy(gauge.surprise.typical)
    device, column_of_cell = next(network.parameters()).device, layout.column_of_cell
    own, left = np.zeros((lines, count)), np.zeros((lines, count))
    step = max(min(PASS_ROWS, PASS_CELLS // len(layout)) // count, 1)
    for start in range(0, lines, step):
        tried = asked[start : start + step].ravel()
        whole = batch.take(torch.from_numpy(start + np.arange(len(tried)) // count)).to(device)
        hidden = torch.from_numpy(tried[:, None] == column_of_cell).to(device)
        given = whole.hide(hidden)
        alone = network(given).likelihood.deviance(whole)[0].mean(0)
        nats, _ = column_nats(-alone, whole.seen, layout)
        nats = nats.cpu().numpy()[np.arange(len(tried)), tried]
        deviance, seen = hidden_deviance(network, given)
        rest = row_nats(deviance.mean(0).cpu().double(), seen.cpu(), usual)
        own[start : start + step] = nats.reshape(-1, count)
        left[start : start + step] = rest.nan_to_num(float(usual.sum())).reshape(-1, count)
    return own, left


@torch.no_grad()
def _guessed(
    gauge: Gauge, judged: Judged, places: np.ndarray, asked: np.ndarray, hidden: np.ndarray
) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """The nats of one column in each line, and its value and what is expected in words."""
    table, network = gauge.table, gauge.surprise.network
    device = next(network.parameters()).device
    batch = judged.batch.take(torch.from_numpy(places)).to(device)
    cells = torch.from_numpy(hidden[:, table.layout.column_of_cell]).to(device)
    likelihood = network(batch.hide(cells)).likelihood
    nats, _ = column_nats(-likelihood.deviance(batch)[0].mean(0), batch.seen, table.layout)
    middle = table.cells(members_mean(likelihood.mean))
    low, high = (end[0].mean(0).cpu().numpy() for end in likelihood.interval(SHARE))
    texts = [("", "")] * len(places)
    for c in np.unique(asked).tolist():
        lines, name = np.flatnonzero(asked == c), table.layout.columns[c]
        place, few = table.cells_of(name), judged.rows.take(places[lines])
        values = table.texts(few, name)
        ends = (part[lines][:, place] for part in (middle, low, high))
        for line, *pair in zip(lines, values, table.expected(name, *ends), strict=True):
            texts[line] = (pair[0], pair[1])
    return nats.cpu().numpy()[np.arange(len(places)), asked], texts
