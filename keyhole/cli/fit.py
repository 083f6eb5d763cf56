"""keyhole fit: trains a model, and prints a verdict on how far to trust it."""

from collections import Counter
from contextlib import suppress
from typing import Any

import click

from keyhole.cli import denoise, recommend
from keyhole.cli.common import (
    OnlyFor,
    Say,
    alarms_in_words,
    costs_in_words,
    data_argument,
    kilobytes,
    machine_options,
    resumable,
    rules_in_words,
    spoken_warnings,
    time_to_write,
    weight_count,
    with_options,
)
from keyhole.core.progress import clock, stage, wall_clock

TABLES_ONLY: dict[str, Any] = {"cls": OnlyFor, "only": "tables"}
TO_CHECK, MAX_TO_CHECK = {"ignored", "datetime"}, 8  # kinds of columns; columns that are shown
SAMPLE = "sample"  # a task that needs a prior
SHARED = {denoise.VERB: (), recommend.VERB: ("--time",)}  # options of tables that it takes too
PART_OPTIONS = ("bottleneck", "net", "head", "corruption")


part_options = with_options(*(
    click.option(f"--{name}", **(TABLES_ONLY if name == "bottleneck" else {}),
                 metavar="KIND[:ARGS]", help=f"The {name}, as kind:name=value,...")
    for name in reversed(PART_OPTIONS)
))  # fmt: skip


def prior_of(options: dict[str, Any]) -> Any:
    """The prior of --prior; None: chosen by the number of rows."""
    import keyhole.model.priors  # noqa: F401  (registers its kinds)
    from keyhole.core.parts import parse

    return None if options["prior"] is None else parse("prior", options["prior"])


def parts_of(options: dict[str, Any]) -> dict[str, Any]:
    """The Autoencoder's arguments from the options."""
    from keyhole.core.parts import parse
    from keyhole.modalities import ImageSchema, Schema, SeriesSchema
    from keyhole.training import TrainingConfig

    parts = {name: parse(name, options[name]) for name in PART_OPTIONS if options[name]}
    training = TrainingConfig(
        options["steps"],
        batch=options["batch"],
        time_budget_s=options["time_budget"],
        device=options["device"],
    )
    if options["learning_rate"] is not None:
        training.learning_rate = options["learning_rate"]
    if options.get("size"):
        return {**parts, "training": training, "schema": ImageSchema(_size(options["size"]))}
    columns: dict[str, Any] = {
        "kinds": _kinds(options["kind"]) or None,
        "only": [text for text in options["columns"] if text.strip(", ")] or None,
        "exclude": [text for text in options["exclude"] if text.strip(", ")] or None,
    }
    if options["time"]:
        series = {name: options[name] for name in ("time", "group", "every", "window")}
        return {**parts, "training": training, "schema": SeriesSchema(**series, **columns)}
    if options["every"] or options["window"]:
        raise click.UsageError("--every and --window are of series: name the time by --time")
    schema = Schema(
        **columns,
        id=options["id_column"],
        weight=options["weight"],
        validation=options["validation"],
    )
    return {**parts, "training": training, "schema": schema}


def _kinds(given: tuple[str, ...]) -> dict[str, str]:
    kinds = {}
    for text in given:
        name, equals, kind = text.rpartition("=")
        if not equals:
            raise click.UsageError(f"--kind {text!r}: write COLUMN=KIND")
        kinds[name] = kind
    return kinds


def _size(text: str) -> list[int]:
    """Height and width in pixels."""
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        raise click.UsageError(f"--size {text!r}: write HEIGHTxWIDTH, such as 64x64")
    return [int(side) for side in sides]


@click.command(short_help="Train on a table or images, and save the model.")
@data_argument
@click.option("-o", "--out", required=True, type=click.Path(), help="Where to save the model.")
@click.option("--id", "id_column", **TABLES_ONLY,
              help="Column that names rows; not used for training.")  # fmt: skip
@click.option(
    "--exclude",
    multiple=True,
    **TABLES_ONLY,
    help="Columns to leave out; a,b or repeated. A name may contain a comma.",
)
@click.option("--columns", multiple=True, **TABLES_ONLY,
              help="Only these columns, written as for --exclude.")  # fmt: skip
@click.option("--kind", multiple=True, **TABLES_ONLY, metavar="COLUMN=KIND",
              help="number, count, category, boolean, datetime or ignored, "
              "if the guess is wrong; number:, for a decimal comma, datetime:%d/%m/%Y for a "
              "date format.")  # fmt: skip
@click.option("--time", **TABLES_ONLY, metavar="COLUMN",
              help="Column of time stamps: the rows are readings of sensors.")  # fmt: skip
@click.option("--every", type=float, **TABLES_ONLY, metavar="SECONDS",
              help="From a step of a series to the next.  [default: by the data]")  # fmt: skip
@click.option("--window", type=int, **TABLES_ONLY, metavar="STEPS",
              help="Steps of a window of a series.  [default: by the data]")  # fmt: skip
