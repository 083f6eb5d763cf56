"""What is typical for a model's rows, and how far out others are; groups of rows.

A machine that is noisier than the fleet has its anomaly score divided by how much noisier it is.
The factor of a group with few rows is shrunk towards the whole table's, as in empirical Bayes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.core.progress import stage
from keyhole.core.records import Batch
from keyhole.core.robust import CORE
from keyhole.data import Rows, cast
from keyhole.data.source import check_columns
from keyhole.errors import BundleError, DataError, KeyholeWarning, SettingError
from keyhole.modalities import Modality
from keyhole.modalities.rows.split import ReferenceSet
from keyhole.store import record
from keyhole.tasks.detect.anomaly_map import typical_nats_of_places
from keyhole.tasks.detect.calibration import Calibration
from keyhole.tasks.detect.expect import Intervals
from keyhole.tasks.detect.views import QUESTIONS, AnomalyScore, RawScores

MOST_ANOMALY_SCORE = 1e12
MOST_ANOMALY_SCORES = 1 << 17  # of rows that calibrate


@dataclass(frozen=True)
class ScoredBlock:
    """Some rows of a source, encoded, what was asked of them, and what came out.

    `anomaly_score` is in multiples of the usual, `score_std` its standard deviation between
    nets, both (row,) and NaN for a row with no observed cell; `unknown_groups` are those that
    training did not have.
    """

    start: int
    rows: Rows
    batch: Batch
    raw_scores: RawScores
    anomaly_score: np.ndarray
    score_std: np.ndarray
    unknown_groups: set[str]


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
    anomaly_scores: list[float]
    factors: dict[str, float]
    usual: list[float] | None = None  # nats of each place of a map


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
        """The scorer of a fitted model.

        Raises: BundleError for a model without reference rows.
        """
        stage("calibrating alarms")
        reference = _reference(model)
        modality, network = model.model_.modality, model.model_.network
        anomaly_score = AnomalyScore.calibrated(
            modality, network, reference, support_fraction_of(contamination)
        )
        scores, groups = anomaly_score.judge(reference), None
        if group is not None and reference.groups is not None:
            names = [reference.groups[i] for i in reference.judged]
            groups = Groups.learn(group, names, scores)
            factor = groups.factor_of(reference.groups).astype(np.float32)  # as a bundle has it
            reference = replace(reference, factor=factor)
        calibration = Calibration.of(scores / reference.factor[reference.judged])
        maps = modality.maps
        return cls(
            modality, anomaly_score, calibration, reference, groups,
            contamination,
            model.model_.rows, calibration.apart(),
            None if maps is None else typical_nats_of_places(modality, maps, network, reference),
        )  # fmt: skip

    @cached_property
    def intervals(self) -> Intervals:
        """What is expected in a cell, made when a row is first explained."""
        return Intervals.calibrated(self.table, self.anomaly_score.network, self.reference)

    def score_block(self, rows: Rows, start: int = 0) -> ScoredBlock:
        """How far out some rows are; `start` is the place of the first, for messages."""
        batch = self.table.encode(rows, start)
        raw_scores = self.anomaly_score.raw_scores(batch)
        scores = self.anomaly_score.score_block(raw_scores)
        factor, unknown_groups = self._factor(rows)
        anomaly_score, score_std = scores.anomaly_score / factor, scores.score_std / factor
        return ScoredBlock(
            start, rows, batch, raw_scores, anomaly_score, score_std, unknown_groups
        )

    def scored_blocks(self, blocks: Iterable[tuple[int, Rows]]) -> Iterator[ScoredBlock]:
        """All blocks scored, with a warning at the end for groups unknown to training."""
        unknown_groups: set[str] = set()
        stage("comparing rows with those of training")
        for start, rows in blocks:
            scored_block = self.score_block(rows, start)
            unknown_groups |= scored_block.unknown_groups
            yield scored_block
        if unknown_groups:
            warnings.warn(unknown_groups_in_words(unknown_groups), KeyholeWarning, stacklevel=4)

    def _factor(self, rows: Rows) -> tuple[Any, set[str]]:
        """What each row's anomaly score is divided by, and the groups unknown to training."""
        if self.groups is None:
            return 1.0, set()
        check_columns([self.groups.column], rows.names, "the threshold of its group")
        names = names_of(rows.column(self.groups.column))
        return self.groups.factor_of(names), set(names) - set(self.groups.factors)

    def updated(self, blocks: Iterable[tuple[int, Rows]]) -> Self:
        """The scorer with new reference and calibration rows, its units as they were.

        The reference rows stay a fair sample of all rows; all calibration rows are scored
        anew, each as if it were no reference row, so that p-values mean what they meant before.
        """
        stage("taking rows in")
        rows, reference = self.rows, self.reference
        for start, block in blocks:
            factor = np.broadcast_to(self._factor(block)[0], len(block))
            reference = reference.with_rows(self.table.encode(block, start), factor, met=rows)
            rows += len(block)
        stage("calibrating alarms")
        anomaly_score = self.anomaly_score.with_reference(
            reference, support_fraction_of(self.contamination)
        )
        calibration = Calibration.of(
            anomaly_score.judge(reference) / reference.factor[reference.judged]
        )
        return replace(
            self, anomaly_score=anomaly_score, reference=reference, rows=rows,
            calibration=calibration,
            apart=calibration.apart(),
        )  # fmt: skip

    def recalibrated(self, anomaly_scores: np.ndarray) -> Self:
        """The scorer whose promises rest on these anomaly scores.

        Raises: DataError where there is none.
        """
        if np.isnan(anomaly_scores).all():
            raise DataError("no row is left to calibrate on: all are anomalies or empty")
        return replace(self, calibration=Calibration.of(anomaly_scores))

    def section(self, false_alarm_rate: float) -> dict[str, Any]:
        """The section `detect` of a manifest, at this false alarm rate."""
        return asdict(
            DetectorState(
                false_alarm_rate=false_alarm_rate,
                contamination=self.contamination,
                group=None if self.groups is None else self.groups.column,
                rows=self.rows,
                apart=self.apart,
                typical=self.anomaly_score.typical.tolist(),
                units=self.anomaly_score.units.tolist(),
                rare=self.anomaly_score.rare.tolist(),
                anomaly_scores=self.calibration.anomaly_scores.tolist(),
                factors={} if self.groups is None else self.groups.factors,
                usual=None if self.usual is None else self.usual.tolist(),
            )
        )

    @classmethod
    def restored(cls, state: DetectorState, model: Autoencoder) -> Self:
        """The scorer of a saved model.

        Raises: BundleError.
        """
        _check(state, model.model_.modality)
        reference, modality = _reference(model), model.model_.modality
        fraction = support_fraction_of(state.contamination)
        uncalibrated = AnomalyScore.uncalibrated(
            modality, model.model_.network, reference, fraction
        )
        learned = {key: np.array(getattr(state, key)) for key in ("typical", "units", "rare")}
        anomaly_score = replace(uncalibrated, **learned)
        groups = None if state.group is None else Groups(state.group, state.factors)
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


