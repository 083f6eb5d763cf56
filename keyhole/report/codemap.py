"""The map of the codes, packed: four bytes a point, one for its anomaly score, one for its row."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from keyhole.report.rows import ALL_NAMED, MOST_STRONGEST, Asked
from keyhole.report.words import plain

MOST_POINTS = 100_000
MOST_CELLS = 3  # of a row, said where the pointer stands
EMPTY = 255  # the level of a row without anomaly score


@dataclass(frozen=True)
class CodeMap:
    """What the page needs to draw the map, and to say what is on it."""

    data: dict[str, Any]  # JSON for map.js
    rows: np.ndarray  # the places of the rows shown, in order
    shown: int
    alarms: int
    all_alarms: bool
    far: int  # points that lie further out than the edge they are drawn at
    shares: list[float]  # of the codes' variance, across and up
    narrow: bool  # a code of one number: anomaly score goes up


def pack(asked: Asked, most: int = MOST_POINTS) -> CodeMap:
    """The map of the rows asked about: alarms and the strongest first, then a random sample."""
    rows = choose(asked, most)
    place, shares = plane(asked)
    grid, far = on_grid(place[rows])
    anomaly_score = np.nan_to_num(asked.anomaly_score[rows], posinf=np.nan, neginf=np.nan)
    knots = levels(anomaly_score)
    level = np.full(len(rows), EMPTY, np.uint8)
    known = ~np.isnan(asked.anomaly_score[rows])
    filled = np.nan_to_num(asked.anomaly_score[rows][known])
    level[known] = np.searchsorted((knots[1:] + knots[:-1]) / 2, filled)
    alarm = asked.alarm[rows]
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
        "row": "" if len(rows) == len(asked) else _base64(varints(np.diff(rows, prepend=0))),
        "named": named(asked, rows),
    }
    shown, every = int(alarm.sum()), int(alarm.sum()) == int(asked.alarm.sum())
    narrow = asked.codes.shape[1] < 2
    return CodeMap(data, rows, len(rows), shown, every, far, shares, narrow)


def choose(asked: Asked, most: int) -> np.ndarray:
    """The places of the rows shown, in order: all where they are few enough."""
    total = len(asked)
    if total <= most:
        return np.arange(total)
    first = np.nan_to_num(asked.anomaly_score, nan=-np.inf)
    wanted = np.zeros(total, bool)
    wanted[asked.strongest(min(most, MOST_STRONGEST))] = True
    alarms = np.flatnonzero(asked.alarm & ~wanted)
    room = most - int(wanted.sum())
    wanted[alarms[np.argsort(-first[alarms], kind="stable")[:room]]] = True
    room = most - int(wanted.sum())
    rest = np.flatnonzero(~wanted)
    wanted[np.random.default_rng(0).choice(rest, room, replace=False)] = True
    return np.flatnonzero(wanted)


def plane(asked: Asked) -> tuple[np.ndarray, list[float]]:
    """Each row's two coordinates, and the share of the codes' variance that each carries.

    They are the principal components of the codes; a code of one number goes across, with the
    row's anomaly score as the height.
    """
    codes = np.nan_to_num(np.asarray(asked.codes, np.float64), posinf=0, neginf=0)
    if codes.shape[1] == 1:
        height = np.nan_to_num(asked.anomaly_score.astype(float), posinf=0, neginf=0)
        return np.stack([codes[:, 0], height], 1), [1.0, 0.0]
    centred = codes - codes.mean(0)
    variance, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), [0, 1]])
    whole = max(float(variance.sum()), 1e-300)
    return centred @ axes, [float(part) / whole for part in variance[::-1][:2].clip(0)]


def on_grid(place: np.ndarray) -> tuple[np.ndarray, int]:
    """The coordinates as whole numbers from 0 to 65,535, and how many points lie further out.

    Points beyond twice the usual reach stand at the edge, so that a few do not squeeze the rest.
    """
    low, high = np.quantile(place, [0.002, 0.998], axis=0)
    reach = 0.5 * (high - low)
    low, high = np.maximum(place.min(0), low - reach), np.minimum(place.max(0), high + reach)
    far = int(((place < low) | (place > high)).any(1).sum())
    span = np.where(high > low, high - low, 1.0)
    share = np.where(high > low, (place - low) / span, 0.5)
    return np.round(share.clip(0, 1) * 65_535), far


def levels(anomaly_score: np.ndarray) -> np.ndarray:
    """At most 255 values that stand for all: half evenly by rank, half evenly by value."""
    held = anomaly_score[~np.isnan(anomaly_score)]
    if not len(held):
        return np.zeros(1)
    by_rank = np.quantile(held, np.linspace(0, 1, 128))
    return np.unique(np.concatenate([by_rank, np.linspace(held.min(), held.max(), 127)]))


def varints(numbers: np.ndarray) -> np.ndarray:
    """Whole numbers as bytes, seven bits each, the highest bit set where more follow."""
    out = bytearray()
    for value in numbers.tolist():
        left = value
        while left > 127:
            out.append(left & 127 | 128)
            left >>= 7
        out.append(left)
    return np.frombuffer(bytes(out), np.uint8)


def named(asked: Asked, rows: np.ndarray) -> list[Any]:
    """[point, name, anomaly score, cells, doubt] of the strongest rows, then of others."""
    point = {int(row): i for i, row in enumerate(rows)}
    strongest = [int(row) for row in asked.strongest(MOST_STRONGEST) if int(row) in point]
    found: list[Any] = []
    for row in strongest:
        cells = [
            [plain(column, 40), plain(value, 40), plain(expected, 40), round(float(share), 3)]
            for column, value, expected, share in asked.reasons.get(row, [])[:MOST_CELLS]
        ]
        said = [
            round(value, 3) if np.isfinite(value) else None
            for value in (float(asked.anomaly_score[row]), float(asked.score_std[row]))
        ]
        found.append([point[row], plain(asked.ids[row]), said[0], cells, said[1]])
    if len(asked) <= ALL_NAMED:
        others = set(point) - set(strongest)
        found += [[point[row], plain(asked.ids[row]), None, [], None] for row in sorted(others)]
    return found


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")
