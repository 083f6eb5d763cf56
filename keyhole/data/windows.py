"""Rows of a sensor export as windows of equally spaced time steps, one push of rows at a time.

A reading belongs to the nearest step of a grid that begins at the first row of its segment. Of
several readings of a channel in one step the last counts; a step without one is a gap. A row whose
step is before the newest one of its machine is late: it is counted, and neither used nor answered.
A longer pause than `max_gap` steps, forward or back, begins a new segment; no window crosses it.

A window answers its newest steps: those that no window before it held. The first of a segment
answers all its steps; at the end of a segment one more window answers what is left. So an answer
depends on the rows before it and on less than `stride` steps after it, whatever the pushes are.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from keyhole.data import cast
from keyhole.data.lazy import pa, pc, pt
from keyhole.data.source import ArrowRows

NONE = -1  # the window of a row that gets none
METADATA = b"keyhole.series"


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

    `rows` are the positions of rows that are answered now, `window` the line that answers each,
    and `step` where in that window the row stands, from 0.
    """

    table: pa.Table
    rows: Int64[np.ndarray, " row"]
    window: Int64[np.ndarray, " row"]
    step: Int64[np.ndarray, " row"]


@dataclass
class RowCounts:
    """Rows that no window can hold, by reason."""

    late: int = 0
    undated: int = 0
    segments: int = 0

    def sentences(self) -> list[str]:
        """What a user should know."""
        counted = {
            "are earlier than a row before them": self.late,
            "have no time stamp that can be read": self.undated,
        }
        return [
            f"{count:,} rows {why}: not used, and without an answer"
            for why, count in counted.items()
            if count
        ]


class Windower:
    """Takes rows as they come and returns the windows that are complete; bounded memory."""

    def __init__(self, spec: WindowSpec) -> None:
        self.spec = spec
        self.counts = RowCounts()
        self.tracks: dict[str, Track] = {}
        self.rows = 0
        self.schema: Any = None

    def push(self, rows: ArrowRows) -> list[Windows]:
        """The windows that these rows complete."""
        spec, first = self.spec, self.rows
        self.rows += len(rows)
        if not len(rows):
            return []
        times, _ = cast.seconds(rows.column(spec.time), spec.style)
        readings = _readings(rows, spec)
        dated = np.isfinite(times)
        self.counts.undated += int((~dated).sum())
        complete = [unanswered(first + np.flatnonzero(~dated))] if not dated.all() else []
        for name, places in _machines(rows, spec.group, dated):
            track = self.tracks.setdefault(name, Track(spec, name, self.counts))
            part = readings if len(places) == len(rows) else readings.take(places)
            complete += track.push(times[places], part, first + places)
        return complete

    def close(self) -> list[Windows]:
        """The windows of all steps that are left: no row comes any more."""
        return [windows for track in self.tracks.values() for windows in track.end()]


def unanswered(rows: Int64[np.ndarray, " row"]) -> Windows:
    """Rows that no window answers."""
    none = np.full(len(rows), NONE)
    return Windows(pa.table({}), rows, none, none)


def _machines(
    rows: ArrowRows, group: str | None, dated: Bool[np.ndarray, " row"]
) -> list[tuple[str, np.ndarray]]:
    """The positions of each machine's rows, in the order of their first ones."""
    if group is None:
        return [("", np.flatnonzero(dated))] if dated.any() else []
    codes = pc.fill_null(cast.texts(rows.column(group)), "").dictionary_encode()
    index = codes.indices.to_numpy(zero_copy_only=False)
    names = codes.dictionary.to_pylist()
    places = ((name, np.flatnonzero(dated & (index == i))) for i, name in enumerate(names))
    return [(name, rows) for name, rows in places if len(rows)]


def _readings(rows: ArrowRows, spec: WindowSpec) -> pa.Table:
    """A column a channel; in a long format each row has a reading of one channel alone."""
    if spec.tag is None:
        columns = [rows.column(name) for name in spec.channels]
    else:
        tags, values = cast.texts(rows.column(spec.tag)), rows.column(str(spec.value))
        own = (pc.fill_null(pc.equal(tags, name), False) for name in spec.channels)
        none = pa.scalar(None, values.type)
        columns = [pc.if_else(mask, values, none) for mask in own]
    table = pa.table(dict(zip(spec.channels, columns, strict=True)))
    return table.replace_schema_metadata(rows.table.schema.metadata)


def _last_of_each(readings: pa.Table, steps: Int64[np.ndarray, " row"]) -> pa.Table:
    """A line for each step from 0 to the last: the last reading of each channel, null for none."""
    columns = {}
    for name in readings.column_names:
        values = cast.plain(readings.column(name))
        valid = values.is_valid()
        if pt.is_floating(values.type):
            valid = pc.and_(valid, pc.invert(pc.fill_null(pc.is_nan(values), True)))
        rows = np.flatnonzero(valid.to_numpy(zero_copy_only=False))
        last = np.full(int(steps[-1]) + 1, NONE)
        last[steps[rows]] = rows  # of several, the last is assigned
        columns[name] = values.take(pa.array(last, mask=last == NONE))
    return pa.table(columns).replace_schema_metadata(readings.schema.metadata)


