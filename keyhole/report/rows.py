"""The scores, codes and reasons of the rows that a page shows, collected in one pass."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from keyhole.core.progress import clock, stage
from keyhole.tasks.detect.answer import Cell
from keyhole.tasks.detect.detector import AnomalyDetector
from keyhole.tasks.detect.explain import explain
from keyhole.tasks.detect.patterns import Pattern, shared
from keyhole.tasks.monitor.drift import Drift

ALL_NAMED = 2_000  # rows; if there are more, only the strongest have names
MOST_STRONGEST = 200  # rows of the map that have a name and reasons


@dataclass(frozen=True)
class ScoredRows:
    """The scores of a detector: one entry a row, in the order of the input.

    `anomaly_score` is in multiples of the usual, NaN for an empty row; `score_std` is its standard
    deviation between ensemble members, NaN if there is one member. A row alarms above `threshold`
    (NaN or infinite if no row can); `contamination` is the estimated share of outliers in
    training. `ids` name the rows, "row 17" counted from 1 if there is no id column; if there are
    more than `ALL_NAMED` rows, only the strongest have one. `reasons` maps a row's index to its
    strongest cells: column, value, expected value ("" if no value of the row stands out), and
    share of the row's excess score, from 0 to 1. `patterns` are shared by groups of the strongest
    alarms. `remarks` are sentences on data drift.
    """

    name: str
    anomaly_score: np.ndarray
    score_std: np.ndarray
    p_value: np.ndarray
    alarm: np.ndarray
    threshold: float
    false_alarm_rate: float
    contamination: float
    codes: np.ndarray  # (row, code)
    ids: list[str]
    reasons: dict[int, list[tuple[str, str, str, float]]]
    patterns: list[Pattern]
    remarks: list[str]
    calibrated_on: int = 0  # rows; 0 if unknown

    def __len__(self) -> int:
        return len(self.anomaly_score)

    def strongest(self, most: int) -> np.ndarray:
        """The indices of the most anomalous rows, strongest first, without empty rows."""
        return strongest(self.anomaly_score, most)


def strongest(anomaly_score: np.ndarray, most: int) -> np.ndarray:
    """The indices of the `most` highest anomaly scores, highest first, without NaN."""
    order = np.argsort(-np.nan_to_num(anomaly_score, nan=-np.inf), kind="stable")[:most]
    return order[~np.isnan(anomaly_score[order])]


BLOCKS_LEFT = 2.0  # times of a block: one more block and the page must fit the time budget


def score_rows(
    detector: AnomalyDetector, data: Any, *, name: str | None = None, rate: float | None = None
) -> ScoredRows:
    """Score the rows of a frame, an array, or a path for the page.

    `rate` replaces the detector's own false alarm rate. Only rows that may be among the strongest
    are explained and have their id.
    Raises: DataError.
    """
    model = detector.autoencoder_
    source = model.open(data)
    if hasattr(source, "wanted"):
        source.wanted = [column for column in detector.reads() if column in source.names]
    collector = _RowCollector(detector)
    began, remarks = clock().left(), [*filter(None, [getattr(source, "passed_over", "")])]
    for start, rows in model.iter_blocks(source):
        block_s = began - clock().left() if start else 0.0
        if start and clock().left() < BLOCKS_LEFT * block_s:
            remarks += [f"only the first {start:,} rows are shown: the time budget is spent"]
            break
        began = clock().left()
        collector.add(rows, start)
    anomaly_score = np.concatenate(collector.anomaly_score)
    rate = detector.false_alarm_rate if rate is None else rate
    threshold = detector.calibration_.threshold(rate)
    alarm = anomaly_score > threshold
    return ScoredRows(
        name=name
        or (os.path.basename(data) if isinstance(data, str | os.PathLike) else source.name),
        anomaly_score=anomaly_score,
        score_std=np.concatenate(collector.score_std),
        p_value=detector.calibration_.p_value(anomaly_score),
        alarm=alarm,
        threshold=threshold,
        false_alarm_rate=rate,
        contamination=detector.calibration_.apart(),
        codes=np.concatenate(collector.codes),
        ids=[collector.names.get(row, "") for row in range(len(anomaly_score))],
        reasons={
            row: [_reason(cell) for cell in cells] for row, cells in collector.reasons.items()
        },
        patterns=_patterns(collector.reasons, anomaly_score, alarm),
        remarks=[*collector.drift.remarks(), *remarks],
        calibrated_on=len(detector.calibration_.anomaly_scores),
    )


def _reason(cell: Cell) -> tuple[str, str, str, float]:
    return cell.column, cell.described, cell.expected, cell.share


def _patterns(
    reasons: dict[int, list[Cell]], anomaly_score: np.ndarray, alarm: np.ndarray
) -> list[Pattern]:
    """The patterns of the strongest alarms, which are the explained ones."""
    return shared(
        reasons, [int(row) for row in strongest(anomaly_score, MOST_STRONGEST) if alarm[row]]
    )


class _RowCollector:
    """Collects scores block by block; `top` holds the highest anomaly scores, ascending."""

    def __init__(self, detector: AnomalyDetector) -> None:
        stage("scoring the rows for the page")
        self.detector = detector
        self.drift = Drift(detector.autoencoder_.model_.modality)
        self.anomaly_score: list[np.ndarray] = []
        self.score_std: list[np.ndarray] = []
        self.codes: list[np.ndarray] = []
        self.names: dict[int, str] = {}
        self.reasons: dict[int, list[Cell]] = {}
        self.top = np.full(MOST_STRONGEST, -np.inf)

    def add(self, rows: Any, start: int) -> None:
        model, scorer = self.detector.autoencoder_, self.detector.scorer_
        block = scorer.score_block(rows, start)
        anomaly_score = block.anomaly_score
        self.drift.add(block.batch, scorer.calibration.p_value(anomaly_score), block.unmet)
        self.anomaly_score.append(anomaly_score)
        self.score_std.append(block.score_std)
        self.codes.append(model.code(rows, start))
        strong = self._strong(anomaly_score)
        for index, cells in explain(scorer, block, strong).items():
            self.reasons[start + index] = cells
        first = range(max(0, min(len(anomaly_score), ALL_NAMED - start)))
        ids = rows.column(model.id_column) if model.id_column in rows.names else None
        for index in {*first, *strong.tolist()}:
            name = f"row {start + index + 1}"
            if ids is not None:
                name = f"{model.id_column} {ids[index].as_py()}"
            self.names[start + index] = name

    def _strong(self, anomaly_score: np.ndarray) -> np.ndarray:
        """The indices in this block that may be among the strongest rows of all."""
        scores = np.nan_to_num(anomaly_score, nan=-np.inf)
        order = np.argsort(-scores, kind="stable")[:MOST_STRONGEST]
        order = order[scores[order] > self.top[0]]
        self.top = np.sort(np.concatenate([self.top, scores[order]]))[-MOST_STRONGEST:]
        return order
