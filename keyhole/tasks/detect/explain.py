"""Why a row is anomalous: the cells without which it would be less so, and what was expected.

A strange cell drags its neighbours along: the net reads it and expects them to be strange too. So
the loudest columns are hidden one at a time, and the cause is the one with which most of the
row's nats go: its own, and those of the columns that are guessed better without it. To its own
count those of the edge of its column: a likelihood that is robust hardly tells far from farther.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int64

from keyhole.core.layout import TREND, Slot, row_nats
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.tasks.detect.answer import Reason
from keyhole.tasks.detect.expect import (
    PASS_FEATURES,
    PASS_ROWS,
    Predicted,
    hidden_nats,
    partners,
    predict,
)
from keyhole.tasks.detect.views import hidden_deviance

if TYPE_CHECKING:
    from keyhole.data import Rows
    from keyhole.tasks.detect.scorer import ScoredBlock, Scorer


MOST_CELLS = 3
EXPLAINED = ("alarms", "all", "none")  # rows
LEAST_SHARE, LEAST_FURTHER = 0.01, 0.1  # of a row's first cell and of further ones
LEAST_EXCESS = 1.0  # nats: the cells of a row with less have small shares, as it is a calm one
CANDIDATES = 10  # columns of a row that are hidden in turn: nine passes each
MOST_TOGETHER = 5  # columns that may stand out once the loudest is hidden
EDGE = 0.1  # share of rows at an end of a column: what is farther out costs nats of its own
RARE = 0.02  # the same of levels and flags, whose likelihood tells what is rare by itself
EDGE_WEIGHT = 2.0  # of these nats


@dataclass(frozen=True)
class Ranked:
    """Columns of some rows, those first with which most goes; `share` is -1 for a gap.

    `beyond` is what each column costs beyond a guess's nats to be a cause, in nats; `excess` the
    row's own beyond its usual; `edge` the nats of values at the end of their column.
    """

    columns: Int64[np.ndarray, "line rank"]
    share: Float[np.ndarray, "line rank"]
    beyond: Float[np.ndarray, "line column"]
    excess: Float[np.ndarray, " line"]
    edge: Float[np.ndarray, "line column"]


@dataclass
class Cause:
    """A cell that was named: its column, what was hidden then, and its partners' columns."""

    cell: Reason
    column: int
    hidden: np.ndarray
    paired: bool
    partners: list[int]


def explain(
    scorer: Scorer, judged: ScoredBlock, places: np.ndarray, most: int = MOST_CELLS
) -> dict[int, list[Reason]]:
    """The cells that made the rows at these places of a block anomalous, strongest first.

    The share of the first is the part of the row's excess over its usual cost that goes when the
    cell is hidden. A further cell counts for what it still costs, and is expected, with those
    before it hidden: a strange value can vouch neither for itself nor against a neighbour. A cell
    that fits what was expected in its place is no cause. Where all do, the loudest are returned
    as cells that do not stand out. All shares are between 0 and 1.
    """
    if not len(places):
        return {}
    ranked = _rank(scorer, judged, places, max(CANDIDATES, most))
    naming = Naming(scorer, judged, places, ranked, most)
    for rank in range(ranked.columns.shape[1]):
        naming.try_rank(rank)
    naming.try_together()
    naming.add_partners()
    return naming.cells()


