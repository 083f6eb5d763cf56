"""Readings of the channels of a series, one line a row or a step of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from keyhole.data import cast
from keyhole.data.lazy import pa, pc, pt

NONE = -1  # the line of a reading that there is not


@dataclass(frozen=True)
class Readings:
    """Channels of floats as one array (`numbers`, NaN for a gap), the others as Arrow columns.

    With one array, a push of a single row costs a tenth of what Arrow columns cost.
    """

    names: tuple[str, ...]
    numbers: Float[np.ndarray, "line channel"]
    others: Any = None  # an Arrow table, if there are other channels
    metadata: dict[bytes, bytes] | None = None

    @classmethod
    def of(cls, columns: dict[str, Any], metadata: dict[bytes, bytes] | None) -> Readings:
        """The readings of Arrow arrays, at least one."""
        floats = {n: column for n, column in columns.items() if pt.is_float64(column.type)}
        arrays = [column.to_numpy(zero_copy_only=False) for column in floats.values()]
        others = {name: column for name, column in columns.items() if name not in floats}
        lines = len(next(iter(columns.values())))
        numbers = np.stack(arrays, 1) if arrays else np.empty((lines, 0))
        return cls(tuple(floats), numbers, pa.table(others) if others else None, metadata)

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, lines: slice | np.ndarray) -> Readings:
        """The lines at these positions, or of a slice."""
        others = self.others
        if others is not None:
            others = others[lines] if isinstance(lines, slice) else others.take(lines)
        return replace(self, numbers=self.numbers[lines], others=others)

    @staticmethod
    def join(parts: Sequence[Readings]) -> Readings:
        """Parts behind each other."""
        numbers = np.concatenate([part.numbers for part in parts])
        others = None
        if parts[0].others is not None:
            others = pa.concat_tables([part.others for part in parts])
        return replace(parts[0], numbers=numbers, others=others)

    def last_of_each(self, steps: Int64[np.ndarray, " line"]) -> Readings:
        """A line for each step from 0 to the last: each channel's last reading, or a gap.

        `steps` is that of each line, in order.
        """
        count = int(steps[-1]) + 1
        line, channel = np.nonzero(~np.isnan(self.numbers))
        numbers = np.full((count, len(self.names)), np.nan)
        numbers[steps[line], channel] = self.numbers[line, channel]  # the last one is assigned
        if self.others is None:
            return replace(self, numbers=numbers)
        others = {}
        for name in self.others.column_names:
            values = cast.plain(self.others.column(name))
            valid = values.is_valid()
            if pt.is_floating(values.type):
                valid = pc.and_(valid, pc.invert(pc.fill_null(pc.is_nan(values), True)))
            lines = np.flatnonzero(valid.to_numpy(zero_copy_only=False))
            last = np.full(count, NONE)
            last[steps[lines]] = lines
            others[name] = values.take(pa.array(last, mask=last == NONE))
        return replace(self, numbers=numbers, others=pa.table(others))

    def column(self, name: str, lines: Int64[np.ndarray, " line"]) -> Any:
        """A channel's readings at these lines, as an Arrow array."""
        if name in self.names:
            values = self.numbers[lines, self.names.index(name)]
            return pa.array(values, from_pandas=True)
        return cast.plain(self.others.column(name)).take(pa.array(lines))

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """The readings of these channels as JSON: a type and the values, numbers or texts."""
        columns = {name: self.column(name, np.arange(len(self))) for name in names}
        return {
            name: [
                cast.name_of(column.type),
                (column if pt.is_floating(column.type) else cast.texts(column)).to_pylist(),
            ]
            for name, column in columns.items()
        }

    @classmethod
    def from_json(cls, state: dict[str, Any], names: Sequence[str]) -> Readings:
        """The readings that `to_json` wrote. Raises: KeyError, TypeError, ValueError."""
        columns = {}
        for name in names:
            type_name, values = state[name]
            columns[name] = cast.array(values, type_name)
        if len({len(column) for column in columns.values()}) != 1:
            raise ValueError("channels of different lengths")
        return cls.of(columns, None)
