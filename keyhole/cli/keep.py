"""keyhole update, calibrate: a model keeps up with new rows, or promises by other ones."""

from typing import Any

import click

from keyhole.cli.common import (
    Say,
    alarms_in_words,
    data_argument,
    load_detector,
    machine_options,
    match_columns,
    model_argument,
    use_machine,
)


def _keeping(command: Any) -> Any:
    said = "Folder for the changed model.  [default: MODEL itself]"
    for decorate in (
        machine_options,
        click.option("--force", is_flag=True, help="Replace OUT where it exists."),
        click.option("-o", "--out", type=click.Path(), help=said),
    ):
        command = decorate(command)
    return command


@click.command(short_help="Add new rows to the reference rows and the calibration.")
@model_argument
@data_argument
@_keeping
def update(model: str, data: str, **options: Any) -> None:
    """Take the rows of DATA into MODEL's bank and calibration; the net is not trained."""
    with _own(model, options):
        say, detector, source = _opened(model, data, options)
        before = detector.scorer_.rows
        detector.partial_fit(source)
        say("update", f"{detector.scorer_.rows - before:,} rows taken in, {before:,} met before")
        _keep(detector, model, options, say)


@click.command(short_help="Calibrate false alarm rates on rows known to be normal.")
@model_argument
@data_argument
@click.option("--label", help="Column that says which rows are anomalies; they are left out.")
@_keeping
def calibrate(model: str, data: str, **options: Any) -> None:
    """Calibrate MODEL on the normal rows of DATA; with --label, choose a false alarm rate."""
    with _own(model, options):
        say, detector, source = _opened(model, data, options)
        label = options["label"]
        if label is None:
            detector.calibrate(source)
        else:
            _by_label(detector, source, label, say)
        _keep(detector, model, options, say)


def _by_label(detector: Any, source: Any, label: str, say: Say) -> None:
    """Calibrate on rows that are labelled good, and tell the rate that suits the labels best."""
    import pyarrow as pa

    from keyhole.data.source import ArrowRows, TableSource
    from keyhole.modalities.tabular.given import check_columns
    from keyhole.tasks.detect.labels import anomalies

    check_columns([label], source.names, "calibrate --label")
    table = pa.concat_tables(
        [rows.arrow() for _, rows in detector.autoencoder_.iter_blocks(source)]
    )
    held = TableSource(ArrowRows(table), source.name)
    bad = anomalies(table.column(label), table.num_rows)
    detector.calibrate(held, bad)
    if bad.any() and not bad.all():
        rate = detector.choose_rate(held, bad)
        detector.set_params(false_alarm_rate=rate)
        say(
            "rate",
            f"{rate:.3%} agrees best with {int(bad.sum()):,} labelled anomalies, and is set",
        )


def _own(model: str, options: dict[str, Any]) -> Any:
    """From reading a model to writing it, no other update or calibrate may change it."""
    from keyhole.core.files import changing, place_of

    path, say = options["out"] or model, Say(options["quiet"])
    text = f"another process is changing {path}: this one goes on when that has ended"
    return changing(place_of(path), lambda: say("wait", text))


def _opened(model: str, data: str, options: dict[str, Any]) -> tuple[Say, Any, Any]:
    from keyhole.core.outputs import Output, check_outputs
    from keyhole.data import open_source

    say = Say(options["quiet"])
    if options["out"] is not None:
        outputs = [Output("-o", options["out"], "model")]
        check_outputs(outputs, {"DATA": data}, force=options["force"])
    detector = load_detector(model, say)
    use_machine(detector.autoencoder_, options["threads"], options["device"])
    source = open_source(data)
    match_columns(detector.autoencoder_, source.names, say)
    return say, detector, source


def _keep(detector: Any, model: str, options: dict[str, Any], say: Say) -> None:
    out = options["out"] or model
    detector.save(out)
    say("alarms", alarms_in_words(detector))
    say("wrote", out)
