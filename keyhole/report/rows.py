"""The scores, codes and reasons of the rows that a page shows, collected in one pass."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from keyhole.autoencoder.reading import blocks_of, id_column_of, open_rows
from keyhole.core.progress import clock, stage
from keyhole.data import Source
from keyhole.tasks.detect.answer import Reason
from keyhole.tasks.detect.detector import AnomalyDetector
from keyhole.tasks.detect.explain import explain
from keyhole.tasks.detect.patterns import Pattern, shared
from keyhole.tasks.detect.scorer import ScoredBlock
from keyhole.tasks.drift import Drift

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


def score_rows(detector: AnomalyDetector, data: Any, *, name: str | None = None) -> ScoredRows:
    """Score the rows of a frame, an array, or a path for the page.

    Only rows that may be among the strongest are explained and have their id.
    Raises: DataError.
    """
    stage("scoring the rows for the page")
    model, scorer = detector.autoencoder_, detector.scorer_
    source: Any = open_rows(model, data)
    if hasattr(source, "wanted"):
        source.wanted = [column for column in detector.reads() if column in source.names]
    collector, began, remarks = RowCollector(detector), clock().left(), []
    for start, rows in blocks_of(model, source):
        block_s = began - clock().left() if start else 0.0
        if start and clock().left() < BLOCKS_LEFT * block_s:
            remarks = [f"only the first {start:,} rows are shown: the time budget is spent"]
            break
        began = clock().left()
        judged = scorer.score_block(rows, start)
        reasons = explain(scorer, judged, collector.places(judged))
        collector.add(collector.look(judged, reasons))
    return collector.scored(source, name=name, remarks=remarks)


def _reason(cell: Reason) -> tuple[str, str, str, float]:
    return cell.column, cell.described, cell.expected, cell.share


@dataclass(frozen=True)
class Part:
    """What a page needs of a block of rows."""

    anomaly_score: Float[np.ndarray, " row"]
    score_std: Float[np.ndarray, " row"]
    codes: Float[np.ndarray, "row code"]
    names: dict[int, str]
    reasons: dict[int, list[Reason]]


class RowCollector:
    """Collects scores block by block; `top` holds the highest anomaly scores, ascending."""

    def __init__(self, detector: AnomalyDetector) -> None:
        self.detector = detector
        self.drift = Drift(detector.autoencoder_.model_.modality)
        self.parts: list[Part] = []
        self.top = np.full(MOST_STRONGEST, -np.inf)

    def places(self, judged: ScoredBlock) -> Int64[np.ndarray, " place"]:
        """The rows of a block that may be among the strongest of all, strongest first."""
        places = strongest(judged.anomaly_score, MOST_STRONGEST)
        return places[judged.anomaly_score[places] >= self.top[0]]

    def look(self, judged: ScoredBlock, reasons: dict[int, list[Reason]]) -> Part:
        """Scores and codes of a block; names and reasons of rows that may be shown with them."""
        model, start, score = self.detector.autoencoder_, judged.start, judged.anomaly_score
        p_value = self.detector.calibration_.p_value(score)
        self.drift.add(judged.batch, p_value, judged.unmet)
        strong = self.places(judged).tolist()
        first = range(max(0, min(len(score), ALL_NAMED - start)))
        column = id_column_of(model)
        ids = judged.rows.column(column) if column in judged.rows.names else None
        names = {
            start + i: f"row {start + i + 1}" if ids is None else f"{column} {ids[i].as_py()}"
            for i in {*first, *strong}
        }
        cells = {start + i: reasons[i] for i in strong}
        codes = model.model_.code_of(judged.batch)
        return Part(score, judged.score_std, codes, names, cells)

    def add(self, part: Part) -> None:
        """Take a block in; blocks come in the order of their rows."""
        self.parts.append(part)
        known = part.anomaly_score[~np.isnan(part.anomaly_score)]
        self.top = np.sort(np.concatenate([self.top, known]))[-MOST_STRONGEST:]

    def scored(
        self,
        source: Source,
        *,
        name: str | None = None,
        rate: float | None = None,
        remarks: Sequence[str] = (),
    ) -> ScoredRows:
        """The rows of a source for a page; `rate` replaces the detector's false alarm rate."""
        calibration, passed_over = self.detector.calibration_, getattr(source, "passed_over", "")
        anomaly_score = np.concatenate([part.anomaly_score for part in self.parts])
        rate = self.detector.false_alarm_rate if rate is None else rate
        threshold = calibration.threshold(rate)
        alarm = anomaly_score > threshold
        shown = strongest(anomaly_score, MOST_STRONGEST).tolist()
        cells = {row: cells for part in self.parts for row, cells in part.reasons.items()}
        names = {row: text for part in self.parts for row, text in part.names.items()}
        named = {*range(min(ALL_NAMED, len(anomaly_score))), *shown}
        return ScoredRows(
            name=name or os.path.basename(source.name),
            anomaly_score=anomaly_score,
            score_std=np.concatenate([part.score_std for part in self.parts]),
            p_value=calibration.p_value(anomaly_score),
            alarm=alarm,
            threshold=threshold,
            false_alarm_rate=rate,
            contamination=calibration.apart(),
            codes=np.concatenate([part.codes for part in self.parts]),
            ids=[names[row] if row in named else "" for row in range(len(anomaly_score))],
            reasons={row: [_reason(cell) for cell in cells[row]] for row in shown},
            patterns=shared(cells, [row for row in shown if alarm[row]]),
            remarks=[*self.drift.remarks(), *filter(None, [passed_over]), *remarks],
            calibrated_on=len(calibration.anomaly_scores),
        )
