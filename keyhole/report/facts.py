"""Texts and figures of a page, ready for the template."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.core.environment import version_of
from keyhole.report.rows import ScoredRows
from keyhole.report.words import chance, count, number, percent, plain, rate, times
from keyhole.tasks.detect.answer import nothing_stands_out
from keyhole.tasks.detect.calibration import beyond_chance, expected_alarms, trust_in_words

MOST_EXPLAINED = 60  # columns
MOST_COLUMNS = 400
MOST_ANOMALIES = 50
MOST_RULES = 6
MOST_BESIDE_MAP = 12  # rows in the table beside the map
LIBRARIES = ("keyhole", "torch", "numpy", "scikit-learn", "pyarrow")


@dataclass(frozen=True)
class Fact:
    """A number with its label and a note."""

    label: str
    value: str
    note: str = ""


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
    """One of the most anomalous rows; cells are column, value, expected, share, bar."""

    name: str
    anomaly_score: str
    p_value: str
    alarm: bool
    point: int | None
    nothing: str  # the text if no cell stands out
    cells: list[tuple[str, str, str, str, float]]


def verdict(model: Autoencoder) -> dict[str, Any]:
    """The verdict in two parts, and the findings."""
    head, colon, rest = model.verdict_.partition(": ")
    return {
        "good": not model.verdict_.startswith("look again"),
        "head": head[:1].upper() + head[1:],
        "rest": rest if colon else "",
        "findings": model.findings_,
    }


def facts(model: Autoencoder) -> list[Fact]:
    """The numbers at the top of the page."""
    columns, run = model.model_.modality.columns, model.model_.history
    ignored = len(columns) - len(model.model_.modality.encoded_columns)
    best = f"best at step {run.best_step:,}" if run.best_step else ""
    weights = sum(weight.numel() for weight in model.model_.network.parameters())
    return [
        Fact("rows", f"{model.model_.rows:,}", "in training and held out"),
        Fact(
            "columns",
            f"{len(model.model_.modality.encoded_columns):,}",
            f"{ignored:,} ignored" if ignored else "",
        ),
        Fact("code", f"{model.model_.network.width:,}", "numbers a row"),
        Fact("steps", f"{run.steps[-1] if run.steps else run.planned:,}", run.ended or best),
        Fact("weights", f"{weights:,}", "learned"),
        *_rules(model),
    ]


def _rules(model: Autoencoder) -> list[Fact]:
    """How many rules between columns drawn rows satisfy, and the first of them."""
    lawful = model.model_.modality.lawful
    if lawful is None:
        return []
    first = plain("; ".join(map(str, lawful.rules[:MOST_RULES])), 200)
    return [Fact("rules", f"{len(lawful.rules):,}", first)]


def comparisons(model: Autoencoder) -> list[Comparison]:
    """Held-out nats of the net, PCA and the mean, for masked and for visible values."""
    evidence = model.model_.evidence
    questions = [
        (
            "Masked values",
            "predicted from the rest of the row",
            "masked_nats",
        ),
        (
            "Visible values",
            "reconstructed from the code of the whole row",
            "rebuilt_nats",
        ),
    ]
    return [
        _comparison(title, text, evidence.get(name), evidence.get(f"pca_{name}"), model)
        for title, text, name in questions
    ]


def _comparison(
    title: str, text: str, net: float | None, pca: float | None, model: Autoencoder
) -> Comparison:
    mean = model.model_.evidence.get("mean_nats")
    rows = [("this model", net), (f"PCA, width {model.model_.network.width}", pca), ("mean", mean)]
    saved = [None if nats is None or mean is None else mean - nats for _, nats in rows]
    most = max([gain for gain in saved if gain is not None] + [1e-9])
    known = [nats for _, nats in rows if nats is not None]
    lines = []
    for (label, nats), gain in zip(rows, saved, strict=True):
        best = nats is not None and nats == min(known)
        lines.append(
            (
                label,
                number(nats),
                number(gain) if label != "mean" else "",
                bar_length((gain or 0.0) / most),
                best,
            )
        )
    return Comparison(title, text, lines)


def explained_variances(model: Autoencoder) -> tuple[list[ExplainedVariance], int]:
    """The columns that are predicted best from the others, and how many more there are."""
    evidence = model.model_.evidence
    pairs = ("masked_skill", "pca_masked_skill"), ("rebuilt_skill", "pca_rebuilt_skill")
    names = sorted(
        evidence["masked_skill"], key=lambda name: -(evidence["masked_skill"][name] or 0)
    )
    lines = []
    for name in names[:MOST_EXPLAINED]:
        both = []
        for net, pca in pairs:
            values = [evidence[kind].get(name) for kind in (net, pca)]
            both.append((*map(percent, values), *map(bar_length, values)))
        lines.append(ExplainedVariance(plain(name), both[0], both[1]))
    return lines, max(0, len(names) - MOST_EXPLAINED)


def anomalies(scored: ScoredRows, points: dict[int, int]) -> list[Anomaly]:
    """The most anomalous rows; `points` maps a row to its point on the map."""
    rows = []
    for row in map(int, scored.strongest(MOST_ANOMALIES)):
        cells = [
            (
                plain(column),
                plain(value, 160),
                plain(expected, 160),
                percent(share),
                bar_length(share),
            )
            for column, value, expected, share in scored.reasons.get(row, [])
        ]
        value = times(float(scored.anomaly_score[row]), float(scored.score_std[row]))
        p_value, alarm = chance(float(scored.p_value[row])), bool(scored.alarm[row])
        name = plain(scored.ids[row])
        nothing = nothing_stands_out(alarm)
        rows.append(Anomaly(name, value, p_value, alarm, points.get(row), nothing, cells))
    return rows


def columns(model: Autoencoder) -> tuple[list[tuple[str, str, str]], int]:
    """Name, kind and reason of each column, and how many more there are."""
    reasons = model.model_.modality.reasons
    all_of_them = [
        (plain(column.name), column.kind, plain(reasons.get(column.name, ""), 200))
        for column in model.model_.modality.columns[:MOST_COLUMNS]
    ]
    return all_of_them, max(0, len(model.model_.modality.columns) - MOST_COLUMNS)


def making(model: Autoencoder) -> dict[str, Any]:
    """The parts with their settings, versions and fingerprint."""
    return made_with(vars(model.model_.parts), model.model_.fingerprint)


def made_with(parts_used: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    """The parts with their settings, versions and fingerprint, for a template."""
    parts = []
    for name, part in parts_used.items():
        recipe = dict(part.recipe())
        kind = recipe.pop("kind")
        settings = [f"{key} = {value}" for key, value in recipe.items() if value is not None]
        parts.append((name, kind, plain(", ".join(settings), 400)))
    return {
        "parts": parts,
        "versions": [(name, version_of(name)) for name in LIBRARIES]
        + [("python", platform.python_version())],
        "fingerprint": fingerprint,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def rows_in_words(scored: ScoredRows) -> str:
    """How many rows were scored, and how many raised an alarm."""
    alarms, empty = int(scored.alarm.sum()), int(np.isnan(scored.anomaly_score).sum())
    rows = len(scored) - empty
    alarms_text = beyond_chance(alarms, rows, scored.false_alarm_rate, scored.calibrated_on)
    text = f"{plain(scored.name, 120)}: {alarms_text}"
    return text + (f"; {count(empty, 'row')} had no observed value." if empty else ".")


def calibrated(scored: ScoredRows) -> list[Fact]:
    """How many rows alarm, how many are expected to by chance, and the threshold."""
    rows, alarms = int((~np.isnan(scored.anomaly_score)).sum()), int(scored.alarm.sum())
    if not rows:
        return []
    note = f"{rate(scored.false_alarm_rate)} of {count(rows, 'row')}, if all are normal"
    figures = [
        Fact("alarms", f"{alarms:,}", f"{rate(alarms / rows)} of {count(rows, 'row')}"),
        Fact("expected by chance", expected_alarms(rows, scored.false_alarm_rate), note),
    ]
    if np.isfinite(scored.threshold):
        figures.append(
            Fact("threshold", number(scored.threshold), "times the usual anomaly score")
        )
    if np.isfinite(scored.score_std).any():
        middle = number(float(np.nanmedian(scored.score_std)))
        figures.append(Fact("score_std", f"± {middle}", "between ensemble members, the median"))
    return figures


def trust(scored: ScoredRows) -> str | None:
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


def bar_length(share: float | None) -> float:
    """The length of a bar, from 0 to 100."""
    if share is None or not np.isfinite(share):
        return 0.0
    return round(100 * min(max(float(share), 0.0), 1.0), 1)
