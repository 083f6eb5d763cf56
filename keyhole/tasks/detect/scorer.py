"""What is typical for a model's rows, and how far out others are; groups of rows.

A machine that is noisier than the fleet has its anomaly score divided by how much noisier it is.
The factor of a group with few rows is shrunk towards the whole table's, as in empirical Bayes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Int64

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.autoencoder.state import refuse
from keyhole.core.environment import side_by_side
from keyhole.core.progress import stage
from keyhole.core.records import Batch
from keyhole.core.robust import CORE
from keyhole.data import Rows, cast
from keyhole.data.source import check_columns
from keyhole.errors import BundleError, DataError, KeyholeWarning, SettingError
from keyhole.modalities import Modality
from keyhole.modalities.rows.split import ReferenceSet
from keyhole.tasks.detect import maps
from keyhole.tasks.detect.calibration import Calibration
from keyhole.tasks.detect.expect import Intervals
from keyhole.tasks.detect.titles import UsualTitles
from keyhole.tasks.detect.views import AnomalyScore, RawScores
from keyhole.tasks.detect.weights import MEAN, names_of_views

LEARNED = ("typical", "units", "weights", "rare")  # of an AnomalyScore, beside its reference rows
MAX_ANOMALY_SCORE = 1e12  # multiples of the usual, in a saved model
STD_SHARE = 0.1  # for the others, several nets would answer the same question for nothing
MAX_ANOMALY_SCORES = 1 << 17  # of rows that calibrate
OTHER_VIEWS = (
    "this detector was saved by a version of keyhole with other views; it is calibrated again, by "
    "the rows in its file, so scores and alarms differ from before (detector.save keeps the new)"
)


@dataclass(frozen=True)
class ScoredBlock:
    """Some rows of a source, encoded, what was asked of them, and what came out.

    `batch` and `raw_scores` have a line for each sample, which may answer several rows.
    `anomaly_score` is in multiples of the usual, (row,), NaN for a row with no observed cell.
    `score_std` is its standard deviation between nets, NaN unless it is as high as that of one
    normal row in ten (`STD_SHARE`); `unknown_groups` are those that training did not have.
    """

    start: int
    rows: Rows
    batch: Batch
    raw_scores: RawScores
    anomaly_score: np.ndarray
    score_std: np.ndarray
    unknown_groups: set[str]
    samples: Int64[np.ndarray, " row"]  # the line of the batch that answers each row; -1: none


@dataclass(frozen=True)
class DetectorState:
    """The section `detect` of a manifest: these keys, of these types."""

    false_alarm_rate: float
    contamination: str | float
    group: str | None
    rows: int
    apart: float
    typical: list[float]
    units: list[float]
    rare: list[float]
    raising: dict[str, list[float]]
    anomaly_scores: list[float]
    factors: dict[str, float]
    weights: list[float] | None = None  # of the views
    views: list[str] | None = None  # their names; None: saved before they had names
    usual: list[float] | None = None  # nats of each place of a map

    def other_views(self, modality: Modality) -> str | None:
        """What to say if a version with other views of such rows has saved it."""
        return None if self.views == names_of_views(modality) else OTHER_VIEWS


@dataclass(frozen=True)
class Scorer:
    """A scale of anomaly scores, its calibration by held-out rows, and the reference rows.

    `rows` is how many rows were learned from so far; `apart` the share that stands apart.
    """

    table: Modality
    anomaly_score: AnomalyScore
    calibration: Calibration
    reference: ReferenceSet
    groups: Groups | None
    contamination: str | float
    rows: int
    apart: float
    usual: np.ndarray | None = None  # nats of each place, where rows have maps

    @classmethod
    def calibrated(cls, model: Autoencoder, contamination: str | float, group: str | None) -> Self:
        """The scorer of a fitted model. Raises: BundleError for one without reference rows."""
        stage("calibrating alarms")
        reference = _reference(model)
        modality, network = model.model_.modality, model.model_.network
        fraction = support_fraction_of(contamination)
        anomaly_score = AnomalyScore.calibrated(modality, network, reference, fraction)
        scores, groups = anomaly_score.judge(reference, fraction), None
        if group is not None and reference.groups is not None:
            names = [reference.groups[i] for i in reference.judged]
            groups = Groups.learn(group, names, scores)
            factor = groups.factor_of(reference.groups).astype(np.float32)  # as a bundle has it
            reference = replace(reference, factor=factor)
        calibration = Calibration.of(scores / reference.factor[reference.judged])
        return cls(
            modality, anomaly_score, calibration, reference, groups, contamination,
            model.model_.rows, calibration.apart(),
            maps.typical_nats_of_places(modality, network, reference),
        )  # fmt: skip

    @cached_property
    def intervals(self) -> Intervals:
        """What is expected in a cell, made when a row is first explained."""
        return Intervals.calibrated(self.table, self.anomaly_score.network, self.reference)

    @cached_property
    def usual_titles(self) -> UsualTitles:
        """How far out each title usually is, where several columns share one."""
        return UsualTitles.of(self)

    def score_block(self, rows: Rows, start: int = 0, *, std: bool = True) -> ScoredBlock:
        """How far out some rows are; `start` is the place of the first, for messages.

        Without `std` the standard deviations are NaN, which saves the passes of the other nets.
        """
        batch = self.table.encode(rows, start)
        raw_scores = self.anomaly_score.raw_scores(batch)
        factor, unknown_groups = self._factor(rows)
        samples = self.table.samples_of(rows)
        samples = np.arange(len(rows)) if samples is None else samples
        scores = self.anomaly_score.score_block(raw_scores)
        score = np.append(scores, np.nan)[samples] / factor  # -1: NaN
        high = std & (self.calibration.p_value(score) <= STD_SHARE)
        lines = np.setdiff1d(samples[high], [-1])
        score_std = np.full(len(batch) + 1, np.nan)
        score_std[lines] = self.anomaly_score.score_std(
            batch.take(torch.from_numpy(lines)), raw_scores.take(lines)
        )
        return ScoredBlock(
            start, rows, batch, raw_scores, score, score_std[samples] / factor, unknown_groups,
            samples,
        )  # fmt: skip

    def views_of(self, judged: ScoredBlock, places: Sequence[int]) -> dict[int, dict[str, float]]:
        """What each view says about the rows at these places, in multiples of its usual answer."""
        lines = judged.samples[list(places)]
        by_view = self.anomaly_score.by_view(judged.raw_scores.take(lines))
        return {
            place: {name: float(answer[i]) for name, answer in by_view.items()}
            for i, place in enumerate(places)
        }

    def check_maps(self) -> None:
        """Raises: SettingError for the detector of rows without anomaly maps."""
        if self.table.maps is None or self.usual is None:
            reason = self.table.supports("anomaly_map")
            raise SettingError(reason or "this model has no anomaly maps")

    def anomaly_map(self, batch: Batch) -> np.ndarray:
        """(row, height, width): nats of every pixel of images, in multiples of its usual ones."""
        places: Any = self.table.maps
        nats = maps.map_nats(self.table, places, self.anomaly_score.network, batch).mean(0).numpy()
        return places.shaped(nats / self.usual)

    def scored_blocks(
        self, blocks: Iterable[tuple[int, Rows]], *, std: bool = True
    ) -> Iterator[ScoredBlock]:
        """All blocks scored, with a warning at the end for groups unknown to training."""
        unknown_groups: set[str] = set()
        stage("scoring the rows")
        for scored_block in side_by_side(
            lambda part: self.score_block(part[1], part[0], std=std), blocks
        ):
            unknown_groups |= scored_block.unknown_groups
            yield scored_block
        if unknown_groups:
            warnings.warn(unknown_groups_in_words(unknown_groups), KeyholeWarning, stacklevel=4)

    def _factor(self, rows: Rows) -> tuple[Any, set[str]]:
        """What each row's anomaly score is divided by, and the groups unknown to training."""
        if self.groups is None:
            return 1.0, set()
        check_columns([self.groups.column], rows.names, "the threshold of its group")
        texts = cast.texts(rows.column(self.groups.column)).to_pylist()
        names = [text or "" for text in texts]  # a gap is a group of its own
        return self.groups.factor_of(names), set(names) - set(self.groups.factors)

    def updated(self, blocks: Iterable[tuple[int, Rows]]) -> Self:
        """The scorer with new reference and calibration rows, its units as they were.

        The reference rows stay a fair sample of all rows; all calibration rows are scored
        anew, each as if it were no reference row, so that p-values mean what they meant before.
        """
        stage("adding rows")
        rows, reference = self.rows, self.reference
        for start, block in blocks:
            batch = self.table.encode(block, start)
            factor = np.broadcast_to(self._factor(block)[0], len(batch))
            reference = reference.with_rows(batch, factor, met=rows)
            rows += len(batch)
        stage("calibrating alarms")
        fraction = support_fraction_of(self.contamination)
        anomaly_score = self.anomaly_score.with_reference(reference, fraction)
        scores = anomaly_score.judge(reference, fraction) / reference.factor[reference.judged]
        calibration = Calibration.of(scores)
        return replace(
            self, anomaly_score=anomaly_score, reference=reference, rows=rows,
            calibration=calibration, apart=calibration.apart(),
        )  # fmt: skip

    def recalibrated(self, anomaly_scores: np.ndarray) -> Self:
        """The scorer that promises by these scores. Raises: DataError where there is none."""
        if np.isnan(anomaly_scores).all():
            raise DataError("no row is left to calibrate on: all are anomalies or empty")
        return replace(self, calibration=Calibration.of(anomaly_scores))

    def section(self, false_alarm_rate: float) -> dict[str, Any]:
        """The section `detect` of a manifest, at this false alarm rate."""
        state = DetectorState(
            false_alarm_rate=false_alarm_rate,
            contamination=self.contamination,
            group=None if self.groups is None else self.groups.column,
            rows=self.rows,
            apart=self.apart,
            views=names_of_views(self.table),
            **{name: getattr(self.anomaly_score, name).tolist() for name in LEARNED},
            raising={
                name: calibration.anomaly_scores.tolist()
                for name, calibration in self.anomaly_score.raising.items()
            },
            anomaly_scores=self.calibration.anomaly_scores.tolist(),
            factors={} if self.groups is None else self.groups.factors,
            usual=None if self.usual is None else self.usual.tolist(),
        )
        return asdict(state)

    @classmethod
    def restored(cls, state: DetectorState, model: Autoencoder) -> Self:
        """The scorer of a saved model. Raises: BundleError.

        One that was saved with other views is calibrated again, by the rows in its file.
        """
        _check(state, model.model_.modality)
        groups = None if state.group is None else Groups(state.group, state.factors)
        if state.other_views(model.model_.modality):
            scorer = cls.calibrated(model, state.contamination, None)
            return replace(scorer, groups=groups, rows=state.rows)
        reference, modality = _reference(model), model.model_.modality
        fraction = support_fraction_of(state.contamination)
        network = model.model_.network
        weights = np.array(state.weights)
        uncalibrated = AnomalyScore.uncalibrated(modality, network, reference, fraction, weights)
        learned = {name: np.array(getattr(state, name)) for name in LEARNED}
        raising = {
            name: Calibration(np.sort(np.array(answers, float)))
            for name, answers in state.raising.items()
        }
        anomaly_score = replace(uncalibrated, **learned, raising=raising)
        calibration = Calibration(np.sort(np.array(state.anomaly_scores, float)))
        return cls(
            modality, anomaly_score, calibration, reference, groups, state.contamination,
            state.rows, state.apart, None if state.usual is None else np.array(state.usual),
        )  # fmt: skip


