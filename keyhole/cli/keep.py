"""keyhole update and keyhole calibrate: change a fitted detector by new rows."""

from typing import Any

import click

from keyhole.cli.common import (
    Say,
    alarms_in_words,
    data_argument,
    load_detector,
    machine_options,
    model_argument,
    open_matched,
    use_machine,
)


def _output_options(command: Any) -> Any:
    text = "Where to save the changed model.  [default: MODEL itself]"
    for decorate in (
        machine_options,
        click.option("--force", is_flag=True, help="Replace OUT if it exists."),
        click.option("-o", "--out", type=click.Path(), help=text),
    ):
        command = decorate(command)
    return command


@click.command(short_help="Add new rows to the reference rows and the calibration.")
@model_argument
@data_argument
@_output_options
def update(model: str, data: str, **options: Any) -> None:
    """Add the rows of DATA to MODEL's reference rows and calibration, without training."""
    with _locked(model, options):
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

    from keyhole.autoencoder.reading import blocks_of
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


def _opened(model: str, data: str, options: dict[str, Any]) -> tuple[Say, Any, Any]:
    from keyhole.core.outputs import Output, check_outputs

    say = Say(options["quiet"])
    if options["out"] is not None:
        outputs = [Output("-o", options["out"], "model")]
        check_outputs(outputs, {"DATA": data}, force=options["force"])
    detector = load_detector(model, say)
    use_machine(detector.autoencoder_, options["threads"], options["device"])
    return say, detector, open_matched(detector.autoencoder_, data, say)


def _save(detector: Any, model: str, options: dict[str, Any], say: Say) -> None:
    out = options["out"] or model
    detector.save(out)
    say("alarms", alarms_in_words(detector))
    say("wrote", out)
