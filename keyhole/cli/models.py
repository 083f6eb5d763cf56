"""Commands on a saved model: evaluate, explain, update, calibrate and export."""

from dataclasses import asdict
from typing import Any

import click

from keyhole.cli import moments, recommend
from keyhole.cli.common import (
    Say,
    alarms_in_words,
    data_argument,
    json_option,
    kilobytes,
    load_detector,
    machine_options,
    model_argument,
    open_matched,
    percent,
    quiet_option,
    show,
    show_json,
    with_options,
)

MAX_REASONS = 10  # of an explained row


@click.command(short_help="Compare alarms with a label column.")
@model_argument
@data_argument
@click.option("--label", help="Column that says which rows are anomalies.")
@click.option("--false-alarm-rate", type=float, help="Another rate than the model's.")
@json_option
@machine_options
def evaluate(model: str, data: str, **options: Any) -> None:
    """AUROC, average precision, precision at k, and the confusion at the threshold.

    Of a recommender: recall, NDCG and more on the later interactions of DATA.
    """
    from keyhole.tasks.detect.evaluate import evaluate as compare

    if recommend.holds_recommender(model):
        recommend.evaluate_recommender(model, data, options)
        return
    if options["label"] is None:
        raise click.UsageError("Missing option '--label'.")
    say = Say(options["quiet"])
    rate = options["false_alarm_rate"]
    detector = load_detector(model, options, say, false_alarm_rate=rate)
    source = open_matched(detector.autoencoder_, data, say)
    evaluation = compare(detector, source, options["label"])
    if options["as_json"]:
        show_json(asdict(evaluation))
    else:
        show(_evaluation_text(evaluation, detector))


def _evaluation_text(result: Any, detector: Any) -> list[str]:
    from keyhole.tasks.detect.calibration import expected_alarms

    precision = "   ".join(f"at {k}: {share:.3f}" for k, share in result.precision_at.items())
    normal = result.false_alarms + result.true_calm
    return [
        f"rows      {result.rows:,}, {result.anomalies:,} anomalies (label {result.positive!r})",
        f"ranking   AUROC {result.auroc:.4f}   average precision {result.average_precision:.4f}",
        f"precision {precision}",
        f"alarms    {result.true_alarms:,} of {result.anomalies:,} anomalies found, "
        f"{result.missed:,} missed",
        f"false     {result.false_alarms:,} of {normal:,} normal rows "
        f"({percent(result.false_alarms / normal)}); about "
        f"{expected_alarms(normal, detector.false_alarm_rate)} would be expected "
        f"({percent(detector.false_alarm_rate)})",
    ]


@click.command(short_help="Why one row is anomalous, or what happened around a moment.")
@model_argument
@data_argument
@click.option("--row", type=click.IntRange(1), help="The data row, counted from 1.")
@click.option("--id", "id_value", help="The row with this value in the id column.")
@click.option("--at", metavar="MOMENT", help="A moment of a series, in UTC if it has no zone.")
@click.option(
    "--around",
    metavar="DURATION",
    help="With --at: how long before and after, such as 90s, 10m or 2h.  [default: two windows]",
)
@click.option("--machine", metavar="NAME", help="With --at: the machine, if several were running.")
@json_option
@machine_options
def explain(model: str, data: str, **options: Any) -> None:
    """Why one row of DATA is anomalous: --row 17, or --id 4711.

    Of a sensor series: what happened around a moment, channel by channel: --at
    2024-05-01T10:20:00.
    """
    from keyhole.tasks.detect.detector import answer_rows

    say = Say(options["quiet"])
    if sum(options[name] is not None for name in ("row", "id_value", "at")) != 1:
        raise click.UsageError("give one of --row, --id and --at")
    if options["at"] is None and (options["around"] or options["machine"]):
        raise click.UsageError("--around and --machine go with --at")
    detector = load_detector(model, options, say)
    source = open_matched(detector.autoencoder_, data, say)
    if options["at"] is not None:
        course = moments.course_of(detector, source, options)
        show_json(moments.as_json(course)) if options["as_json"] else show(moments.as_text(course))
        return
    rows, start = _find(source, detector.autoencoder_, options)
    answer = answer_rows(detector, rows, start, explain_rows="all", most_features=MAX_REASONS)
    show_json(_as_json(answer)) if options["as_json"] else show(_as_text(answer))