@click.option("--weight", **TABLES_ONLY, help="Column with row weights.")
@click.option("--validation", default="random", show_default=True,
              help="Held-out rows: random, group:COLUMN or time:COLUMN.")  # fmt: skip
@part_options
@click.option("--for", "tasks", multiple=True, default=("detect",), show_default=True,
              help="Tasks of the model; sample alone trains for new rows.")  # fmt: skip
@click.option("--prior", **TABLES_ONLY, metavar="KIND[:ARGS]",
              help="Density over codes, for --for sample.  [default: by the rows]")  # fmt: skip
@denoise.image_options
@recommend.column_options
@click.option("--false-alarm-rate", type=float, default=0.01, show_default=True,
              help="Share of normal rows that may alarm.")  # fmt: skip
@click.option("--contamination", metavar="SHARE", default="auto", show_default=True,
              help="Share of anomalies in training: auto, none, or below 0.5.")  # fmt: skip
@click.option("--group", **TABLES_ONLY, metavar="COLUMN",
              help="Column of groups (machines), each with a scale of its own; of a series, "
              "each a series of its own.")  # fmt: skip
@click.option("--size", metavar="HEIGHTxWIDTH",
              help="Images: resize all to this size, in pixels.")  # fmt: skip
@click.option("--steps", type=int, help="Training steps.  [default: by the data]")
@click.option("--batch", type=int, help="Rows in a step.  [default: by the data]")
@click.option("--learning-rate", type=float, help="Peak learning rate.")
@click.option(
    "--time-budget", type=float, metavar="SECONDS", help="Wall time from start to saved model."
)
@click.option("--no-rules", is_flag=True,
              help="Do not enforce rules between columns in drawn rows.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same model.")
@click.option("--report", type=click.Path(), help="Page to write.  [default: OUT.report.html]")
@click.option("--no-report", is_flag=True, help="Write no page.")
@click.option("--force", is_flag=True, help="Replace the model if it exists.")
@click.option("--verbose", is_flag=True, help="Show every column, and why it has its kind.")
@machine_options
@wall_clock()
def fit(data: str, out: str, **options: Any) -> None:
    """Train on the rows of DATA and save the model as OUT.

    If the command is killed, run it again to continue.
    """
    from keyhole.core.environment import tell_threads

    say = Say(options["quiet"])
    page = options["report"] or f"{out.removesuffix('.keyhole')}.report.html"
    _check_outputs(data, out, page, options)
    _check_tasks(options)
    tell_threads(options["threads"])
    if options["tasks"] == (denoise.VERB,):
        denoise.fit_denoiser(data, out, page, options, say)
    elif options["tasks"] == (recommend.VERB,):
        recommend.fit_recommender(data, out, page, options, say)
    else:
        _fit_rows(data, out, page, options, say)


def _fit_rows(data: str, out: str, page: str, options: dict[str, Any], say: Say) -> None:
    """Fit to the rows of a table or to whole images, save the model, and write its page."""
    stage("opening the rows")
    with spoken_warnings(say), time_to_write(page=not options["no_report"]):
        fitted = _learn(data, out, options, say)
    model = fitted.autoencoder_
    _say_model(model, say)
    say.verdict(model)
    detects = hasattr(fitted, "calibration_")
    if detects:
        say("threshold", alarms_in_words(fitted))
    if model.model_.prior is not None:
        width = model.model_.network.width
        say("prior", f"{model.model_.prior!r} over {width} codes: keyhole sample {out}")
    fitted.save(out)
    say("wrote", out)
    if not options["no_report"]:
        from keyhole.report import score_rows, write_report
        from keyhole.report.facts import rows_in_words

        scores_rows = detects and data != "-" and clock().left() > 0
        scored = score_rows(fitted, data, training=True) if scores_rows else None
        if scored is not None:
            say("alarms", rows_in_words(scored))
        write_report(page, model, scored)
        say("wrote", f"{page} ({kilobytes(page)}, open it in a browser)")


def _check_outputs(data: str, out: str, page: str, options: dict[str, Any]) -> None:
    from keyhole.core.outputs import Output, check_outputs
    from keyhole.store import check_replaceable

    outputs = [
        Output("-o", out, "model"),
        Output("the checkpoint of -o", f"{out.rstrip('/')}.part", "state"),
    ]
    if not options["no_report"]:
        outputs.append(Output("--report", page, "page"))
    inputs = {"DATA": data, "--clean": options["clean"]}
    check_outputs(outputs, inputs, force=options["force"])
    check_replaceable(out)


