"""Texts and figures of a page, ready for the template."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from keyhole.autoencoder.fit import Model
from keyhole.core.environment import version_of
from keyhole.report.headline import Fact
from keyhole.report.rows import MAX_IMAGES, ScoredRows
from keyhole.report.words import bar_length, chance, count, number, percent, plain, times
from keyhole.tasks.detect.answer import nothing_stands_out, views_in_words
from keyhole.tasks.detect.calibration import beyond_chance, trust_in_words

MAX_EXPLAINED = 60  # columns whose explained variance is shown
MAX_COLUMNS = 400  # in the list of columns
MAX_ANOMALIES = 50  # rows in the table of the strongest
MAX_CELLS = 3  # reasons of a row
MAX_RULES = 6  # rules in the summary
LIBRARIES = ("keyhole", "torch", "numpy", "scikit-learn", "pyarrow")


@dataclass(frozen=True)
class Comparison:
    """The net beside its baselines; a bar is the nats saved against the mean, 0 to 100."""

    title: str
    text: str
    lines: list[tuple[str, str, str, float, bool]]  # model, nats, saved, bar, best


@dataclass(frozen=True)
class ExplainedVariance:
    """A column's explained variance, as texts of net and PCA and as bars of net and PCA."""

    column: str
    masked: tuple[str, str, float, float]
    visible: tuple[str, str, float, float]


@dataclass(frozen=True)
class Anomaly:
    """One of the most anomalous rows; cells are column, value, expected, share, bar.

    `image` is the URL of its anomaly map, "" if it has none.
    """

    name: str
    anomaly_score: str
    p_value: str
    alarm: bool
    point: int | None
    nothing: str  # the text if no cell stands out
    cells: list[tuple[str, str, str, str, float]]
    image: str = ""
    views: str = ""  # what each view of the score gives


def weight_count(model: Model) -> int:
    """How many numbers the network has learned."""
    return sum(weight.numel() for weight in model.network.parameters())


def facts(model: Model) -> list[Fact]:
    """The numbers on a fit."""
    table, run, lawful = model.modality, model.history, model.modality.lawful
    encoded = len(table.encoded_columns)
    ignored = len(table.columns) - encoded
    best = f"best at step {run.best_step:,}" if run.best_step else ""
    numbers = [
        Fact("rows", f"{model.rows:,}", "in training and held out"),
        Fact("columns", f"{encoded:,}", f"{ignored:,} ignored" if ignored else ""),
        Fact("code", f"{model.network.width:,}", "numbers for each row"),
        Fact(
            "training steps", f"{run.steps[-1] if run.steps else run.planned:,}", run.ended or best
        ),
        Fact("weights", f"{weight_count(model):,}", "learned"),
    ]
    if lawful is not None:
        first = plain("; ".join(map(str, lawful.rules[:MAX_RULES])), 200)
        numbers.append(Fact("rules", f"{len(lawful.rules):,}", first))
    return numbers


def comparisons(model: Model) -> list[Comparison]:
    """Held-out nats of the net, PCA and the mean, for masked and for visible values."""
    evidence, mean = model.evidence, model.evidence.get("mean_nats")
    tables = []
    for title, text, key in (
        ("Masked values", "each value is predicted from the other columns", "masked_nats"),
        ("Visible values", "each row is reconstructed from its own code", "rebuilt_nats"),
    ):
        nats = {
            "this model": evidence.get(key),
            f"PCA, width {model.network.width}": evidence.get(f"pca_{key}"),
            "mean of each column": mean,
        }
        known = [cost for cost in nats.values() if cost is not None]
        most = max([mean - cost for cost in known if mean is not None] + [1e-9])
        lines = []
        for label, cost in nats.items():
            saved = None if cost is None or mean is None else mean - cost
            gain = number(saved) if not label.startswith("mean") else ""
            bar = bar_length((saved or 0.0) / most)
            lines.append((label, number(cost), gain, bar, cost is not None and cost == min(known)))
        tables.append(Comparison(title, text, lines))
    return tables


