"""The anomaly score of a row: four views of it, answered in multiples of the usual.

    trusted   how far is the nearest row that is itself   sees what lies in a gap of the data,
              not far out?                                not deceived by clusters of anomalies
    core      how far is the core, the rows that agree    unmoved by what hid in the training
              most?
    values    how far out are its values, each by itself? sees many small oddities, and values
                                                          that the core never has
    masked    how badly are masked values predicted?      sees what breaks a pattern

Each is measured in its own median over rows that no net trained on, so that all count alike, and
their weighted mean is the anomaly score: 1 is usual, 3 is three times as far out. A blend of tail
probabilities would be blind beyond the farthest training row; ratios keep counting.

In tables half of the weight is for the first. The net shares the other half with the core and its
values: rows are broken on purpose (see `Modality.broken`), and the better the net tells them from
held-out rows, the more its view counts, and the less one center and spread can say, or columns by
themselves.

A fifth view is silent for nearly all rows:

    is one cell far beyond all that its column held?      sees one strange cell among a hundred

Its answer is how rare such a row is. The row is then at least as anomalous as a row is that is
as rare by the mean of the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from keyhole.core.environment import PASS_ROWS, pass_work, threads_for
from keyhole.core.layout import filled, gaps
from keyhole.core.records import Batch
from keyhole.core.robust import Robust, centered, trimmed
from keyhole.modalities import Modality
from keyhole.modalities.rows.holdout import members_mean
from keyhole.modalities.rows.split import ReferenceSet
from keyhole.model.network import Network
from keyhole.tasks.detect.calibration import Calibration, told_apart
from keyhole.tasks.detect.core_values import CoreValues, axes_of_values
from keyhole.tasks.detect.masked import (
    GROUPS,
    by_own_net,
    masked_deviance,
    row_lengths,
    typical_deviance,
)
from keyhole.tasks.detect.neighbours import ReferencePoints, usual_size
from keyhole.tasks.detect.single_values import COMMON, Outliers, exceeded
from keyhole.tasks.detect.weights import (
    MAX_PLANTED,
    MEAN,
    QUESTIONS,
    auroc_of_broken,
    distrust_of,
    names_of_views,
    weights_of,
)

VIEW_CORE = 0.9  # least share of rows that a view rests on: regimes of a series are no outliers
RAISED_SHARE = 0.005  # of rows one strange cell raises: half of a usual false alarm rate
TRUSTED = 0.001  # of rarer rows a tail knows little: their further nats count by their logarithm


@dataclass(frozen=True)
class RawScores:
    """The answers for some rows, and the columns' part in the last two.

    `distances` are the `MEASURES`, the nats of the values, and the distances to the center in
    each of the modality's views.
    `deviance` is in nats beyond a perfect prediction; `tails` is -log of the share of rows whose
    cell is as far out in that column or as new, 0 for a usual one, and `rarity` that of rows with
    a cell as rare. `views` are the modality's views of the rows, gaps filled.
    """

    distances: Float[Tensor, "distance row"]
    deviance: Float[Tensor, "member row column"]
    observed: Bool[Tensor, "row column"]
    tails: Float[Tensor, "row column"]
    rarity: Float[Tensor, " row"]
    views: Mapping[str, Float[Tensor, "row axis"]]

    def take(self, places: Int64[np.ndarray, " some"]) -> "RawScores":
        """The answers for the rows at these places."""
        at = torch.from_numpy(places)
        return RawScores(
            self.distances[:, at], self.deviance[:, at], self.observed[at], self.tails[at],
            self.rarity[at], {name: view[at] for name, view in self.views.items()},
        )  # fmt: skip

    @classmethod
    def in_order(cls, parts: list["RawScores"], order: np.ndarray) -> "RawScores":
        """Parts behind each other; `order` says where each of their rows belongs."""
        names = parts[0].views
        together = cls(
            torch.cat([part.distances for part in parts], 1),
            torch.cat([part.deviance for part in parts], 1),
            torch.cat([part.observed for part in parts]),
            torch.cat([part.tails for part in parts]),
            torch.cat([part.rarity for part in parts]),
            {name: torch.cat([part.views[name] for part in parts]) for name in names},
        )
        return together.take(np.argsort(order))


@dataclass(frozen=True)
class AnomalyScore:
    """A scale for rows: a modality, a network, reference points, columns' tails, and units.

    `typical` is each column's mean deviance on held-out rows, so that a gap makes a row neither
    calm nor loud; `units` are the questions' medians there, and `weights` what each counts, of
    those that raise 0. `rare` is the mean that `RAISED_SHARE` of those rows exceed, and by how
    much more an e-th of these do.
    """

    modality: Modality
    network: Network
    reference_points: ReferencePoints
    core_values: CoreValues
    outliers: Outliers
    typical: np.ndarray
    units: np.ndarray
    weights: np.ndarray
    rare: np.ndarray
    centers: dict[str, Robust] = field(default_factory=dict)  # of the modality's views
    raising: dict[str, Calibration] = field(default_factory=dict)  # views that raise, and MEAN
    by_fold: bool = False  # whether each net was trained on other rows

    @classmethod
    def calibrated(
        cls, modality: Modality, network: Network, reference: ReferenceSet, core: float
    ) -> "AnomalyScore":
        """The scale of a reference set of which a share of `core` is good."""
        weights = weights_of(modality, auroc_of_broken(modality, network, reference))
        uncalibrated = cls.uncalibrated(modality, network, reference, core, weights)
        scales = uncalibrated._scales_of_folds(reference, core)
        raw = uncalibrated._raw_scores_of_judged(reference, scales)
        typical = typical_deviance(raw.deviance, raw.observed)
        uncalibrated = replace(uncalibrated, typical=typical)
        answers = uncalibrated.answers(raw).mean(1).numpy()
        uncalibrated = replace(uncalibrated, units=np.array([usual_size(a) for a in answers]))
        uncalibrated = replace(uncalibrated, raising=uncalibrated._chosen(reference, scales, raw))
        means = uncalibrated.weighted_mean(uncalibrated.answers(raw)).mean(0).numpy()
        common, step = exceeded(means[~np.isnan(means)])
        rare = np.array([common + step * np.log(COMMON / RAISED_SHARE), step])
        return replace(uncalibrated, rare=rare)

    def judge(self, reference: ReferenceSet, core: float) -> np.ndarray:
        """The anomaly scores of the rows that calibrate.

        Each is scored by the nets that have not seen it, and as if it were no reference row; rows
        that share values with others, as if no row of their stretch were one.
        """
        scales = self._scales_of_folds(reference, core)
        return self.score_block(self._raw_scores_of_judged(reference, scales))

    def _scales_of_folds(self, reference: ReferenceSet, core: float) -> dict[int, "AnomalyScore"]:
        """For each fold a scale without its rows, where rows share values with others; else none.

        Their reference rows cost as much as a scale does, so they are made once.
        """
        if reference.folds == 1 or not self.modality.overlap:
            return {}
        folds = np.unique(reference.fold[reference.judged])
        others = {int(fold): np.flatnonzero(reference.fold != fold) for fold in folds}
        return {
            fold: self.with_reference(reference.take(rows), core) for fold, rows in others.items()
        }

    def _raw_scores_of_judged(
        self,
        reference: ReferenceSet,
        scales: dict[int, "AnomalyScore"],
        batch: Batch | None = None,
        places: Int64[np.ndarray, " row"] | None = None,
    ) -> RawScores:
        """Of the rows that calibrate, or of a `batch` of those at these `places`, changed."""
        judged = reference.take(reference.judged)
        batch = judged.batch if batch is None else batch
        places = np.arange(len(judged)) if places is None else places
        fold, own = judged.fold[places], torch.from_numpy(reference.own[places])
        if reference.folds == 1:
            return self.raw_scores(batch, own)
        if not scales:
            raw = self.raw_scores(batch, own)
        else:
            parts = [
                scales[part].raw_scores(batch.take(torch.from_numpy(np.flatnonzero(fold == part))))
                for part in np.unique(fold).tolist()
            ]
            raw = RawScores.in_order(parts, np.argsort(fold, kind="stable"))
        return replace(raw, deviance=by_own_net(raw.deviance, fold, raw.deviance))

    @classmethod
    def uncalibrated(
        cls,
        modality: Modality,
        network: Network,
        reference: ReferenceSet,
        core: float,
        weights: np.ndarray,
    ) -> "AnomalyScore":
        """A scale without units: the reference points and the weights are there."""
        layout = modality.layout
        rows = reference.take(reference.reference_rows).batch
        whole = _whole(network, rows)
        coordinates = modality.coordinates(whole)
        robust = trimmed(coordinates, core)
        none = modality.supports("single_values") is not None
        axes = axes_of_values(layout, coordinates.shape[1])[: 0 if none else None]
        with_gaps = coordinates if whole is rows else modality.coordinates(rows)
        x = with_gaps.float() - robust.center.float()
        core_values = CoreValues.of(x, robust.core, axes)
        points = ReferencePoints.of(
            coordinates, robust, whitens=modality.whitens, distrust=distrust_of(weights),
            values=None if none else core_values.nats_of(x, torch.arange(len(x))),
        )  # fmt: skip
        outliers = Outliers.of(rows, layout, none=none)
        views = modality.views(whole, coordinates)
        trusted = max(core, VIEW_CORE)
        centers = {name: centered(x, trusted) for name, x in views.items()}
        units = np.ones(len(QUESTIONS) + len(centers))
        return cls(
            modality, network, points, core_values, outliers, np.zeros(len(layout.columns)), units,
            weights, np.zeros(2), centers, by_fold=reference.folds > 1,
        )  # fmt: skip

    def with_reference(self, reference: ReferenceSet, core: float) -> "AnomalyScore":
        """The same scale on other reference rows."""
        network, weights = self.network, self.weights
        other = self.uncalibrated(self.modality, network, reference, core, weights)
        return replace(
            self, reference_points=other.reference_points, core_values=other.core_values,
            outliers=other.outliers, centers=other.centers,
        )  # fmt: skip

    @cached_property
    def scoring_network(self) -> Network:
        """What predicts masked values: of nets that trained on the same rows the first.

        The others change no rank that counts (measured: .0006 AP), and say how sure a score is.
        """
        return self.network if self.by_fold else self.network.first_member()

    @torch.no_grad()
    def raw_scores(self, batch: Batch, own: Tensor | None = None) -> RawScores:
        """The answers, in passes that fit the processor's cache; `own` as in ReferencePoints."""
        network = self.scoring_network
        device = next(network.parameters()).device
        parts = []
        with threads_for(GROUPS * pass_work(network, min(len(batch), PASS_ROWS))):
            deviance, observed = masked_deviance(self.modality, network, batch.to(device))
            for first in range(0, max(len(batch), 1), PASS_ROWS):
                part = slice(first, first + PASS_ROWS)
                rows = batch.take(part).to(device)
                whole = _whole(self.network, rows)
                x = self.modality.coordinates(whole)
                with_gaps = x if whole is rows else self.modality.coordinates(rows)
                some = None if own is None else own[part]
                center = self.reference_points.robust.center.to(x)
                nats = self.core_values.nats_of(with_gaps - center, some)
                near = [*self.reference_points.distances(x, some), nats]
                views = self.modality.views(whole, x)
                near += [c.distance(views[name].double()) for name, c in self.centers.items()]
                near = torch.stack([answer.to(near[0]) for answer in near])
                parts.append((near.cpu(), {name: view.cpu() for name, view in views.items()}))
        distances, views = zip(*parts, strict=True)
        rarity = self.outliers.rarity(batch, own)
        return RawScores(
            torch.cat(distances, 1), deviance.cpu(), observed.cpu(), rarity.cells, rarity.row,
            {name: torch.cat([part[name] for part in views]) for name in views[0]},
        )  # fmt: skip

    def answers(self, raw: RawScores) -> Float[Tensor, "question member row"]:
        """The questions' answers in their units, by each net; NaN where nothing was asked."""
        masked = row_lengths(raw.deviance, raw.observed, self.typical).double()[None]
        distances = raw.distances.double()[:, None].expand(-1, masked.shape[1], -1)
        near, views = distances[: len(QUESTIONS) - 1], distances[len(QUESTIONS) - 1 :]
        return torch.cat([near, masked, views]) / torch.from_numpy(self.units)[:, None, None]

    def score_block(self, raw: RawScores) -> np.ndarray:
        """The anomaly score of each row.

        For rows that no net trained on, or that hardly any did. NaN for a row with no observed
        cell: nothing was asked of it.
        """
        answers = self.answers(raw)
        anomaly_score = self.weighted_mean(answers).mean(0).numpy()
        raised = self._raised(raw.rarity.numpy())
        for place, name in enumerate(self.modality.view_names, len(QUESTIONS)):
            if name in self.raising:  # each may raise its part of the rows
                p_value = self.raising[name].p_value(answers[place].mean(0).numpy())
                p_value = np.minimum(p_value * (len(self.raising) - 1), 1.0)
                as_rare = self.raising[MEAN].scores_at(p_value)
                raised = np.maximum(raised, np.where(p_value < RAISED_SHARE, as_rare, 0.0))
        raised = np.where(np.isnan(anomaly_score), np.nan, raised)
        return np.maximum(anomaly_score, raised)

    def score_std(self, batch: Batch, raw: RawScores) -> np.ndarray:
        """The standard deviation of each row's score between all nets; NaN for a single net."""
        if self.network.shape.members == 1 or not len(batch):
            return np.full(len(batch), np.nan)
        if not self.by_fold:
            device = next(self.network.parameters()).device
            nats, _ = masked_deviance(self.modality, self.network, batch.to(device))
            raw = replace(raw, deviance=nats.cpu())
        return self.weighted_mean(self.answers(raw)).std(0).numpy()

    def by_view(self, raw: RawScores) -> dict[str, Float[np.ndarray, " row"]]:
        """What each view that counts or may raise says about each row, in its usual answer."""
        answers = self.answers(raw).mean(1).numpy()
        views = zip(names_of_views(self.modality), answers, self.weights, strict=True)
        return {
            name: answer for name, answer, weight in views if weight > 0 or name in self.raising
        }

    def weighted_mean(self, answers: Float[Tensor, "question member row"]) -> Tensor:
        """The weighted mean of the questions and of the views that count always."""
        shares = torch.from_numpy(self.weights / self.weights.sum())
        return torch.einsum("q,qmr->mr", shares, answers)

    def _chosen(
        self, reference: ReferenceSet, scales: dict[int, "AnomalyScore"], raw: RawScores
    ) -> dict[str, Calibration]:
        """The views that raise a score where they are rare, with their answers on good rows.

        A view raises if it tells some kind of planted fault from the rows it was planted in
        better than the mean does. The mean is with them: a row is then as anomalous as one that
        is as rare by the mean.
        """
        others = [name for name in self.centers if name not in self.modality.mean_views]
        places = reference.spread(MAX_PLANTED)
        planted = self.modality.planted(reference.take(reference.judged[places]).batch, seed=0)
        good, gains = self.answers(raw), dict.fromkeys(others, 0.0)
        for batch in planted.values():
            bad = self.answers(self._raw_scores_of_judged(reference, scales, batch, places))
            mean = told_apart(self.weighted_mean(good)[:, places], self.weighted_mean(bad))
            for name in others:
                at = len(QUESTIONS) + self.modality.view_names.index(name)
                gain = told_apart(good[at][:, places], bad[at]) - mean
                gains[name] = max(gains[name], gain)
        raising = {
            name: Calibration.of(good[len(QUESTIONS) + i].mean(0).numpy())
            for i, name in enumerate(self.modality.view_names)
            if gains.get(name, 0.0) > MIN_BETTER
        }
        means = Calibration.of(self.weighted_mean(good).mean(0).numpy())
        return raising | {MEAN: means} if raising else {}

    def _raised(self, rarity: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
        """What rows so rare by the mean have as a mean; 0 for a row not so rare."""
        raised_nats, trusted = -np.log(RAISED_SHARE), -np.log(TRUSTED)
        nats = np.minimum(rarity, trusted) + np.log1p((rarity - trusted).clip(0)) - raised_nats
        return np.where(nats >= 0, self.rare[0] + self.rare[1] * nats, 0.0)


def _whole(network: Network, batch: Batch) -> Batch:
    """The rows with what the net expects in their gaps."""
    layout = network.shape.layout
    if not bool(gaps(batch, layout).any()):
        return batch
    with torch.no_grad():
        expected = members_mean(network(batch.even()).likelihood.mean)
    expected = expected.take(slice(0, len(batch)))
    return filled(batch, expected, layout)


MIN_BETTER = 0.02  # of the area under the curve: less is no reason for a view to raise
