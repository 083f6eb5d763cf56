"""keyhole evaluate: alarms against labels, which are used here and nowhere else.

keyhole explain: one row, its cells, and what was expected in their place.

keyhole inspect: what a model is, what it was trained on, how far to trust it.
"""

from dataclasses import asdict
from typing import Any

import click

from keyhole.cli.common import (
    Say,
    alarms_in_words,
    data_argument,
    json_option,
    load_detector,
    machine_options,
    match_columns,
    model_argument,
    nats,
    rules_in_words,
    show,
    show_json,
    spoken_warnings,
    use_machine,
)


@click.command(short_help="Compare alarms with a label column.")
@model_argument
@data_argument
@click.option("--label", required=True, help="Column that says which rows are anomalies.")
@click.option("--false-alarm-rate", type=float, help="Another rate than the model's.")
@json_option
@machine_options
def evaluate(model: str, data: str, **options: Any) -> None:
    """AUROC, average precision, precision at k, and the confusion at the threshold."""
    from keyhole.data import open_source
    from keyhole.tasks.detect.evaluate import evaluate as compare

    say = Say(options["quiet"])
    detector = load_detector(model, say, options["false_alarm_rate"])
    use_machine(detector.autoencoder_, options["threads"], options["device"])
    source = open_source(data)
    match_columns(detector.autoencoder_, source.names, say)
    found = compare(detector, source, options["label"])
    show_json(asdict(found)) if options["as_json"] else show(_evaluation_text(found, detector))


def _evaluation_text(found: Any, detector: Any) -> list[str]:
    from keyhole.tasks.detect.calibration import expected_alarms

    at = "   ".join(f"at {k}: {share:.3f}" for k, share in found.precision_at.items())
    calm = found.false_alarms + found.true_calm
    return [
        f"rows      {found.rows:,}, {found.anomalies:,} anomalies (label {found.positive!r})",
        f"ranking   AUROC {found.auroc:.4f}   average precision {found.average_precision:.4f}",
        f"precision {at}",
        f"alarms    {found.true_alarms:,} right, {found.false_alarms:,} false "
        f"({found.false_alarms / calm:.2%} of {calm:,} normal rows; at "
        f"{detector.false_alarm_rate:.2%} about "
        f"{expected_alarms(calm, detector.false_alarm_rate)} would be expected), "
        f"{found.missed:,} missed",
    ]


MOST_CELLS = 10


@click.command(short_help="Why one row is anomalous.")
@model_argument
@data_argument
@click.option("--row", type=click.IntRange(1), help="The data row, counted from 1.")
@click.option("--id", "id_value", help="The row with this value in the id column.")
@json_option
@machine_options
def explain(model: str, data: str, **options: Any) -> None:
    """Why one row of DATA is anomalous: --row 17, or --id 4711."""
    from keyhole.data import open_source

    say = Say(options["quiet"])
    if (options["row"] is None) == (options["id_value"] is None):
        raise click.UsageError("give one of --row and --id")
    detector = load_detector(model, say)
    use_machine(detector.autoencoder_, options["threads"], options["device"])
    source = open_source(data)
    match_columns(detector.autoencoder_, source.names, say)
    rows, start = _find(source, detector.autoencoder_, options)
    answer = detector.answer_rows(rows, start, explain_rows="all", most_features=MOST_CELLS)
    show_json(_as_json(answer)) if options["as_json"] else show(_as_text(answer))


def _find(source: Any, model: Any, options: dict[str, Any]) -> tuple[Any, int]:
    """The one row that was asked for, and its place.

    Raises: DataError where there is no such row.
    """
    from keyhole.data.cast import texts
    from keyhole.errors import DataError
    from keyhole.modalities.tabular.given import check_columns

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
    from keyhole.tasks.detect.answer import nothing_stands_out

    word = "an alarm" if answer.alarm[0] else "no alarm"
    lines = [
        f"{answer.name(0)}: anomaly score {answer.anomaly_score[0]:.2f} "
        f"± {answer.score_std[0]:.2f} times "
        f"the usual, p {answer.p_value[0]:.3g}, {word}"
    ]
    cells = answer.reasons.get(0, [])
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
    from keyhole.modalities.expected import SHARE

    def number(value: float) -> float | None:
        return None if value != value else round(float(value), 6)  # noqa: PLR0124

    return {
        "row": int(answer.rows[0]),
        "anomaly_score": number(answer.anomaly_score[0]),
        "score_std": number(answer.score_std[0]),
        "p_value": number(answer.p_value[0]),
        "alarm": bool(answer.alarm[0]),
        "expected_level": SHARE,
        "cells": [vars(cell) for cell in answer.reasons.get(0, [])],
    }


MOST_CARDS = 32
BLOCKS = "▁▂▃▄▅▆▇█"


