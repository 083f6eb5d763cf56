"""The steps of each machine of a sensor export, and the windows that they complete.

See `windows` for the rules.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from keyhole.data.lazy import pa
from keyhole.data.readings import NONE, Readings

METADATA = b"keyhole.series"
SILENT_ROWS = 1 << 16  # of other machines, after which a machine's segment ends


@dataclass(frozen=True)
class WindowSpec:
    """How rows become windows.

    `style` is how `time` is written (see `keyhole.data.dates`), `every` the seconds from a step
    to the next; `window`, `stride` and `max_gap` are in steps. `group` names the machine. In a
    long format (one reading a row) `tag` names the channel of a row and `value` its reading.
    `reason` says why the spec is what it is.
    """

    time: str
    channels: tuple[str, ...]
    style: str
    every: float
    window: int
    stride: int
    max_gap: int
    group: str | None = None
    tag: str | None = None
    value: str | None = None
    reason: str = ""

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """The spec as metadata of an Arrow schema, by which a table of windows is known."""
        return {METADATA: json.dumps(asdict(self)).encode()}

    @classmethod
    def of(cls, schema: pa.Schema) -> WindowSpec | None:
        """The spec of a table of windows; None for another table."""
        text = (schema.metadata or {}).get(METADATA)
        return None if text is None else cls.from_json(json.loads(text))

    @classmethod
    def from_json(cls, recipe: dict[str, Any]) -> WindowSpec:
        """The spec that `asdict` wrote. Raises: TypeError, KeyError for something else."""
        return cls(**{**recipe, "channels": tuple(recipe["channels"])})

    @property
    def names(self) -> list[str]:
        """The columns of the rows that are read."""
        own = [self.time, self.group, self.tag, self.value]
        return [name for name in own if name] + ([] if self.tag else list(self.channels))


@dataclass(frozen=True)
class Windows:
    """Complete windows, one a line: the time of the last step, the machine, a list a channel.

    `rows` are the positions of rows that are answered now, `times` their seconds since 1970,
    `window` the line that answers each, and `step` where in that window the row stands, from 0.
    `group` names their machine.
    """

    table: pa.Table
    rows: Int64[np.ndarray, " row"]
    times: Float[np.ndarray, " row"]
    window: Int64[np.ndarray, " row"]
    step: Int64[np.ndarray, " row"]
    group: str = ""

    def answering(self) -> Windows:
        """Without the windows that answer no row, as where all newest steps are gaps."""
        used, line = np.unique(self.window[self.window != NONE], return_inverse=True)
        if len(used) == self.table.num_rows:
            return self
        window = np.full(len(self.window), NONE)
        window[self.window != NONE] = line
        return replace(self, table=self.table.take(pa.array(used)), window=window)


@dataclass
class RowCounts:
    """Rows that no window can hold, by reason."""

    late: int = 0
    undated: int = 0
    segments: int = 0

    def sentences(self) -> list[str]:
        """What a user should know."""
        counted = {
            "earlier than a row before": self.late,
            "without a time stamp that can be read": self.undated,
        }
        return [
            f"{rows_text(count)} {why}: not used, and not answered"
            for why, count in counted.items()
            if count
        ]


def rows_text(count: int) -> str:
    """So many rows, in words."""
    return f"{count:,} row{'s' * (count != 1)}"


def unanswered(rows: Int64[np.ndarray, " row"], times: Float[np.ndarray, " row"]) -> Windows:
    """Rows that no window answers."""
    none = np.full(len(rows), NONE)
    return Windows(pa.table({}), rows, times, none, none)


@dataclass
class Track:
    """The current segment of one machine: steps that windows still need, rows without an answer.

    `first` is the step of the first line of `steps`, `newest` that of the last, which is open:
    a further reading may belong to it. `next` is the first step of the next window. `waiting`
    holds rows without an answer, their steps and their times; `last_row` is the newest row.
    """

    spec: WindowSpec
    name: str
    counts: RowCounts
    steps: Readings | None = None
    waiting: list[tuple[np.ndarray, ...]] = field(default_factory=list)
    origin: float = 0.0
    latest: float = 0.0
    first: int = 0
    newest: int = 0
    next: int = 0
    last_row: int = 0

    def push(self, times: np.ndarray, readings: Readings, rows: np.ndarray) -> list[Windows]:
        """The windows that these rows of the machine complete."""
        complete, starts = [], self._segments(times, rows)
        for start, stop in zip(starts, [*starts[1:], len(times)], strict=True):
            if start or self.steps is None or self._far(times[0], rows[0]):
                complete += self.end()
                self.origin, self.counts.segments = times[start], self.counts.segments + 1
            piece = slice(start, stop)
            complete += self._extend(times[piece], readings.take(piece), rows[piece])
        self.last_row = int(rows[-1])
        return complete

    def waits(self, time: float, latest: float) -> bool:
        """True if a row of this time completes nothing, where `latest` is that of the last row."""
        if self.steps is None or not latest <= time <= latest + self._pause:
            return False
        return self._step(time) < self.next + self.spec.window

    @property
    def _pause(self) -> float:
        """Seconds; after more a new segment begins."""
        return (self.spec.max_gap + 0.5) * self.spec.every

    def _step(self, time: Any) -> Any:
        """The step of a time, or of each of an array."""
        return np.rint((time - self.origin) / self.spec.every).astype(np.int64)

    def _far(self, time: float, row: int) -> bool:
        return abs(time - self.latest) > self._pause or row - self.last_row > SILENT_ROWS

    def _segments(
        self, times: Float[np.ndarray, " row"], rows: Int64[np.ndarray, " row"]
    ) -> list[int]:
        """Where segments begin within these rows; 0 is always among them."""
        silent = 1 + np.flatnonzero(np.diff(rows) > SILENT_ROWS)
        edges = [0, *silent.tolist(), len(rows)]
        return [
            start + i
            for start, stop in pairwise(edges)
            for i in self._segments_by_time(times[start:stop])
        ]

    def _segments_by_time(self, times: Float[np.ndarray, " row"]) -> list[int]:
        starts, pause = [0], self._pause
        while True:
            latest = np.maximum.accumulate(times[starts[-1] :])
            back = latest[:-1] - times[starts[-1] + 1 :] > pause
            stop = starts[-1] + 1 + int(back.argmax()) if back.any() else len(times)
            ahead = np.diff(latest[: stop - starts[-1]]) > pause
            starts += (starts[-1] + 1 + np.flatnonzero(ahead)).tolist()
            if stop == len(times):
                return starts
            starts.append(stop)

    def _extend(self, times: np.ndarray, readings: Readings, rows: np.ndarray) -> list[Windows]:
        steps = self._step(times)
        newest = np.maximum.accumulate(np.concatenate([[self.newest], steps]))
        late = steps < newest[:-1]
        complete = []
        if late.any():
            self.counts.late += int(late.sum())
            complete = [unanswered(rows[late], times[late])]
            on_time = np.flatnonzero(~late)
            readings, steps, rows = readings.take(on_time), steps[on_time], rows[on_time]
            times = times[on_time]
            if not len(steps):
                return complete
        self.latest = max(self.latest, float(times.max())) if self.steps else float(times.max())
        self.waiting.append((rows, steps, times))
        if self.steps is None:
            self.steps = readings.last_of_each(steps - steps[0])
        else:  # the open step may get further readings
            closed, last = self.steps.take(slice(0, -1)), self.steps.take(slice(-1, None))
            steps = np.concatenate([[self.newest], steps])
            lines = Readings.join([last, readings]).last_of_each(steps - steps[0])
            self.steps = Readings.join([closed, lines])
        self.newest = int(steps[-1])
        return complete + self._complete(self.newest)

    def _complete(self, closed: int) -> list[Windows]:
        """The windows whose steps are all before `closed`."""
        size, stride = self.spec.window, self.spec.stride
        if closed - size < self.next:
            return []
        starts = np.arange(self.next, closed - size + 1, stride)
        rows, steps, times = self._waiting()
        window = np.maximum(-(-(steps - size + 1) // stride), 0)
        own = window - self.next // stride
        done = own < len(starts)
        self.waiting = [(rows[~done], steps[~done], times[~done])]
        step = (steps - starts[np.minimum(own, len(starts) - 1)])[done]
        table = self._table(starts)
        windows = Windows(table, rows[done], times[done], own[done], step, self.name)
        self.next = int(starts[-1]) + stride
        first = self.next - stride  # the last window of the segment may begin here
        steps_left: Any = self.steps
        self.steps, self.first = steps_left.take(slice(first - self.first, None)), first
        return [windows]

    def end(self) -> list[Windows]:
        """The windows that are left when the segment ends."""
        if self.steps is None:
            return []
        complete, size = self._complete(self.newest + 1), self.spec.window
        rows, steps, times = self._waiting()
        start = self.newest + 1 - size
        if len(rows) and start >= 0:
            table, own = self._table(np.array([start])), np.zeros(len(rows), np.int64)
            complete.append(Windows(table, rows, times, own, steps - start, self.name))
        elif len(rows):
            complete.append(unanswered(rows, times))
        self.steps, self.waiting = None, []
        self.first = self.newest = self.next = 0
        return complete

    def _waiting(self) -> list[np.ndarray]:
        """Rows without an answer, their steps and their times."""
        return [np.concatenate(part) for part in zip(*self.waiting, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """The track, as JSON."""
        rows, steps, times = (part.tolist() for part in self._waiting())
        readings: Any = self.steps
        return {
            "name": self.name, "waiting": [rows, steps, times],
            "steps": readings.to_json(self.spec.channels),
            **{name: getattr(self, name) for name in NUMBERS},
        }  # fmt: skip

    @classmethod
    def from_json(cls, spec: WindowSpec, counts: RowCounts, state: dict[str, Any]) -> Track:
        """The track that `to_json` wrote. Raises: KeyError, TypeError, ValueError."""
        track = cls(spec, str(state["name"]), counts)
        track.steps = steps = Readings.from_json(state["steps"], spec.channels)
        rows, newest, times = state["waiting"]
        track.waiting = [
            (np.array(rows, np.int64), np.array(newest, np.int64), np.array(times, float))
        ]
        for name, kind in NUMBERS.items():
            setattr(track, name, kind(state[name]))
        lines = track.newest - track.first + 1
        if len(steps) != lines or not 0 <= track.next - track.first <= spec.window:
            raise ValueError("steps that do not belong together")
        return track

    def _table(self, starts: np.ndarray) -> pa.Table:
        """The windows that begin at these steps."""
        size, steps = self.spec.window, self.steps
        assert steps is not None
        places = ((starts - self.first)[:, None] + np.arange(size)).ravel()
        ends = self.origin + (starts + size - 1) * self.spec.every
        moments = np.rint(ends * 1e3).astype(np.int64).astype("datetime64[ms]")
        columns: dict[str, Any] = {self.spec.time: pa.array(moments)}
        if self.spec.group is not None:
            columns[self.spec.group] = pa.array([self.name] * len(starts), pa.string())
        for name in self.spec.channels:
            columns[name] = pa.FixedSizeListArray.from_arrays(steps.column(name, places), size)
        return pa.table(columns).replace_schema_metadata(
            (steps.metadata or {}) | self.spec.metadata
        )


# Numbers of a track, as a saved one has them.
NUMBERS: dict[str, type] = {
    "origin": float, "latest": float, "first": int, "newest": int, "next": int, "last_row": int,
}  # fmt: skip