def support_fraction_of(contamination: Any) -> float:
    """The share of rows that are trusted to be good, given the share of bad ones.

    "auto", an unknown share, gives `CORE`: robust against two fifths of bad rows.
    Raises: SettingError.
    """
    if isinstance(contamination, str) and contamination in {"auto", "none"}:
        return CORE if contamination == "auto" else 1.0
    number = isinstance(contamination, int | float) and not isinstance(contamination, bool)
    share = float(contamination) if number else -1.0
    if not 0 <= share < 0.5:
        raise SettingError(
            f"contamination={contamination!r:.40}: write 'auto', 'none', or the share of bad "
            "training rows, from 0 to below 0.5"
        )
    return 1.0 - share


def _reference(model: Autoencoder) -> ReferenceSet:
    if model.model_.reference is None or not len(model.model_.reference.judged):
        raise BundleError(
            "this model was saved without reference rows: save the detector "
            "(AnomalyDetector.from_fitted(model).save) where the model was fitted, or fit "
            "again"
        )
    return model.model_.reference


def _check(state: DetectorState, modality: Modality) -> None:
    place_nats, places = state.usual or [], 0 if modality.maps is None else modality.maps.places
    factors, scores = state.factors.values(), state.anomaly_scores
    views, weights = state.views, state.weights or []
    if views is None:  # of an old version, which needs no weights here
        views, weights = state.units, state.weights or state.units
    lists = state.typical, state.units, weights, state.rare, scores, factors, place_nats
    numbers = np.array([*chain(*lists, *state.raising.values())])
    wrong = {
        "false_alarm_rate: between 0 and 1": not 0 < state.false_alarm_rate < 1,
        "typical: one for each column": len(state.typical) != len(modality.layout.columns),
        "units: one for each view": len(state.units) != len(views),
        "weights: one for each view, none below zero": len(weights) != len(views)
        or not sum(weights) > 0,
        "raising: views of the modality, and their mean": not set(state.raising)
        <= {MEAN, *(state.views or modality.view_names)}
        or (bool(state.raising) and MEAN not in state.raising)
        or not all(state.raising.values()),
        "rare: an anomaly score and a step": len(state.rare) != 2,
        "units and factors: above zero": min([*state.units, *factors]) <= 0,
        "usual: one above zero for each pixel": min(place_nats, default=1) <= 0
        or len(place_nats) != places,
        "anomaly scores: at least one, and not too many": not scores
        or len(scores) > MAX_ANOMALY_SCORES,
        "numbers: from 0 to 1e12": not ((numbers >= 0) & (numbers <= MAX_ANOMALY_SCORE)).all(),
        "rows and apart: what they count": state.rows < 2 or not 0 <= state.apart <= 1,
    }
    refuse(wrong, "section 'detect'")


