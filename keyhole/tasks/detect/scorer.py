"""What is usual for a model's rows, and how far out others are: all that an alarm rests on.

One model for a fleet: each segment's surprise in its own measure, as far as its rows can tell.

A machine that is noisier than the fleet has its surprise divided by how much noisier it is. A
segment with few rows is judged more by the whole: its factor is shrunk, as in empirical Bayes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.core.layout import Layout
from keyhole.core.progress import stage
from keyhole.core.records import Batch
from keyhole.data import Rows, cast
from keyhole.errors import BundleError, DataError, KeyholeWarning
from keyhole.modalities import Modality
from keyhole.modalities.tabular.given import check_columns
from keyhole.store import record
from keyhole.tasks.detect import QUESTIONS, Asked, Surprise
from keyhole.tasks.detect.anomaly_map import usual_nats
from keyhole.tasks.detect.calibration import Calibration
from keyhole.tasks.detect.intervals import Intervals
from keyhole.training.reference import Memory

MOST_SURPRISE = 1e12
MOST_SURPRISES = 1 << 17  # of rows that calibrate


@dataclass(frozen=True)
class Judged:
    """Some rows of a source, encoded, what was asked of them, and what came out.

    `surprise` is in multiples of the usual, `doubt` its standard deviation between nets, both
    (row,) and NaN for a row with no observed cell; `unmet` are segments never met in training.
    """

    start: int
    rows: Rows
    batch: Batch
    asked: Asked
    surprise: np.ndarray
    doubt: np.ndarray
    unmet: set[str]


@dataclass(frozen=True)
class Kept:
    """The section `detect` of a manifest: these keys, of these types."""

    alarm_rate: float
    rows: int
    apart: float
    typical: list[float]
    units: list[float]
    rare: list[float]
    surprises: list[float]
    factors: dict[str, float]
    usual: list[float] | None = None  # of pictures


@dataclass(frozen=True)
class Gauge:
    """A scale of surprise, what it said of held-out rows, and the rows it compares with.

    `rows` is how many rows were learnt from so far; `apart` the share that stands apart.
    """

    table: Modality
    surprise: Surprise
    calibration: Calibration
    memory: Memory
    segments: Segments | None
    core: float
    rows: int
    apart: float
    usual: np.ndarray | None = None  # nats of each pixel, where rows are pictures

    @classmethod
    def settle(cls, model: Autoencoder) -> Self:
        """The gauge of a fitted model.

        Raises: BundleError for a model of an older version, which remembers no rows.
        """
        stage("calibrating alarms")
        memory, hints = _memory(model), model.parts()["hints"]
        surprise = Surprise.settle(model.network_, memory, hints.core_share)
        found, segments = surprise.judge(memory), None
        if hints.segment is not None and memory.segments is not None:
            names = [memory.segments[i] for i in memory.judged]
            segments = Segments.learn(hints.segment, names, found)
            factor = segments.factor_of(memory.segments).astype(np.float32)  # as a bundle has it
            memory = replace(memory, factor=factor)
        calibration = Calibration.of(found / memory.factor[memory.judged])
        grid = model.table_.layout.grid
        return cls(
            model.table_, surprise, calibration, memory, segments, hints.core_share,
            model.rows_, calibration.apart(),
            None if grid is None else usual_nats(model.network_, memory),
        )  # fmt: skip

    @cached_property
    def intervals(self) -> Intervals:
        """What is expected in a cell, made when a row is first explained."""
        return Intervals.settle(self.surprise.network, self.memory)

    def weigh(self, rows: Rows, start: int = 0) -> Judged:
        """How far out some rows are; `start` is the place of the first, for messages."""
        batch = self.table.encode(rows, start)
        asked = self.surprise.ask(batch)
        found = self.surprise.weigh(asked)
        factor, unmet = self._factor(rows)
        surprise, doubt = found.surprise / factor, found.doubt / factor
        return Judged(start, rows, batch, asked, surprise, doubt, unmet)

    def through(self, blocks: Iterable[tuple[int, Rows]]) -> Iterator[Judged]:
        """All blocks weighed, with a warning at the end for segments never met."""
        unmet: set[str] = set()
        stage("comparing rows with those of training")
        for start, rows in blocks:
            judged = self.weigh(rows, start)
            unmet |= judged.unmet
            yield judged
        if unmet:
            warnings.warn(unmet_in_words(unmet), KeyholeWarning, stacklevel=4)

    def _factor(self, rows: Rows) -> tuple[Any, set[str]]:
        """What each row's surprise is divided by, and the segments that training never met."""
        if self.segments is None:
            return 1.0, set()
        check_columns([self.segments.column], rows.names, "a threshold a segment")
        names = names_of(rows.column(self.segments.column))
        return self.segments.factor_of(names), set(names) - set(self.segments.factors)

    def taught(self, blocks: Iterable[tuple[int, Rows]]) -> Self:
        """The gauge with new rows in its bank and its calibration, its units as they were.

        The bank stays a fair sample of all rows met; all rows that calibrate are judged anew by
        it, each as if it were not remembered, so that p-values mean what they meant before.
        """
        stage("taking rows in")
        rows, memory = self.rows, self.memory
        for start, block in blocks:
            factor = np.broadcast_to(self._factor(block)[0], len(block))
            memory = memory.with_rows(self.table.encode(block, start), factor, met=rows)
            rows += len(block)
        stage("calibrating alarms")
        surprise = self.surprise.remembering(memory, self.core)
        calibration = Calibration.of(surprise.judge(memory) / memory.factor[memory.judged])
        return replace(
            self, surprise=surprise, memory=memory, rows=rows, calibration=calibration,
            apart=calibration.apart(),
        )  # fmt: skip

    def recalibrated(self, surprises: np.ndarray) -> Self:
        """The gauge whose promises rest on these surprises.

        Raises: DataError where there is none.
        """
        if np.isnan(surprises).all():
            raise DataError("no row is left to calibrate on: all are anomalies or empty")
        return replace(self, calibration=Calibration.of(surprises))

    def section(self, alarm_rate: float) -> dict[str, Any]:
        """What a manifest keeps of it."""
        return asdict(
            Kept(
                alarm_rate=alarm_rate,
                rows=self.rows,
                apart=self.apart,
                typical=self.surprise.typical.tolist(),
                units=self.surprise.units.tolist(),
                rare=self.surprise.rare.tolist(),
                surprises=self.calibration.surprises.tolist(),
                factors={} if self.segments is None else self.segments.factors,
                usual=None if self.usual is None else self.usual.tolist(),
            )
        )

    @classmethod
    def restored(cls, kept: Kept, model: Autoencoder) -> Self:
        """The gauge that a manifest keeps, on the model of the same bundle.

        Raises: BundleError.
        """
        _check(kept, model.table_.layout)
        memory, hints = _memory(model), model.parts()["hints"]
        bare = Surprise.unsettled(model.network_, memory, hints.core_share)
        learnt = {key: np.array(getattr(kept, key)) for key in ("typical", "units", "rare")}
        surprise = replace(bare, **learnt)
        segments = None if hints.segment is None else Segments(hints.segment, kept.factors)
        calibration = Calibration(np.sort(np.array(kept.surprises, float)))
        return cls(
            model.table_, surprise, calibration, memory, segments, hints.core_share,
            kept.rows, kept.apart, None if kept.usual is None else np.array(kept.usual),
        )  # fmt: skip