def explained_variances(model: Model) -> tuple[list[ExplainedVariance], int]:
    """The columns that are predicted best from the others, and how many more there are."""
    evidence = model.evidence
    names = sorted(
        evidence["masked_skill"], key=lambda name: -(evidence["masked_skill"][name] or 0)
    )
    lines = []
    for name in names[:MAX_EXPLAINED]:
        pairs = []
        for kind in ("masked_skill", "rebuilt_skill"):
            shares = [evidence[key].get(name) for key in (kind, f"pca_{kind}")]
            pairs.append((*map(percent, shares), *map(bar_length, shares)))
        lines.append(ExplainedVariance(plain(name), *pairs))
    return lines, max(0, len(names) - MAX_EXPLAINED)


def anomalies(scored: ScoredRows, points: dict[int, int]) -> list[Anomaly]:
    """The most anomalous rows; `points` maps a row to its point on the map."""
    rows = []
    for row in map(int, scored.strongest(MAX_ANOMALIES)):
        most = MAX_CELLS - (row in scored.images)  # an image takes space
        cells = [
            (
                plain(name),
                plain(value, 160),
                _unbroken(plain(usual, 160)),
                percent(share),
                bar_length(share),
            )
            for name, value, usual, share in scored.reasons.get(row, [])[:most]
        ]
        alarm = bool(scored.alarm[row])
        score = times(float(scored.anomaly_score[row]), float(scored.score_std[row]))
        rows.append(
            Anomaly(
                name=plain(scored.ids[row]),
                anomaly_score=score,
                p_value=chance(float(scored.p_value[row])),
                alarm=alarm,
                point=points.get(row),
                nothing=nothing_stands_out(alarm),
                cells=cells,
                views=views_in_words(scored.views[row]) if row in scored.views else "",
                image=scored.images.get(row, "") if len(rows) < MAX_IMAGES else "",
            )
        )
    return rows


def _unbroken(text: str) -> str:
    """No line break before the sign of a percentage."""
    return text.replace(" %", "\u00a0%")


def columns(model: Model) -> tuple[list[tuple[str, str, str]], int]:
    """Name, kind and reason of each column, and how many more there are."""
    reasons, all_columns = model.modality.reasons, model.modality.columns
    lines = [
        (plain(column.name), column.kind, plain(reasons.get(column.name, ""), 200))
        for column in all_columns[:MAX_COLUMNS]
    ]
    return lines, max(0, len(all_columns) - MAX_COLUMNS)


def made_with(parts_used: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    """The parts with their settings, versions and fingerprint, for a template."""
    parts = []
    for name, part in parts_used.items():
        recipe = dict(part.recipe())
        kind = recipe.pop("kind")
        settings = [f"{key} = {value}" for key, value in recipe.items() if value is not None]
        parts.append((name, kind, plain(", ".join(settings), 400)))
    versions = [(name, version_of(name)) for name in LIBRARIES]
    return {
        "parts": parts,
        "versions": [*versions, ("python", platform.python_version())],
        "fingerprint": fingerprint,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def rows_in_words(scored: ScoredRows) -> str:
    """How many rows raised an alarm, in a sentence of the terminal."""
    empty = int(np.isnan(scored.anomaly_score).sum())
    rows, alarms = len(scored) - empty, int(scored.alarm.sum())
    rate, calibrated_on = scored.false_alarm_rate, scored.calibrated_on
    alarms_text = beyond_chance(alarms, rows, rate, calibrated_on, scored.threshold)
    text = f"{plain(scored.name, 120)}: {alarms_text}"
    return text + (f"; {count(empty, 'row')} had no observed value." if empty else ".")


def outliers(scored: ScoredRows) -> str | None:
    """How outliers in training weaken the false alarm rate; None if there are hardly any."""
    text = trust_in_words(scored.contamination)
    return None if text is None else f"{text[0].upper()}{text[1:]}."


def patterns(scored: ScoredRows) -> list[tuple[str, str, float]]:
    """Each pattern: how many of how many alarms, what they share, and a bar."""
    return [
        (
            f"{len(pattern.rows):,} of {pattern.of:,}",
            plain(pattern.cell, 160),
            bar_length(len(pattern.rows) / pattern.of),
        )
        for pattern in scored.patterns
    ]
