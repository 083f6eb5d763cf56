"""keyhole inspect: what a model is, and how far to trust it."""

from typing import Any

import click

from keyhole.cli import moments, recommend
from keyhole.cli.common import (
    Say,
    alarms_in_words,
    costs_in_words,
    json_option,
    model_argument,
    nats,
    rules_in_words,
    show,
    show_json,
    spoken_warnings,
    weight_count,
)

MAX_CARDS = 32  # code dimensions that are printed


@click.command(short_help="What a model is, what it was trained on, how far to trust it.")
@model_argument
@click.option("--codes", is_flag=True, help="Show what each code dimension (32 at most) means.")
@json_option
def inspect(model: str, codes: bool, as_json: bool) -> None:
    """What MODEL is, what it was trained on, how far to trust it."""
    from keyhole.autoencoder.estimator import Autoencoder
    from keyhole.store import read_bundle
    from keyhole.tasks import AnomalyDetector

    bundle = read_bundle(model)
    with spoken_warnings(Say(False)):
        if recommend.VERB in bundle.sections:
            recommend.refuse_given({"codes"})
        if recommend.VERB in bundle.sections and not as_json:
            show(recommend.lines_of(model, bundle))
            return
        if recommend.VERB in bundle.sections:
            show_json({"about": bundle.about, "sections": bundle.sections})
            return
        if "detect" in bundle.sections:
            detector = AnomalyDetector.load(bundle)
            fitted, detector_lines = detector.autoencoder_, _calibration(detector)
        else:
            fitted, detector_lines = Autoencoder.load(bundle), []
        code_cards = _cards(fitted) if codes else []
    if as_json:
        manifest = {"about": bundle.about, "sections": bundle.sections}
        show_json(manifest | ({"codes": [card.to_json() for card in code_cards]} if codes else {}))
    elif codes:
        show(_codes(code_cards, fitted.model_.network.width))
    else:
        prior = bundle.sections["autoencoder"].get("prior")
        if prior is not None:
            detector_lines.append(
                f"prior     {prior['recipe']['kind']}, fitted to the codes of "
                f"{prior['rows']:,} rows"
            )
        show(_lines(model, fitted, bundle.about, detector_lines))


def _cards(model: Any) -> list[Any]:
    from keyhole.tasks.cards import cards

    return cards(model, most=MAX_CARDS)


def _codes(code_cards: list[Any], width: int) -> list[str]:
    from keyhole.tasks.cards import lines

    texts = []
    for card in code_cards:
        first, *others = lines(card)
        texts += [first, *(f"    {line}" for line in others), ""]
    more = width - len(code_cards)
    return [*texts, f"and {more:,} more dimensions"] if more else texts[:-1]


def _width(choice: Any) -> list[str]:
    """Why the code has its width, and the curve of held-out nats by width."""
    if choice is None or not choice.nats:
        return []
    curve = moments.spark(choice.nats)
    shown = {1, 2, 4, 8, 16, 32, choice.width, len(choice.nats)}
    pairs = [f"{w} {nats(n)}" for w, n in enumerate(choice.nats, 1) if w in shown]
    estimates = [
        f"{dimension:.1f} by {method}"
        for method, dimension in (("two-NN", choice.two_nn), ("likelihood", choice.likelihood))
        if dimension is not None
    ]
    dimension = " and ".join(estimates)
    filled = f"; intrinsic dimension of the rows about {dimension}" if estimates else ""
    return [
        f"width     {choice.why}",
        f"          {curve} held-out error at widths 1 to {len(choice.nats)}{filled}",
        f"          {', '.join(pairs)}",
    ]


def _calibration(detector: Any) -> list[str]:
    from keyhole.tasks.detect.calibration import apart_in_words
    from keyhole.tasks.detect.weights import weights_in_words

    return [
        f"threshold {alarms_in_words(detector)}",
        f"reference {len(detector.scorer_.reference):,} of {detector.scorer_.rows:,} rows are "
        "saved; the distance to them is part of the score",
        f"views     {weights_in_words(detector.scorer_.anomaly_score)}",
        f"apart     {apart_in_words(detector.calibration_)}",
    ]


def _lines(path: str, model: Any, about: dict[str, Any], more: list[str]) -> list[str]:
    evidence, run, table = model.model_.evidence, model.model_.history, model.model_.modality
    lines = [
        f"model     {path}, made {about.get('created')} by keyhole {about.get('keyhole')}, "
        f"torch {about.get('torch')}",
        f"data      {model.model_.rows:,} {table.unit} x {len(table.columns)} columns, "
        f"fingerprint {model.model_.fingerprint}",
        f"shape     {len(table.layout)} features -> {evidence['width']} codes, "
        f"{weight_count(model):,} weights, "
        f"{model.model_.network.shape.members} ensemble members",
        f"parts     {', '.join(repr(part) for part in vars(model.model_.parts).values())}",
        f"training  {run.steps[-1]:,} of {run.planned:,} steps, best at {run.best_step:,}; "
        f"{run.ended}",
        f"errors    {costs_in_words(evidence, 'PCA')}",
        *_width(model.model_.width_choice),
        f"verdict   {model.verdict_}",
        *(f"warning   {f.code} {f.title}: {f.text}" for f in model.findings_),
        *more,
        "columns   name, kind, explained variance (when masked), why this kind",
    ]
    if table.lawful is not None:
        lines.insert(-1, f"rules     {rules_in_words(table)}")
    for column in table.columns:
        visible = evidence["rebuilt_skill"].get(column.name)
        masked = evidence["masked_skill"].get(column.name)
        explained = "" if visible is None else f"{visible:4.0%} ({masked:.0%})"
        lines.append(
            f"          {column.name:<24.24} {column.kind:<9} {explained:<12} "
            f"{table.reasons[column.name]}"
        )
    return lines
