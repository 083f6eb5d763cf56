"""Steps of a series as rows of a table, and back to windows."""

from __future__ import annotations

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


def readable(channels: Tabular, steps: ArrowRows) -> ArrowRows:
    """The steps; texts and infinite values among numbers ("Bad", "No Data") as gaps."""
    table, columns = steps.table, {}
    for name in table.column_names:
        column = channels.by_name[name]
        values = cast.plain(table.column(name))
        numbers = column.kind in NUMBERS
        columns[name] = _numbers(column, values, steps.decimal) if numbers else values
    return ArrowRows(pa.table(columns).replace_schema_metadata(table.schema.metadata))


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


def typed(channels: Tabular, rows: ArrowRows, spec: WindowSpec) -> ArrowRows:
    """The columns that windows are made of, of the same types whatever was given: floats, texts.

    In a long format the values are floats where all channels are of numbers.
    """
    columns: dict[str, Any] = {spec.time: rows.column(spec.time)}
    for name in (spec.group, spec.tag):
        if name is not None:
            columns[name] = cast.texts(rows.column(name))
    names = [spec.value] if spec.value is not None else list(spec.channels)
    by_name = channels.by_name
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


def typed_lists(channels: Tabular, lists: dict[str, list[Any]], spec: WindowSpec) -> ArrowRows:
    """As `typed`, of a few rows as lists: a tenth of the time where their values are numbers."""
    arrays: dict[str, Any] = {}
    try:
        for name in spec.names:
            values = lists[name]
            if name in spec.channels and channels.by_name[name].kind in NUMBERS:
                numbers = np.array(values, dtype=float)
                arrays[name] = pa.array(np.where(np.isfinite(numbers), numbers, np.nan))
            else:
                array = pa.array(values, from_pandas=True)
                arrays[name] = array if name in {spec.time, spec.value} else _levels(array)
        if spec.value is not None:
            return typed(channels, ArrowRows(pa.table(arrays)), spec)
        return ArrowRows(pa.table(arrays))
    except (TypeError, ValueError, ArithmeticError, pa.ArrowException):  # texts, several types
        texts = {n: [None if _is_gap(v) else str(v) for v in lists[n]] for n in spec.names}
        return typed(channels, ArrowRows(pa.table(texts)), spec)


def _is_gap(value: Any) -> bool:
    """True for None, NaN, and what pandas has for them."""
    return value is None or type(value).__name__ in {"NAType", "NaTType"} or bool(value != value)  # noqa: PLR0124


def in_windows(steps: pa.Table, size: int) -> pa.Table:
    """Steps behind each other as windows, a list a channel."""
    columns = {}
    for name in steps.column_names:
        values = cast.plain(steps.column(name))
        columns[name] = pa.FixedSizeListArray.from_arrays(values, size)
    return pa.table(columns)


def in_units(
    channels: Tabular, batch: Batch, size: int
) -> tuple[Float[Tensor, "window step number"], Bool[Tensor, "window step number"]]:
    """The number features of encoded windows, in units of their spread; which are observed."""
    count = channels.layout.numbers
    slots = channels.layout.slots[:count]
    center = torch.tensor([slot.center for slot in slots])
    scale = torch.tensor([slot.scale for slot in slots])
    x = (batch.numbers.unflatten(1, (size, -1)) - center) / scale
    observed = batch.observed[:, : size * count].unflatten(1, (size, -1))
    return x.clamp(-FARTHEST, FARTHEST), observed


def axis_columns(channels: Tabular) -> list[str]:
    """The channel of each axis of `by_step`: those of numbers, then those of levels."""
    axes = [min(max(slot.levels, 1), MAX_LEVEL_AXES) for slot in channels.layout.slots]
    pairs = zip(channels.layout.slots, axes, strict=True)
    return [slot.column for slot, count in pairs for _ in range(count)]


def by_step(channels: Tabular, batch: Batch, size: int) -> Float[Tensor, "window step axis"]:
    """Numbers in units of their spread, and an axis for each level; NaN for gaps.

    The rarer of more than `MAX_LEVEL_AXES` levels share the last axis.
    """
    count = channels.layout.numbers
    parts = []
    if count:
        x, observed = in_units(channels, batch, size)
        parts.append(x.masked_fill(~observed, torch.nan))
    for i, slot in enumerate(channels.layout.slots[count:]):
        most = min(slot.levels, MAX_LEVEL_AXES)
        codes = batch.codes.unflatten(1, (size, -1))[..., i].clamp(max=most)
        observed = batch.observed[:, size * count :].unflatten(1, (size, -1))[..., i]
        axes = torch.nn.functional.one_hot(codes, most + 1)[..., 1:].float()
        parts.append(axes.masked_fill(~observed[..., None], torch.nan))
    return torch.cat(parts, 2)
