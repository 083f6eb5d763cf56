"""Sensor series as sources: windows to learn from, and rows with the windows that answer them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Int64

from keyhole.data import cast
from keyhole.data.lazy import pa
from keyhole.data.readings import NONE
from keyhole.data.source import ArrowRows, Rows, Source, TableSource
from keyhole.data.tracks import RowCounts, Windows, WindowSpec
from keyhole.data.windows import Windower

OF_WINDOW = " of the window"  # after the name of a channel: all its readings in a row's window
UNKNOWN = -2  # the window of a row that has none yet
PUSH_ROWS = 16_384  # pushed together


@dataclass(frozen=True)
class SeriesRows(ArrowRows):
    """Rows of a sensor export, and the windows that answer them.

    `window` is the line of each row's window, and `step` the row's place in it; -1: it has none.
    """

    windows: pa.Table | None = None
    window: Int64[np.ndarray, " row"] = field(default_factory=lambda: np.zeros(0, np.int64))
    step: Int64[np.ndarray, " row"] = field(default_factory=lambda: np.zeros(0, np.int64))

    def take(self, rows: slice | np.ndarray) -> ArrowRows:
        """The rows at these positions, each with a window of its own beside its readings."""
        table = super().take(rows).arrow()
        lines = pa.array(self.window[rows], mask=self.window[rows] == NONE)
        windows: Any = pa.table({}) if self.windows is None else self.windows
        for name in windows.column_names:
            if pa.types.is_fixed_size_list(windows.schema.field(name).type):
                column = cast.plain(windows.column(name)).take(lines)
                table = table.append_column(name + OF_WINDOW, column)
        return ArrowRows(table.replace_schema_metadata(windows.schema.metadata))

    def among(self, rows: Int64[np.ndarray, " place"]) -> SeriesRows:
        """The rows at these positions; rows of one window still share it."""
        table, window, step = self.arrow().take(rows), self.window[rows], self.step[rows]
        return with_windows(table, self.windows, window, step)


def with_windows(
    rows: pa.Table,
    windows: pa.Table | None,
    window: Int64[np.ndarray, " row"],
    step: Int64[np.ndarray, " row"],
) -> SeriesRows:
    """Rows with the windows that answer them alone; `window` is each row's line of `windows`."""
    lines, line = np.unique(window[window >= 0], return_inverse=True)
    own = np.full(len(window), NONE)
    own[window >= 0] = line
    if windows is None:
        return SeriesRows(rows, None, own, own)
    return SeriesRows(rows, windows.take(lines), own, step)


@dataclass(frozen=True)
class WindowSource(Source):
    """The windows of a series: a row is a window, as `Windows.table` describes it."""

    rows_source: Source
    spec: WindowSpec

    @property
    def name(self) -> str:
        """That of the rows."""
        return self.rows_source.name

    @property
    def names(self) -> list[str]:
        """The time of the last step, the machine, and the channels."""
        spec = self.spec
        return [spec.time, *([spec.group] if spec.group else []), *spec.channels]

    def blocks(self, rows: int) -> Iterator[Rows]:
        """All windows, machine by machine as they are complete."""
        windower = Windower(self.spec)
        for _, complete in _pushed(self.rows_source, windower):
            for windows in complete:
                for start in range(0, windows.table.num_rows, rows):
                    yield ArrowRows(windows.table[start : start + rows])