def _learn(data: str, out: str, options: dict[str, Any], say: Say) -> Any:
    """The fitted detector, or the generator for --for sample alone."""
    from keyhole.core.progress import progress
    from keyhole.tasks import Generator
    from keyhole.tasks.generator import PRIOR_SHARE, forget_rules

    checkpoint = f"{out.rstrip('/')}.part"
    estimator = _estimator(data, options)
    adds_prior = SAMPLE in options["tasks"] and options["tasks"] != (SAMPLE,)

    def say_columns(table: Any, source: Any, rows: int) -> None:
        table = table.without_rules() if options["no_rules"] else table
        say_guess(table, source, rows, say, verbose=options["verbose"])

    with (
        resumable(checkpoint, say),
        wall_clock(reserved=PRIOR_SHARE if adds_prior else 0.0),
    ):
        fitted = estimator.fit(
            data,
            checkpoint=checkpoint,
            on_evaluate=None if options["quiet"] else progress(),
            on_data_ready=say_columns,
        )
    if options["no_rules"]:
        forget_rules(fitted.autoencoder_)
    if adds_prior:  # over all rows, or over the reference rows of standard input
        fitted.autoencoder_ = Generator.from_fitted(
            fitted.autoencoder_,
            prior=prior_of(options),
            rows=None if data == "-" else data,
            random_state=options["seed"],
        ).autoencoder_
    return fitted


def _estimator(data: str, options: dict[str, Any]) -> Any:
    from keyhole.autoencoder.estimator import Autoencoder
    from keyhole.tasks import AnomalyDetector, Generator
    from keyhole.tasks.generator import generating

    parts, seed = parts_of(options), options["seed"]
    if options["tasks"] == (SAMPLE,):
        model = generating(data, parts.pop("training"))
        model.set_params(**parts, random_state=seed)
        return Generator(model, prior=prior_of(options), random_state=seed)
    contamination = options["contamination"]
    with suppress(ValueError):
        contamination = float(contamination)
    return AnomalyDetector(
        Autoencoder(**parts, random_state=seed),
        false_alarm_rate=options["false_alarm_rate"],
        contamination=contamination,
        group=None if options["time"] else options["group"],
    )


def say_guess(table: Any, source: Any, rows: int, say: Say, *, verbose: bool = False) -> None:
    """Print how many columns are of which kind, before training; all of them where `verbose`.

    Otherwise only those that a user should check: ignored columns, dates, and columns with a
    remark.
    """
    delimiter = getattr(source, "delimiter", None)
    dialect = f", separated by {delimiter!r}" if delimiter else ""
    say(
        "data", f"{rows:,} {table.unit} x {len(table.columns)} columns from {source.name}{dialect}"
    )
    kinds = Counter(column.kind for column in table.columns)
    counts = ", ".join(f"{n} {plural_of(kind, n)}" for kind, n in kinds.most_common())
    say("columns", counts if verbose else f"{counts} (--verbose shows each)")
    shown = [
        column
        for column in table.columns
        if verbose or column.kind in TO_CHECK or ";" in table.reasons[column.name]
    ]
    most = len(shown) if verbose else MAX_TO_CHECK
    width = max((len(column.name) for column in shown[:most]), default=0)
    for column in shown[:most]:
        name = column.name if len(column.name) <= 30 else column.name[:29] + "…"
        say("", f"{name:<{min(width, 30)}}  {column.kind:<9} {table.reasons[column.name]}")
    if len(shown) > most:
        say("", f"and {len(shown) - most} more columns to check")
    if table.lawful is not None:
        say("rules", f"{rules_in_words(table)}; drawn rows satisfy them (--no-rules)")


def plural_of(kind: str, count: int) -> str:
    """`number`, `numbers`, `categories`, `ignored`."""
    if count == 1 or kind == "ignored":
        return kind
    return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"


def _say_model(model: Any, say: Say) -> None:
    evidence = model.model_.evidence
    shape = f"{len(model.model_.modality.layout)} features -> code of width {evidence['width']}"
    members = model.model_.network.shape.members
    folds = f", {members} ensemble members" if members > 1 else ""
    folds += " (cross-fitted)" if evidence["folds"] else ""
    if model.model_.width_choice is not None:
        say("width", model.model_.width_choice.why)
    say("model", f"{shape}, {weight_count(model):,} weights{folds}")
    say("errors", f"on held-out rows: {costs_in_words(evidence, 'PCA')}")


def _check_tasks(options: dict[str, Any]) -> None:
    """Check the tasks and the options that depend on them, before anything is read."""
    from keyhole.tasks import Task

    verbs = [*sorted(Task.registry), SAMPLE, denoise.VERB, recommend.VERB]
    alone = next((v for v in (denoise.VERB, recommend.VERB) if v in options["tasks"]), None)
    if alone is not None and len(options["tasks"]) > 1:
        raise click.UsageError(f"--for {alone} is a model of its own; fit it by itself")
    for task in options["tasks"]:
        if task not in verbs:
            raise click.UsageError(f"--for {task!r}: choose from {', '.join(verbs)}")
    for option in click.get_current_context().command.params:
        if isinstance(option, OnlyFor) and options[str(option.name)]:
            only = option.only if option.only in {denoise.VERB, recommend.VERB} else None
            if only is not None and only != alone:
                raise click.UsageError(f"{option.opts[0]} is for --for {only}")
            if only is None and alone is not None and option.opts[0] not in SHARED[alone]:
                raise click.UsageError(f"{option.opts[0]} is for tables, not for --for {alone}")
    if alone == recommend.VERB:
        recommend.refuse_given(set(options) - recommend.FIT_OPTIONS)
    if prior_of(options) is not None and SAMPLE not in options["tasks"]:
        raise click.UsageError("--prior needs --for sample")