class Track:
    """The current segment of one machine: steps that windows still need, rows without an answer.

    `first` is the step of the first line of `steps`, `newest` that of the last, which is open:
    a further reading may belong to it. `next` is the first step of the next window.
    """

    def __init__(self, spec: WindowSpec, name: str, counts: RowCounts) -> None:
        self.spec, self.name, self.counts = spec, name, counts
        self.steps: pa.Table | None = None
        self.waiting: list[tuple[np.ndarray, np.ndarray]] = []  # rows and their steps
        self.origin = self.latest = 0.0
        self.first = self.newest = self.next = 0

    def push(self, times: np.ndarray, readings: pa.Table, rows: np.ndarray) -> list[Windows]:
        """The windows that these rows of the machine complete."""
        complete, starts = [], self._segments(times)
        for start, stop in zip(starts, [*starts[1:], len(times)], strict=True):
            if start or self.steps is None or self._far(times[0]):
                complete += self.end()
                self.origin, self.counts.segments = times[start], self.counts.segments + 1
            piece = slice(start, stop)
            complete += self._extend(times[piece], readings[piece], rows[piece])
        return complete

    def _far(self, time: float) -> bool:
        return abs(time - self.latest) > (self.spec.max_gap + 0.5) * self.spec.every

    def _segments(self, times: Float[np.ndarray, " row"]) -> list[int]:
        """Where segments begin within these rows; 0 is always among them."""
        starts, pause = [0], (self.spec.max_gap + 0.5) * self.spec.every
        while True:
            latest = np.maximum.accumulate(times[starts[-1] :])
            back = latest[:-1] - times[starts[-1] + 1 :] > pause
            stop = starts[-1] + 1 + int(back.argmax()) if back.any() else len(times)
            ahead = np.diff(latest[: stop - starts[-1]]) > pause
            starts += (starts[-1] + 1 + np.flatnonzero(ahead)).tolist()
            if stop == len(times):
                return starts
            starts.append(stop)

    def _extend(self, times: np.ndarray, readings: pa.Table, rows: np.ndarray) -> list[Windows]:
        steps = np.rint((times - self.origin) / self.spec.every).astype(np.int64)
        newest = np.maximum.accumulate(np.concatenate([[self.newest], steps]))
        late = steps < newest[:-1]
        complete = []
        if late.any():
            self.counts.late += int(late.sum())
            complete = [unanswered(rows[late])]
            readings, steps, rows = readings.filter(~late), steps[~late], rows[~late]
            if not len(steps):
                return complete
        self.latest = max(self.latest, float(times.max())) if self.steps else float(times.max())
        self.waiting.append((rows, steps))
        if self.steps is not None:  # the open step may get further readings
            readings = pa.concat_tables([self.steps[-1:], readings])
            steps = np.concatenate([[self.newest], steps])
        lines = _last_of_each(readings, steps - steps[0])
        closed = [] if self.steps is None else [self.steps[:-1]]
        self.steps = pa.concat_tables([*closed, lines])
        self.newest = int(steps[-1])
        return complete + self._complete(self.newest)

    def _complete(self, closed: int) -> list[Windows]:
        """The windows of which all steps are below `closed`."""
        size, stride = self.spec.window, self.spec.stride
        if closed - size < self.next:
            return []
        starts = np.arange(self.next, closed - size + 1, stride)
        rows, steps = (np.concatenate(part) for part in zip(*self.waiting, strict=True))
        window = np.maximum(-(-(steps - size + 1) // stride), 0)
        own = window - self.next // stride
        done = own < len(starts)
        self.waiting = [(rows[~done], steps[~done])]
        step = (steps - starts[np.minimum(own, len(starts) - 1)])[done]
        windows = Windows(self._table(starts), rows[done], own[done], step)
        self.next = int(starts[-1]) + stride
        first = self.next - stride  # the last window of the segment may begin here
        self.steps, self.first = self.steps[first - self.first :], first  # pyright: ignore
        return [windows]

    def end(self) -> list[Windows]:
        """The windows that are left when the segment ends."""
        if self.steps is None:
            return []
        complete, size = self._complete(self.newest + 1), self.spec.window
        rows, steps = (np.concatenate(part) for part in zip(*self.waiting, strict=True))
        start = self.newest + 1 - size
        if len(rows) and start >= 0:
            table, own = self._table(np.array([start])), np.zeros(len(rows), np.int64)
            complete.append(Windows(table, rows, own, steps - start))
        elif len(rows):
            complete.append(unanswered(rows))
        self.steps, self.waiting = None, []
        self.first = self.newest = self.next = 0
        return complete

    def _table(self, starts: np.ndarray) -> pa.Table:
        """The windows that begin at these steps."""
        size, steps = self.spec.window, self.steps
        places = ((starts - self.first)[:, None] + np.arange(size)).ravel()
        flat = steps.take(places)  # pyright: ignore[reportOptionalMemberAccess]
        ends = self.origin + (starts + size - 1) * self.spec.every
        moments = np.rint(ends * 1e3).astype(np.int64).astype("datetime64[ms]")
        columns: dict[str, Any] = {self.spec.time: pa.array(moments)}
        if self.spec.group is not None:
            columns[self.spec.group] = pa.array([self.name] * len(starts), pa.string())
        for name in self.spec.channels:
            values = cast.plain(flat.column(name))
            columns[name] = pa.FixedSizeListArray.from_arrays(values, size)
        return pa.table(columns).replace_schema_metadata(
            (flat.schema.metadata or {}) | self.spec.metadata
        )
