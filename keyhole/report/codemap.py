"""The map of the codes, packed for the page: about six bytes a point."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from keyhole.report.rows import ALL_NAMED, MOST_STRONGEST, ScoredRows
from keyhole.report.words import plain

MOST_POINTS = 100_000
MOST_CELLS = 3  # of a row, shown at the pointer
EMPTY = 255  # the level of a row without anomaly score


@dataclass(frozen=True)
class CodeMap:
    """The data of the map, and what its caption says."""

    data: dict[str, Any]  # JSON for map.js
    rows: np.ndarray  # indices of the rows shown, in order
    shown: int
    alarms: int
    all_alarms: bool
    far: int  # points beyond the edge, drawn on it
    shares: list[float]  # of the codes' variance, across and up
    narrow: bool  # a code of one number: the anomaly score is the height


def pack(scored: ScoredRows, most: int = MOST_POINTS) -> CodeMap:
    """The map of the scored rows: all, or the strongest, alarms and a random sample."""
    rows = choose(scored, most)
    points, shares = plane(scored)
    grid, far = on_grid(points[rows])
    anomaly_score = np.nan_to_num(scored.anomaly_score[rows], posinf=np.nan, neginf=np.nan)
    knots = levels(anomaly_score)
    level = np.full(len(rows), EMPTY, np.uint8)
    known = ~np.isnan(scored.anomaly_score[rows])
    filled = np.nan_to_num(scored.anomaly_score[rows][known])
    level[known] = np.searchsorted((knots[1:] + knots[:-1]) / 2, filled)
    alarm = scored.alarm[rows]
    ends = (
        np.nanquantile(anomaly_score, [0.01, 0.995])
        if np.isfinite(anomaly_score).any()
        else [0, 1]
    )
    data = {
        "count": len(rows),
        "xy": _base64(grid.astype("<u2")),
        "level": _base64(level),
        "knots": [round(float(knot), 4) for knot in knots],
        "ends": [round(float(end), 4) for end in ends],
        "alarm": _base64(np.packbits(alarm, bitorder="little")),
        "row": "" if len(rows) == len(scored) else _base64(varints(np.diff(rows, prepend=0))),
        "named": named(scored, rows),
    }
    shown, every = int(alarm.sum()), int(alarm.sum()) == int(scored.alarm.sum())
    narrow = scored.codes.shape[1] < 2
    return CodeMap(data, rows, len(rows), shown, every, far, shares, narrow)


def choose(scored: ScoredRows, most: int) -> np.ndarray:
    """The indices of the rows shown, in order: all if there are at most `most`."""
    total = len(scored)
    if total <= most:
        return np.arange(total)
    first = np.nan_to_num(scored.anomaly_score, nan=-np.inf)
    wanted = np.zeros(total, bool)
    wanted[scored.strongest(min(most, MOST_STRONGEST))] = True
    alarms = np.flatnonzero(scored.alarm & ~wanted)
    room = most - int(wanted.sum())
    wanted[alarms[np.argsort(-first[alarms], kind="stable")[:room]]] = True
    room = most - int(wanted.sum())
    rest = np.flatnonzero(~wanted)
    wanted[np.random.default_rng(0).choice(rest, room, replace=False)] = True
    return np.flatnonzero(wanted)


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
    out = bytearray()
    for value in numbers.tolist():
        left = value
        while left > 127:
            out.append(left & 127 | 128)
            left >>= 7
        out.append(left)
    return np.frombuffer(bytes(out), np.uint8)


def named(scored: ScoredRows, rows: np.ndarray) -> list[Any]:
    """[point, name, score, reasons, score_std] of the strongest rows, then of others."""
    point = {int(row): i for i, row in enumerate(rows)}
    strongest = [int(row) for row in scored.strongest(MOST_STRONGEST) if int(row) in point]
    entries: list[Any] = []
    for row in strongest:
        cells = [
            [plain(column, 40), plain(value, 40), plain(expected, 40), round(float(share), 3)]
            for column, value, expected, share in scored.reasons.get(row, [])[:MOST_CELLS]
        ]
        score, score_std = (
            round(value, 3) if np.isfinite(value) else None
            for value in (float(scored.anomaly_score[row]), float(scored.score_std[row]))
        )
        entries.append([point[row], plain(scored.ids[row]), score, cells, score_std])
    if len(scored) <= ALL_NAMED:
        others = set(point) - set(strongest)
        entries += [[point[row], plain(scored.ids[row]), None, [], None] for row in sorted(others)]
    return entries


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")