def kept_of(section: Any) -> Kept:
    """The section `detect` of a manifest.

    Raises: BundleError.
    """
    return record(Kept, section, "section 'detect'")


def _memory(model: Autoencoder) -> Memory:
    if model.memory_ is None or not len(model.memory_.judged):
        raise BundleError(
            "this model was saved without rows to compare with: save the detector "
            "(AnomalyDetector.of(model).save) where the model was fitted, or fit again"
        )
    return model.memory_


def _check(kept: Kept, layout: Layout) -> None:
    """Raises: BundleError for numbers that no gauge of ours has."""
    usual, grid = kept.usual or [], layout.grid
    numbers = np.array(
        [*kept.typical, *kept.units, *kept.rare, *kept.surprises, *kept.factors.values(), *usual]
    )
    wrong = {
        "alarm_rate: between 0 and 1": not 0 < kept.alarm_rate < 1,
        "typical: one for each column": len(kept.typical) != len(layout.columns),
        "units: one for each question": len(kept.units) != len(QUESTIONS),
        "rare: a surprise and a step": len(kept.rare) != 2,
        "units and factors: above zero": min([*kept.units, *kept.factors.values()]) <= 0,
        "usual: one above zero for each pixel": min(usual, default=1) <= 0
        or len(usual) != (0 if grid is None else grid[0] * grid[1]),
        "surprises: at least one, and not far too many": not 1
        <= len(kept.surprises)
        <= MOST_SURPRISES,
        "numbers: from 0 to 1e12": not ((numbers >= 0) & (numbers <= MOST_SURPRISE)).all(),
        "rows and apart: what they count": kept.rows < 2 or not 0 <= kept.apart <= 1,
    }
    for what, is_wrong in wrong.items():
        if is_wrong:
            raise BundleError(f"section 'detect' cannot be used: {what}")