def _find(source: Any, model: Any, options: dict[str, Any]) -> tuple[Any, int]:
    """The chosen row, and its index. Raises: DataError if there is no such row."""
    from keyhole.autoencoder.input_validation import CHUNK_ROWS, id_column_of
    from keyhole.data.cast import texts
    from keyhole.data.source import check_columns
    from keyhole.errors import DataError

    wanted, start, id_column = options["id_value"], 0, id_column_of(model)
    if wanted is not None:
        if id_column is None:
            raise DataError("the model was trained without --id: choose the row by --row")
        check_columns([id_column], source.names, "explain --id")
    for block in source.blocks(CHUNK_ROWS):
        if wanted is None:
            index = options["row"] - 1 - start
        else:
            ids = texts(block.column(id_column)).to_pylist()
            index = ids.index(wanted) if wanted in ids else len(block)
        if index < len(block):
            return block.take(slice(index, index + 1)), start + index
        start += len(block)
    row = f"row {options['row']:,}" if wanted is None else f"id {wanted!r}"
    raise DataError(f"{source.name} has no {row}; it has {start:,} rows")


def _as_text(answer: Any) -> list[str]:
    import numpy as np

    from keyhole.tasks.detect.answer import nothing_stands_out, views_in_words

    word = "alarm" if answer.alarm[0] else "no alarm"
    spread = f"; ± {answer.score_std[0]:.2f} between ensemble members"
    lines = [
        f"{answer.name(0)}: {word}, anomaly score {answer.anomaly_score[0]:.2f} (1 is typical"
        f"{'' if np.isnan(answer.score_std[0]) else spread}), p-value {answer.p_value[0]:.3g}"
    ]
    lines += [f"  {views_in_words(views)}" for views in answer.views.values()]
    reasons = answer.reasons.get(0, [])
    heading = len(lines)
    width = max((len(reason.column) for reason in reasons), default=0)
    lines += [
        f"  {reason.share:4.0%}  {reason.column:<{width}} = {reason.described}"
        + (f", expected {reason.expected}" if reason.stands_out else "")
        for reason in reasons
    ]
    if not reasons:
        lines.append("  every value is typical of its column")
    else:
        lines.insert(heading, " share  value")
    if reasons and not reasons[0].stands_out:
        lines.insert(
            heading, f"  {nothing_stands_out(bool(answer.alarm[0]))}; most of it comes from:"
        )
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
        "views": {name: number(value) for name, value in answer.views.get(0, {}).items()},
        "expected_level": SHARE,
        "cells": [vars(cell) for cell in answer.reasons.get(0, [])],
    }


_output_options = with_options(
    click.option("-o", "--out", type=click.Path(),
                 help="Where to save the changed model.  [default: MODEL itself]"),
    click.option("--force", is_flag=True, help="Replace OUT if it exists."),
    machine_options,
)  # fmt: skip


@click.command(short_help="Add new rows to the reference rows and the calibration.")
@model_argument
@data_argument
@_output_options
def update(model: str, data: str, **options: Any) -> None:
    """Add the rows of DATA to MODEL's reference rows and calibration, without training.

    Of a recommender: add the interactions of DATA.
    """
    with _locked(model, options):
        if recommend.holds_recommender(model):
            say, out = _checked(data, options), options["out"] or model
            recommend.update_recommender(model, data, out, say)
            return
        say, detector, source = _opened(model, data, options)
        before = detector.scorer_.rows
        detector.partial_fit(source)
        say("update", f"{detector.scorer_.rows - before:,} rows added to {before:,} earlier ones")
        _save(detector, model, options, say)


