"""What a page shows of some rows, gathered from a detector in one pass of even memory a block."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from keyhole.errors import DataError
from keyhole.report.asked import ALL_NAMED, MOST_STRONGEST, Asked
from keyhole.tasks.detect import AnomalyDetector
from keyhole.tasks.explain import explain
from keyhole.tasks.likeness import Likeness


def asked_of(detector: AnomalyDetector, data: Any, *, name: str | None = None) -> Asked:
    """What the detector says of the rows of a frame, an array, or a path.

    Only rows that may be among the strongest are explained and carry their id; the others are
    known by their number. Raises: DataError.
    """
    model = detector.autoencoder_
    source = model.open(data)
    if hasattr(source, "wanted"):
        source.wanted = [column for column in detector.reads() if column in source.names]
    seen = _Seen(detector)
    for rows in source.blocks(model.chunk_rows):
        seen.add(rows)
    if not seen.surprise:
        raise DataError(f"{source.name} holds no rows: nothing to report")
    surprise = np.concatenate(seen.surprise)
    threshold = -detector.offset_
    ids = [""] * len(surprise)
    for row, said in seen.names.items():
        ids[row] = said
    return Asked(
        name=name
        or (os.path.basename(data) if isinstance(data, str | os.PathLike) else source.name),
        surprise=surprise,
        p_value=detector.calibration_.p_value(surprise),
        alarm=surprise > threshold,
        threshold=threshold,
        alarm_rate=detector.alarm_rate,
        codes=np.concatenate(seen.codes),
        ids=ids,
        because=seen.because,
        remarks=seen.likeness.remarks(),
    )


class _Seen:
    """What has been seen of the rows so far; `top` holds the strongest surprises, rising."""

    def __init__(self, detector: AnomalyDetector) -> None:
        self.detector = detector
        self.likeness = Likeness(detector.autoencoder_.table_)
        self.surprise: list[np.ndarray] = []
        self.codes: list[np.ndarray] = []
        self.names: dict[int, str] = {}
        self.because: dict[int, list[tuple[str, str, str, float]]] = {}
        self.top = np.full(MOST_STRONGEST, -np.inf)
        self.rows = 0

    def add(self, rows: Any) -> None:
        model, start = self.detector.autoencoder_, self.rows
        block = model.weigh(rows, start)
        surprise = model.row_nats(block).numpy().astype(np.float64)
        self.likeness.add(block.batch, self.detector.calibration_.p_value(surprise))
        self.surprise.append(surprise)
        self.codes.append(model.code(rows, start))
        self.rows += len(surprise)
        places = self._strong(surprise)
        for place, cells in explain(model, block, places).items():
            self.because[start + place] = [
                (cell.column, cell.value, cell.expected, cell.share) for cell in cells
            ]
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
