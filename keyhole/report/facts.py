"""What a page says of a model, gathered and put in words; the template only sets it out."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.core.environment import version_of
from keyhole.report.rows import Asked
from keyhole.report.words import chance, count, number, percent, plain, rate, times
from keyhole.tasks.detect.answer import nothing_stands_out
from keyhole.tasks.detect.calibration import beyond_chance, expected_alarms, trust_in_words

MOST_SKILLS = 60
MOST_COLUMNS = 400
MOST_ANOMALIES = 50
MOST_RULES = 6  # that are shown
MOST_BESIDE = 12  # rows in the table beside the map
LIBRARIES = ("keyhole", "torch", "numpy", "scikit-learn", "pyarrow")


@dataclass(frozen=True)
class Fact:
    """A figure, what it is of, and a word more."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Contest:
    """The net beside its floors on one question; a bar is nats saved against the mean, 0 to 1."""

    title: str
    text: str
    lines: list[tuple[str, str, str, float, bool]]  # who, nats, saved, bar, best


@dataclass(frozen=True)
class Skill:
    """A column's skills as said and as bars: hidden by net and PCA, in sight by net and PCA."""

    column: str
    hidden: tuple[str, str, float, float]
    sight: tuple[str, str, float, float]


@dataclass(frozen=True)
class Anomaly:
    """A row among the strongest, in words; cells are column, value, expected, share, bar."""

    name: str
    anomaly_score: str
    p_value: str
    alarm: bool
    point: int | None
    nothing: str  # what to say where no cell stands out
    cells: list[tuple[str, str, str, str, float]]


def judged(model: Autoencoder) -> dict[str, Any]:
    """The verdict in two parts, and the findings."""
    head, colon, rest = model.verdict_.partition(": ")
    return {
        "good": not model.verdict_.startswith("look again"),
        "head": head[:1].upper() + head[1:],
        "rest": rest if colon else "",
        "findings": model.findings_,
    }


def facts(model: Autoencoder) -> list[Fact]:
    """The figures that a reader asks for first."""
    columns, run = model.table_.columns, model.run_
    aside = len(columns) - len(model.table_.encoded_columns)
    best = f"best at step {run.best_step:,}" if run.best_step else ""
    weights = sum(weight.numel() for weight in model.network_.parameters())
    return [
        Fact("rows", f"{model.rows_:,}", "in training and held out"),
        Fact(
            "columns",
            f"{len(model.table_.encoded_columns):,}",
            f"{aside:,} set aside" if aside else "",
        ),
        Fact("code", f"{model.network_.width:,}", "numbers a row"),
        Fact("steps", f"{run.steps[-1] if run.steps else run.planned:,}", run.ended or best),
        Fact("weights", f"{weights:,}", "learned"),
        *_rules(model),
    ]


def _rules(model: Autoencoder) -> list[Fact]:
    """How many rules between columns drawn rows keep, and the first of them."""
    lawful = model.table_.lawful
    if lawful is None:
        return []
    first = plain("; ".join(map(str, lawful.rules[:MOST_RULES])), 200)
    return [Fact("rules", f"{len(lawful.rules):,}", first)]


def contests(model: Autoencoder) -> list[Contest]:
    """Held-out nats of the net, PCA and the mean, for hidden cells and for cells in sight."""
    said = model.evidence_
    pairs = [
        (
            "Cells that were hidden",
            "guessed from the rest of the row",
            "guessed_nats",
        ),
        (
            "Cells in sight",
            "read, squeezed through the code, and said again",
            "rebuilt_nats",
        ),
    ]
    return [
        _contest(title, text, said.get(name), said.get(f"pca_{name}"), model)
        for title, text, name in pairs
    ]


def _contest(
    title: str, text: str, net: float | None, pca: float | None, model: Autoencoder
) -> Contest:
    mean = model.evidence_.get("mean_nats")
    held = [("this model", net), (f"PCA, width {model.network_.width}", pca), ("mean", mean)]
    saved = [None if nats is None or mean is None else mean - nats for _, nats in held]
    most = max([gain for gain in saved if gain is not None] + [1e-9])
    known = [nats for _, nats in held if nats is not None]
    lines = []
    for (who, nats), gain in zip(held, saved, strict=True):
        best = nats is not None and nats == min(known)
        lines.append(
            (
                who,
                number(nats),
                number(gain) if who != "mean" else "",
                bar_length((gain or 0.0) / most),
                best,
            )
        )
    return Contest(title, text, lines)


