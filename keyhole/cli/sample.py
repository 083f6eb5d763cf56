"""keyhole sample: new rows drawn from a model, and how realistic they are."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from keyhole.cli.common import (
    Say,
    check_answers,
    json_option,
    model_argument,
    output_options,
    rows_progress,
    spoken_warnings,
)

BLOCK_ROWS = 16_384  # drawn at a time


@click.command(short_help="New rows, drawn from the model.")
@model_argument
@click.option("-n", "--rows", type=int, default=1_000, show_default=True, help="How many rows.")
@click.option("--given", multiple=True, metavar="COLUMN=VALUE",
              help="Draw only rows with this value; may be repeated.")  # fmt: skip
@click.option("--no-gaps", is_flag=True, help="Draw no missing values, even if training had some.")
@click.option("--no-rules", is_flag=True, help="Do not enforce the rules between columns.")
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same rows.")
@click.option("--judge", is_flag=True, help="Measure how realistic such rows are.")
@click.option("--target", metavar="COLUMN", help="Column that --judge lets models predict.")
@output_options
@json_option
@click.option("--quiet", is_flag=True, help="Print only warnings and errors.")
def sample(model: str, **options: Any) -> None:
    """Draw new rows from MODEL: all columns that it knows, in original units.

    If the model has no prior over its codes, one is fitted now; fit with --for sample to save
    one. Images become PNG files if OUT ends in /.
    """
    from keyhole.autoencoder.sampling import check_count
    from keyhole.data.sinks import open_sink
    from keyhole.tasks import Generator

    say = Say(options["quiet"])
    folder = options["out"].endswith("/")
    check_answers(options, model, None)
    rows = check_count(options["rows"])
    _given(options["given"], [])
    with spoken_warnings(say):
        generator = Generator.load(model).set_params(rules=not options["no_rules"])
        fitted = generator.autoencoder_
        given = _given(options["given"], fitted.model_.modality.needs())
        _check_target(fitted, options)
        _say_prior(model, fitted, say)
        with (
            rows_progress("sample", rows, options["quiet"]) as heard,
            _folder(fitted, options["out"])
            if folder
            else open_sink(
                options["out"], json=options["as_json"], raw_text=options["raw_text"]
            ) as sink,
        ):
            for table in _tables(fitted, rows, given, options):
                sink.write(table)
                heard(len(table))
    conditions = "".join(f", {name} = {value}" for name, value in given.items())
    say("sample", f"{rows:,} rows{conditions}")
    if options["out"] != "-":
        say("wrote", options["out"])
    if options["judge"]:
        with spoken_warnings(say):
            judgement = generator.judge(target=options["target"])
        if given or options["no_gaps"]:
            say("judge", "measured on rows drawn without --given and --no-gaps")
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
        raise click.UsageError(
            "--target is the column that --judge lets models predict: add --judge"
        )
    check_columns([target], model.model_.modality.needs(), "--target")


def _say_prior(path: str, model: Any, say: Say) -> None:
    from keyhole.store import read_bundle

    if read_bundle(path).sections["autoencoder"].get("prior") is None:
        rows = model.model_.prior_rows
        say("prior",
            f"{path} has none: {model.model_.prior!r} was fitted to the codes of {rows:,} "
            "reference rows; keyhole fit --for sample saves one")  # fmt: skip


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
