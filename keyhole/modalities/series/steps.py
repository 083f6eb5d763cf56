"""Steps of a series as rows of a table, and back to windows."""

from __future__ import annotations

from typing import Any

from keyhole.data import cast
from keyhole.data.lazy import pa, pc
from keyhole.data.source import ArrowRows
from keyhole.data.tracks import WindowSpec
from keyhole.modalities.tabular.table import Tabular


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
    finite = pc.is_finite(values)
    return values if pc.all(finite, skip_nulls=True).as_py() else pc.if_else(finite, values, None)


def typed(channels: Tabular, rows: ArrowRows, spec: WindowSpec) -> ArrowRows:
    """The columns that windows are made of, of the same types whatever was given: floats, texts.

    In a long format the values are floats where all channels are of numbers.
    """
    columns: dict[str, Any] = {spec.time: rows.column(spec.time)}
    for name in (spec.group, spec.tag):
        if name is not None:
            columns[name] = cast.texts(rows.column(name))
    names = [spec.value] if spec.value is not None else list(spec.channels)
    for name in names:
        own = [name] if spec.value is None else list(spec.channels)
        values, column = rows.column(name), channels.by_name[own[0]]
        if all(channels.by_name[channel].kind in NUMBERS for channel in own):
            values = _numbers(column, values, rows.decimal)
            columns[name] = values.cast(pa.float64(), safe=False)
        else:
            columns[name] = values if pa.types.is_boolean(values.type) else cast.texts(values)
    return ArrowRows(pa.table(columns))


def in_windows(steps: pa.Table, size: int) -> pa.Table:
    """Steps behind each other as windows, a list a channel."""
    columns = {}
    for name in steps.column_names:
        values = cast.plain(steps.column(name))
        columns[name] = pa.FixedSizeListArray.from_arrays(values, size)
    return pa.table(columns)