@dataclass(frozen=True)
class StepSource(Source):
    """The steps of a source of windows, one a row: the readings of each channel, null in a gap.

    Steps of two windows that are less than a window apart come twice; those of segments that are
    shorter than a window do not come.
    """

    windows: Source
    spec: WindowSpec

    @property
    def name(self) -> str:
        """That of the windows."""
        return self.windows.name

    @property
    def names(self) -> list[str]:
        """The channels."""
        return list(self.spec.channels)

    def blocks(self, rows: int) -> Iterator[Rows]:
        """The steps of every window that begins where another ends."""
        apart = max(self.spec.window // self.spec.stride, 1)
        for windows in self.windows.blocks(max(rows // self.spec.stride, 1)):
            yield steps_of(windows.take(np.arange(0, len(windows), apart)), self.spec.channels)


def steps_of(windows: Rows, channels: tuple[str, ...] | list[str]) -> ArrowRows:
    """The steps of all windows behind each other, one a row; null for all of a missing window."""
    columns: dict[str, Any] = {}
    for name in channels:
        own = name + OF_WINDOW if name + OF_WINDOW in windows.names else name
        lists = cast.plain(windows.arrow().column(own))
        size = lists.type.list_size
        if lists.null_count:
            lists = lists.fill_null(pa.scalar([None] * size, lists.type))
        columns[name] = lists.flatten()
    return ArrowRows(pa.table(columns).replace_schema_metadata(windows.arrow().schema.metadata))


@dataclass(frozen=True)
class AnsweredSource(Source):
    """The rows of a sensor export in their order, each block with the windows that answer it.

    Rows in memory that are not in the order of time are sorted first, and answered in their own
    order. Those of a file are taken as they come: see `windows` for what becomes of late ones.
    """

    rows_source: Source
    spec: WindowSpec
    counts: RowCounts = field(default_factory=RowCounts)

    @property
    def name(self) -> str:
        """That of the rows."""
        return self.rows_source.name

    @property
    def names(self) -> list[str]:
        """The columns of the rows."""
        return self.rows_source.names

    @property
    def rows(self) -> int | None:
        """The number of rows, if it is known."""
        return self.rows_source.rows

    def blocks(self, rows: int) -> Iterator[Rows]:
        """Rows with their windows; a block waits until all its rows can be answered."""
        windower, answered = Windower(self.spec), Answered()
        windower.counts = self.counts
        for block, complete in _pushed(self.rows_source, windower):
            answered.add(block, complete)
            yield from answered.ready(rows)


class Answered:
    """Rows that wait for windows, and windows that wait for rows; rows leave in their order."""

    def __init__(self) -> None:
        self.rows: pa.Table | None = None
        self.window = np.zeros(0, np.int64)  # of each row in `rows`: its number, from the first
        self.step = np.zeros(0, np.int64)
        self.windows: list[pa.Table] = []
        self.first_row = self.first_window = 0

    def add(self, rows: pa.Table | None, complete: list[Windows]) -> None:
        """Rows that were pushed, and the windows that they complete."""
        if rows is not None:
            self.rows = rows if self.rows is None else pa.concat_tables([self.rows, rows])
            unknown = np.full(len(rows), UNKNOWN)
            self.window = np.concatenate([self.window, unknown])
            self.step = np.concatenate([self.step, unknown])
        for windows in complete:
            first = self.first_window + sum(map(len, self.windows))
            if windows.table.num_rows:
                self.windows.append(windows.table)
            own = np.where(windows.window == NONE, NONE, windows.window + first)
            self.window[windows.rows - self.first_row] = own
            self.step[windows.rows - self.first_row] = windows.step

    def ready(self, rows: int) -> Iterator[SeriesRows]:
        """The rows from the first one that are all answered, at most `rows` in a block."""
        waits = self.window == UNKNOWN
        count = int(waits.argmax()) if waits.any() else len(self.window)
        for start in range(0, count, rows):
            yield self._block(start, min(start + rows, count))
        if not count or self.rows is None:
            return
        self.rows, self.window = self.rows[count:], self.window[count:]
        self.step = self.step[count:]
        self.first_row += count
        needed = self.window[self.window >= 0].min(initial=self._next())
        table = self._windows()
        if table is not None:
            self.windows = [table[needed - self.first_window :]]
            self.first_window = int(needed)

    def _block(self, start: int, stop: int) -> SeriesRows:
        rows: Any = self.rows
        window, step = self.window[start:stop], self.step[start:stop]
        line = np.where(window >= 0, window - self.first_window, NONE)
        return with_windows(rows[start:stop], self._windows(), line, step)

    def _next(self) -> int:
        return self.first_window + sum(map(len, self.windows))

    def _windows(self) -> pa.Table | None:
        if len(self.windows) > 1:
            self.windows = [pa.concat_tables(self.windows, promote_options="permissive")]
        return self.windows[0] if self.windows else None


def _pushed(source: Source, windower: Windower) -> Iterator[tuple[pa.Table | None, list[Windows]]]:
    """Blocks of rows as they are pushed, with the windows that they complete."""
    if isinstance(source, TableSource):
        yield from _in_memory(source, windower)
        return
    for block in source.blocks(PUSH_ROWS):
        rows = ArrowRows(block.arrow())
        yield rows.arrow(), windower.push(rows)
    yield None, windower.close()


def _in_memory(source: TableSource, windower: Windower) -> Iterator[tuple[Any, list[Windows]]]:
    """Rows that are all in memory, sorted by time where they are not."""
    spec, table = windower.spec, source.loaded.arrow()
    rows = ArrowRows(table)
    times, _ = cast.seconds(rows.column(spec.time), spec.style)
    order = np.argsort(times, kind="stable")  # the rows without a time last
    if (np.diff(order) == 1).all():
        for start in range(0, len(rows), PUSH_ROWS):
            block = rows.take(slice(start, start + PUSH_ROWS))
            yield block.arrow(), windower.push(block)
        yield None, windower.close()
        return
    complete = windower.push(rows.take(order)) + windower.close()
    yield table, [replace(windows, rows=order[windows.rows]) for windows in complete]
