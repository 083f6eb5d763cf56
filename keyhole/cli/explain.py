"""keyhole explain: one row, its cells, and what was expected in their place."""

from typing import Any

import click

from keyhole.cli.common import (
    Say,
    data_argument,
    json_option,
    load_detector,
    machine_options,
    match_columns,
    model_argument,
    show,
    show_json,
    use_machine,
)

MOST_CELLS = 10


@click.command()
@model_argument
@data_argument
@click.option("--row", type=click.IntRange(1), help="The data row, counted from 1.")
@click.option("--id", "id_value", help="The row with this value in the id column.")
@json_option
@machine_options
def explain(model: str, data: str, **options: Any) -> None:
    """Why one row of DATA is surprising: --row 17, or --id 4711."""
    from keyhole.sources import open_source

    say = Say(options["quiet"])
    if (options["row"] is None) == (options["id_value"] is None):
        raise click.UsageError("give one of --row and --id")
    detector = load_detector(model, say)
    use_machine(detector.autoencoder_, options["threads"], options["device"])
    source = open_source(data)
    match_columns(detector.autoencoder_, source.names, say)
    rows, start = _find(source, detector.autoencoder_, options)
    answer = detector.answer_rows(rows, start, explain_rows="all", most_cells=MOST_CELLS)
    show_json(_as_json(answer)) if options["as_json"] else show(_as_text(answer))


def _find(source: Any, model: Any, options: dict[str, Any]) -> tuple[Any, int]:
    """The one row that was asked for, and its place.

    Raises: DataError where there is no such row.
    """
    from keyhole.columns.cast import texts
    from keyhole.errors import DataError
    from keyhole.modalities.given import check_columns

    wanted, start = options["id_value"], 0
    if wanted is not None:
        if model.id_column is None:
            raise DataError("the model was trained without --id: name the row by --row")
        check_columns([model.id_column], source.names, "explain --id")
    for block in source.blocks(model.chunk_rows):
        if wanted is None:
            place = options["row"] - 1 - start
        else:
            held = texts(block.column(model.id_column)).to_pylist()
            place = held.index(wanted) if wanted in held else len(block)
        if place < len(block):
            return block.take(slice(place, place + 1)), start + place
        start += len(block)
    what = f"row {options['row']:,}" if wanted is None else f"id {wanted!r}"
    raise DataError(f"{source.name} has no {what}; it has {start:,} rows")


def _as_text(answer: Any) -> list[str]:
    from keyhole.tasks.answer import nothing_stands_out

    word = "an alarm" if answer.alarm[0] else "no alarm"
    lines = [
        f"{answer.name(0)}: surprise {answer.surprise[0]:.2f} ± {answer.doubt[0]:.2f} times the "
        f"usual, p {answer.p_value[0]:.3g}, {word}"
    ]
    cells = answer.because.get(0, [])
    wide = max((len(cell.column) for cell in cells), default=0)
    lines += [
        f"  {cell.share:4.0%}  {cell.column:<{wide}} = {cell.described}"
        + (f", expected {cell.expected}" if cell.stands_out else "")
        for cell in cells
    ]
    if not cells:
        lines.append("  no cell costs more than its column usually does")
    elif not cells[0].stands_out:
        lines.insert(1, f"  {nothing_stands_out(bool(answer.alarm[0]))}; most of it comes from:")
    return lines


def _as_json(answer: Any) -> dict[str, Any]:
    from keyhole.columns.expected import SHARE

    def number(value: float) -> float | None:
        return None if value != value else round(float(value), 6)  # noqa: PLR0124

    return {
        "row": int(answer.rows[0]),
        "surprise": number(answer.surprise[0]),
        "doubt": number(answer.doubt[0]),
        "p_value": number(answer.p_value[0]),
        "alarm": bool(answer.alarm[0]),
        "expected_level": SHARE,
        "cells": [vars(cell) for cell in answer.because.get(0, [])],
    }
