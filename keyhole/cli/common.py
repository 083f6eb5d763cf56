"""Shared by the commands: options, printing, progress, and messages in terms of options."""

import functools
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import click

from keyhole.core.progress import Bar, Clock, advanced, stage, tell, wall_clock
from keyhole.errors import KeyholeError, KeyholeWarning, printable, printable_json

Command = Callable[..., Any]
# Reserved of a time budget: seconds for the model; a share and seconds for the page.
WRITE_S, PAGE_SHARE, PAGE_S = 1.0, 0.1, 3.0

model_argument = click.argument("model", type=click.Path())
data_argument = click.argument("data", type=click.Path(allow_dash=True))
json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


class OnlyFor(click.Option):
    """An option of `fit` that applies only to `tables`, or only to `denoise`."""

    def __init__(self, *names: Any, only: str, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.only = only


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """A decorator that adds these options to a command, in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


quiet_option = click.option("--quiet", is_flag=True, help="Print only warnings and errors.")
machine_options = with_options(
    click.option("--threads", type=click.IntRange(1), help="Processor threads to use."),
    click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps."),
    quiet_option,
)
output_options = with_options(
    click.option("-o", "--out", default="-", type=click.Path(allow_dash=True),
                 help="A .csv, .parquet or .jsonl file; - for standard output."),
    click.option("--force", is_flag=True, help="Replace the output if it exists."),
    click.option("--raw-text", is_flag=True, help="Do not escape spreadsheet formulas."),
)  # fmt: skip


class Say:
    """Prints lines on standard error: a label, then the text."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def __call__(self, label: str, text: str) -> None:
        """Print one line, unless quiet."""
        if not self.quiet:
            tell(label, text)

    def warn(self, text: str) -> None:
        """Print one line, always."""
        tell("warning", text)

    def verdict(self, estimator: Any) -> None:
        """Print how far to trust a fitted estimator, and what the checks object to."""
        self("verdict", estimator.verdict_)
        for finding in estimator.findings_:
            self.warn(f"{finding.code} {finding.title}: {finding.text}")


def show(lines: Iterable[str]) -> None:
    """Print lines on standard output."""
    click.echo("\n".join(map(printable, lines)))


def show_json(value: Any) -> None:
    """Print a value as one line of JSON on standard output."""
    click.echo(printable_json(json.dumps(value, ensure_ascii=False)))


_reword: ContextVar[Callable[[str], str]] = ContextVar("reword", default=str)


def time_to_write(*, page: bool) -> AbstractContextManager[Clock]:
    """Reserve time of a budget for writing the model, and the page if there is one."""
    return wall_clock(PAGE_SHARE, PAGE_S) if page else wall_clock(0.0, WRITE_S)


@contextmanager
def spoken_warnings(say: Say, reword: Callable[[str], str] | None = None) -> Iterator[None]:
    """Print the library's warnings as lines, each once, as soon as they occur.

    `reword` puts them in terms of the command's options; nested calls use it too.
    """
    printed: set[str] = set()
    token = _reword.set(reword or _reword.get())

    def show(message: Any, *_: Any) -> None:
        if str(message) not in printed:
            printed.add(str(message))
            say.warn(_reword.get()(str(message)))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", KeyholeWarning)
            warnings.showwarning = show
            yield
    finally:
        _reword.reset(token)


@contextmanager
def resumable(checkpoint: str, say: Say) -> Iterator[None]:
    """If a fit is interrupted, print how to continue it."""
    try:
        yield
    except KeyboardInterrupt:
        saved = f"saved in {checkpoint}: the same command continues from there"
        say.warn(saved if os.path.exists(checkpoint) else "stopped before the first evaluation")
        raise


@contextmanager
def rows_progress(
    verb: str, total: int | None, quiet: bool, what: str = "rows"
) -> Iterator[Callable[[int], None]]:
    """A callback for finished rows: a bar on a terminal, elsewhere a line after two seconds."""
    stage(verb, total, what)
    if quiet or not sys.stderr.isatty():
        yield advanced
        return
    bar, done = Bar(verb, transient=True), 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        bar.update(done, total, what)

    try:
        advance(0)
        yield advance
    finally:
        bar.stop()


def load_detector(
    path: str, options: dict[str, Any], say: Say, *, false_alarm_rate: float | None = None
) -> Any:
    """The detector of a bundle on its device, at another false alarm rate if one is given.

    Raises: BundleError, SettingError.
    """
    from keyhole.store import read_bundle
    from keyhole.tasks import AnomalyDetector

    with spoken_warnings(say):
        detector = AnomalyDetector.load(read_bundle(path), false_alarm_rate=false_alarm_rate)
    use_machine(detector.autoencoder_, options["threads"], options["device"])
    return detector


def weight_count(model: Any) -> int:
    """How many numbers the network of a fitted estimator has learned."""
    return sum(weight.numel() for weight in model.model_.network.parameters())


def kilobytes(path: str) -> str:
    """The size of a file."""
    return f"{os.path.getsize(path) / 1000:,.0f} kB"


def nats(value: float | None) -> str:
    """A number of the checks; the manifest holds null for NaN."""
    return "?" if value is None else f"{value:.2f}"


def percent(share: float) -> str:
    """A share as per cent, with two significant digits."""
    return f"{100 * share:.2g} %"


def costs_in_words(evidence: dict[str, Any], pca: str) -> str:
    """The errors of the net, of PCA and of column means on held-out rows."""
    masked, pca_masked, mean, rebuilt, pca_rebuilt = (
        nats(evidence[f"{name}_nats"])
        for name in ("masked", "pca_masked", "mean", "rebuilt", "pca_rebuilt")
    )
    return (
        f"masked values {masked} ({pca} {pca_masked}, column means {mean}); visible values "
        f"{rebuilt} ({pca} {pca_rebuilt}); in nats per row (-log likelihood), lower is better"
    )


def alarms_in_words(detector: Any) -> str:
    """The false alarm rate, the threshold, and the limits of the calibration."""
    from keyhole.tasks.detect.calibration import trust_in_words

    calibration = detector.calibration_
    shortage = calibration.shortage(detector.false_alarm_rate)
    if shortage is not None:
        return shortage
    text = (
        f"rows with an anomaly score above {-detector.offset_:.2f} (1 is typical), at most "
        f"{percent(detector.false_alarm_rate)} of normal rows; calibrated on "
        f"{len(calibration.anomaly_scores):,} rows, enough for rates down to "
        f"{percent(calibration.least_rank())}"
    )
    if calibration.tail is not None:
        text += f" ({percent(calibration.least_rate())} by extrapolation)"
    return "; ".join(filter(None, [text, trust_in_words(calibration.apart())]))


def use_machine(model: Any, threads: int | None, device: str) -> None:
    """Move a loaded model to a device, and set the number of threads."""
    from keyhole.core.environment import tell_threads
    from keyhole.training import TrainingConfig

    tell_threads(threads)
    model.model_.network.to(TrainingConfig(device=device).torch_device())


def open_matched(model: Any, data: Any, say: Say) -> Any:
    """The source of data as the model reads it, its matching columns printed.

    `data` is a path or an open source. Raises: DataError if a column is missing, or for rows of
    another kind.
    """
    from keyhole.autoencoder.input_validation import match_source
    from keyhole.data import open_source
    from keyhole.data.source import check_columns

    source = match_source(model, data if hasattr(data, "blocks") else open_source(data))
    needed = model.model_.modality.needs()
    check_columns(needed, source.names, "this model")
    known = set(model.feature_names_in_.tolist())
    extra = [name for name in source.names if name not in known]
    text = f"{len(needed)} of {len(needed)} matched"
    if extra:
        text += f"; {len(extra)} unknown ones ignored: {', '.join(extra[:5])}"
    say("columns", text)
    return source


def check_answers(options: dict[str, Any], model: str, data: str | None) -> None:
    """Check --out, --report and --anomaly-map before anything is loaded.

    Raises: SettingError, FileError.
    """
    from keyhole.core.outputs import Output, check_outputs
    from keyhole.data.sinks import format_of

    out = options["out"]
    if data is None and out.endswith("/"):
        outputs = [Output("-o", out, "images")]
    else:
        format_of(out, json=options["as_json"])
        outputs = [Output("-o", out, "rows")]
    if options.get("report"):
        outputs.append(Output("--report", options["report"], "page"))
    if options.get("events"):
        format_of(options["events"])
        outputs.append(Output("--events", options["events"], "rows"))
    if options.get("anomaly_map"):
        outputs.append(Output("--anomaly-map", options["anomaly_map"], "images", joins=True))
    check_outputs(outputs, {"DATA": data}, model=model, force=options["force"])


def rules_in_words(table: Any, most: int = 20) -> str:
    """The rules between columns of a table, which must have some."""
    rules = [str(rule) for rule in table.lawful.rules]
    more = f", and {len(rules) - most} more" if len(rules) > most else ""
    return ", ".join(rules[:most]) + more


# Arguments whose option has another name.
OTHER_NAMES = {
    "time_budget_s": "--time-budget", "random_state": "--seed", "kinds": "--kind",
    "only": "--columns", "exclude": "--exclude", "clean": "--clean", "bad": "--bad",
    "noise": "--noise", "axes": "--axes",
}  # fmt: skip
# Advice for Python users, and its form on the command line.
ADVICE = (
    ("ImageSchema(size=(height, width))", "--size HEIGHTxWIDTH"),
    ("Pairs() and fit(noisy, clean)", "--corruption pairs and --clean"),
    ("fit(noisy, clean)", "--clean"),
    ("Denoiser(", "keyhole fit --for denoise ("),
    ("BlindSpot(reach=[1, 1])", "--corruption blind_spot:reach=[1,1]"),
    ("give Noise(1.0) and noise=...", "give --corruption noise:scale=1.0 and --noise"),
    ("fit with Variational()", "fit with --bottleneck variational"),
    ("(scale='shared')", "(--head mixed:scale=shared)"),
    ("fallback=False", "--no-fallback"),
    ("Schema(time=...)", "--time"),
)
ARGUMENT = re.compile(r"\b([a-z_]+)=(\"[^\"]*\"|'[^']*'|\.\.\.|[-+\w.]+)")
ADVISED = re.compile(r"(give|write|add|use|with|such as|;|and|or) $")


def in_options(text: str, options: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The text with `false_alarm_rate=2.0` written as `--false-alarm-rate 2.0`.

    `names` are the command's options. Only a value that was given for an option, or advice to
    give one, is rewritten: arguments of a part (`--bottleneck plain:width=4`) keep their `=`.
    """
    for python, command_line in ADVICE:
        text = text.replace(python, command_line)

    def rewritten(match: re.Match[str]) -> str:
        name, value = match.groups()
        option = OTHER_NAMES.get(name) or names.get(name)
        if option is None or option not in names.values():
            return match[0]
        key = next(k for k, name_of in names.items() if name_of == option)
        given = options.get(key)
        is_given = given not in (None, ()) and value in {repr(given), str(given)}
        if not is_given and not ADVISED.search(text[: match.start()]):
            return match[0]
        plain = value.strip("\"'")
        return option if value == "..." else f"{option} {plain}"

    return ARGUMENT.sub(rewritten, text)


def speaking(command: click.Command) -> click.Command:
    """The command with messages in terms of its options, and with lines for long stages."""
    from keyhole.core.progress import lines_for_stages

    run = command.callback
    if run is None or hasattr(run, "names_options"):
        return command
    parameters = [p for p in command.params if isinstance(p, click.Option) and p.name]
    names = {str(p.name): max(p.opts, key=len) for p in parameters}

    @functools.wraps(run)
    def callback(**options: Any) -> Any:
        reword = functools.partial(in_options, options=options, names=names)
        quiet = bool(options.get("quiet"))
        stages = nullcontext() if quiet else lines_for_stages(command.name or "starting")
        try:
            with stages, spoken_warnings(Say(quiet), reword):
                return run(**options)
        except KeyholeError as fault:
            text = reword(str(fault))
            if text == str(fault):
                raise
            raise type(fault)(text) from fault

    callback.names_options = True  # pyright: ignore
    command.callback = callback
    return command
