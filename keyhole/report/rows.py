"""What a detector said of the rows that a page shows.

What a page shows of some rows, gathered from a detector in one pass of even memory a block.
"""

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

ALL_NAMED = 2_000  # rows; of more, the strongest have names and the others numbers
MOST_STRONGEST = 200  # rows of the map that carry their name and cells


@dataclass(frozen=True)
class Asked:
    """One entry a row, in the order asked.

    `anomaly_score` is in multiples of the usual, NaN for an empty row; `score_std` is its standard
    deviation between nets, NaN where there is one net. An alarm is raised above `threshold` (NaN
    or infinite where none is); `contamination` is the share of training rows that stand apart.
    `ids` name the rows, «row 17» counted from 1 where no column does; of more than `ALL_NAMED`
    rows only those of the strongest are read. `reasons` holds, by the row's place from 0, its
    strongest cells: column, value, what was expected ("" where no value of the row stands out),
    and the share of the row's excess, from 0 to 1; `patterns` what groups of the strongest alarms
    share. `remarks` are sentences on whether the rows look like those of training.
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
    calibrated_on: int = 0  # rows, 0 where it is not known

    def __len__(self) -> int:
        return len(self.anomaly_score)

    def strongest(self, most: int) -> np.ndarray:
        """The places of the most anomalous rows, strongest first; empty ones left out."""
        return strongest(self.anomaly_score, most)


def strongest(anomaly_score: np.ndarray, most: int) -> np.ndarray:
    """The places of so many of the highest anomaly scores, the highest first; NaN left out."""
    order = np.argsort(-np.nan_to_num(anomaly_score, nan=-np.inf), kind="stable")[:most]
    return order[~np.isnan(anomaly_score[order])]


BLOCKS_LEFT = 2.0  # a block, and a page, must fit into what a fit's time budget leaves


def asked_of(
    detector: AnomalyDetector, data: Any, *, name: str | None = None, rate: float | None = None
) -> Asked:
    """What the detector says of the rows of a frame, an array, or a path.

    `rate` stands in place of the detector's own false alarm rate. Only rows that may be among the
    strongest are explained and carry their id; the others are known by their number.
    Raises: DataError.
    """
    model = detector.autoencoder_
    source = model.open(data)
    if hasattr(source, "wanted"):
        source.wanted = [column for column in detector.reads() if column in source.names]
    observed = _Seen(detector)
    began, remarks = clock().left(), [*filter(None, [getattr(source, "passed_over", "")])]
    for start, rows in model.iter_blocks(source):
        block_s = began - clock().left() if start else 0.0
        if start and clock().left() < BLOCKS_LEFT * block_s:
            remarks += [f"only the first {start:,} rows are shown: the time budget was spent"]
            break
        began = clock().left()
        observed.add(rows, start)
    anomaly_score = np.concatenate(observed.anomaly_score)
    rate = detector.false_alarm_rate if rate is None else rate
    threshold = detector.calibration_.threshold(rate)
    alarm = anomaly_score > threshold
    ids = [""] * len(anomaly_score)
    for row, said in observed.names.items():
        ids[row] = said
    return Asked(
        name=name
        or (os.path.basename(data) if isinstance(data, str | os.PathLike) else source.name),
        anomaly_score=anomaly_score,
        score_std=np.concatenate(observed.score_std),
        p_value=detector.calibration_.p_value(anomaly_score),
        alarm=alarm,
        threshold=threshold,
        false_alarm_rate=rate,
        contamination=detector.calibration_.apart(),
        codes=np.concatenate(observed.codes),
        ids=ids,
        reasons={row: [_told(cell) for cell in cells] for row, cells in observed.reasons.items()},
        patterns=_patterns(observed.reasons, anomaly_score, alarm),
        remarks=[*observed.drift.remarks(), *remarks],
        calibrated_on=len(detector.calibration_.anomaly_scores),
    )


def _told(cell: Cell) -> tuple[str, str, str, float]:
    return cell.column, cell.described, cell.expected, cell.share


def _patterns(
    reasons: dict[int, list[Cell]], anomaly_score: np.ndarray, alarm: np.ndarray
) -> list[Pattern]:
    """What the strongest alarms share, which are the ones that were explained."""
    return shared(
        reasons, [int(row) for row in strongest(anomaly_score, MOST_STRONGEST) if alarm[row]]
    )


class _Seen:
    """What has been seen of the rows so far; `top` holds the strongest anomaly scores, rising."""

    def __init__(self, detector: AnomalyDetector) -> None:
        stage("looking at the rows for the page")
        self.detector = detector
        self.drift = Drift(detector.autoencoder_.table_)
        self.anomaly_score: list[np.ndarray] = []
        self.score_std: list[np.ndarray] = []
        self.codes: list[np.ndarray] = []
        self.names: dict[int, str] = {}
        self.reasons: dict[int, list[Cell]] = {}
        self.top = np.full(MOST_STRONGEST, -np.inf)

    def add(self, rows: Any, start: int) -> None:
        model, scorer = self.detector.autoencoder_, self.detector.scorer_
        judged = scorer.score_block(rows, start)
        anomaly_score = judged.anomaly_score
        self.drift.add(judged.batch, scorer.calibration.p_value(anomaly_score), judged.unmet)
        self.anomaly_score.append(anomaly_score)
        self.score_std.append(judged.score_std)
        self.codes.append(model.code(rows, start))
        places = self._strong(anomaly_score)
        for place, cells in explain(scorer, judged, places).items():
            self.reasons[start + place] = cells
        first = range(max(0, min(len(anomaly_score), ALL_NAMED - start)))
        ids = rows.column(model.id_column) if model.id_column in rows.names else None
        for place in {*first, *places.tolist()}:
            said = f"row {start + place + 1}"
            if ids is not None:
                said = f"{model.id_column} {ids[place].as_py()}"
            self.names[start + place] = said

    def _strong(self, anomaly_score: np.ndarray) -> np.ndarray:
        """The places in this block that may be among the strongest rows of all."""
        held = np.nan_to_num(anomaly_score, nan=-np.inf)
        places = np.argsort(-held, kind="stable")[:MOST_STRONGEST]
        places = places[held[places] > self.top[0]]
        self.top = np.sort(np.concatenate([self.top, held[places]]))[-MOST_STRONGEST:]
        return places