OUT = 0.9  # quantile by which groups are compared: alarms are raised far out
AS_WHOLE = 10  # rows of a group that weigh as much as the whole table does
MAX_GROUPS = 10_000  # each has a threshold of its own
ID_ROWS, MAX_GROUP_SHARE = 20, 0.9  # from so many rows on, more groups a row are identifiers


@dataclass(frozen=True)
class Groups:
    """The column that names groups, and what each group's anomaly score is divided by."""

    column: str
    factors: dict[str, float]

    @classmethod
    def learn(cls, column: str, names: list[str], anomaly_score: np.ndarray) -> Groups:
        """The factors of the groups of held-out rows.

        Raises: DataError for more groups than could each have a threshold.
        """
        groups, group_index = np.unique(np.array(names, dtype=str), return_inverse=True)
        alone = len(names) >= ID_ROWS and len(groups) > MAX_GROUP_SHARE * len(names)
        if alone or len(groups) > MAX_GROUPS:
            raise DataError(
                f"group={column!r}: it holds {len(groups):,} different values among "
                f"{len(names):,} rows, so it looks like an identifier, not like groups; name "
                "another column"
            )
        table_score, factors = _out(anomaly_score), {}
        for i, group in enumerate(groups):
            own = anomaly_score[(group_index == i) & ~np.isnan(anomaly_score)]
            if len(own) and table_score > 0:
                weight = len(own) / (len(own) + AS_WHOLE)
                ratio = max(_out(own), 1e-3 * table_score) / table_score
                factors[str(group)] = float(ratio**weight)
        return cls(column, factors)

    def factor_of(self, names: list[str]) -> np.ndarray:
        """What the anomaly scores of each of these groups are divided by; 1 for unknown groups."""
        return np.array([self.factors.get(name, 1.0) for name in names])


def unknown_groups_in_words(unknown_groups: set[str]) -> str:
    """A sentence on groups unknown to training."""
    names, more = sorted(unknown_groups)[:3], len(unknown_groups) - 3
    text = ", ".join(map(repr, names)) + (f" and {more} more" if more > 0 else "")
    return f"unknown groups: {text}; their scores are scaled like the whole table"


def _out(anomaly_score: np.ndarray) -> float:
    known = anomaly_score[~np.isnan(anomaly_score)]
    return float(np.quantile(known, OUT)) if len(known) else 0.0
