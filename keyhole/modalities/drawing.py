"""What a table learns so that drawn rows are legal: bins, and which values may be drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keyhole.columns import Aside, Column, Number
from keyhole.columns.bins import bins, heaped
from keyhole.columns.grids import Grid
from keyhole.columns.sizes import normal_scores
from keyhole.modalities.rules import rules_of
from keyhole.modalities.survey import Survey
from keyhole.sources.base import ArrowRows, Source

if TYPE_CHECKING:
    import pyarrow as pa

    from keyhole.core.records import Batch
    from keyhole.modalities.tabular import Tabular

BINNED = {"student_t", "counts"}  # likelihoods that bins can stand for


def bounds_of(columns: list[Column], survey: Survey) -> dict[str, Grid]:
    """Which values may be drawn, by column."""
    bounds = {
        c.name: c.bounds(survey.profiles[c.name]) for c in columns if not isinstance(c, Aside)
    }
    return {name: grid for name, grid in bounds.items() if grid}


def kept_rules(
    source: Source, survey: Survey, columns: list[Column]
) -> list[dict[str, Any]] | None:
    """The rules between columns that all rows keep, as JSON; None without any."""
    return [rule.to_json() for rule in rules_of(source, survey, columns)] or None


def bins_of(table: Tabular, survey: Survey) -> dict[str, list[list[float]]]:
    """The bins of cells whose values repeat, from the survey's sample.

    Number columns without heaps are turned to normal scores.
    """
    for column in table.celled:
        if isinstance(column, Number):
            numbers = survey.profiles[column.name].numbers()
            if column.atom is not None:
                numbers = numbers[numbers != column.atom[0]]
            if not heaped(numbers):
                column.bent = normal_scores(numbers) or column.bent
    batch, binned = table.encode(ArrowRows(survey.sample)), {}
    for i, slot in enumerate(table.layout.slots):
        cells = batch.numbers[:, i][batch.seen[:, i]].numpy() if not slot.coded else None
        if slot.head in BINNED and cells is not None and heaped(cells):
            binned[slot.name] = bins(cells)
    return binned


def rows_of(table: Tabular, batch: Batch, grids: dict[str, Grid]) -> pa.Table:
    """Cells as rows of values that these grids allow; unseen ones missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    cells, seen = table.cells(batch), batch.seen.cpu().numpy()
    columns = {}
    for column in table.celled:
        place = table.cells_of(column.name)
        values = column.drawn(cells[:, place], grids.get(column.name))
        gaps = ~seen[:, place].any(1)
        if gaps.any():
            values = pc.if_else(pa.array(gaps), pa.scalar(None, values.type), values)  # pyright: ignore
        columns[column.name] = values
    return pa.table(columns)
