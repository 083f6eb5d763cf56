"""The rows of a series by time and machine, for pages and for questions about a moment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from keyhole.data import cast, dates
from keyhole.data.lazy import pa
from keyhole.data.series import SeriesRows
from keyhole.data.source import ArrowRows, Rows
from keyhole.data.windows import WindowSpec
from keyhole.errors import SettingError
from keyhole.modalities.expected import number_texts
from keyhole.modalities.series.steps import Steps


@dataclass(frozen=True)
class Times:
    """When rows were, and of which machine.

    `seconds` count from 1970 in UTC, NaN for a row without a time. `machine` is the place of each
    row's machine in `machines`.
    """

    seconds: Float[np.ndarray, " row"]
    machine: Int64[np.ndarray, " row"]
    machines: list[str]


@dataclass(frozen=True)
class Readings:
    """Readings of some rows.

    `values` are numbers, NaN for gaps; of a channel with levels, the place of the level.
    """

    times: Times
    values: Float[np.ndarray, "row channel"]


@dataclass(frozen=True)
class Moments:
    """Reads the rows of a series."""

    steps: Steps

    @property
    def spec(self) -> WindowSpec:
        """How rows become windows."""
        return self.steps.spec

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels."""
        return self.spec.channels

    @property
    def every(self) -> float:
        """Seconds from a step to the next."""
        return self.spec.every

    @property
    def window(self) -> float:
        """The length of a window in seconds."""
        return self.spec.window * self.spec.every

    @property
    def pause(self) -> float:
        """A series is broken where there is no reading for more seconds than this."""
        return (self.spec.max_gap + 0.5) * self.spec.every

    @property
    def has_machines(self) -> bool:
        """True where a column names the machine of each row."""
        return self.spec.group is not None

    @cached_property
    def levels(self) -> dict[str, list[str]]:
        """The levels of each channel that has some, one more for all that training lacked."""
        columns = [self.steps.table.by_name[name] for name in self.channels]
        # A boolean's feature is 1 for its first option, a category's code is 1 for its own.
        return {
            c.name: [*(c.options[::-1] if c.kind == "boolean" else c.options), "another level"]
            for c in columns
            if c.unseen is not None
        }

    def times(self, rows: Rows) -> Times:
        """The times and machines of the rows."""
        spec = self.spec
        seconds, _ = cast.seconds(rows.column(spec.time), spec.style)
        machine, machines = np.zeros(len(rows), np.int64), [""]
        if spec.group is not None:
            names = cast.texts(rows.column(spec.group)).fill_null("")
            texts = names.dictionary_encode()
            machine = texts.indices.to_numpy(zero_copy_only=False).astype(np.int64)
            machines = texts.dictionary.to_pylist()
        return Times(seconds, machine, machines)

    def read(self, rows: Rows) -> Readings:
        """The readings of the rows; in a long format each row has one of its own channel."""
        spec, table = self.spec, rows.arrow()
        values = np.full((len(rows), len(self.channels)), np.nan)
        tags = None if spec.tag is None else cast.texts(rows.column(spec.tag)).to_pylist()
        for place, name in enumerate(self.channels):
            own = slice(None) if tags is None else np.flatnonzero([tag == name for tag in tags])
            column = table.column(name if tags is None else spec.value)
            column = column if tags is None else column.take(own)
            part = pa.table({name: column}).replace_schema_metadata(table.schema.metadata)
            values[own, place] = self._numbers(name, ArrowRows(part))
        return Readings(self.times(rows), values)

    def _numbers(self, name: str, rows: ArrowRows) -> np.ndarray:
        column = self.steps.table.by_name[name]
        values = self.steps.readable(rows).column(name)
        if column.unseen is None:
            return cast.floats(values)[0]
        features, observed = column.encode(cast.plain(values))
        codes = features[:, 0].astype(float) - (column.kind != "boolean")
        return np.where(observed[:, 0], codes, np.nan)

    def text(self, channel: str, value: float) -> str:
        """A value of a channel as a person would write it."""
        if channel in self.levels and not np.isnan(value):
            return self.levels[channel][int(value)]
        return number_texts(np.array([value]))[0]

    def only(self, rows: Rows, places: Int64[np.ndarray, " place"]) -> Rows:
        """The rows at these places with the windows that answer them."""
        return rows.among(places) if isinstance(rows, SeriesRows) else rows.take(places)

    def moment(self, text: str) -> float:
        """Seconds since 1970 of a moment, in UTC where it names no zone. Raises: SettingError."""
        texts: Any = pa.array([text.strip()])
        styles = [self.spec.style, dates.ISO]
        for style in styles if self.spec.style in dates.EPOCHS else styles[::-1]:
            seconds = float(cast.seconds(texts, style)[0][0])
            if np.isfinite(seconds):
                return seconds
        raise SettingError(
            f"{text!r:.60} is not a valid time: write it as 2024-05-01T10:20:00, with a zone "
            "such as Z or +02:00 if it is not in UTC, or in the format of the column "
            f"{self.spec.time!r}"
        )
