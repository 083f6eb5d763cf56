"""The bank: rows to be near to, in the units of their own core.

How badly is each column guessed from the rest of its row?

Questions put to a row, and one answer: how many times the usual is it?

    how far is the nearest row ever met?            local: sees what lies in a gap of the data
    how far is the core, the rows that agree most?  robust: unmoved by what hid in the training
    how badly are masked values predicted?          the net: sees what breaks a pattern

Each is measured in its own median over rows that no net trained on, so that all three count
alike, and their mean is the anomaly score: 1 is usual, 3 is three times as far out. A blend of
tail probabilities would be blind beyond the farthest training row; ratios keep counting.

A fourth question is silent for nearly all rows:

    is one cell far beyond all that its column held?  sees one strange cell among a hundred

Its answer is how rare such a row is. The row is then at least as anomalous as a row is that is
as rare by the mean of the three.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from keyhole.core.coordinates import filled, gaps
from keyhole.core.environment import pass_work, threads_for
from keyhole.core.layout import Layout, column_nats, row_nats
from keyhole.core.records import Batch
from keyhole.core.robust import Robust, trimmed
from keyhole.modalities import Modality
from keyhole.modalities.rows.holdout import members_mean
from keyhole.modalities.rows.split import ReferenceSet
from keyhole.model.network import Network
from keyhole.tasks.detect.single_values import COMMON, Outliers, exceeded

NEIGHBOURS = 10  # core rows whose mean distance counts: one may itself be odd
CHUNK_ROWS = 512  # rows whose distances are held at once
SAME = 1e-3  # a row this near (an axis) is the row itself, and may not vouch for it


@dataclass(frozen=True)
class Bank:
    """Whitened points, those of the core first; `place` is where each row given went."""

    robust: Robust
    points: Float[Tensor, "row axis"]
    place: Int64[Tensor, " row"]
    core: int

    @classmethod
    def of(cls, x: Float[Tensor, "row axis"], share: float) -> "Bank":
        """The bank of these rows, of which `share` make the core."""
        robust = trimmed(x, share)
        order = torch.argsort(~robust.core, stable=True)
        points = robust.whitened(x.float())[order]
        return cls(robust, points, torch.argsort(order), int(robust.core.sum()))

    def distances(
        self, x: Float[Tensor, "row axis"], own: Int64[Tensor, " row"] | None = None
    ) -> Float[Tensor, "2 row"]:
        """How far each row is from the nearest point, and from its nearest core points on average.

        `own` are the rows of the bank (by their place when it was made) that these rows are, -1
        where they are none: each is judged as if it were not there. Otherwise a row that is in
        the bank, which nobody may know, may not vouch for itself: of exact copies one does not
        count.
        """
        points = self.points.to(x.device)
        square = points.square().sum(1)
        found = []
        for start in range(0, len(x), CHUNK_ROWS):
            here = self.robust.whitened(x[start : start + CHUNK_ROWS])
            far = torch.addmm(square, here, points.mT, alpha=-2)
            size = here.square().sum(1)
            far.add_(size[:, None]).clamp_(min=0)
            if own is not None:
                mine = own[start : start + CHUNK_ROWS]
                line = torch.nonzero(mine >= 0)[:, 0]
                far[line.to(x.device), self.place[mine[line]].to(x.device)] = torch.inf
            same = SAME**2 * (x.shape[1] + size)  # whitening rounds by size
            core = _squares(far[:, : self.core], here, points[: self.core], same, NEIGHBOURS + 1)
            rest = _squares(far[:, self.core :], here, points[self.core :], same, 1)
            alone = (rest[:, 0] == 0) & (core[:, 0] > 0)  # few: the row itself, outside the core
            if alone.any():
                outer = far[alone, self.core :], here[alone], points[self.core :], same[alone]
                rest[alone] = _squares(*outer, most=2)[:, 1:]
            core = torch.where(core[:, :1] == 0, core[:, 1:], core[:, :-1]).sqrt()
            nearest = torch.minimum(core[:, 0], rest[:, 0].sqrt())
            found.append(torch.stack([nearest, _mean(core)]))
        return torch.cat(found, 1).nan_to_num(posinf=0.0)


def _squares(
    far: Float[Tensor, "row point"],
    here: Float[Tensor, "row axis"],
    points: Float[Tensor, "point axis"],
    same: Float[Tensor, " row"],
    most: int,
) -> Float[Tensor, "row near"]:
    """The squared distances of the nearest points, nearest first; inf where there are fewer.

    `far` are squared distances, rounded by the size of the rows: they say which points are near,
    the points themselves how near, so that a distance does not depend on the rows beside it.
    """
    short = max(most - far.shape[1], 0)
    if far.shape[1] == 0:
        return far.new_full((len(far), most), torch.inf)
    if most == 1:
        rough, at = (part[:, None] for part in far.min(1))
    else:
        rough, at = far.topk(most - short, 1, largest=False)
    axes = points.shape[1]
    near = points.index_select(0, at.reshape(-1)).view(len(far), -1, axes)
    square = (near - here[:, None]).square_().sum(2)
    square = torch.where(rough.isfinite(), square, torch.inf).sort(1).values
    square = torch.where(square < same[:, None], 0.0, square)
    return torch.nn.functional.pad(square, (0, short), value=torch.inf)


def _mean(far: Float[Tensor, "row point"]) -> Float[Tensor, " row"]:
    """The mean of those that are there."""
    there = far.isfinite()
    return far.nan_to_num(posinf=0.0).sum(1) / there.sum(1).clamp(min=1)


GROUPS = 8  # of columns hidden together: so many passes, however many columns


@torch.no_grad()
def hidden_deviance(
    modality: Modality, network: Network, batch: Batch
) -> tuple[Float[Tensor, "member row column"], Bool[Tensor, "row column"]]:
    """Nats of each column beyond a perfect guess, by each net, and which columns were observed.

    A column is masked with the others of its group and predicted from the rest.
    """
    return _columns(masked_values(modality, network, batch), batch, modality.layout)


def masked_values(
    modality: Modality, network: Network, batch: Batch
) -> Float[Tensor, "member row feature"]:
    """Nats of each feature beyond a perfect prediction, masked with the others of its group."""
    cells = torch.zeros((), device=batch.observed.device)
    for group in modality.mask_groups(GROUPS):
        hidden = torch.zeros(len(modality.layout), dtype=torch.bool, device=batch.observed.device)
        hidden[group] = True
        found = network(batch.hide(hidden)).likelihood.deviance(batch)[0]  # (M, B, feature)
        cells = torch.where(hidden, found, cells)
    return modality.scale_deviance(cells, batch)


def _columns(
    cells: Float[Tensor, "member row feature"], batch: Batch, layout: Layout
) -> tuple[Tensor, Tensor]:
    found = [column_nats(-member, batch.observed, layout) for member in cells]
    return torch.stack([nats for nats, _ in found]), found[0][1]


PASS_ROWS = 4_096  # of a forward pass; what larger ones make falls out of the processor's cache
LEAST_UNIT = 1e-3  # of a question's unit, where half of the rows are exactly alike
QUESTIONS = ("nearest", "core", "hidden")
SPOKEN = 0.004  # share of rows that the fourth question raises: half of a usual false alarm rate
TRUSTED = 0.001  # of rarer rows a tail knows little: their further nats count by their logarithm


@dataclass(frozen=True)
class RawScores:
    """The answers for some rows, and the columns' part in the third and the fourth.

    `deviance` is (member, row, column) in nats beyond a perfect guess; `observed` says which
    columns
    were observed; `tails` is -log of the share of rows whose cell is as far out in that column
    or as new, 0 for a usual one, and `rarity` that of rows with a cell as rare.
    """

    distances: Float[Tensor, "2 row"]
    deviance: Float[Tensor, "member row column"]
    observed: Bool[Tensor, "row column"]
    tails: Float[Tensor, "row column"]
    rarity: Float[Tensor, " row"]


@dataclass(frozen=True)
class ScoredViews:
    """The anomaly score of some rows, and its standard deviation between nets as doubt."""

    anomaly_score: np.ndarray
    score_std: np.ndarray


@dataclass(frozen=True)
class AnomalyScore:
    """A scale for rows: a modality, a network, a bank, its columns' tails, and what is usual.

    `typical` is each column's mean deviance on held-out rows, so that a gap makes a row neither
    calm nor loud; `units` are the questions' medians there. `rare` is the mean of the three that
    `SPOKEN` of those rows exceed, and by how much more an e-th of these do.
    """

    modality: Modality
    network: Network
    bank: Bank
    outliers: Outliers
    typical: np.ndarray
    units: np.ndarray
    rare: np.ndarray

    @classmethod
    def settle(
        cls, modality: Modality, network: Network, reference: ReferenceSet, core: float
    ) -> "AnomalyScore":
        """The scale of a memory whose core is this share of it, in units of its judged rows."""
        bare = cls.unsettled(modality, network, reference, core)
        asked = bare._ask_judged(reference)
        bare = replace(bare, typical=_typical(asked.deviance.mean(0), asked.observed))
        answers = bare.answers(asked).mean(1).numpy()
        bare = replace(bare, units=np.array([_unit(answer) for answer in answers]))
        means = bare.answers(asked).mean((0, 1)).numpy()
        common, step = exceeded(means[~np.isnan(means)])
        return replace(bare, rare=np.array([common + step * np.log(COMMON / SPOKEN), step]))

    def judge(self, reference: ReferenceSet) -> np.ndarray:
        """The anomaly scores of the rows that calibrate.

        Each is asked of the nets that have not seen it, and as if it were not remembered.
        """
        return self.score_block(self._ask_judged(reference)).anomaly_score

    def _ask_judged(self, reference: ReferenceSet) -> RawScores:
        judged = reference.take(reference.judged)
        asked = self.ask(judged.batch, torch.from_numpy(reference.own))
        if reference.folds == 1:
            return asked
        fold = torch.from_numpy(judged.fold)
        mine = asked.deviance[fold.clamp(min=0), torch.arange(len(fold))]
        return replace(asked, deviance=torch.where((fold >= 0)[:, None], mine, asked.deviance))

    @classmethod
    def unsettled(
        cls, modality: Modality, network: Network, reference: ReferenceSet, core: float
    ) -> "AnomalyScore":
        """A scale without units: the bank alone is there."""
        layout = modality.layout
        batch = _whole(network, reference.take(reference.reference_rows).batch)
        bank = Bank.of(modality.coordinates(batch), core)
        none = modality.supports("single_values") is not None
        rows = reference.take(reference.reference_rows).batch
        outliers = Outliers.of(rows, layout, none=none)
        typical, units = np.zeros(len(layout.columns)), np.ones(len(QUESTIONS))
        return cls(modality, network, bank, outliers, typical, units, np.array([0.0, 0.0]))

    def with_reference(self, reference: ReferenceSet, core: float) -> "AnomalyScore":
        """The same scale on another bank."""
        other = self.unsettled(self.modality, self.network, reference, core)
        return replace(self, bank=other.bank, outliers=other.outliers)

    @torch.no_grad()
    def ask(self, batch: Batch, own: Tensor | None = None) -> RawScores:
        """The answers, by passes that each fit the processor's cache; `own` as in Bank."""
        device = next(self.network.parameters()).device
        even, parts = self.modality.even(batch), []
        if own is not None:
            own = torch.nn.functional.pad(own, (0, len(even) - len(batch)), value=-1)
        with threads_for(GROUPS * pass_work(self.network, min(len(batch), PASS_ROWS))):
            for first in range(0, max(len(batch), 1), PASS_ROWS):
                part = slice(first, first + PASS_ROWS)
                here = even.take(part).to(device)
                deviance, observed = hidden_deviance(self.modality, self.network, here)
                x = self.modality.coordinates(_whole(self.network, here))
                far = self.bank.distances(x, None if own is None else own[part])
                parts.append((far.cpu(), deviance.cpu(), observed.cpu()))
        distances, deviance, observed = zip(*parts, strict=True)
        rows, rarity = slice(0, len(batch)), self.outliers.rarity(even, own)
        return RawScores(
            torch.cat(distances, 1)[:, rows], torch.cat(deviance, 1)[:, rows],
            torch.cat(observed)[rows], rarity.cells[rows], rarity.row[rows],
        )  # fmt: skip

    def answers(self, asked: RawScores) -> Float[Tensor, "question member row"]:
        """The questions' answers in their units, by each net; NaN where nothing was asked."""
        typical = torch.from_numpy(self.typical).to(asked.deviance)
        depth = [
            row_nats(net, asked.observed, typical).clamp(min=0).sqrt() for net in asked.deviance
        ]  # a length, as the distances are
        hidden = torch.stack(depth).double()[None]
        near = asked.distances.double()[:, None].expand(-1, hidden.shape[1], -1)
        return torch.cat([near, hidden]) / torch.from_numpy(self.units)[:, None, None]

    def score_block(self, asked: RawScores) -> ScoredViews:
        """The anomaly score of rows that no net trained on, or that hardly any did.

        NaN for a row with no observed cell: nothing was asked of it.
        """
        total = self.answers(asked).mean(0)  # (member, row)
        score_std = total.std(0) if len(total) > 1 else torch.full_like(total[0], torch.nan)
        anomaly_score = total.mean(0).numpy()
        raised = np.where(np.isnan(anomaly_score), np.nan, self._raised(asked.rarity.numpy()))
        return ScoredViews(np.maximum(anomaly_score, raised), score_std.numpy())

    def _raised(self, rarity: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
        """What rows so rare by the mean of the three have as a mean; 0 for a row not so rare."""
        spoken, trusted = -np.log(SPOKEN), -np.log(TRUSTED)
        nats = np.minimum(rarity, trusted) + np.log1p((rarity - trusted).clip(0)) - spoken
        return np.where(nats >= 0, self.rare[0] + self.rare[1] * nats, 0.0)


def _whole(network: Network, batch: Batch) -> Batch:
    """The rows with what the net expects in their gaps."""
    layout = network.shape.layout
    if not bool(gaps(batch, layout).any()):
        return batch
    with torch.no_grad():
        expected = members_mean(network(batch).likelihood.mean)
    return filled(batch, expected, layout)


def _typical(
    deviance: Float[Tensor, "row column"], observed: Bool[Tensor, "row column"]
) -> np.ndarray:
    held = torch.where(observed, deviance, 0.0).double().sum(0) / observed.sum(0).clamp(min=1)
    return held.numpy()


def _unit(answers: np.ndarray) -> float:
    """What is usual; where half of the rows are exactly alike, a little of what the mean is."""
    answers = answers[~np.isnan(answers)]
    if not len(answers):
        return 1.0
    return float(max(np.median(answers), LEAST_UNIT * answers.mean(), LEAST_UNIT))
