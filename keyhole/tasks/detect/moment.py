"""What happened around a moment of a series: each channel before, at and after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int64

from keyhole.autoencoder.input_validation import CHUNK_ROWS
from keyhole.core.decimation import Extremes
from keyhole.core.times import duration_text, moment_text, seconds_of
from keyhole.errors import DataError, SettingError
from keyhole.tasks.detect.events import Event, events_of
from keyhole.tasks.detect.titles import blame_titles, predict_titles

if TYPE_CHECKING:
    from keyhole.data import Rows, Source
    from keyhole.modalities.series.moments import Moments, Times
    from keyhole.tasks.detect.detector import AnomalyDetector
    from keyhole.tasks.detect.scorer import ScoredBlock

MAX_ROWS = 200_000  # of a stretch, held in memory
MAX_CHANNELS = 20  # explained, those to blame most
MAX_NAMED = 8  # machines that a message names
WINDOWS_AROUND = 2.0  # by default, before and after the moment
REPR_CHANNELS = 5
COLUMNS = 32  # of a course, from the start to the end of the stretch


@dataclass(frozen=True)
class Question:
    """A moment in seconds since 1970, how many seconds around it, and the machine."""

    at: float
    around: float
    machine: str | None = None


@dataclass(frozen=True)
class ChannelCourse:
    """A channel around the moment, in words.

    `before` and `after` are the median, of levels the most frequent one; `expected` is what the
    other channels let expect. `share` is its part of the blame, in `view` most. `course` has a
    value for each of `COLUMNS` parts of the stretch, the one farthest from the median.
    """

    channel: str
    before: str
    at: str
    after: str
    expected: str
    stands_out: bool
    share: float
    view: str
    course: list[float | None]


@dataclass(frozen=True)
class Course:
    """A series around the row that is nearest to a moment; times are seconds since 1970.

    `anomaly_scores` are the highest of each of `COLUMNS` parts from `start` to `end`. `channels`
    are those to blame first; `more_channels` are left out. `machine` is None for a series of one.
    """

    at: float
    start: float
    end: float
    step: float
    row: int
    machine: str | None
    anomaly_score: float
    score_std: float
    p_value: float
    threshold: float
    anomaly_scores: list[float | None]
    channels: list[ChannelCourse]
    more_channels: int
    event: Event | None = None

    def __repr__(self) -> str:
        machine = "" if self.machine is None else f" of {self.machine}"
        alarm = ", alarm" if self.alarm else ""
        lines = [f"Course{machine} around row {self.row + 1}: "
                 f"anomaly score {self.anomaly_score:.2f}{alarm}"]  # fmt: skip
        lines += [
            f"  {own.channel}: {own.before} before, {own.at} at the moment, {own.after} after; "
            f"expected {own.expected}"
            for own in self.channels[:REPR_CHANNELS]
        ]
        return "\n".join(lines)

    @property
    def alarm(self) -> bool:
        """True where the row alarms."""
        return self.anomaly_score > self.threshold


def explain_moment(
    detector: AnomalyDetector,
    source: Source,
    question: Question,
    events: Sequence[Event] | None = None,
) -> Course:
    """What happened around a moment; of a source larger than memory only the stretch is held.

    `events`: those of the stretch, among which is the one that the moment belongs to.
    Raises: DataError if no machine has a reading then; SettingError if several have, or if the
    stretch is too long to be held.
    """
    moments: Any = detector.autoencoder_.model_.modality.moments
    question = replace(question, around=max(question.around, moments.pause))
    stretch = _Stretch(moments, question)
    start = 0
    for rows in source.blocks(CHUNK_ROWS):
        stretch.add(rows, start)
        start += len(rows)
    machine = stretch.machine(source.name)
    return _course(detector, stretch, machine, events)


class _Stretch:
    """The rows around a moment, and the row of all that is nearest to it."""

    def __init__(self, moments: Moments, question: Question) -> None:
        self.moments = moments
        self.question = question
        self.parts: list[tuple[Rows, Int64[np.ndarray, " row"]]] = []  # rows, and their numbers
        self.rows = 0
        self.nearest: dict[str, float] = {}  # the time of each machine's nearest row
        self.machines: set[str] = set()

    def add(self, rows: Rows, start: int) -> None:
        """Take a block in, whose first row has this number from 0."""
        times, question = self.moments.times(rows), self.question
        away = np.abs(times.seconds - question.at)
        self.machines.update(times.machines)
        wanted = np.isfinite(away)
        if question.machine is not None:
            wanted &= times.machine == _place(times, question.machine)
        for place, name in enumerate(times.machines):
            own = np.flatnonzero(wanted & (times.machine == place))
            if len(own):
                time = float(times.seconds[own[away[own].argmin()]])
                if self._away(time) < self._away(self.nearest.get(name, np.inf)):
                    self.nearest[name] = time
        places = np.flatnonzero(wanted & (away <= question.around))
        self.rows += len(places)
        if self.rows > MAX_ROWS:
            raise SettingError(
                f"more than {MAX_ROWS:,} rows are within {duration_text(question.around)} of "
                "this time: give a shorter --around, or one machine with --machine"
            )
        if len(places):
            self.parts.append((self.moments.only(rows, places), start + places))

    def _away(self, time: float) -> float:
        return abs(time - self.question.at)

    def machine(self, source: str) -> str:
        """The machine that has readings at the moment. Raises: DataError, SettingError."""
        wanted, step = self.question.machine, self.moments.every
        if wanted is not None and wanted not in self.machines:
            names = ", ".join(map(repr, sorted(self.machines)[:MAX_NAMED]))
            raise DataError(f"{source} has no machine {wanted!r}; it has {names}")
        if not self.nearest:
            raise DataError(f"{source} has no row with a time that can be read")
        near = [n for n, time in self.nearest.items() if self._away(time) <= self.moments.pause]
        if len(near) > 1:
            names = " or ".join(map(repr, sorted(near)[:MAX_NAMED]))
            raise SettingError(
                f"{len(near)} machines have readings at this time: choose one "
                f"with --machine {names}"
            )
        if near:
            return near[0]
        name, time = min(self.nearest.items(), key=lambda item: self._away(item[1]))
        of = f" of machine {name!r}" if self.moments.has_machines else ""
        raise DataError(
            f"{source} has no reading at {moment_text(self.question.at, step)} UTC"
            f"{of if wanted else ''}; the nearest{'' if wanted else of} is at "
            f"{moment_text(time, step)} UTC"
        )


def _place(times: Times, machine: str) -> int:
    return times.machines.index(machine) if machine in times.machines else -1


def _course(
    detector: AnomalyDetector, stretch: _Stretch, machine: str, events: Sequence[Event] | None
) -> Course:
    """The course of one machine around the moment."""
    moments, question = stretch.moments, stretch.question
    scored, numbers = [], []
    for rows, row_numbers in stretch.parts:
        times = moments.times(rows)
        own = np.flatnonzero(times.machine == _place(times, machine))
        if len(own):
            scored.append(detector.scorer_.score_block(moments.only(rows, own)))
            numbers.append(row_numbers[own])
    events = events_of(detector, scored) if events is None else events
    readings = [moments.read(judged.rows) for judged in scored]
    seconds = np.concatenate([part.times.seconds for part in readings])
    scores = np.concatenate([judged.anomaly_score for judged in scored])
    values = np.concatenate([part.values for part in readings])
    away = np.where(np.isnan(scores), np.inf, np.abs(seconds - question.at))
    if not np.isfinite(away).any():
        raise DataError(
            "no complete window contains this time: the readings around it cover less than a "
            f"window ({duration_text(moments.window)})"
        )
    row = int(away.argmin())
    start, end = question.at - question.around, question.at + question.around
    column = np.floor((seconds - start) / (end - start) * COLUMNS).clip(0, COLUMNS - 1)
    column = column.astype(np.int64)
    part, place = _part_of(row, [len(judged.rows) for judged in scored])
    channels = _channels(detector, scored[part], place, seconds, values, column)
    score, detail = float(scores[row]), scored[part]
    return Course(
        at=float(seconds[row]), start=start, end=end, step=moments.every,
        row=int(np.concatenate(numbers)[row]) + 1,
        machine=machine if moments.has_machines else None,
        anomaly_score=score, score_std=float(detail.score_std[place]),
        p_value=float(detector.calibration_.p_value(scores[row : row + 1])[0]),
        threshold=-detector.offset_,
        anomaly_scores=_in_columns(Extremes.of(column, scores[:, None]).high[:, 0], column),
        channels=channels, more_channels=max(len(moments.channels) - MAX_CHANNELS, 0),
        event=event_at(events, float(seconds[row]), machine),
    )  # fmt: skip


def _part_of(row: int, lengths: list[int]) -> tuple[int, int]:
    """The block that holds a row, and the row's place in it."""
    ends = np.cumsum(lengths)
    part = int(np.searchsorted(ends, row, side="right"))
    return part, row - int(ends[part]) + lengths[part]