OUT = 0.9  # quantile by which segments are compared: alarms are raised far out
AS_WHOLE = 10  # rows of a segment that weigh as much as the whole does
MOST_SEGMENTS = 10_000
FEW, MOST_ALONE = 20, 0.9  # from so many rows on, so many segments a row are identifiers


@dataclass(frozen=True)
class Segments:
    """The column that names the segment, and what each one's surprise is divided by."""

    column: str
    factors: dict[str, float]

    @classmethod
    def learn(cls, column: str, names: list[str], surprise: np.ndarray) -> Segments:
        """The factors of the segments of held-out rows.

        Raises: DataError for more segments than could each have a threshold.
        """
        groups, place = np.unique(np.array(names, dtype=str), return_inverse=True)
        alone = len(names) >= FEW and len(groups) > MOST_ALONE * len(names)
        if alone or len(groups) > MOST_SEGMENTS:
            raise DataError(
                f"segment={column!r}: it holds {len(groups):,} different values among "
                f"{len(names):,} rows: an identifier, not the part of a fleet; name another column"
            )
        whole, factors = _out(surprise), {}
        for i, group in enumerate(groups):
            own = surprise[(place == i) & ~np.isnan(surprise)]
            if len(own) and whole > 0:
                weight = len(own) / (len(own) + AS_WHOLE)
                factors[str(group)] = float((max(_out(own), 1e-3 * whole) / whole) ** weight)
        return cls(column, factors)

    def factor_of(self, names: list[str]) -> np.ndarray:
        """What the surprise of a row of each of these segments is divided by; 1 if never met."""
        return np.array([self.factors.get(name, 1.0) for name in names])


def names_of(values: Any) -> list[str]:
    """A segment's name for each row; a gap is a segment of its own."""
    return [name or "" for name in cast.texts(values).to_pylist()]


def unmet_in_words(unmet: set[str]) -> str:
    """A sentence on segments that training never met."""
    names, more = sorted(unmet)[:3], len(unmet) - 3
    said = ", ".join(map(repr, names)) + (f" and {more} more" if more > 0 else "")
    return f"segments that training never met: {said}; they are judged as the whole is"


def _out(surprise: np.ndarray) -> float:
    known = surprise[~np.isnan(surprise)]
    return float(np.quantile(known, OUT)) if len(known) else 0.0
