"""The commands of tasks, built from the task registry: one answer a row, from file to file."""

from collections.abc import Callable
from typing import Any

import click

from keyhole.cli.common import (
    Say,
    check_answers,
    data_argument,
    json_option,
    machine_options,
    model_argument,
    open_matched,
    output_options,
    rows_progress,
    use_machine,
)
from keyhole.tasks import Detect, Task

After = Callable[[Any, str, dict[str, Any], Say], int]  # task, data, options -> exit code


def task_command(
    task_class: type[Task], outputs: tuple[Any, ...] = (), after: After | None = None
) -> click.Command:
    """`keyhole VERB MODEL DATA`; `outputs` are options for `after`, which runs at the end."""

    def answer(model: str, data: str, **options: Any) -> int:
        say = Say(options["quiet"])
        check_answers(options, model, data)
        own = {option.name: options[option.name] for option in task_class.options}
        task = task_class.load(model, own)
        use_machine(task.autoencoder, options["threads"], options["device"])
        for label, text in task.messages(_answer(task, data, options, say)):
            say(label, text)
        return 0 if after is None else after(task, data, options, say)

    own_options = [
        click.option(
            f"--{option.name.replace('_', '-')}",
            type=option.type,
            default=option.default,
            show_default=option.default is not None,
            metavar=option.metavar,
            help=option.help,
        )
        for option in task_class.options
    ]
    for decorate in (
        machine_options,
        *reversed(outputs),
        *reversed(own_options),
        json_option,
        output_options,
        data_argument,
        model_argument,
    ):
        answer = decorate(answer)
    command = click.command(task_class.verb, help=task_class.help, short_help=task_class.summary)
    return command(answer)


def _answer(task: Task, data: str, options: dict[str, Any], say: Say) -> int:
    """Write the answer for each row of `data`; returns the number of rows."""
    from keyhole.core.outputs import Scratch
    from keyhole.data import open_source
    from keyhole.data.opening import random_access
    from keyhole.errors import DataError
    from keyhole.jobs import answer_file

    with Scratch() as scratch:
        source: Any = open_source(data)
        task.accept(source.names)
        if task.passes > 1 and data == "-":
            source = random_access(source, scratch.folder)
        source = open_matched(task.autoencoder, source, say)
        task.prepare(source)
        columns = task.reads()
        if columns is not None and hasattr(source, "wanted"):
            source.wanted = [name for name in columns if name in source.names]
        with rows_progress(task.verb, source.rows, options["quiet"]) as heard:
            rows = answer_file(
                task.answerer(),
                source,
                options["out"],
                chunk=task.autoencoder.chunk_rows,
                settings=task.settings(),
                json_lines=options["as_json"],
                raw_text=options["raw_text"],
                on_progress=heard,
            )
        if rows == 0:
            raise DataError(f"{source.name} holds a header but no rows: nothing to answer")
        if options["out"] != "-":
            say("wrote", options["out"])
        return rows


def _page_and_maps(task: Detect, data: str, options: dict[str, Any], say: Say) -> int:
    """Write the page and the anomaly maps; the exit code is 1 for alarms with --fail-on-alarm."""
    detector, page, folder = task.detector, options["report"], options["anomaly_map"]
    if page:
        from keyhole.report import score_rows, write_report

        write_report(page, detector.autoencoder_, score_rows(detector, data, rate=task.rate))
        say("wrote", page)
    if folder:
        from keyhole.report.anomaly_maps import HOTTEST, write_anomaly_maps

        count = write_anomaly_maps(folder, detector, data)
        say("maps", f"{count:,} anomaly maps, brightest from {HOTTEST:g} times the usual on")
        say("wrote", folder)
    return 1 if options["fail_on_alarm"] and task.alarms else 0


detect = task_command(
    Detect,
    (
        click.option("--fail-on-alarm", is_flag=True, help="Exit with 1 where a row alarms."),
        click.option("--report", type=click.Path(), help="Write a page about these rows."),
        click.option("--anomaly-map", type=click.Path(),
                     help="Folder for anomaly maps: how anomalous each pixel is."),
    ),
    _page_and_maps,
)  # fmt: skip
