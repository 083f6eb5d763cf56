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
from keyhole.data import Rows, cast
from keyhole.data.source import check_columns
from keyhole.errors import BundleError, DataError, KeyholeWarning
from keyhole.modalities import Modality
from keyhole.modalities.rows.split import ReferenceSet
from keyhole.store import record
from keyhole.tasks.detect.anomaly_map import usual_nats
from keyhole.tasks.detect.calibration import Calibration
from keyhole.tasks.detect.intervals import Intervals
from keyhole.tasks.detect.views import QUESTIONS, AnomalyScore, RawScores

MOST_ANOMALY_SCORE = 1e12
MOST_ANOMALY_SCORES = 1 << 17  # of rows that calibrate


@dataclass(frozen=True)
class ScoredBlock:
    """Some rows of a source, encoded, what was asked of them, and what came out.

    `anomaly_score` is in multiples of the usual, `score_std` its standard deviation between
    nets, both
    (row,) and NaN for a row with no observed cell; `unmet` are segments never met in training.
    """

    start: int
    rows: Rows
    batch: Batch
    raw_scores: RawScores
    anomaly_score: np.ndarray
    score_std: np.ndarray
    unmet: set[str]


@dataclass(frozen=True)
class DetectorState:
    """The section `detect` of a manifest: these keys, of these types."""

    false_alarm_rate: float
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
    """A scale of anomaly score, what it said of held-out rows, and the rows it compares with.

    `rows` is how many rows were learned from so far; `apart` the share that stands apart.
    """

    table: Modality
    anomaly_score: AnomalyScore
    calibration: Calibration
    reference: ReferenceSet
    groups: Groups | None
    core: float
    rows: int
    apart: float
    usual: np.ndarray | None = None  # nats of each place, where rows have maps

    @classmethod
    def settle(cls, model: Autoencoder) -> Self:
        """The gauge of a fitted model.

        Raises: BundleError for a model of an older version, which remembers no rows.
        """
        stage("calibrating alarms")
        reference, schema = _reference(model), model.model_.parts.schema
        anomaly_score = AnomalyScore.settle(
            model.model_.modality, model.model_.network, reference, schema.support_fraction
        )
        found, groups = anomaly_score.judge(reference), None
        if schema.group is not None and reference.groups is not None:
            names = [reference.groups[i] for i in reference.judged]
            groups = Groups.learn(schema.group, names, found)
            factor = groups.factor_of(reference.groups).astype(np.float32)  # as a bundle has it
            reference = replace(reference, factor=factor)
        calibration = Calibration.of(found / reference.factor[reference.judged])
        modality, network = model.model_.modality, model.model_.network
        maps = modality.maps
        return cls(
            modality, anomaly_score, calibration, reference, groups,
            schema.support_fraction,
            model.model_.rows, calibration.apart(),
            None if maps is None else usual_nats(modality, maps, network, reference),
        )  # fmt: skip

    @cached_property
    def intervals(self) -> Intervals:
        """What is expected in a cell, made when a row is first explained."""
        return Intervals.settle(self.table, self.anomaly_score.network, self.reference)

    def score_block(self, rows: Rows, start: int = 0) -> ScoredBlock:
        """How far out some rows are; `start` is the place of the first, for messages."""
        batch = self.table.encode(rows, start)
        asked = self.anomaly_score.ask(batch)
        found = self.anomaly_score.score_block(asked)
        factor, unmet = self._factor(rows)
        anomaly_score, score_std = found.anomaly_score / factor, found.score_std / factor
        return ScoredBlock(start, rows, batch, asked, anomaly_score, score_std, unmet)

    def through(self, blocks: Iterable[tuple[int, Rows]]) -> Iterator[ScoredBlock]:
        """All blocks weighed, with a warning at the end for segments never met."""
        unmet: set[str] = set()
        stage("comparing rows with those of training")
        for start, rows in blocks:
            judged = self.score_block(rows, start)
            unmet |= judged.unmet
            yield judged
        if unmet:
            warnings.warn(unmet_in_words(unmet), KeyholeWarning, stacklevel=4)

    def _factor(self, rows: Rows) -> tuple[Any, set[str]]:
        """What each row's anomaly score is divided by, and the groups unknown to training."""
        if self.groups is None:
            return 1.0, set()
        check_columns([self.groups.column], rows.names, "a threshold a segment")
        names = names_of(rows.column(self.groups.column))
        return self.groups.factor_of(names), set(names) - set(self.groups.factors)

    def taught(self, blocks: Iterable[tuple[int, Rows]]) -> Self:
        """The gauge with new rows in its bank and its calibration, its units as they were.

        The bank stays a fair sample of all rows met; all rows that calibrate are judged anew by
        it, each as if it were not remembered, so that p-values mean what they meant before.
        """
        stage("taking rows in")
        rows, reference = self.rows, self.reference
        for start, block in blocks:
            factor = np.broadcast_to(self._factor(block)[0], len(block))
            reference = reference.with_rows(self.table.encode(block, start), factor, met=rows)
            rows += len(block)
        stage("calibrating alarms")
        anomaly_score = self.anomaly_score.with_reference(reference, self.core)
        calibration = Calibration.of(
            anomaly_score.judge(reference) / reference.factor[reference.judged]
        )
        return replace(
            self, anomaly_score=anomaly_score, reference=reference, rows=rows,
            calibration=calibration,
            apart=calibration.apart(),
        )  # fmt: skip

    def recalibrated(self, anomaly_scores: np.ndarray) -> Self:
        """The gauge whose promises rest on these anomaly scores.

        Raises: DataError where there is none.
        """
        if np.isnan(anomaly_scores).all():
            raise DataError("no row is left to calibrate on: all are anomalies or empty")
        return replace(self, calibration=Calibration.of(anomaly_scores))

    def section(self, false_alarm_rate: float) -> dict[str, Any]:
        """What a manifest keeps of it."""
        return asdict(
            DetectorState(
                false_alarm_rate=false_alarm_rate,
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
    def restored(cls, kept: DetectorState, model: Autoencoder) -> Self:
        """The gauge that a manifest keeps, on the model of the same bundle.

        Raises: BundleError.
        """
        _check(kept, model.model_.modality)
        reference, schema = _reference(model), model.model_.parts.schema
        bare = AnomalyScore.unsettled(
            model.model_.modality, model.model_.network, reference, schema.support_fraction
        )
        learned = {key: np.array(getattr(kept, key)) for key in ("typical", "units", "rare")}
        anomaly_score = replace(bare, **learned)
        groups = None if schema.group is None else Groups(schema.group, kept.factors)
        calibration = Calibration(np.sort(np.array(kept.anomaly_scores, float)))
        return cls(
            model.model_.modality, anomaly_score, calibration, reference, groups,
            schema.support_fraction,
            kept.rows, kept.apart, None if kept.usual is None else np.array(kept.usual),
        )  # fmt: skip


def kept_of(section: Any) -> DetectorState:
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


def _check(kept: DetectorState, modality: Modality) -> None:
    """Raises: BundleError for numbers that no gauge of ours has."""
    usual, places = kept.usual or [], 0 if modality.maps is None else modality.maps.places
    numbers = np.array(
        [
            *kept.typical,
            *kept.units,
            *kept.rare,
            *kept.anomaly_scores,
            *kept.factors.values(),
            *usual,
        ]
    )
    wrong = {
        "false_alarm_rate: between 0 and 1": not 0 < kept.false_alarm_rate < 1,
        "typical: one for each column": len(kept.typical) != len(modality.layout.columns),
        "units: one for each question": len(kept.units) != len(QUESTIONS),
        "rare: an anomaly score and a step": len(kept.rare) != 2,
        "units and factors: above zero": min([*kept.units, *kept.factors.values()]) <= 0,
        "usual: one above zero for each pixel": min(usual, default=1) <= 0 or len(usual) != places,
        "anomaly scores: at least one, and not far too many": not 1
        <= len(kept.anomaly_scores)
        <= MOST_ANOMALY_SCORES,
        "numbers: from 0 to 1e12": not ((numbers >= 0) & (numbers <= MOST_ANOMALY_SCORE)).all(),
        "rows and apart: what they count": kept.rows < 2 or not 0 <= kept.apart <= 1,
    }
    for what, is_wrong in wrong.items():
        if is_wrong:
            raise BundleError(f"section 'detect' cannot be used: {what}")


OUT = 0.9  # quantile by which segments are compared: alarms are raised far out
AS_WHOLE = 10  # rows of a segment that weigh as much as the whole does
MOST_GROUPS = 10_000
FEW, MOST_ALONE = 20, 0.9  # from so many rows on, so many segments a row are identifiers


@dataclass(frozen=True)
class Groups:
    """The column that names the segment, and what each one's anomaly score is divided by."""

    column: str
    factors: dict[str, float]

    @classmethod
    def learn(cls, column: str, names: list[str], anomaly_score: np.ndarray) -> Groups:
        """The factors of the segments of held-out rows.

        Raises: DataError for more segments than could each have a threshold.
        """
        groups, place = np.unique(np.array(names, dtype=str), return_inverse=True)
        alone = len(names) >= FEW and len(groups) > MOST_ALONE * len(names)
        if alone or len(groups) > MOST_GROUPS:
            raise DataError(
                f"group={column!r}: it holds {len(groups):,} different values among "
                f"{len(names):,} rows: an identifier, not the part of a fleet; name another column"
            )
        whole, factors = _out(anomaly_score), {}
        for i, group in enumerate(groups):
            own = anomaly_score[(place == i) & ~np.isnan(anomaly_score)]
            if len(own) and whole > 0:
                weight = len(own) / (len(own) + AS_WHOLE)
                factors[str(group)] = float((max(_out(own), 1e-3 * whole) / whole) ** weight)
        return cls(column, factors)

    def factor_of(self, names: list[str]) -> np.ndarray:
        """What the anomaly scores of each of these groups are divided by; 1 for unknown groups."""
        return np.array([self.factors.get(name, 1.0) for name in names])


def names_of(values: Any) -> list[str]:
    """A segment's name for each row; a gap is a segment of its own."""
    return [name or "" for name in cast.texts(values).to_pylist()]


def unmet_in_words(unmet: set[str]) -> str:
    """A sentence on segments that training never met."""
    names, more = sorted(unmet)[:3], len(unmet) - 3
    said = ", ".join(map(repr, names)) + (f" and {more} more" if more > 0 else "")
    return f"unknown groups: {said}; they are judged as the whole is"


def _out(anomaly_score: np.ndarray) -> float:
    known = anomaly_score[~np.isnan(anomaly_score)]
    return float(np.quantile(known, OUT)) if len(known) else 0.0
