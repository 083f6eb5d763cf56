"""keyhole recommend, and what other commands do with a recommender."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from keyhole.cli.common import (
    OnlyFor,
    Say,
    check_answers,
    json_option,
    kilobytes,
    model_argument,
    output_options,
    quiet_option,
    show,
    show_json,
    spoken_warnings,
    with_options,
)
from keyhole.core.progress import stage

VERB = "recommend"
RECOMMEND_ONLY: dict[str, Any] = {"cls": OnlyFor, "only": VERB}
FIT_OPTIONS = {  # of fit that a recommender takes
    "data", "out", "tasks", "net", "user", "item", "value", "above", "time", "seed", "report",
    "no_report", "force", "threads", "quiet", "verbose",
}  # fmt: skip
BLOCK_USERS = 20_000  # whose lists are written at a time
column_options = with_options(
    click.option("--user", metavar="COLUMN", **RECOMMEND_ONLY, help="Column of users."),
    click.option("--item", metavar="COLUMN", **RECOMMEND_ONLY, help="Column of items."),
    click.option("--value", metavar="COLUMN", **RECOMMEND_ONLY,
                 help="Column of ratings or counts; only values above --above count."),
    click.option("--above", type=float, default=0.0, **RECOMMEND_ONLY,
                 help="Only values above this one count.  [default: 0]"),
)  # fmt: skip


def refuse_given(names: set[str]) -> None:
    """Raises: UsageError for one of these options of the command if a user gave it."""
    context = click.get_current_context()
    for option in context.command.params:
        source = context.get_parameter_source(str(option.name))
        if option.name in names and source is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} is not for recommenders")


def fit_recommender(data: str, out: str, page: str, options: dict[str, Any], say: Say) -> None:
    """Fit a recommender to the interactions of DATA, save it, and write its page."""
    from keyhole.modalities import InteractionSchema
    from keyhole.tasks import Recommender

    schema = InteractionSchema(
        options["user"], options["item"],
        value=options["value"], time=options["time"], above=options["above"],
    )  # fmt: skip
    recommender = Recommender(
        options["net"] or "auto", schema=schema, random_state=options["seed"],
        verbose=not options["quiet"],
    )  # fmt: skip
    stage("opening the rows")
    with spoken_warnings(say):
        recommender.fit(data)
    recommender.save(out)
    say("wrote", out)
    if not options["no_report"]:
        from keyhole.report.lists import write_recommender

        write_recommender(page, recommender)
        say("wrote", f"{page} ({kilobytes(page)}, open it in a browser)")


@click.command(short_help="The best items for known users, or for any history.")
@model_argument
@click.argument("data", type=click.Path(allow_dash=True), required=False)
@click.option("--user", "users", multiple=True, help="A known user; may be repeated.")
@click.option("-k", type=click.IntRange(1), default=10, show_default=True,
              help="Length of each list.")  # fmt: skip
@click.option("--allow", multiple=True, metavar="ITEM", help="Recommend only these items.")
@click.option("--deny", multiple=True, metavar="ITEM", help="Do not recommend these items.")
@click.option("--include-seen", is_flag=True, help="Also recommend items of the history.")
@output_options
@json_option
@quiet_option
def recommend(model: str, data: str | None, **options: Any) -> None:
    """The best items for known users (--user 17), or for the users of DATA.

    DATA has a column of users, or columns of users and items. In the second case the items are
    the histories of the users, and the users may be unknown. The answer has one line for each
    user and item: user, rank, item, score.
    """
    from keyhole.data import open_source
    from keyhole.data.sinks import open_sink
    from keyhole.tasks import Recommender
    from keyhole.tasks.recommend.histories import Histories

    say = Say(options["quiet"])
    if bool(data) == bool(options["users"]):
        raise click.UsageError("give --user, or DATA with users or histories")
    check_answers(options, model, data)
    with spoken_warnings(say):
        recommender = Recommender.load(model)
        own: Any = list(options["users"]) if data is None else open_source(data)
        histories = recommender.histories(own)
        allowed = recommender.allowed(options["allow"] or None, options["deny"] or None)
        opened = open_sink(options["out"], json=options["as_json"], raw_text=options["raw_text"])
        with opened as sink:
            for start in range(0, max(histories.lists.shape[0], 1), BLOCK_USERS):
                part = slice(start, start + BLOCK_USERS)
                some = Histories(histories.users[part], histories.lists[part])
                ranked = recommender.ranked(some, options["k"], not options["include_seen"],
                                            allowed)  # fmt: skip
                sink.write(ranked)
    if options["out"] != "-":
        say("wrote", options["out"])


def embed_items(model: str, data: str | None, options: dict[str, Any]) -> int:
    """Write the vectors of all items of a recommender, or of the users of DATA."""
    from keyhole.data import open_source
    from keyhole.data.sinks import open_sink
    from keyhole.tasks import Recommender

    say = Say(options["quiet"])
    check_answers(options, model, data)
    if (data is None) != bool(options["items"]):
        raise click.UsageError("give --items for the vectors of items, or DATA for those of users")
    with spoken_warnings(say):
        recommender = Recommender.load(model)
        histories = None if data is None else recommender.histories(open_source(data))
        opened = open_sink(options["out"], json=options["as_json"], raw_text=options["raw_text"])
        with opened as sink:
            sink.write(recommender.embedded(histories))
    if options["out"] != "-":
        say("wrote", options["out"])
    return 0


def evaluate_recommender(model: str, data: str, options: dict[str, Any]) -> None:
    """Print measures on later interactions, beside popularity and neighbours."""
    from keyhole.data import open_source
    from keyhole.tasks import Recommender

    refuse_given({"label", "false_alarm_rate"})
    say = Say(options["quiet"])
    with spoken_warnings(say):
        evaluation = Recommender.load(model).evaluate(open_source(data))
    if options["as_json"]:
        show_json(evaluation.to_json())
        return
    for note in evaluation.notes:
        say("data", note)
    show([f"users     {evaluation.users:,} evaluated", *evaluation.lines()])
    say("verdict", evaluation.verdict)


def update_recommender(model: str, data: str, out: str, say: Say) -> None:
    """Add the interactions of DATA to a recommender."""
    from keyhole.data import open_source
    from keyhole.tasks import Recommender

    recommender = Recommender.load(model)
    before = recommender.fitted_.interactions.history.nnz
    recommender.partial_fit(open_source(data))
    added = recommender.fitted_.interactions.history.nnz - before
    say("update", f"{added:,} pairs of users and items added to {before:,} earlier ones")
    recommender.save(out)
    say("verdict", recommender.verdict_)
    say("wrote", out)


def lines_of(path: str, bundle: Any) -> list[str]:
    """What `keyhole inspect` prints of a recommender."""
    from keyhole.tasks import Recommender

    recommender = Recommender.load(bundle)
    own, about = recommender.fitted_.interactions, bundle.about
    return [
        f"model     {path}, made {about.get('created')} by keyhole {about.get('keyhole')}",
        f"data      {own.history.nnz:,} pairs of {len(own.users):,} users and "
        f"{len(own.items):,} items",
        f"parts     {recommender.fitted_.model!r}",
        *(f"why       {sentence}" for sentence in recommender.why_),
        f"verdict   {recommender.verdict_}",
        *(f"warning   {f.code} {f.title}: {f.text}" for f in recommender.findings_),
        *(f"          {line}" for line in recommender.evaluation_.lines()),
    ]


def holds_recommender(path: str) -> bool:
    """True for the bundle of a recommender. Raises: BundleError."""
    from keyhole.store import read_bundle

    return VERB in read_bundle(path).sections
