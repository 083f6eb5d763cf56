"""Why a row is anomalous: the cells without which it would be less so, and what was expected.

A strange cell drags its neighbours along: the net reads it and expects them to be strange too. So
the most costly columns are masked one at a time, and the cause is the one with which most of the
row's nats go: its own, and those of the columns that are predicted better without it. To its own
count those of the edge of its column: a likelihood that is robust hardly tells far from farther.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int64

from keyhole.core.environment import rows_of_pass
from keyhole.core.layout import TREND, Slot, row_nats
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.tasks.detect.answer import Reason
from keyhole.tasks.detect.expect import Predicted, masked_nats, partners, predict
from keyhole.tasks.detect.masked import masked_deviance
from keyhole.tasks.detect.titles import explain_titles

if TYPE_CHECKING:
    from keyhole.data import Rows
    from keyhole.tasks.detect.scorer import ScoredBlock, Scorer


MAX_CELLS = 3  # reasons of a row
EXPLAINED = ("alarms", "all", "none")  # rows
MIN_SHARE, MIN_FURTHER = 0.01, 0.1  # of a row's first cell and of further ones
MIN_EXCESS = 1.0  # nats: the cells of a row with less have small shares, as it is a calm one
CANDIDATES = 10  # columns of a row that are masked in turn: nine passes each
MAX_TOGETHER = 5  # columns that may stand out once the most costly is masked
EDGE = 0.1  # share of rows at an end of a column: what is farther out costs nats of its own
RARE = 0.02  # the same of levels and flags, whose likelihood tells what is rare by itself
EDGE_WEIGHT = 2.0  # of these nats


@dataclass(frozen=True)
class Ranked:
    """Columns of some rows, those first with which most goes; `share` is -1 for a gap.

    `beyond` is what each column must cost beyond its prediction to be a cause, in nats; `excess`
    is the row's own beyond its usual; `edge` the nats of values at the end of their column.
    """

    columns: Int64[np.ndarray, "line rank"]
    share: Float[np.ndarray, "line rank"]
    beyond: Float[np.ndarray, "line column"]
    excess: Float[np.ndarray, " line"]
    edge: Float[np.ndarray, "line column"]


@dataclass
class Cause:
    """A cell that was named: its column, what was masked then, and its partners' columns."""

    cell: Reason
    column: int
    masked: np.ndarray
    paired: bool
    partners: list[int]


def explain(
    scorer: Scorer, judged: ScoredBlock, places: np.ndarray, most: int = MAX_CELLS
) -> dict[int, list[Reason]]:
    """The cells that made the rows at these places of a block anomalous, strongest first.

    The share of the first is the part of the row's excess over its usual cost that goes when the
    cell is masked. A further cell counts for what it still costs, and is expected, with those
    before it masked: a strange value can vouch neither for itself nor against a neighbour. A cell
    that fits what was expected in its place is no cause. Where all do, the most costly are
    returned as cells that do not stand out. All shares are between 0 and 1.
    """
    if not len(places):
        return {}
    if scorer.table.titles:
        return explain_titles(scorer, judged, places, most)
    ranked = _rank(scorer, judged, places, max(CANDIDATES, most))
    naming = Naming(scorer, judged, places, ranked, most)
    for rank in range(ranked.columns.shape[1]):
        naming.try_rank(rank)
    naming.try_together()
    naming.add_partners()
    return naming.cells()


