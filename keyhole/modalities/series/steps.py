"""Steps of a series as rows of a table, and back to windows."""

from __future__ import annotations

from keyhole.data import cast
from keyhole.data.lazy import pa, pc
from keyhole.data.source import ArrowRows
from keyhole.modalities.tabular.table import Tabular


def readable(channels: Tabular, steps: ArrowRows) -> ArrowRows:
    """The steps; texts and infinite values among numbers ("Bad", "No Data") as gaps."""
    table = steps.table
    for place, name in enumerate(table.column_names):
        column = channels.by_name[name]
        values = cast.plain(table.column(name))
        if column.kind not in {"number", "count"}:
            continue
        if cast.is_text(values.type):
            form = getattr(column, "written_as", None)
            decimal = (form and form.decimal) or steps.decimal
            values = cast.numbers_or_gaps(values, decimal, form and form.unit)
        elif pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_finite(values), values, None)
        table = table.set_column(place, name, values)
    return ArrowRows(table)


def in_windows(steps: pa.Table, size: int) -> pa.Table:
    """Steps behind each other as windows, a list a channel."""
    columns = {}
    for name in steps.column_names:
        values = cast.plain(steps.column(name))
        columns[name] = pa.FixedSizeListArray.from_arrays(values, size)
    return pa.table(columns)