def state_of(section: Any) -> DetectorState:
    """The section `detect` of a manifest.

    Raises: BundleError.
    """
    return record(DetectorState, section, "section 'detect'")


def _reference(model: Autoencoder) -> ReferenceSet:
    if model.model_.reference is None or not len(model.model_.reference.judged):
        raise BundleError(
            "this model was saved without rows to compare with: save the detector "
            "(AnomalyDetector.from_fitted(model).save) where the model was fitted, or fit again"
        )
    return model.model_.reference


def _check(state: DetectorState, modality: Modality) -> None:
    """Raises: BundleError for invalid numbers."""
    place_nats, places = state.usual or [], 0 if modality.maps is None else modality.maps.places
    numbers = np.array(
        [
            *state.typical,
            *state.units,
            *state.rare,
            *state.anomaly_scores,
            *state.factors.values(),
            *place_nats,
        ]
    )
    wrong = {
        "false_alarm_rate: between 0 and 1": not 0 < state.false_alarm_rate < 1,
        "typical: one for each column": len(state.typical) != len(modality.layout.columns),
        "units: one for each question": len(state.units) != len(QUESTIONS),
        "rare: an anomaly score and a step": len(state.rare) != 2,
        "units and factors: above zero": min([*state.units, *state.factors.values()]) <= 0,
        "usual: one above zero for each pixel": min(place_nats, default=1) <= 0
        or len(place_nats) != places,
        "anomaly scores: at least one, and not far too many": not 1
        <= len(state.anomaly_scores)
        <= MOST_ANOMALY_SCORES,
        "numbers: from 0 to 1e12": not ((numbers >= 0) & (numbers <= MOST_ANOMALY_SCORE)).all(),
        "rows and apart: what they count": state.rows < 2 or not 0 <= state.apart <= 1,
    }
    for what, is_wrong in wrong.items():
        if is_wrong:
            raise BundleError(f"section 'detect' cannot be used: {what}")


OUT = 0.9  # quantile by which groups are compared: alarms are raised far out
AS_WHOLE = 10  # rows of a group that weigh as much as the whole table does
MOST_GROUPS = 10_000
FEW, MOST_ALONE = 20, 0.9  # from so many rows on, so many groups a row are identifiers


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
        alone = len(names) >= FEW and len(groups) > MOST_ALONE * len(names)
        if alone or len(groups) > MOST_GROUPS:
            raise DataError(
                f"group={column!r}: it holds {len(groups):,} different values among "
                f"{len(names):,} rows: an identifier, not the part of a fleet; name another column"
            )
        table_score, factors = _out(anomaly_score), {}
        for i, group in enumerate(groups):
            own = anomaly_score[(group_index == i) & ~np.isnan(anomaly_score)]
            if len(own) and table_score > 0:
                weight = len(own) / (len(own) + AS_WHOLE)
                factors[str(group)] = float(
                    (max(_out(own), 1e-3 * table_score) / table_score) ** weight
                )
        return cls(column, factors)

    def factor_of(self, names: list[str]) -> np.ndarray:
        """What the anomaly scores of each of these groups are divided by; 1 for unknown groups."""
        return np.array([self.factors.get(name, 1.0) for name in names])


def names_of(values: Any) -> list[str]:
    """The group of each row; a gap is a group of its own."""
    return [name or "" for name in cast.texts(values).to_pylist()]


def unknown_groups_in_words(unknown_groups: set[str]) -> str:
    """A sentence on groups unknown to training."""
    names, more = sorted(unknown_groups)[:3], len(unknown_groups) - 3
    text = ", ".join(map(repr, names)) + (f" and {more} more" if more > 0 else "")
    return f"unknown groups: {text}; they are judged as the whole is"


def _out(anomaly_score: np.ndarray) -> float:
    known = anomaly_score[~np.isnan(anomaly_score)]
    return float(np.quantile(known, OUT)) if len(known) else 0.0
