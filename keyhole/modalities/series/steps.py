"""Steps of a series as rows of a table, and back to windows."""

from __future__ import annotations

from keyhole.data import cast
from keyhole.data.lazy import pa, pc
from keyhole.data.source import ArrowRows
from keyhole.modalities.tabular.table import Tabular


def readable(channels: Tabular, steps: ArrowRows) -> ArrowRows:
    """The steps; texts and infinite values among numbers ("Bad", "No Data") as gaps."""
    table, columns = steps.table, {}
    for name in table.column_names:
        column = channels.by_name[name]
        values = columns[name] = cast.plain(table.column(name))
        if column.kind not in {"number", "count"}:
            continue
        if cast.is_text(values.type):
            form = getattr(column, "written_as", None)
            decimal = (form and form.decimal) or steps.decimal
            columns[name] = cast.numbers_or_gaps(values, decimal, form and form.unit)
        elif pa.types.is_floating(values.type):
            finite = pc.is_finite(values)
            if not pc.all(finite, skip_nulls=True).as_py():
                columns[name] = pc.if_else(finite, values, None)
    return ArrowRows(pa.table(columns).replace_schema_metadata(table.schema.metadata))


def in_windows(steps: pa.Table, size: int) -> pa.Table:
    """Steps behind each other as windows, a list a channel."""
    columns = {}
    for name in steps.column_names:
        values = cast.plain(steps.column(name))
        columns[name] = pa.FixedSizeListArray.from_arrays(values, size)
    return pa.table(columns)