@dataclass
class Naming:
    """The causes of some rows while they are named, (line, column); `hidden` are those so far."""

    scorer: Scorer
    judged: ScoredBlock
    places: np.ndarray
    ranked: Ranked
    most: int

    def __post_init__(self) -> None:
        self.hidden = np.zeros(self.ranked.beyond.shape, bool)
        self.found: list[list[Cause]] = [[] for _ in self.places]

    def try_rank(self, rank: int) -> None:
        """Name the column of this rank in the rows where it does not fit."""
        ranked, share = self.ranked, self.ranked.share[:, rank]
        few = np.array([len(causes) < self.most for causes in self.found])
        lines = np.flatnonzero(few & (share > LEAST_SHARE))
        if not len(lines):
            return
        asked, share, hidden = ranked.columns[lines, rank], share[lines], self.hidden[lines]
        hidden[np.arange(len(lines)), asked] = True
        at = predict(
            self.scorer, self.judged, self.places[lines], asked, hidden, ranked.edge[lines, asked]
        )
        further = np.array([bool(self.found[line]) for line in lines])
        still = (at.nats + ranked.beyond[lines, asked]) / ranked.excess[lines]
        share = np.where(further, np.minimum(share, still), share)
        enough = share > np.where(further, LEAST_FURTHER, LEAST_SHARE)
        self._name(lines, asked, at, share, hidden, at.stands_out & enough)

    def try_together(self) -> None:
        """Where no value stands out: one may once the loudest, which vouches for it, is hidden."""
        ranked = self.ranked
        for rank in range(1, min(MOST_TOGETHER, ranked.columns.shape[1])):
            none = np.array([not causes for causes in self.found])
            loud = (ranked.share[:, 0] > LEAST_SHARE) & (ranked.share[:, rank] > LEAST_SHARE)
            lines = np.flatnonzero(none & loud)
            if not len(lines):
                continue
            asked, first = ranked.columns[lines, rank], ranked.columns[lines, 0]
            hidden = np.zeros((len(lines), len(self.scorer.table.layout.columns)), bool)
            hidden[np.arange(len(lines)), asked] = hidden[np.arange(len(lines)), first] = True
            at = predict(
                self.scorer, self.judged, self.places[lines], asked, hidden,
                ranked.edge[lines, asked],
            )  # fmt: skip
            share = ranked.share[lines, rank]
            self._name(lines, asked, at, share, hidden, at.stands_out, first)

    def _name(
        self,
        lines: np.ndarray,
        asked: np.ndarray,
        at: Predicted,
        share: np.ndarray,
        hidden: np.ndarray,
        named: np.ndarray,
        with_: np.ndarray | None = None,
    ) -> None:
        for i in np.flatnonzero(named).tolist():
            line = lines[i]
            self.hidden[line] = hidden[i]
            name = self.scorer.table.layout.columns[asked[i]]
            known = np.isfinite(at.numbers[i]).all()
            numbers = tuple(at.numbers[i].tolist()) if known else None
            cell = Reason(name, at.values[i], at.expected[i], float(share[i]), numbers=numbers)
            others = [] if with_ is None else [int(with_[i])]
            paired = bool(at.paired[i]) and not others
            self.found[line].append(Cause(cell, int(asked[i]), hidden[i], paired, others))

    def add_partners(self) -> None:
        """Name the columns with which usual values do not go together."""
        paired = [
            (line, cause)
            for line, causes in enumerate(self.found)
            for cause in causes
            if cause.paired
        ]
        if paired:
            places = self.places[[line for line, _ in paired]]
            asked = np.array([cause.column for _, cause in paired])
            hidden = np.stack([cause.hidden for _, cause in paired])
            found = partners(self.scorer, self.judged, places, asked, hidden)
            for (_, cause), others in zip(paired, found, strict=True):
                cause.partners.extend(others)

    def cells(self) -> dict[int, list[Reason]]:
        """The causes of each row by its place; where there is none, the loudest cells."""
        table, columns = self.scorer.table, self.scorer.table.layout.columns
        named: dict[int, list[Reason]] = {}
        for line, place in enumerate(self.places.tolist()):
            row = self.judged.rows.take(slice(place, place + 1))
            cells = [
                replace(
                    cause.cell,
                    partners=tuple(
                        f"{columns[c]} = {table.texts(row, columns[c])[0]}" for c in cause.partners
                    ),
                )
                for cause in self.found[line]
            ]
            named[place] = sorted(cells, key=lambda cell: -cell.share) or self._nearest(line, row)
        return named

    def _nearest(self, line: int, row: Rows) -> list[Reason]:
        """The loudest cells of a row in which no value stands out."""
        table, shares = self.scorer.table, self.ranked.share[line]
        ranks = [rank for rank in range(min(self.most, MOST_CELLS, len(shares)))
                 if shares[rank] >= (LEAST_SHARE if rank else 0)]  # fmt: skip
        names = [table.layout.columns[self.ranked.columns[line, rank]] for rank in ranks]
        return [
            Reason(name, table.texts(row, name)[0], "", float(shares[rank]), stands_out=False)
            for rank, name in zip(ranks, names, strict=True)
        ]