def skills(model: Autoencoder) -> tuple[list[Skill], int]:
    """The columns that are told best from the others, and how many more there are."""
    said = model.evidence_
    pairs = ("guessed_skill", "pca_guessed_skill"), ("rebuilt_skill", "pca_rebuilt_skill")
    names = sorted(said["guessed_skill"], key=lambda name: -(said["guessed_skill"][name] or 0))
    found = []
    for name in names[:MOST_SKILLS]:
        both = []
        for net, pca in pairs:
            values = [said[kind].get(name) for kind in (net, pca)]
            both.append((*map(percent, values), *map(bar_length, values)))
        found.append(Skill(plain(name), both[0], both[1]))
    return found, max(0, len(names) - MOST_SKILLS)


def anomalies(asked: Asked, points: dict[int, int]) -> list[Anomaly]:
    """The strongest rows in words; `points` says where on the map a row stands."""
    found = []
    for row in map(int, asked.strongest(MOST_ANOMALIES)):
        cells = [
            (
                plain(column),
                plain(value, 160),
                plain(expected, 160),
                percent(share),
                bar_length(share),
            )
            for column, value, expected, share in asked.reasons.get(row, [])
        ]
        value = times(float(asked.anomaly_score[row]), float(asked.score_std[row]))
        p_value, alarm = chance(float(asked.p_value[row])), bool(asked.alarm[row])
        name = plain(asked.ids[row])
        nothing = nothing_stands_out(alarm)
        found.append(Anomaly(name, value, p_value, alarm, points.get(row), nothing, cells))
    return found


def columns(model: Autoencoder) -> tuple[list[tuple[str, str, str]], int]:
    """Name, kind and reason of each column, and how many more there are."""
    reasons = model.table_.reasons
    all_of_them = [
        (plain(column.name), column.kind, plain(reasons.get(column.name, ""), 200))
        for column in model.table_.columns[:MOST_COLUMNS]
    ]
    return all_of_them, max(0, len(model.table_.columns) - MOST_COLUMNS)


def making(model: Autoencoder) -> dict[str, Any]:
    """Versions, the parts with their settings, and what tells one model from another."""
    return made_with(model.parts(), model.fingerprint_)


def made_with(used: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    """How a model of these parts was made."""
    parts = []
    for name, part in used.items():
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


def asked_in_words(asked: Asked) -> str:
    """How many rows were asked about, and how many raised an alarm."""
    alarms, empty = int(asked.alarm.sum()), int(np.isnan(asked.anomaly_score).sum())
    rows = len(asked) - empty
    said = beyond_chance(alarms, rows, asked.false_alarm_rate, asked.calibrated_on)
    said = f"{plain(asked.name, 120)}: {said}"
    return said + (f"; {count(empty, 'row')} held nothing to judge." if empty else ".")


def calibrated(asked: Asked) -> list[Fact]:
    """How many rows alarm beside how many were promised, from where on, and how sure that is."""
    judged, alarms = int((~np.isnan(asked.anomaly_score)).sum()), int(asked.alarm.sum())
    if not judged:
        return []
    like = f"{rate(asked.false_alarm_rate)} of {count(judged, 'row')}, if all are normal"
    found = [
        Fact("alarms", f"{alarms:,}", f"{rate(alarms / judged)} of {count(judged, 'row')}"),
        Fact("expected by chance", expected_alarms(judged, asked.false_alarm_rate), like),
    ]
    if np.isfinite(asked.threshold):
        found.append(Fact("threshold", number(asked.threshold), "times the usual anomaly score"))
    if np.isfinite(asked.score_std).any():
        middle = number(float(np.nanmedian(asked.score_std)))
        found.append(Fact("score_std", f"± {middle}", "between nets, the median"))
    return found


def trust(asked: Asked) -> str | None:
    """What training rows that stand apart do to the promise; None where hardly any do."""
    said = trust_in_words(asked.contamination)
    return None if said is None else f"{said[0].upper()}{said[1:]}."


def patterns(asked: Asked) -> list[tuple[str, str, float]]:
    """Each pattern in words: how many alarms of how many, what they share, and a bar."""
    return [
        (
            f"{len(found.rows):,} of {found.of:,}",
            plain(found.cell, 160),
            bar_length(len(found.rows) / found.of),
        )
        for found in asked.patterns
    ]


def bar_length(share: float | None) -> float:
    """The length of a bar, from 0 to 100."""
    if share is None or not np.isfinite(share):
        return 0.0
    return round(100 * min(max(float(share), 0.0), 1.0), 1)
