"""keyhole inspect: what a model is, what it was trained on, how far to trust it."""

import json
from typing import Any

import click

from keyhole.cli.common import (
    Say,
    alarms_in_words,
    json_option,
    model_argument,
    nats,
    spoken_warnings,
)


@click.command()
@model_argument
@json_option
def inspect(model: str, as_json: bool) -> None:
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
    if as_json:
        said = {"about": bundle.about, "sections": bundle.sections}
        click.echo(json.dumps(said, ensure_ascii=False))
        return
    click.echo("\n".join(_lines(model, fitted, bundle.about, promises)))


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
        f"verdict   {model.verdict_}",
        *(f"warning   {f.code} {f.title}: {f.text}" for f in model.findings_),
        *promises,
        "columns   name, kind, share rebuilt (guessed when hidden), why this kind",
    ]
    for column in table.columns:
        rebuilt = found["rebuilt_skill"].get(column.name)
        guessed = found["guessed_skill"].get(column.name)
        skill = "" if rebuilt is None else f"{rebuilt:4.0%} ({guessed:.0%})"
        lines.append(
            f"          {column.name:<24.24} {column.kind:<9} {skill:<12} "
            f"{table.reasons[column.name]}"
        )
    return lines
