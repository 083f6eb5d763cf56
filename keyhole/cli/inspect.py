"""keyhole inspect: what a model is, what it was trained on, how far to trust it."""

from typing import Any

import click

from keyhole.cli.common import (
    Say,
    alarms_in_words,
    json_option,
    model_argument,
    nats,
    rules_in_words,
    show,
    show_json,
    spoken_warnings,
)

MOST_CARDS = 32
BLOCKS = "▁▂▃▄▅▆▇█"


@click.command()
@model_argument
@click.option(
    "--codes", is_flag=True, help="What each code dimension (32 at most) stands for, instead."
)
@json_option
def inspect(model: str, codes: bool, as_json: bool) -> None:
    """What MODEL is, what it was trained on, how far to trust it."""
    from keyhole.estimator import Autoencoder
    from keyhole.store import read_bundle
    from keyhole.tasks import AnomalyDetector

    bundle = read_bundle(model)
    with spoken_warnings(Say(False)):
        if "detect" in bundle.sections:
            detector = AnomalyDetector.from_bundle(bundle)
            fitted, promises = detector.autoencoder_, _promises(detector)
        else:
            fitted, promises = Autoencoder.from_bundle(bundle), []
    told = _cards(fitted) if codes else []
    if as_json:
        said = {"about": bundle.about, "sections": bundle.sections}
        if codes:
            said["codes"] = [card.to_json() for card in told]
        show_json(said)
        return
    if codes:
        lines = _codes(told, fitted.network_.width)
    else:
        promises += _prior(bundle.sections["autoencoder"])
        lines = _lines(model, fitted, bundle.about, promises)
    show(lines)


def _cards(model: Any) -> list[Any]:
    from keyhole.tasks.cards import cards

    with spoken_warnings(Say(False)):
        return cards(model, most=MOST_CARDS)


def _codes(told: list[Any], width: int) -> list[str]:
    """The cards, one below the other."""
    from keyhole.tasks.cards import lines

    found = []
    for card in told:
        first, *others = lines(card)
        found += [first, *(f"    {line}" for line in others), ""]
    more = width - len(told)
    return [*found, f"and {more:,} more dimensions"] if more else found[:-1]


def _prior(section: dict[str, Any]) -> list[str]:
    """The kind of the prior over codes, and what it was fitted to."""
    held = section.get("prior")
    if held is None:
        return []
    return [f"prior     {held['recipe']['kind']}, fitted to the codes of {held['rows']:,} rows"]


def _width(choice: Any) -> list[str]:
    """Why the code is as wide as it is, and the curve that it was read from."""
    if choice is None or not choice.nats:
        return []
    low, high = min(choice.nats), max(choice.nats)
    heights = [(n - low) / ((high - low) or 1.0) * (len(BLOCKS) - 1) for n in choice.nats]
    curve = "".join(BLOCKS[round(height)] for height in heights)
    shown = {1, 2, 4, 8, 16, 32, choice.width, len(choice.nats)}
    pairs = [f"{w} {nats(n)}" for w, n in enumerate(choice.nats, 1) if w in shown]
    own = [
        f"{dimension:.1f} by {who}"
        for who, dimension in (("two-NN", choice.two_nn), ("likelihood", choice.likelihood))
        if dimension is not None
    ]
    filled = f"; the rows fill about {' and '.join(own)} dimensions" if own else ""
    return [
        f"width     {choice.why}",
        f"          {curve} nats a row at widths 1 to {len(choice.nats)}{filled}",
        f"          {', '.join(pairs)}",
    ]


def _promises(detector: Any) -> list[str]:
    """What a detector promises, and what it compares with."""
    return [
        f"alarms    {alarms_in_words(detector)}",
        f"memory    {len(detector.gauge_.memory):,} rows to compare with, kept in the model; "
        f"{detector.gauge_.rows:,} met",
    ]


def _lines(path: str, model: Any, about: dict[str, Any], promises: list[str]) -> list[str]:
    found, run, table = model.evidence_, model.run_, model.table_
    size = sum(p.numel() for p in model.network_.parameters())
    lines = [
        f"model     {path}, made {about.get('created')} by keyhole {about.get('keyhole')}, "
        f"torch {about.get('torch')}",
        f"data      {model.rows_:,} rows x {len(table.columns)} columns, "
        f"fingerprint {model.fingerprint_}",
        f"shape     {len(table.layout)} cells -> {found['width']} codes, {size:,} weights, "
        f"{model.network_.shape.members} member(s)",
        f"parts     {', '.join(repr(part) for part in model.parts().values())}",
        f"training  {run.steps[-1]:,} of {run.planned:,} steps, best at {run.best_step:,}; "
        f"{run.ended}",
        f"held out  hidden cells {nats(found['guessed_nats'])} nats a row (PCA "
        f"{nats(found['pca_guessed_nats'])}, mean {nats(found['mean_nats'])}); in sight "
        f"{nats(found['rebuilt_nats'])} (PCA {nats(found['pca_rebuilt_nats'])})",
        *_width(model.width_choice_),
        f"verdict   {model.verdict_}",
        *(f"warning   {f.code} {f.title}: {f.text}" for f in model.findings_),
        *promises,
        "columns   name, kind, share rebuilt (guessed when hidden), why this kind",
    ]
    if table.lawful is not None:
        lines.insert(-1, f"rules     {rules_in_words(table)}")
    for column in table.columns:
        rebuilt = found["rebuilt_skill"].get(column.name)
        guessed = found["guessed_skill"].get(column.name)
        skill = "" if rebuilt is None else f"{rebuilt:4.0%} ({guessed:.0%})"
        lines.append(
            f"          {column.name:<24.24} {column.kind:<9} {skill:<12} "
            f"{table.reasons[column.name]}"
        )
    return lines