def _channels(
    detector: AnomalyDetector,
    judged: ScoredBlock,
    place: int,
    seconds: Float[np.ndarray, " row"],
    values: Float[np.ndarray, "row channel"],
    column: Int64[np.ndarray, " row"],
) -> list[ChannelCourse]:
    """The channels around a row of a block, those to blame first."""
    scorer, moments = detector.scorer_, detector.autoencoder_.model_.modality.moments
    at = float(moments.times(judged.rows).seconds[place])
    share, view = blame_titles(scorer, judged, judged.samples[[place]])
    order = np.argsort(-share[0], kind="stable")[:MAX_CHANNELS]
    places = np.full(len(order), place)
    predicted = predict_titles(scorer, judged, places, order)
    before, after = seconds < at, seconds > at
    courses = []
    for line, channel in enumerate(order.tolist()):
        name, own = moments.channels[channel], values[:, channel]
        known = np.flatnonzero(~np.isnan(own))
        nearest = own[known[np.abs(seconds[known] - at).argmin()]] if len(known) else np.nan
        levels = name in moments.levels
        courses.append(ChannelCourse(
            channel=name, before=moments.text(name, _typical(own[before], levels)),
            at=moments.text(name, nearest), after=moments.text(name, _typical(own[after], levels)),
            expected=predicted.expected[line], stands_out=bool(predicted.stands_out[line]),
            share=float(share[0, channel]), view=view[0][channel],
            course=_farthest(own, column),
        ))  # fmt: skip
    return courses


