"""keyhole detect, embed, impute, reconstruct: one answer a row, from file to file."""

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
    output_options,
    rows_progress,
    use_machine,
)


@click.command()
@model_argument
@data_argument
@output_options
@json_option
@click.option("--alarm-rate", type=float, help="Another rate than the model's; no refit.")
@click.option("--fail-on-alarm", is_flag=True, help="Exit with 1 where a row alarms.")
@click.option("--report", type=click.Path(), help="Write a page about these rows.")
@machine_options
def detect(model: str, data: str, **options: Any) -> int:
    """Surprise, p-value, alarm and causes of every row of DATA, in order."""
    from keyhole.tasks.likeness import Likeness

    say = Say(options["quiet"])
    page = options["report"]
    _refuse(options, page)
    detector = load_detector(model, say, options["alarm_rate"])
    likeness = Likeness(detector.autoencoder_.table_)
    counted: list[int] = []

    def table(rows: Any, start: int) -> Any:
        answer = detector.answer_rows(rows, start, likeness=likeness)
        counted.append(int(answer.alarm.sum()))
        return answer.table()

    settings = [detector.autoencoder_.fingerprint_, detector.alarm_rate]
    needs = detector.reads()
    rows = _answer(detector.autoencoder_, table, data, needs, settings, options, "detect", say)
    alarms = sum(counted)
    say("detect", f"{rows:,} rows, {alarms:,} alarms ({alarms / max(rows, 1):.1%}) where "
        f"{detector.alarm_rate:.1%} false ones are promised")  # fmt: skip
    for remark in likeness.remarks():
        say("data", remark)
    if page:
        from keyhole.report import asked_of, write_report

        write_report(page, detector.autoencoder_, asked_of(detector, data))
        say("wrote", page)
    return 1 if options["fail_on_alarm"] and alarms else 0


def _command(verb: str, said: str) -> click.Command:
    """A command that answers each row by the task of this verb."""

    def ask(model: str, data: str, **options: Any) -> None:
        from keyhole.estimator import Autoencoder
        from keyhole.tasks import Task

        say = Say(options["quiet"])
        _refuse(options, None)
        task = Task.verbs[verb](Autoencoder.load(model))
        fitted = task.autoencoder
        settings = [fitted.fingerprint_, verb]
        rows = _answer(fitted, task.table, data, task.reads(), settings, options, verb, say)
        say(verb, f"{rows:,} rows")

    ask.__doc__ = said
    for decorate in (machine_options, json_option, output_options, data_argument, model_argument):
        ask = decorate(ask)
    return click.command(verb)(ask)


embed = _command("embed", "The code of every row of DATA: code_0, code_1, ...")
impute = _command("impute", "Fill the gaps of DATA; seen cells stay as they are.")
reconstruct = _command("reconstruct", "The row that the model expects in place of each of DATA.")


def _answer(
    model: Any, table: Any, data: str, needs: Any, settings: Any, options: Any, verb: str, say: Say
) -> int:
    from keyhole.errors import DataError
    from keyhole.scale import answer_file
    from keyhole.sources import open_source

    use_machine(model, options["threads"], options["device"])
    source: Any = open_source(data)
    match_columns(model, source.names, say)
    if needs is not None and hasattr(source, "wanted"):
        source.wanted = [name for name in needs if name in source.names]
    total = source.rows if data != "-" else None
    with rows_progress(verb, total, options["quiet"]) as heard:
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


def _refuse(options: dict[str, Any], page: str | None) -> None:
    """Faults of the output are said before anything is loaded."""
    from keyhole.core.files import refuse_existing
    from keyhole.scale.sinks import format_of

    format_of(options["out"], json=options["as_json"])
    for path in (options["out"], page):
        if path is not None:
            refuse_existing(path, options["force"])