@dataclass
class Naming:
    """The causes of some rows while they are named; `masked` (line, column) are those so far."""

    scorer: Scorer
    judged: ScoredBlock
    places: np.ndarray
    ranked: Ranked
    most: int

    def __post_init__(self) -> None:
        self.masked = np.zeros(self.ranked.beyond.shape, bool)
        self.causes: list[list[Cause]] = [[] for _ in self.places]

    def try_rank(self, rank: int) -> None:
        """Name the column of this rank in the rows where it does not fit."""
        ranked, share = self.ranked, self.ranked.share[:, rank]
        few = np.array([len(causes) < self.most for causes in self.causes])
        lines = np.flatnonzero(few & (share > MIN_SHARE))
        if not len(lines):
            return
        columns, share, masked = ranked.columns[lines, rank], share[lines], self.masked[lines]
        masked[np.arange(len(lines)), columns] = True
        predicted = self._predicted(lines, columns, masked)
        further = np.array([bool(self.causes[line]) for line in lines])
        remaining = (predicted.nats + ranked.beyond[lines, columns]) / ranked.excess[lines]
        share = np.where(further, np.minimum(share, remaining), share)
        enough = share > np.where(further, MIN_FURTHER, MIN_SHARE)
        self._name(lines, columns, predicted, share, masked, predicted.stands_out & enough)

    def try_together(self) -> None:
        """Where no value stands out, one may once the most costly is masked: it vouches for it."""
        ranked = self.ranked
        for rank in range(1, min(MAX_TOGETHER, ranked.columns.shape[1])):
            unexplained = np.array([not causes for causes in self.causes])
            costly = (ranked.share[:, 0] > MIN_SHARE) & (ranked.share[:, rank] > MIN_SHARE)
            lines = np.flatnonzero(unexplained & costly)
            if not len(lines):
                continue
            columns, first = ranked.columns[lines, rank], ranked.columns[lines, 0]
            masked = np.zeros((len(lines), len(self.scorer.table.layout.columns)), bool)
            masked[np.arange(len(lines)), columns] = masked[np.arange(len(lines)), first] = True
            predicted = self._predicted(lines, columns, masked)
            share, named = ranked.share[lines, rank], predicted.stands_out
            self._name(lines, columns, predicted, share, masked, named, first)

    def _predicted(self, lines: np.ndarray, columns: np.ndarray, masked: np.ndarray) -> Predicted:
        edge, places = self.ranked.edge[lines, columns], self.places[lines]
        return predict(self.scorer, self.judged, places, columns, masked, edge)

    def _name(
        self,
        lines: np.ndarray,
        columns: np.ndarray,
        predicted: Predicted,
        share: np.ndarray,
        masked: np.ndarray,
        named: np.ndarray,
        also_masked: np.ndarray | None = None,
    ) -> None:
        for i in np.flatnonzero(named).tolist():
            line = lines[i]
            self.masked[line] = masked[i]
            name = self.scorer.table.layout.columns[columns[i]]
            known = np.isfinite(predicted.numbers[i]).all()
            numbers = tuple(predicted.numbers[i].tolist()) if known else None
            texts = predicted.values[i], predicted.expected[i]
            cell = Reason(name, *texts, float(share[i]), numbers=numbers)
            others = [] if also_masked is None else [int(also_masked[i])]
            paired = bool(predicted.paired[i]) and not others
            self.causes[line].append(Cause(cell, int(columns[i]), masked[i], paired, others))

    def add_partners(self) -> None:
        """Name the columns with which usual values do not go together."""
        places = zip(self.places, self.causes, strict=True)
        paired = [(place, c) for place, causes in places for c in causes if c.paired]
        if paired:
            columns = np.array([cause.column for _, cause in paired])
            masked = np.stack([cause.masked for _, cause in paired])
            rows = np.array([place for place, _ in paired])
            partner_columns = partners(self.scorer, self.judged, rows, columns, masked)
            for (_, cause), others in zip(paired, partner_columns, strict=True):
                cause.partners.extend(others)

    def cells(self) -> dict[int, list[Reason]]:
        """The causes of each row by its place; where there is none, the most costly cells."""
        table, columns = self.scorer.table, self.scorer.table.layout.columns
        named: dict[int, list[Reason]] = {}
        for line, place in enumerate(self.places.tolist()):
            row = self.judged.rows.take(slice(place, place + 1))
            cells = []
            for cause in self.causes[line]:
                names = [columns[c] for c in cause.partners]
                texts = tuple(f"{name} = {table.texts(row, name)[0]}" for name in names)
                cells.append(replace(cause.cell, partners=texts))
            named[place] = sorted(cells, key=lambda cell: -cell.share) or self._nearest(line, row)
        return named

    def _nearest(self, line: int, row: Rows) -> list[Reason]:
        """The most costly cells of a row in which no value stands out."""
        table, shares = self.scorer.table, self.ranked.share[line]
        ranks = [rank for rank in range(min(self.most, MAX_CELLS, len(shares)))
                 if shares[rank] >= (MIN_SHARE if rank else 0)]  # fmt: skip
        names = [table.layout.columns[self.ranked.columns[line, rank]] for rank in ranks]
        return [
            Reason(name, table.texts(row, name)[0], "", float(shares[rank]), stands_out=False)
            for rank, name in zip(ranks, names, strict=True)
        ]