def _typical(values: np.ndarray, levels: bool) -> float:
    """The median of the readings, of levels the most frequent one; NaN without a reading."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.nan
    return float(np.bincount(known.astype(np.int64)).argmax() if levels else np.median(known))


def _farthest(values: np.ndarray, column: np.ndarray) -> list[float | None]:
    """The value of each column that lies farthest from the median of all."""
    known = values[~np.isnan(values)]
    middle = float(np.median(known)) if len(known) else 0.0
    ends = Extremes.of(column, values[:, None])
    high = ends.high[:, 0] - middle >= middle - ends.low[:, 0]
    return _in_columns(np.where(high, ends.high[:, 0], ends.low[:, 0]), column)


def _in_columns(values: np.ndarray, column: np.ndarray) -> list[float | None]:
    """The values of the columns that have rows, in their places; None for others."""
    placed: list[float | None] = [None] * COLUMNS
    for place, value in zip(np.unique(column).tolist(), values.tolist(), strict=True):
        placed[place] = None if np.isnan(value) else float(value)
    return placed


def event_at(events: Sequence[Event], seconds: float, machine: str) -> Event | None:
    """The event of a machine that goes on at a moment; None without one."""
    own = (event for event in events if (event.group or "") == machine)
    return next((e for e in own if seconds_of(e.start) <= seconds <= seconds_of(e.end)), None)
