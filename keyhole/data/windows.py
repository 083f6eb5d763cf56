"""Rows of a sensor export as windows of equally spaced time steps, one push of rows at a time.

A reading belongs to the nearest step of a grid that begins at the first row of its segment. Of
several readings of a channel in one step the last counts; a step without one is a gap. A row whose
step is before the newest one of its machine is late: it is counted, and neither used nor answered.
A longer pause than `max_gap` steps, forward or back, begins a new segment; no window crosses it.

A window answers its newest steps: those that no window before it held. The first of a segment
answers all its steps; at the end of a segment one more window answers what is left. So an answer
depends on the rows before it and on less than `stride` steps after it, whatever the pushes are.

Of each machine the steps of a window and a little more are in memory. A machine without a row
among the last `SILENT_ROWS` has ended its segment, so that no row waits longer for an answer.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Bool

from keyhole.data import cast
from keyhole.data.lazy import pa, pc
from keyhole.data.readings import Readings
from keyhole.data.source import ArrowRows
from keyhole.data.tracks import SILENT_ROWS, RowCounts, Track, Windows, WindowSpec, unanswered

CHECK_ROWS = 1 << 12  # after so many rows it is looked for silent machines
FEW_ROWS, MAX_WAITING = 16, 256  # of a push that may wait for the next one; pushes that wait


class Windower:
    """Takes rows as they come and returns the windows that are complete; bounded memory."""

    def __init__(self, spec: WindowSpec) -> None:
        self.spec = spec
        self.counts = RowCounts()
        self.tracks: dict[str, Track] = {}
        self.rows = 0  # that tracks have taken
        self.waiting: list[ArrowRows] = []  # pushes of few rows that complete nothing
        self.latest: dict[str, float] = {}  # times of the newest rows that wait
        self.silent: list[str] = []  # machines that were ended since the last look

    def push(self, rows: ArrowRows) -> list[Windows]:
        """The windows that these rows complete."""
        if not len(rows):
            return []
        times, _ = cast.seconds(rows.column(self.spec.time), self.spec.style)
        if self._wait(rows, times):
            return []
        if self.waiting and self.waiting[0].table.schema.equals(rows.table.schema):
            self.waiting.append(rows)
            return self._take_waiting()
        return [*self._take_waiting(), *self._take(rows, times)]

    def close(self) -> list[Windows]:
        """The windows of all steps that are left: no row comes any more."""
        complete = self._take_waiting()
        return complete + [part for track in self.tracks.values() for part in track.end()]

    def _wait(self, rows: ArrowRows, times: np.ndarray) -> bool:
        """True where these few rows complete nothing: they are taken with later ones, at once."""
        waiting = self.waiting
        if len(rows) > FEW_ROWS or len(waiting) == MAX_WAITING or self._may_end_silent(len(rows)):
            return False
        if waiting and not waiting[0].table.schema.equals(rows.table.schema):
            return False
        latest = {}
        for name, time in zip(_names(rows, self.spec.group), times.tolist(), strict=True):
            track, before = self.tracks.get(name), latest.get(name, self.latest.get(name))
            if track is None or not track.waits(time, track.latest if before is None else before):
                return False
            latest[name] = time
        self.latest |= latest
        waiting.append(rows)
        return True

    def _take_waiting(self) -> list[Windows]:
        if not self.waiting:
            return []
        rows = ArrowRows(pa.concat_tables([rows.table for rows in self.waiting]))
        self.waiting, self.latest = [], {}
        return self._take(rows, cast.seconds(rows.column(self.spec.time), self.spec.style)[0])

    def _take(self, rows: ArrowRows, times: np.ndarray) -> list[Windows]:
        spec, first = self.spec, self.rows
        self.rows += len(rows)
        readings = _readings(rows, spec)
        dated = np.isfinite(times)
        self.counts.undated += int((~dated).sum())
        undated = first + np.flatnonzero(~dated)
        complete = [unanswered(undated, times[~dated])] if len(undated) else []
        for name, places in _machines(rows, spec.group, dated):
            track = self.tracks.setdefault(name, Track(spec, name, self.counts))
            part = readings if len(places) == len(rows) else readings.take(places)
            complete += track.push(times[places], part, first + places)
        if first // CHECK_ROWS < self.rows // CHECK_ROWS:
            complete += self._end_silent()
        return complete

    def _may_end_silent(self, more: int) -> bool:
        """True where these rows, with those that wait, end the segment of a silent machine."""
        count = self.rows + more + sum(map(len, self.waiting))
        first = min((track.last_row for track in self.tracks.values()), default=count)
        return count - first > SILENT_ROWS

    def _end_silent(self) -> list[Windows]:
        silent = [n for n, t in self.tracks.items() if self.rows - t.last_row > SILENT_ROWS]
        self.silent += silent
        return [windows for name in silent for windows in self.tracks.pop(name).end()]

    def to_json(self) -> dict[str, Any]:
        """All that answers to further rows depend on, as JSON."""
        self._take_waiting()
        tracks = [track.to_json() for track in self.tracks.values() if track.steps is not None]
        return {"rows": self.rows, "counts": asdict(self.counts), "tracks": tracks}

    @classmethod
    def from_json(cls, spec: WindowSpec, state: dict[str, Any]) -> Windower:
        """The windower that `to_json` wrote. Raises: KeyError, TypeError, ValueError."""
        windower = cls(spec)
        windower.rows, windower.counts = int(state["rows"]), RowCounts(**state["counts"])
        tracks = [Track.from_json(spec, windower.counts, track) for track in state["tracks"]]
        windower.tracks = {track.name: track for track in tracks}
        return windower


def _names(rows: ArrowRows, group: str | None) -> list[str]:
    """The machine of each row; "" for a gap."""
    if group is None:
        return [""] * len(rows)
    return [name or "" for name in cast.texts(rows.column(group)).to_pylist()]


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


def _readings(rows: ArrowRows, spec: WindowSpec) -> Readings:
    """A column a channel; in a long format each row has a reading of one channel alone."""
    if spec.tag is None:
        columns = [rows.column(name) for name in spec.channels]
    else:
        tags, values = cast.texts(rows.column(spec.tag)), rows.column(str(spec.value))
        own = (pc.fill_null(pc.equal(tags, name), False) for name in spec.channels)
        none = pa.scalar(None, values.type)
        columns = [pc.if_else(mask, values, none) for mask in own]
    return Readings.of(dict(zip(spec.channels, columns, strict=True)), rows.table.schema.metadata)