def _rank(scorer: Scorer, judged: ScoredBlock, places: np.ndarray, most: int) -> Ranked:
    """The most costly columns of each row, masked one at a time."""
    typical, rows = scorer.anomaly_score.typical, torch.from_numpy(places)
    batch, observed = judged.batch.take(rows), judged.raw_scores.observed[rows].numpy()
    deviance = judged.raw_scores.deviance[:, rows].mean(0).double().numpy()
    nats = np.where(observed, deviance, typical)
    edge = _edges(scorer, batch)
    cost = np.where(observed, nats - typical + edge, -np.inf)
    columns = np.argsort(-cost, axis=1, kind="stable")[:, :most]
    own, left = _tried(scorer, batch, columns)
    drop = own + np.take_along_axis(edge - nats, columns, 1) + nats.sum(1)[:, None] - left
    drop = np.where(np.take_along_axis(observed, columns, 1), drop, -np.inf)
    order = np.argsort(-drop, axis=1, kind="stable")
    columns, drop = (np.take_along_axis(part, order, 1) for part in (columns, drop))
    excess = np.maximum((nats - typical + edge).sum(1), drop[:, 0]).clip(MIN_EXCESS)
    share = np.where(np.isfinite(drop), (drop / excess[:, None]).clip(0, 1), -1)
    return Ranked(columns, share, edge - typical, excess, edge)


def _edges(scorer: Scorer, batch: Batch) -> np.ndarray:
    """(line, column): nats of values that stand at the edge of all that were met, else 0."""
    layout, reference = scorer.table.layout, scorer.reference.batch
    nats_of_columns = np.zeros((len(batch), len(layout.columns)))
    if scorer.table.supports("single_values") is not None:
        return nats_of_columns
    for cell, slot in enumerate(layout.slots):
        if slot.kind == "datetime" and slot.part != TREND:
            continue  # the top of a wave is an hour like any other
        if slot.coded:
            rarer_share = _rarer(slot, batch.codes[:, cell - layout.numbers].numpy())
        else:
            reference_values = reference.numbers[reference.observed[:, cell], cell].numpy()
            rarer_share = _beyond(reference_values, batch.numbers[:, cell].numpy())
        edge = RARE if slot.coded or slot.head == "bernoulli" else EDGE
        nats = EDGE_WEIGHT * np.log(edge / rarer_share).clip(0)
        column = nats_of_columns[:, layout.column_of_feature[cell]]
        np.maximum(column, np.where(batch.observed[:, cell].numpy(), nats, 0), out=column)
    # Tails go on beyond what was met.
    tails = scorer.anomaly_score.outliers.rarity(batch).cells.numpy()
    return np.maximum(nats_of_columns, EDGE_WEIGHT * (tails + np.log(EDGE)).clip(0))


def _beyond(reference_values: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The share of reference values as far out on the same side; half a row at least."""
    reference_values = np.sort(reference_values)
    below = np.searchsorted(reference_values, values, "right")
    above = len(reference_values) - np.searchsorted(reference_values, values, "left")
    return (np.minimum(below, above) + 0.5) / (len(reference_values) + 1)


def _rarer(slot: Slot, codes: np.ndarray) -> np.ndarray:
    """The share of training rows whose level is as rare as these, or rarer."""
    shares = np.array(slot.shares)
    rising = np.sort(shares)
    return np.cumsum(rising)[np.searchsorted(rising, shares[codes - 1], "right") - 1]


@torch.no_grad()
def _tried(scorer: Scorer, batch: Batch, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(line, candidate): its nats predicted from all others, and those of the row without it."""
    layout, (lines, count) = scorer.table.layout, columns.shape
    network, typical = scorer.anomaly_score.network, torch.from_numpy(scorer.anomaly_score.typical)
    device = next(network.parameters()).device
    own, left = np.zeros((lines, count)), np.zeros((lines, count))
    step = max(rows_of_pass(len(layout)) // count, 1)
    for start in range(0, lines, step):
        candidates = columns[start : start + step].ravel()
        rows = batch.take(torch.from_numpy(start + np.arange(len(candidates)) // count)).to(device)
        masked = candidates[:, None] == np.arange(len(layout.columns))
        masked_rows = rows.hide(torch.from_numpy(masked[:, layout.column_of_feature]).to(device))
        nats = masked_nats(scorer, rows, masked, candidates)
        deviance, observed = masked_deviance(scorer.table, network, masked_rows)
        rest = row_nats(deviance.mean(0).cpu().double(), observed.cpu(), typical)
        own[start : start + step] = nats.reshape(-1, count)
        left[start : start + step] = rest.nan_to_num(float(typical.sum())).reshape(-1, count)
    return own, left


def check_explained(rows: object) -> None:
    """Raises: SettingError for what names no rows to be explained."""
    if rows not in EXPLAINED:
        raise SettingError(f"explain_rows={rows!r:.40}: choose from {', '.join(EXPLAINED)}")