def _rank(scorer: Scorer, judged: ScoredBlock, places: np.ndarray, most: int) -> Ranked:
    """The loudest columns of each row, hidden one at a time."""
    usual, rows = scorer.anomaly_score.typical, torch.from_numpy(places)
    batch, observed = judged.batch.take(rows), judged.raw_scores.observed[rows].numpy()
    nats = np.where(observed, judged.raw_scores.deviance[:, rows].mean(0).double().numpy(), usual)
    edge = _edges(scorer, batch)
    loud = np.where(observed, nats - usual + edge, -np.inf)
    asked = np.argsort(-loud, axis=1, kind="stable")[:, :most]
    own, left = _tried(scorer, batch, asked)
    gone = own + np.take_along_axis(edge - nats, asked, 1) + nats.sum(1)[:, None] - left
    gone = np.where(np.take_along_axis(observed, asked, 1), gone, -np.inf)
    order = np.argsort(-gone, axis=1, kind="stable")
    asked, gone = (np.take_along_axis(part, order, 1) for part in (asked, gone))
    excess = np.maximum((nats - usual + edge).sum(1), gone[:, 0]).clip(LEAST_EXCESS)
    share = np.where(np.isfinite(gone), (gone / excess[:, None]).clip(0, 1), -1)
    return Ranked(asked, share, edge - usual, excess, edge)


def _edges(scorer: Scorer, batch: Batch) -> np.ndarray:
    """(line, column): nats of values that stand at the edge of all that were met, else 0."""
    layout, met = scorer.table.layout, scorer.reference.batch
    found = np.zeros((len(batch), len(layout.columns)))
    if scorer.table.supports("single_values") is not None:
        return found
    for cell, slot in enumerate(layout.slots):
        if slot.kind == "datetime" and slot.part != TREND:
            continue  # the top of a wave is an hour like any other
        if slot.coded:
            rarer = _rarer(slot, batch.codes[:, cell - layout.numbers].numpy())
        else:
            held = met.numbers[met.observed[:, cell], cell].numpy()
            rarer = _beyond(held, batch.numbers[:, cell].numpy())
        edge = RARE if slot.coded or slot.head == "bernoulli" else EDGE
        nats = EDGE_WEIGHT * np.log(edge / rarer).clip(0)
        column = found[:, layout.column_of_feature[cell]]
        np.maximum(column, np.where(batch.observed[:, cell].numpy(), nats, 0), out=column)
    tails = scorer.anomaly_score.outliers.rarity(
        batch
    ).cells.numpy()  # these go on beyond what was met
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
def _tried(scorer: Scorer, batch: Batch, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(line, candidate): its nats as guessed from all others, and those of the row without it."""
    layout, (lines, count) = scorer.table.layout, asked.shape
    network, usual = scorer.anomaly_score.network, torch.from_numpy(scorer.anomaly_score.typical)
    device = next(network.parameters()).device
    own, left = np.zeros((lines, count)), np.zeros((lines, count))
    step = max(min(PASS_ROWS, PASS_FEATURES // len(layout)) // count, 1)
    for start in range(0, lines, step):
        tried = asked[start : start + step].ravel()
        whole = batch.take(torch.from_numpy(start + np.arange(len(tried)) // count)).to(device)
        covered = tried[:, None] == np.arange(len(layout.columns))
        given = whole.hide(torch.from_numpy(covered[:, layout.column_of_feature]).to(device))
        nats = hidden_nats(scorer, whole, covered, tried)
        deviance, observed = hidden_deviance(scorer.table, network, given)
        rest = row_nats(deviance.mean(0).cpu().double(), observed.cpu(), usual)
        own[start : start + step] = nats.reshape(-1, count)
        left[start : start + step] = rest.nan_to_num(float(usual.sum())).reshape(-1, count)
    return own, left


def check_explained(rows: object) -> None:
    """Raises: SettingError for what names no rows to be explained."""
    if rows not in EXPLAINED:
        raise SettingError(f"explain_rows={rows!r:.40}: choose from {', '.join(EXPLAINED)}")