@click.command(short_help="What a model is, what it was trained on, how far to trust it.")
@model_argument
@click.option(
    "--codes", is_flag=True, help="What each code dimension (32 at most) stands for, instead."
)
@json_option
def inspect(model: str, codes: bool, as_json: bool) -> None:
    """What MODEL is, what it was trained on, how far to trust it."""
    from keyhole.autoencoder.estimator import Autoencoder
    from keyhole.store import read_bundle
    from keyhole.tasks import AnomalyDetector

    bundle = read_bundle(model)
    with spoken_warnings(Say(False)):
        if "detect" in bundle.sections:
            detector = AnomalyDetector.from_bundle(bundle)
            fitted, promises = detector.autoencoder_, _promises(detector)
        else:
            fitted, promises = Autoencoder.from_bundle(bundle), []
    told = _cards(fitted) if codes else []
    if as_json:
        said = {"about": bundle.about, "sections": bundle.sections}
        if codes:
            said["codes"] = [card.to_json() for card in told]
        show_json(said)
        return
    if codes:
        lines = _codes(told, fitted.network_.width)
    else:
        promises += _prior(bundle.sections["autoencoder"])
        lines = _lines(model, fitted, bundle.about, promises)
    show(lines)


def _cards(model: Any) -> list[Any]:
    from keyhole.tasks.interpret.cards import cards

    with spoken_warnings(Say(False)):
        return cards(model, most=MOST_CARDS)


def _codes(told: list[Any], width: int) -> list[str]:
    """The cards, one below the other."""
    from keyhole.tasks.interpret.cards import lines

    found = []
    for card in told:
        first, *others = lines(card)
        found += [first, *(f"    {line}" for line in others), ""]
    more = width - len(told)
    return [*found, f"and {more:,} more dimensions"] if more else found[:-1]


def _prior(section: dict[str, Any]) -> list[str]:
    """The kind of the prior over codes, and what it was fitted to."""
    held = section.get("prior")
    if held is None:
        return []
    return [f"prior     {held['recipe']['kind']}, fitted to the codes of {held['rows']:,} rows"]


def _width(choice: Any) -> list[str]:
    """Why the code is as wide as it is, and the curve that it was read from."""
    if choice is None or not choice.nats:
        return []
    low, high = min(choice.nats), max(choice.nats)
    heights = [(n - low) / ((high - low) or 1.0) * (len(BLOCKS) - 1) for n in choice.nats]
    curve = "".join(BLOCKS[round(height)] for height in heights)
    shown = {1, 2, 4, 8, 16, 32, choice.width, len(choice.nats)}
    pairs = [f"{w} {nats(n)}" for w, n in enumerate(choice.nats, 1) if w in shown]
    own = [
        f"{dimension:.1f} by {who}"
        for who, dimension in (("two-NN", choice.two_nn), ("likelihood", choice.likelihood))
        if dimension is not None
    ]
    filled = f"; the rows fill about {' and '.join(own)} dimensions" if own else ""
    return [
        f"width     {choice.why}",
        f"          {curve} nats a row at widths 1 to {len(choice.nats)}{filled}",
        f"          {', '.join(pairs)}",
    ]


def _promises(detector: Any) -> list[str]:
    """What a detector promises, and what it compares with."""
    return [
        f"alarms    {alarms_in_words(detector)}",
        f"memory    {len(detector.scorer_.reference):,} rows to compare with, kept in the model; "
        f"{detector.scorer_.rows:,} met",
    ]


def _lines(path: str, model: Any, about: dict[str, Any], promises: list[str]) -> list[str]:
    found, run, table = model.evidence_, model.run_, model.table_
    size = sum(p.numel() for p in model.network_.parameters())
    lines = [
        f"model     {path}, made {about.get('created')} by keyhole {about.get('keyhole')}, "
        f"torch {about.get('torch')}",
        f"data      {model.rows_:,} rows x {len(table.columns)} columns, "
        f"fingerprint {model.fingerprint_}",
        f"shape     {len(table.layout)} cells -> {found['width']} codes, {size:,} weights, "
        f"{model.network_.shape.members} member(s)",
        f"parts     {', '.join(repr(part) for part in model.parts().values())}",
        f"training  {run.steps[-1]:,} of {run.planned:,} steps, best at {run.best_step:,}; "
        f"{run.ended}",
        f"held out  hidden cells {nats(found['guessed_nats'])} nats a row (PCA "
        f"{nats(found['pca_guessed_nats'])}, mean {nats(found['mean_nats'])}); in sight "
        f"{nats(found['rebuilt_nats'])} (PCA {nats(found['pca_rebuilt_nats'])})",
        *_width(model.width_choice_),
        f"verdict   {model.verdict_}",
        *(f"warning   {f.code} {f.title}: {f.text}" for f in model.findings_),
        *promises,
        "columns   name, kind, share rebuilt (guessed when hidden), why this kind",
    ]
    if table.lawful is not None:
        lines.insert(-1, f"rules     {rules_in_words(table)}")
    for column in table.columns:
        rebuilt = found["rebuilt_skill"].get(column.name)
        guessed = found["guessed_skill"].get(column.name)
        skill = "" if rebuilt is None else f"{rebuilt:4.0%} ({guessed:.0%})"
        lines.append(
            f"          {column.name:<24.24} {column.kind:<9} {skill:<12} "
            f"{table.reasons[column.name]}"
        )
    return lines
