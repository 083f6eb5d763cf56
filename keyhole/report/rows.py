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
from keyhole.tasks.monitor.drift import Likeness

ALL_NAMED = 2_000  # rows; of more, the strongest have names and the others numbers
MOST_STRONGEST = 200  # rows of the map that carry their name and cells


@dataclass(frozen=True)
class Asked:
    """One entry a row, in the order asked.

    `surprise` is in multiples of the usual, NaN for an empty row; `doubt` is its standard
    deviation between nets, NaN where there is one net. An alarm is raised above `threshold` (NaN
    or infinite where none is); `contamination` is the share of training rows that stand apart.
    `ids` name the rows, «row 17» counted from 1 where no column does; of more than `ALL_NAMED`
    rows only those of the strongest are read. `because` holds, by the row's place from 0, its
    strongest cells: column, value, what was expected ("" where no value of the row stands out),
    and the share of the row's excess, from 0 to 1; `patterns` what groups of the strongest alarms
    share. `remarks` are sentences on whether the rows look like those of training.
    """

    name: str
    surprise: np.ndarray
    doubt: np.ndarray
    p_value: np.ndarray
    alarm: np.ndarray
    threshold: float
    alarm_rate: float
    contamination: float
    codes: np.ndarray  # (row, code)
    ids: list[str]
    because: dict[int, list[tuple[str, str, str, float]]]
    patterns: list[Pattern]
    remarks: list[str]
    calibrated_on: int = 0  # rows, 0 where it is not known

    def __len__(self) -> int:
        return len(self.surprise)

    def strongest(self, most: int) -> np.ndarray:
        """The places of the most surprising rows, strongest first; empty ones left out."""
        return strongest(self.surprise, most)


def strongest(surprise: np.ndarray, most: int) -> np.ndarray:
    """The places of so many of the highest surprises, the highest first; NaN left out."""
    order = np.argsort(-np.nan_to_num(surprise, nan=-np.inf), kind="stable")[:most]
    return order[~np.isnan(surprise[order])]


BLOCKS_LEFT = 2.0  # a block, and a page, must fit into what a fit's time budget leaves


def asked_of(
    detector: AnomalyDetector, data: Any, *, name: str | None = None, rate: float | None = None
) -> Asked:
    """What the detector says of the rows of a frame, an array, or a path.

    `rate` stands in place of the detector's own alarm rate. Only rows that may be among the
    strongest are explained and carry their id; the others are known by their number.
    Raises: DataError.
    """
    model = detector.autoencoder_
    source = model.open(data)
    if hasattr(source, "wanted"):
        source.wanted = [column for column in detector.reads() if column in source.names]
    seen = _Seen(detector)
    began, remarks = clock().left(), [*filter(None, [getattr(source, "passed_over", "")])]
    for start, rows in model.numbered(source):
        block_s = began - clock().left() if start else 0.0
        if start and clock().left() < BLOCKS_LEFT * block_s:
            remarks += [f"only the first {start:,} rows are shown: the time budget was spent"]
            break
        began = clock().left()
        seen.add(rows, start)
    surprise = np.concatenate(seen.surprise)
    rate = detector.alarm_rate if rate is None else rate
    threshold = detector.calibration_.threshold(rate)
    alarm = surprise > threshold
    ids = [""] * len(surprise)
    for row, said in seen.names.items():
        ids[row] = said
    return Asked(
        name=name
        or (os.path.basename(data) if isinstance(data, str | os.PathLike) else source.name),
        surprise=surprise,
        doubt=np.concatenate(seen.doubt),
        p_value=detector.calibration_.p_value(surprise),
        alarm=alarm,
        threshold=threshold,
        alarm_rate=rate,
        contamination=detector.calibration_.apart(),
        codes=np.concatenate(seen.codes),
        ids=ids,
        because={row: [_told(cell) for cell in cells] for row, cells in seen.because.items()},
        patterns=_patterns(seen.because, surprise, alarm),
        remarks=[*seen.likeness.remarks(), *remarks],
        calibrated_on=len(detector.calibration_.surprises),
    )


def _told(cell: Cell) -> tuple[str, str, str, float]:
    return cell.column, cell.described, cell.expected, cell.share


def _patterns(
    because: dict[int, list[Cell]], surprise: np.ndarray, alarm: np.ndarray
) -> list[Pattern]:
    """What the strongest alarms share, which are the ones that were explained."""
    return shared(because, [int(row) for row in strongest(surprise, MOST_STRONGEST) if alarm[row]])


class _Seen:
    """What has been seen of the rows so far; `top` holds the strongest surprises, rising."""

    def __init__(self, detector: AnomalyDetector) -> None:
        stage("looking at the rows for the page")
        self.detector = detector
        self.likeness = Likeness(detector.autoencoder_.table_)
        self.surprise: list[np.ndarray] = []
        self.doubt: list[np.ndarray] = []
        self.codes: list[np.ndarray] = []
        self.names: dict[int, str] = {}
        self.because: dict[int, list[Cell]] = {}
        self.top = np.full(MOST_STRONGEST, -np.inf)

    def add(self, rows: Any, start: int) -> None:
        model, gauge = self.detector.autoencoder_, self.detector.gauge_
        judged = gauge.weigh(rows, start)
        surprise = judged.surprise
        self.likeness.add(judged.batch, gauge.calibration.p_value(surprise), judged.unmet)
        self.surprise.append(surprise)
        self.doubt.append(judged.doubt)
        self.codes.append(model.code(rows, start))
        places = self._strong(surprise)
        for place, cells in explain(gauge, judged, places).items():
            self.because[start + place] = cells
        first = range(max(0, min(len(surprise), ALL_NAMED - start)))
        ids = rows.column(model.id_column) if model.id_column in rows.names else None
        for place in {*first, *places.tolist()}:
            said = f"row {start + place + 1}"
            if ids is not None:
                said = f"{model.id_column} {ids[place].as_py()}"
            self.names[start + place] = said

    def _strong(self, surprise: np.ndarray) -> np.ndarray:
        """The places in this block that may be among the strongest rows of all."""
        held = np.nan_to_num(surprise, nan=-np.inf)
        places = np.argsort(-held, kind="stable")[:MOST_STRONGEST]
        places = places[held[places] > self.top[0]]
        self.top = np.sort(np.concatenate([self.top, held[places]]))[-MOST_STRONGEST:]
        return places
