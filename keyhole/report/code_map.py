"""The map of the codes: a point for each row, and what colours it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from keyhole.report.colours import GAP, Colour, colours_of
from keyhole.report.rows import ALL_NAMED, MAX_STRONGEST, ScoredRows
from keyhole.report.words import base64_of, percent, plain

MAX_POINTS = 100_000  # of the map
MAX_REASONS = 3  # of a row, shown at the pointer
EMPTY = 255  # the level of a row without anomaly score
RELATED = 0.6  # rank correlation from which the label of an axis names a column
MAX_RELATED = 2  # columns that it names


@dataclass(frozen=True)
class CodeMap:
    """The data of the map, and what its caption says."""

    data: dict[str, Any]  # JSON for map.js
    rows: np.ndarray  # indices of the rows shown, in order
    shown: int
    alarms: int
    all_alarms: bool
    far: int  # points beyond the edge, drawn on it
    labels: tuple[str, str]  # of the axes, across and up
    narrow: bool  # a code of one number: the anomaly score is the height
    colours: list[Colour]
    grid: np.ndarray  # (point, 2), from 0 to 65,535


def pack(scored: ScoredRows, most: int = MAX_POINTS) -> CodeMap:
    """The map of the scored rows: all, or the strongest, alarms and a random sample."""
    rows = choose(scored, most)
    points, shares = plane(scored)
    grid, far = on_grid(points[rows])
    anomaly_score, alarm = scored.anomaly_score[rows], scored.alarm[rows]
    known = ~np.isnan(anomaly_score)
    finite = np.nan_to_num(anomaly_score, posinf=np.nan, neginf=np.nan)
    knots = levels(finite)
    level = np.full(len(rows), EMPTY, np.uint8)
    level[known] = np.searchsorted(
        (knots[1:] + knots[:-1]) / 2, np.nan_to_num(anomaly_score[known])
    )
    colours = colours_of(scored.columns, rows)
    ends = np.nanquantile(finite, [0.01, 0.995]) if np.isfinite(finite).any() else [0, 1]
    data = {
        "count": len(rows),
        "xy": base64_of(grid.astype("<u2")),
        "level": base64_of(level),
        "knots": [round(float(knot), 4) for knot in knots],
        "ends": [round(float(end), 4) for end in ends],
        "alarm": base64_of(np.packbits(alarm, bitorder="little")),
        "row": "" if len(rows) == len(scored) else base64_of(varints(np.diff(rows, prepend=0))),
        "named": named(scored, rows),
        "colours": [colour.to_json() for colour in colours],
    }
    narrow = scored.codes.shape[1] < 2
    return CodeMap(
        data, rows, len(rows), int(alarm.sum()), bool(alarm.sum() == scored.alarm.sum()), far,
        axis_labels(points[rows], shares, colours, narrow), narrow, colours, grid,
    )  # fmt: skip


def axis_labels(
    points: np.ndarray, shares: list[float], colours: list[Colour], narrow: bool
) -> tuple[str, str]:
    """What each axis is, and which columns of numbers grow or fall along it."""
    if narrow:
        return f"code{_related(points[:, 0], colours)}", "anomaly score"
    across, up = (
        f"direction {i + 1} ({percent(share)} of the variance){_related(points[:, i], colours)}"
        for i, share in enumerate(shares)
    )
    return across, up


def _related(places: np.ndarray, colours: list[Colour]) -> str:
    """The columns whose numbers go with these places most, in words."""
    related = []
    for colour in colours:
        known = (colour.values < GAP) & np.isfinite(places)
        if colour.names or known.sum() < 3 or np.ptp(places[known]) == 0:
            continue
        ranks = rankdata(places[known])
        if np.ptp(colour.values[known]):
            r = float(np.corrcoef(ranks, colour.values[known])[0, 1])
            related.append((abs(r), r, colour.name))
    strong = sorted((one for one in related if one[0] >= RELATED), reverse=True)[:MAX_RELATED]
    if not strong:
        return ""
    words = [f"{plain(name, 20)} {'rises' if r > 0 else 'falls'}" for _, r, name in strong]
    return f": {', '.join(words)} →"


def choose(scored: ScoredRows, most: int) -> np.ndarray:
    """The indices of the rows shown, in order: all if there are at most `most`."""
    total = len(scored)
    if total <= most:
        return np.arange(total)
    score = np.nan_to_num(scored.anomaly_score, nan=-np.inf)
    shown = np.zeros(total, bool)
    shown[scored.strongest(min(most, MAX_STRONGEST))] = True
    alarms = np.flatnonzero(scored.alarm & ~shown)
    shown[alarms[np.argsort(-score[alarms], kind="stable")[: most - shown.sum()]]] = True
    others = np.flatnonzero(~shown)
    shown[np.random.default_rng(0).choice(others, most - shown.sum(), replace=False)] = True
    return np.flatnonzero(shown)


def plane(scored: ScoredRows) -> tuple[np.ndarray, list[float]]:
    """Each row's two coordinates, and the share of the codes' variance along each.

    They are the first two principal components of the codes; for a code of one number, the code
    and the row's anomaly score.
    """
    codes = np.nan_to_num(np.asarray(scored.codes, np.float64), posinf=0, neginf=0)
    if codes.shape[1] == 1:
        height = np.nan_to_num(scored.anomaly_score.astype(float), posinf=0, neginf=0)
        return np.stack([codes[:, 0], height], 1), [1.0, 0.0]
    centred = codes - codes.mean(0)
    variance, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), [0, 1]])
    whole = max(float(variance.sum()), 1e-300)
    return centred @ axes, [float(part) / whole for part in variance[::-1][:2].clip(0)]


def on_grid(points: np.ndarray) -> tuple[np.ndarray, int]:
    """The coordinates as integers from 0 to 65,535, and how many points lie beyond the edge.

    Points beyond twice the usual range are drawn at the edge, so that a few outliers do not
    compress the rest.
    """
    low, high = np.quantile(points, [0.002, 0.998], axis=0)
    reach = 0.5 * (high - low)
    low, high = np.maximum(points.min(0), low - reach), np.minimum(points.max(0), high + reach)
    far = int(((points < low) | (points > high)).any(1).sum())
    span = np.where(high > low, high - low, 1.0)
    share = np.where(high > low, (points - low) / span, 0.5)
    return np.round(share.clip(0, 1) * 65_535), far


def levels(anomaly_score: np.ndarray) -> np.ndarray:
    """At most 255 levels of the anomaly score: half spaced by rank, half by value."""
    known = anomaly_score[~np.isnan(anomaly_score)]
    if not len(known):
        return np.zeros(1)
    by_rank = np.quantile(known, np.linspace(0, 1, 128))
    return np.unique(np.concatenate([by_rank, np.linspace(known.min(), known.max(), 127)]))


def varints(numbers: np.ndarray) -> np.ndarray:
    """Integers as bytes, seven bits each; the highest bit is set if more bytes follow."""
    encoded = bytearray()
    for number in numbers.tolist():
        rest = number
        while rest > 127:
            encoded.append(rest & 127 | 128)
            rest >>= 7
        encoded.append(rest)
    return np.frombuffer(bytes(encoded), np.uint8)


def named(scored: ScoredRows, rows: np.ndarray) -> list[Any]:
    """[point, name, score, reasons, score_std] of the strongest rows, then of others."""
    point = {int(row): i for i, row in enumerate(rows)}
    strongest = [int(row) for row in scored.strongest(MAX_STRONGEST) if int(row) in point]
    entries: list[Any] = []
    for row in strongest:
        reasons = [
            [*(plain(text, 40) for text in texts), round(float(share), 3)]
            for *texts, share in scored.reasons.get(row, [])[:MAX_REASONS]
        ]
        score, score_std = (
            round(value, 3) if np.isfinite(value) else None
            for value in (float(scored.anomaly_score[row]), float(scored.score_std[row]))
        )
        entries.append([point[row], plain(scored.ids[row]), score, reasons, score_std])
    if len(scored) <= ALL_NAMED:
        others = set(point) - set(strongest)
        entries += [[point[row], plain(scored.ids[row]), None, [], None] for row in sorted(others)]
    return entries
