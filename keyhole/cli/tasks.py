"""The commands of tasks, built from the task registry, and keyhole sample."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import click

from keyhole.cli import recommend
from keyhole.cli.common import (
    Say,
    check_answers,
    data_argument,
    json_option,
    machine_options,
    model_argument,
    open_matched,
    output_options,
    quiet_option,
    rows_progress,
    spoken_warnings,
    use_machine,
    with_options,
)
from keyhole.tasks import Detect, Embed, Task

BLOCK_ROWS = 16_384  # drawn at a time
MAX_EVENTS = 5  # that are printed, the most anomalous ones


def task_command(
    task_class: type[Task],
    outputs: tuple[Any, ...] = (),
    extras: Callable[[Any, dict[str, Any]], Any] | None = None,
) -> click.Command:
    """`keyhole VERB MODEL DATA`; `extras` makes `outputs`, which are options of the command."""

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
            f"--{own.name.replace('_', '-')}", type=own.type, default=own.default,
            show_default=own.default is not None and own.type is not bool,
            is_flag=own.type is bool, metavar=own.metavar, help=own.help,
        )
        for own in task_class.options
    ]  # fmt: skip
    options = with_options(
        model_argument, data_argument, output_options, json_option, *own_options, *outputs,
        machine_options,
    )  # fmt: skip
    command = click.command(task_class.verb, help=task_class.help, short_help=task_class.summary)
    return command(options(answer))


def _answer(task: Task, data: str, options: dict[str, Any], say: Say) -> tuple[Any, int]:
    """Write the answer for each row of `data`; returns its source and the number of rows."""
    from keyhole.autoencoder.input_validation import CHUNK_ROWS
    from keyhole.data import open_source
    from keyhole.jobs import answer_file

    source: Any = open_source(data)
    task.accept(source.names)
    source = open_matched(task.autoencoder, source, say)
    columns = task.reads()
    if columns is not None and hasattr(source, "wanted"):
        source.wanted = [name for name in columns if name in source.names]
    with rows_progress(task.verb, source.rows, options["quiet"]) as on_progress:
        rows = answer_file(
            task.answerer(), source, options["out"], chunk=CHUNK_ROWS, settings=task.settings(),
            json_lines=options["as_json"], raw_text=options["raw_text"], on_progress=on_progress,
        )  # fmt: skip
    if options["out"] != "-":
        say("wrote", options["out"])
    return source, rows


class Outputs:
    """Page, events and anomaly maps of detected rows, from the scores that are their answers."""

    def __init__(self, task: Detect, options: dict[str, Any]) -> None:
        self.task = task
        self.options = options
        self.page: Any = None
        self.maps: Any = None
        self.events: Any = None
        false_events = options["false_events"]
        if options["report"]:
            from keyhole.report.rows import RowCollector

            self.page = RowCollector(task.detector, false_events)
        if options["events"] or false_events:
            from keyhole.tasks.detect.events import EventCollector

            self.events = EventCollector(task.detector, false_events)
        if options["anomaly_map"]:
            from keyhole.report.anomaly_maps import AnomalyMaps

            self.maps = AnomalyMaps(options["anomaly_map"], task.detector)
        outputs = (self.page, self.maps, self.events)
        task.outputs = [output for output in outputs if output is not None]

    def finish(self, source: Any, say: Say) -> int:
        """Write them; the exit code is 1 for alarms with --fail-on-alarm."""
        if self.events is not None:
            self._write_events(say)
        if self.page is not None:
            from keyhole.report import write_report

            scored = self.page.scored(source, rate=self.task.rate)
            write_report(self.options["report"], self.task.detector.autoencoder_, scored)
            say("wrote", self.options["report"])
        if self.maps is not None:
            from keyhole.report.png import HOTTEST

            say("maps", f"{self.maps.count:,} anomaly maps, brightest from an anomaly score "
                        f"of {HOTTEST:g} (1 is typical)")  # fmt: skip
            say("wrote", self.options["anomaly_map"])
        return 1 if self.options["fail_on_alarm"] and self.task.alarms else 0

    def _write_events(self, say: Say) -> None:
        from keyhole.data.sinks import open_sink
        from keyhole.tasks.detect.events import in_words, table_of

        events, modality = self.events.events(), self.task.autoencoder.model_.modality
        say("events", f"{len(events):,}; {self.events.rule.promise}")
        for event in sorted(events, key=lambda event: -event.anomaly_score)[:MAX_EVENTS]:
            say("event", in_words(event))
        if self.options["events"]:
            with open_sink(self.options["events"], raw_text=self.options["raw_text"]) as sink:
                sink.write(table_of(events, modality.machine_column))
            say("wrote", self.options["events"])


detect = task_command(
    Detect,
    (
        click.option("--fail-on-alarm", is_flag=True,
                     help="Exit with status 1 if any row is an alarm."),
        click.option("--report", type=click.Path(), help="Write a page about these rows."),
        click.option("--anomaly-map", type=click.Path(),
                     help="Folder for anomaly maps: how anomalous each pixel is."),
        click.option("--events", type=click.Path(),
                     help="Write the events of a sensor series to a .csv, .parquet or .jsonl "
                          "file."),
        click.option("--false-events", metavar="RATE",
                     help="Limit of false events for each machine, such as 1/day."),
    ),
    Outputs,
)  # fmt: skip


embed = task_command(Embed)


def _embed(run: Callable[..., Any], model: str, data: str | None, **options: Any) -> int:
    """The codes of the rows of DATA; for a recommender, the vectors of items or of users."""
    if recommend.holds_recommender(model):
        return recommend.embed_items(model, data, options)
    if options.pop("items"):
        raise click.UsageError("--items is for recommenders, and this model is not one")
    if data is None:
        raise click.UsageError("Missing argument 'DATA'.")
    return run(model=model, data=data, **options)


embed.callback = partial(_embed, embed.callback)  # pyright: ignore
embed.params[1].required = False
embed.params.append(
    click.Option(
        ["--items"], is_flag=True, help="Recommender only: write the vectors of all items."
    )
)


@click.command(short_help="New rows, generated by the model.")
@model_argument
@click.option("-n", "--rows", type=int, default=1_000, show_default=True, help="Number of rows.")
@click.option("--given", multiple=True, metavar="COLUMN=VALUE",
              help="Generate only rows with this value; may be repeated.")  # fmt: skip
@click.option(
    "--no-gaps", is_flag=True, help="Generate no missing values, even if training had some."
)
@click.option("--no-rules", is_flag=True, help="Do not enforce the rules between columns.")
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same rows.")
@click.option("--judge", is_flag=True, help="Measure how realistic the generated rows are.")
@click.option(
    "--target", metavar="COLUMN", help="With --judge: the column that test models predict."
)
@output_options
@json_option
@quiet_option
def sample(model: str, **options: Any) -> None:
    """Generate new rows from MODEL: all columns that it learned, in original units.

    If the model has no prior over codes, one is fitted now; fit with --for sample to save one.
    Images become PNG files if OUT ends in /.
    """
    from keyhole.autoencoder.sampling import check_count
    from keyhole.data.sinks import open_sink
    from keyhole.tasks import Generator

    say, out = Say(options["quiet"]), options["out"]
    check_answers(options, model, None)
    rows = check_count(options["rows"])
    _given(options["given"], [])
    with spoken_warnings(say):
        generator = Generator.load(model).set_params(rules=not options["no_rules"])
        fitted = generator.autoencoder_
        given = _given(options["given"], fitted.model_.modality.needs())
        _check_target(fitted, options)
        _say_prior(model, fitted, say)
        if out.endswith("/"):
            opened = _folder(fitted, out)
        else:
            opened = open_sink(out, json=options["as_json"], raw_text=options["raw_text"])
        with rows_progress("sample", rows, options["quiet"]) as on_progress, opened as sink:
            for table in _tables(fitted, rows, given, options):
                sink.write(table)
                on_progress(len(table))
    conditions = "".join(f", {name} = {value}" for name, value in given.items())
    say("sample", f"{rows:,} rows{conditions}")
    if out != "-":
        say("wrote", out)
    if options["judge"]:
        with spoken_warnings(say):
            judgement = generator.judge(target=options["target"])
        if given or options["no_gaps"]:
            say("judge", "measured on other rows, generated without --given or --no-gaps")
        for line in judgement.lines():
            say("judge", line)


@contextmanager
def _folder(model: Any, path: str) -> Iterator[Any]:
    """A sink that writes drawn images as PNG files. Raises: SettingError for a table."""
    from keyhole.core.files import atomic_folder
    from keyhole.errors import FileError, SettingError
    from keyhole.jobs.images import ImageFolder

    if (why_not := model.model_.modality.supports("png")) is not None:
        raise SettingError(f"{path}: {why_not}")
    if os.path.isdir(path) and os.listdir(path):
        raise FileError(f"{path} holds files that would be lost; write elsewhere")
    with atomic_folder(path) as folder:
        yield ImageFolder(folder)


def _tables(
    model: Any, rows: int, given: dict[str, str], options: dict[str, Any]
) -> Iterator[Any]:
    """The drawn rows, a block at a time, so that memory stays constant."""
    from keyhole.autoencoder.sampling import sampler_of
    from keyhole.core.environment import hash_of

    sampler = sampler_of(model)
    for block, start in enumerate(range(0, rows, BLOCK_ROWS)):
        count = min(BLOCK_ROWS, rows - start)
        seed = hash_of(options["seed"], block) >> 1  # below 2^63, as torch wants it
        drawn = sampler.rows(count, seed, given, gaps=not options["no_gaps"],
                             rules=not options["no_rules"])  # fmt: skip
        yield model.model_.modality.written(drawn)


def _check_target(model: Any, options: dict[str, Any]) -> None:
    """Check --target before a row is written: it must be a column and needs --judge."""
    from keyhole.data.source import check_columns

    target = options["target"]
    if target is None:
        return
    if not options["judge"]:
        raise click.UsageError("--target needs --judge")
    check_columns([target], model.model_.modality.needs(), "--target")


def _say_prior(path: str, model: Any, say: Say) -> None:
    from keyhole.store import read_bundle

    if read_bundle(path).sections["autoencoder"].get("prior") is None:
        rows = model.model_.prior_rows
        say("prior",
            f"{path} has no prior: {model.model_.prior!r} was fitted now, to the codes of "
            f"{rows:,} reference rows; keyhole fit --for sample saves one")  # fmt: skip


def _given(texts: tuple[str, ...], columns: list[str]) -> dict[str, str]:
    """The value of each column. A name may contain `=`: the longest matching column is used."""
    given = {}
    for text in texts:
        if not text.partition("=")[0] or "=" not in text:
            raise click.UsageError(f"--given {text!r}: write COLUMN=VALUE")
        names = [name for name in columns if text.startswith(f"{name}=")]
        name = max(names, key=len, default=text.partition("=")[0])
        if name in given and columns:
            raise click.UsageError(f"--given {name}: two values; give one")
        given[name] = text[len(name) + 1 :]
    return given
