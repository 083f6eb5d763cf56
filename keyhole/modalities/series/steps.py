"""Steps of a series as rows of a table, and back to windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from keyhole.core.layout import FARTHEST
from keyhole.core.records import Batch
from keyhole.data import cast
from keyhole.data.lazy import pa, pc
from keyhole.data.source import ArrowRows
from keyhole.data.tracks import WindowSpec
from keyhole.modalities.tabular.table import Tabular

MAX_LEVEL_AXES = 20  # of a channel of levels, step by step


NUMBERS = {"number", "count"}  # kinds of channels


def _numbers(column: Any, values: Any, decimal: str) -> Any:
    """The readings of a channel of numbers; texts and infinite values as gaps."""
    if cast.is_text(values.type):
        form = getattr(column, "written_as", None)
        return cast.numbers_or_gaps(values, (form and form.decimal) or decimal, form and form.unit)
    if not pa.types.is_floating(values.type):
        return values
    infinite = np.isinf(values.to_numpy(zero_copy_only=False))
    return pc.if_else(pa.array(infinite), None, values) if infinite.any() else values


def _levels(values: Any) -> Any:
    """Readings of a channel that is no number, or names of machines, as texts."""
    return cast.texts(values)


def _is_gap(value: Any) -> bool:
    """True for None, NaN, and what pandas has for them."""
    return value is None or type(value).__name__ in {"NAType", "NaTType"} or bool(value != value)  # noqa: PLR0124


@dataclass(frozen=True)
class Steps:
    """Steps of windows as rows of the table of their channels, and back to windows."""

    table: Tabular
    spec: WindowSpec

    def readable(self, steps: ArrowRows) -> ArrowRows:
        """The steps; texts and infinite values among numbers ("Bad", "No Data") as gaps."""
        columns: dict[str, Any] = {}
        for name in steps.names:
            column = self.table.by_name[name]
            values = cast.plain(steps.column(name))
            numbers = column.kind in NUMBERS
            columns[name] = _numbers(column, values, steps.decimal) if numbers else values
        return ArrowRows(pa.table(columns).replace_schema_metadata(steps.table.schema.metadata))

    def typed(self, rows: ArrowRows) -> ArrowRows:
        """The columns that windows are made of, whatever was given: as floats or texts.

        In a long format the values are floats where all channels are of numbers.
        """
        spec, by_name = self.spec, self.table.by_name
        columns: dict[str, Any] = {spec.time: rows.column(spec.time)}
        for name in (spec.group, spec.tag):
            if name is not None:
                columns[name] = cast.texts(rows.column(name))
        names = [spec.value] if spec.value is not None else list(spec.channels)
        for name in names:
            own = [name] if spec.value is None else list(spec.channels)
            values, column = rows.column(name), by_name[own[0]]
            if all(by_name[channel].kind in NUMBERS for channel in own):
                values = _numbers(column, values, rows.decimal)
                is_float = values.type == pa.float64()
                columns[name] = values if is_float else values.cast(pa.float64(), safe=False)
            else:
                columns[name] = _levels(values)
        return ArrowRows(pa.table(columns))

    def typed_lists(self, lists: dict[str, list[Any]]) -> ArrowRows:
        """As `typed`, of a few rows as lists: a tenth of the time for numbers."""
        spec = self.spec
        arrays: dict[str, Any] = {}
        try:
            for name in spec.names:
                values = lists[name]
                if name in spec.channels and self.table.by_name[name].kind in NUMBERS:
                    numbers = np.array(values, dtype=float)
                    arrays[name] = pa.array(np.where(np.isfinite(numbers), numbers, np.nan))
                else:
                    array = pa.array(values, from_pandas=True)
                    arrays[name] = array if name in {spec.time, spec.value} else _levels(array)
            if spec.value is not None:
                return self.typed(ArrowRows(pa.table(arrays)))
            return ArrowRows(pa.table(arrays))
        except (TypeError, ValueError, ArithmeticError, pa.ArrowException):  # texts, several types
            texts = {n: [None if _is_gap(v) else str(v) for v in lists[n]] for n in spec.names}
            return self.typed(ArrowRows(pa.table(texts)))

    def in_windows(self, steps: pa.Table) -> pa.Table:
        """Steps behind each other as windows, a list a channel."""
        columns = {}
        for name in steps.column_names:
            values = cast.plain(steps.column(name))
            columns[name] = pa.FixedSizeListArray.from_arrays(values, self.spec.window)
        return pa.table(columns)

    def of_windows(self, batch: Batch) -> Batch:
        """Encoded windows as encoded steps behind each other."""
        count, layout = len(batch) * self.spec.window, self.table.layout
        observed = batch.observed.tensor_split([batch.numbers.shape[1]], 1)
        sizes = (layout.numbers, layout.codes) * 2
        parts = zip((batch.numbers, batch.codes, *observed), sizes, strict=True)
        numbers, codes, *observed = (part.reshape(count, size) for part, size in parts)
        return Batch(numbers, codes, torch.cat(observed, 1))

    def in_units(
        self, batch: Batch
    ) -> tuple[Float[Tensor, "window step number"], Bool[Tensor, "window step number"]]:
        """The number features of encoded windows, in units of their spread; which are observed."""
        size, count = self.spec.window, self.table.layout.numbers
        slots = self.table.layout.slots[:count]
        center = torch.tensor([slot.center for slot in slots])
        scale = torch.tensor([slot.scale for slot in slots])
        x = (batch.numbers.unflatten(1, (size, -1)) - center) / scale
        observed = batch.observed[:, : size * count].unflatten(1, (size, -1))
        return x.clamp(-FARTHEST, FARTHEST), observed

    @property
    def axis_columns(self) -> list[str]:
        """The channel of each axis of `by_step`: those of numbers, then those of levels."""
        axes = [min(max(slot.levels, 1), MAX_LEVEL_AXES) for slot in self.table.layout.slots]
        pairs = zip(self.table.layout.slots, axes, strict=True)
        return [slot.column for slot, count in pairs for _ in range(count)]

    def by_step(self, batch: Batch) -> Float[Tensor, "window step axis"]:
        """Numbers in units of their spread, and an axis for each level; NaN for gaps.

        The rarer of more than `MAX_LEVEL_AXES` levels share the last axis.
        """
        size, count = self.spec.window, self.table.layout.numbers
        parts = []
        if count:
            x, observed = self.in_units(batch)
            parts.append(x.masked_fill(~observed, torch.nan))
        for i, slot in enumerate(self.table.layout.slots[count:]):
            most = min(slot.levels, MAX_LEVEL_AXES)
            codes = batch.codes.unflatten(1, (size, -1))[..., i].clamp(max=most)
            observed = batch.observed[:, size * count :].unflatten(1, (size, -1))[..., i]
            axes = torch.nn.functional.one_hot(codes, most + 1)[..., 1:].float()
            parts.append(axes.masked_fill(~observed[..., None], torch.nan))
        return torch.cat(parts, 2)
