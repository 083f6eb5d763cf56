"""keyhole detect, embed, impute, score, reconstruct: one answer a row, from file to file."""

from typing import Any

import click

from keyhole.cli.common import (
    Say,
    check_answers,
    data_argument,
    json_option,
    load_detector,
    machine_options,
    match_columns,
    model_argument,
    output_options,
    rows_progress,
    spoken_warnings,
    use_machine,
)

OWN = {"impute": ("draws", "seed", "mark")}  # options that a task takes


@click.command()
@model_argument
@data_argument
@output_options
@json_option
@click.option("--false-alarm-rate", type=float, help="Another rate than the model's; no refit.")
@click.option("--fdr", type=float, metavar="SHARE",
              help="Alarms of which at most this share is false, over all of DATA.")  # fmt: skip
@click.option("--fail-on-alarm", is_flag=True, help="Exit with 1 where a row alarms.")
@click.option("--report", type=click.Path(), help="Write a page about these rows.")
@click.option("--anomaly-map", type=click.Path(),
              help="Folder for anomaly maps: how anomalous each pixel is.")  # fmt: skip
@machine_options
def detect(model: str, data: str, **options: Any) -> int:
    """Anomaly score, p-value, alarm and causes of every row of DATA, in order."""
    from keyhole.core.outputs import Scratch
    from keyhole.tasks.detect.answer import Detecting

    say = Say(options["quiet"])
    page = options["report"]
    check_answers(options, model, data)
    detector = load_detector(model, say, options["false_alarm_rate"])
    use_machine(detector.autoencoder_, options["threads"], options["device"])
    with Scratch() as scratch:
        source, rate = _source(data, scratch, detector, options["fdr"], say)
        table = Detecting(detector, rate)
        settings = [detector.autoencoder_.fingerprint_, detector.section(), rate]
        needs = detector.reads()
        rows = _answer(
            detector.autoencoder_, table, source, needs, settings, options, "detect", say
        )
    alarms = table.total.alarms
    _tell(detector, rows, alarms, options["fdr"], rate, say)
    for pattern in table.patterns():
        say("pattern", str(pattern))
    for remark in table.total.drift.remarks():
        say("data", remark)
    _draw(detector, data, page, rate, options["anomaly_map"], say)
    return 1 if options["fail_on_alarm"] and alarms else 0


def _draw(
    detector: Any,
    data: str,
    page: str | None,
    rate: float | None,
    anomaly_map: str | None,
    say: Say,
) -> None:
    """The page about these rows, and anomaly maps of images, where they were asked for."""
    if page:
        from keyhole.report import asked_of, write_report

        write_report(page, detector.autoencoder_, asked_of(detector, data, rate=rate))
        say("wrote", page)
    if anomaly_map:
        from keyhole.report.anomaly_maps import HOTTEST, write_anomaly_maps

        count = write_anomaly_maps(anomaly_map, detector, data)
        say("anomaly_map", f"{count:,} maps, brightest from {HOTTEST:g} times the usual on")
        say("wrote", anomaly_map)


def _tell(
    detector: Any, rows: int, alarms: int, fdr: float | None, rate: float | None, say: Say
) -> None:
    """How many rows alarm, and how many would by chance."""
    from keyhole.tasks.detect.calibration import beyond_chance

    chance = detector.false_alarm_rate if fdr is None else 0.0
    said = beyond_chance(alarms, rows, chance, len(detector.calibration_.anomaly_scores))
    if fdr is not None:
        said += f"; at most {100 * fdr:.2g} % of them are expected to be false"
    say("detect", said)
    if fdr is not None:
        basis = detector.calibration_.basis(detector.false_alarm_rate if rate is None else rate)
        more = "; calibrated on more normal rows (keyhole calibrate) they may be smaller"
        say("p-values", basis if alarms else basis + more)


def _command(verb: str, said: str, *more: Any) -> click.Command:
    """A command that answers each row by the task of this verb; `more` options are its own."""

    def ask(model: str, data: str, **options: Any) -> None:
        from keyhole.autoencoder.estimator import Autoencoder
        from keyhole.data import open_source
        from keyhole.tasks import Impute, Task
        from keyhole.tasks.detect.answer import Filling

        say = Say(options["quiet"])
        check_answers(options, model, data)
        own = {name: options[name] for name in OWN.get(verb, ())}
        task = Task.verbs[verb](Autoencoder.load(model), **own)
        fitted = task.autoencoder
        use_machine(fitted, options["threads"], options["device"])
        settings = [fitted.fingerprint_, verb, own]
        source = open_source(data)
        task.accept(source.names)
        table = Filling(task) if isinstance(task, Impute) else task.table
        rows = _answer(fitted, table, source, task.reads(), settings, options, verb, say)
        say(verb, f"{rows:,} rows{_filled(task)}")

    ask.__doc__ = said
    for decorate in (
        *more,
        machine_options,
        json_option,
        output_options,
        data_argument,
        model_argument,
    ):
        ask = decorate(ask)
    return click.command(verb)(ask)


embed = _command("embed", "The code of every row of DATA: code_0, code_1, ...")
impute = _command(
    "impute",
    "Fill the gaps of DATA; all other cells stay as they were written.",
    click.option("--seed", type=int, default=0, show_default=True, help="Of the draws."),
    click.option("--mark", metavar="COLUMN_SUFFIX",
                 help="Add a column that says which cells were filled: COLUMN and this suffix."),
    click.option("--draws", type=int, metavar="N",
                 help="Each row N times, its gaps drawn anew in each."),
)  # fmt: skip
score = _command("score", "The log-likelihood of every row of DATA, in nats; one forward pass.")
reconstruct = _command("reconstruct", "The row that the model expects in place of each of DATA.")


def _filled(task: Any) -> str:
    """How many cells an imputation filled, and in which columns most."""
    if not hasattr(task, "filled"):
        return ""
    most = sorted(task.filled.items(), key=lambda item: -item[1])
    columns = ", ".join(f"{name} {count:,}" for name, count in most[:5])
    more = f" and {len(most) - 5} more columns" if len(most) > 5 else ""
    return f", {sum(task.filled.values()):,} cells filled" + (f": {columns}{more}" if most else "")


def _source(
    data: str, scratch: Any, detector: Any, fdr: float | None, say: Say
) -> tuple[Any, float | None]:
    """The rows to answer, and the false alarm rate for `fdr`: they are then read twice."""
    from keyhole.data import open_source
    from keyhole.data.opening import random_access

    source: Any = open_source(data)
    if fdr is None:
        return source, None
    source = random_access(source, scratch.folder) if data == "-" else source
    with spoken_warnings(say):
        return source, detector.rate_for(source, fdr)


def _answer(
    model: Any,
    table: Any,
    source: Any,
    needs: Any,
    settings: Any,
    options: Any,
    verb: str,
    say: Say,
) -> int:
    from keyhole.errors import DataError
    from keyhole.jobs import answer_file

    match_columns(model, source.names, say)
    if needs is not None and hasattr(source, "wanted"):
        source.wanted = [name for name in needs if name in source.names]
    with rows_progress(verb, source.rows, options["quiet"]) as heard:
        rows = answer_file(
            table,
            source,
            options["out"],
            chunk=model.chunk_rows,
            settings=settings,
            json_lines=options["as_json"],
            raw_text=options["raw_text"],
            heard=heard,
        )
    if rows == 0:
        raise DataError(f"{source.name} holds a header but no rows: nothing to answer")
    if options["out"] != "-":
        say("wrote", options["out"])
    return rows
