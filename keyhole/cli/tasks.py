"""The commands of tasks, built from the task registry: one answer a row, from file to file."""

from collections.abc import Callable
from typing import Any, Protocol

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


class Extras(Protocol):
    """What a command makes of the rows beside their answers, by options of its own."""

    def finish(self, source: Any, say: Say) -> int:
        """Write what is left once all rows of the source are answered; the exit code."""
        ...


def task_command(
    task_class: type[Task],
    outputs: tuple[Any, ...] = (),
    extras: Callable[[Any, dict[str, Any]], Extras] | None = None,
) -> click.Command:
    """`keyhole VERB MODEL DATA`; `outputs` are options of `extras`, made before rows are read."""

    def answer(model: str, data: str, **options: Any) -> int:
        say = Say(options["quiet"])
        check_answers(options, model, data)
        task = task_class.load(model, {own.name: options[own.name] for own in task_class.options})
        use_machine(task.autoencoder, options["threads"], options["device"])
        more = None if extras is None else extras(task, options)
        source, rows = _answer(task, data, options, say)
        for label, text in task.messages(rows):
            say(label, text)
        return 0 if more is None else more.finish(source, say)

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


def _answer(task: Task, data: str, options: dict[str, Any], say: Say) -> tuple[Any, int]:
    """Write the answer for each row of `data`; returns its source and the number of rows."""
    from keyhole.autoencoder.reading import CHUNK_ROWS
    from keyhole.data import open_source
    from keyhole.errors import DataError
    from keyhole.jobs import answer_file

    source: Any = open_source(data)
    task.accept(source.names)
    source = open_matched(task.autoencoder, source, say)
    columns = task.reads()
    if columns is not None and hasattr(source, "wanted"):
        source.wanted = [name for name in columns if name in source.names]
    with rows_progress(task.verb, source.rows, options["quiet"]) as heard:
        rows = answer_file(
            task.answerer(),
            source,
            options["out"],
            chunk=CHUNK_ROWS,
            settings=task.settings(),
            json_lines=options["as_json"],
            raw_text=options["raw_text"],
            on_progress=heard,
        )
    if rows == 0:
        raise DataError(f"{source.name} holds a header but no rows: nothing to answer")
    if options["out"] != "-":
        say("wrote", options["out"])
    return source, rows


class PageAndMaps:
    """The page and the anomaly maps of detected rows, from the scores that are their answers."""

    def __init__(self, task: Detect, options: dict[str, Any]) -> None:
        self.task = task
        self.options = options
        self.page: Any = None
        self.maps: Any = None
        if options["report"]:
            from keyhole.report.rows import RowCollector

            self.page = RowCollector(task.detector)
        if options["anomaly_map"]:
            from keyhole.report.images import AnomalyMaps

            self.maps = AnomalyMaps(options["anomaly_map"], task.detector)
        task.outputs = [output for output in (self.page, self.maps) if output is not None]

    def finish(self, source: Any, say: Say) -> int:
        """Write the page; the exit code is 1 for alarms with --fail-on-alarm."""
        if self.page is not None:
            from keyhole.report import write_report

            scored = self.page.scored(source, rate=self.task.rate)
            write_report(self.options["report"], self.task.detector.autoencoder_, scored)
            say("wrote", self.options["report"])
        if self.maps is not None:
            from keyhole.report.images import HOTTEST

            say("maps", f"{self.maps.count:,} anomaly maps, brightest from {HOTTEST:g} times the "
                "usual on")  # fmt: skip
            say("wrote", self.options["anomaly_map"])
        return 1 if self.options["fail_on_alarm"] and self.task.alarms else 0


detect = task_command(
    Detect,
    (
        click.option("--fail-on-alarm", is_flag=True, help="Exit with 1 where a row alarms."),
        click.option("--report", type=click.Path(), help="Write a page about these rows."),
        click.option("--anomaly-map", type=click.Path(),
                     help="Folder for anomaly maps: how anomalous each pixel is."),
    ),
    PageAndMaps,
)  # fmt: skip