@click.command(short_help="Calibrate false alarm rates on rows known to be normal.")
@model_argument
@data_argument
@click.option("--label", help="Column that says which rows are anomalies; they are left out.")
@_output_options
def calibrate(model: str, data: str, **options: Any) -> None:
    """Calibrate MODEL on the normal rows of DATA; with --label, choose a false alarm rate."""
    with _locked(model, options):
        say, detector, source = _opened(model, data, options)
        label = options["label"]
        if label is None:
            detector.calibrate(source)
        else:
            _by_label(detector, source, label, say)
        _save(detector, model, options, say)


def _by_label(detector: Any, source: Any, label: str, say: Say) -> None:
    """Calibrate on rows labelled normal, and set the rate that fits the labels best."""
    import pyarrow as pa

    from keyhole.autoencoder.input_validation import blocks_of
    from keyhole.data.source import ArrowRows, TableSource, check_columns
    from keyhole.tasks.detect.labels import anomalies

    check_columns([label], source.names, "calibrate --label")
    table = pa.concat_tables(
        [block.arrow() for _, block in blocks_of(detector.autoencoder_, source)]
    )
    rows = TableSource(ArrowRows(table), source.name)
    anomalous = anomalies(table.column(label), table.num_rows)
    detector.calibrate(rows, anomalous)
    if anomalous.any() and not anomalous.all():
        rate = detector.choose_rate(rows, anomalous)
        detector.set_params(false_alarm_rate=rate)
        say(
            "rate",
            f"set to {rate:.3%}, which fits {int(anomalous.sum()):,} labelled anomalies best",
        )


def _locked(model: str, options: dict[str, Any]) -> Any:
    """A lock on the model: no other update or calibrate may change it meanwhile."""
    from keyhole.core.files import changing, resolve

    path, say = options["out"] or model, Say(options["quiet"])
    text = f"another process is changing {path}; waiting until it has finished"
    return changing(resolve(path), lambda: say("wait", text))


def _checked(data: str, options: dict[str, Any]) -> Say:
    from keyhole.core.outputs import Output, check_outputs

    if options["out"] is not None:
        outputs = [Output("-o", options["out"], "model")]
        check_outputs(outputs, {"DATA": data}, force=options["force"])
    return Say(options["quiet"])


def _opened(model: str, data: str, options: dict[str, Any]) -> tuple[Say, Any, Any]:
    say = _checked(data, options)
    detector = load_detector(model, options, say)
    return say, detector, open_matched(detector.autoencoder_, data, say)


def _save(detector: Any, model: str, options: dict[str, Any], say: Say) -> None:
    out = options["out"] or model
    detector.save(out)
    say("threshold", alarms_in_words(detector))
    say("wrote", out)


@click.command(short_help="Write a detector as an ONNX graph, to run without keyhole.")
@model_argument
@click.option("-o", "--out", required=True, type=click.Path(), help="Where to write the graph.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.option("--false-alarm-rate", type=float, help="Another rate than the model's.")
@quiet_option
def export(model: str, out: str, force: bool, quiet: bool, **options: Any) -> None:
    """Write the detector MODEL, from numbers to alarms, as an ONNX graph.

    For tables of numbers, counts and booleans. ONNX Runtime gives the same anomaly scores,
    p-values and alarms; the columns and the threshold are in the graph's metadata.
    """
    from keyhole.core.outputs import Output, check_outputs
    from keyhole.tasks import export_onnx

    check_outputs([Output("-o", out, "rows")], {}, model=model, force=force)
    say, on_cpu = Say(quiet), {"threads": None, "device": "cpu"}
    detector = load_detector(model, on_cpu, say, false_alarm_rate=options["false_alarm_rate"])
    export_onnx(detector, out)
    say("threshold", alarms_in_words(detector))
    say("wrote", f"{out}, {kilobytes(out)}")
