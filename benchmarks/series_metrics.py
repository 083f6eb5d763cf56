"""Measures for anomalies in time series: VUS-PR, SKAB's counts, NAB's score, events, intervals."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

LONGEST_BUFFER = 100  # steps; every length from 0 on is used
THRESHOLDS = 250
NAB_WINDOW_S = 60
NAB_FALSE_POSITIVE = -0.11  # of NAB's standard profile; a hit is worth 1, a miss -1


def runs(flags: np.ndarray) -> np.ndarray:
    """Start and end (exclusive) of each run of true flags, one run a row."""
    edges = np.flatnonzero(np.diff(np.r_[0, np.asarray(flags, bool).astype(int), 0]))
    return edges.reshape(-1, 2)


def softened(labels: np.ndarray, length: int) -> np.ndarray:
    """The labels with flanks that fall off over half a buffer of this length on either side."""
    weights = labels.astype(float)
    half = length // 2
    flank = np.sqrt(1 - np.arange(1, half + 1) / max(length, 1))
    for start, end in runs(labels):
        after = weights[end : end + half]
        after += flank[: len(after)]
        before = weights[max(start - half, 0) : start]
        before += flank[: len(before)][::-1]
    return np.minimum(weights, 1)


def buffered(anomalies: np.ndarray, half: int, steps: int) -> Iterator[slice]:
    """Stretches of anomalies with this many steps on either side; those that touch are one."""
    low, high = anomalies[0][0] - half, anomalies[0][1] + half
    for start, end in anomalies[1:]:
        if start - half >= high:
            yield slice(max(low, 0), min(high, steps))
            low = start - half
        high = end + half
    yield slice(max(low, 0), min(high, steps))


def vus_pr(labels: np.ndarray, scores: np.ndarray, longest: int = LONGEST_BUFFER) -> float:
    """The volume under the precision-recall surface: the mean of range-AUC-PR over buffer lengths.

    Thresholds are 250 of the sorted scores at even ranks, as in the authors' package, with which
    this agrees to rounding. A step in a flank counts as an anomaly only where it is predicted.

    Source: Paparrizos et al. 2022, Volume Under the Surface, PVLDB 15(11); its optimised form.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    thresholds = ranked[np.linspace(0, len(scores) - 1, THRESHOLDS).astype(int)]
    predicted = np.searchsorted(-ranked, -thresholds, side="right")
    inside = np.cumsum(labels[order])[predicted - 1]
    anomalies, total = runs(labels), labels.sum()
    areas = []
    for length in range(longest + 1):
        hits = np.cumsum(softened(labels, length)[order])[predicted - 1]
        recall = np.minimum(hits / (total + (hits - inside) / 2), 1)
        highest = [scores[part].max() for part in buffered(anomalies, length // 2, len(scores))]
        existence = (np.array(highest)[:, None] >= thresholds).mean(0)
        areas.append(np.diff(recall * existence, prepend=0) @ (hits / predicted))
    return float(np.mean(areas))


@dataclass(frozen=True)
class Counts:
    """Rows by label and alarm; counts of several files are added."""

    hits: int = 0
    false_alarms: int = 0
    misses: int = 0
    quiet: int = 0

    @classmethod
    def of(cls, labels: np.ndarray, alarms: np.ndarray) -> "Counts":
        """The counts of one file."""
        bad, alarm = labels.astype(bool), alarms.astype(bool)
        cells = (bad & alarm, ~bad & alarm, bad & ~alarm, ~bad & ~alarm)
        return cls(*(int(cell.sum()) for cell in cells))

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.hits + other.hits, self.false_alarms + other.false_alarms,
            self.misses + other.misses, self.quiet + other.quiet,
        )  # fmt: skip

    def f1(self) -> float:
        """F1 of the alarms; 0 without a hit."""
        return 2 * self.hits / max(2 * self.hits + self.false_alarms + self.misses, 1)

    def false_alarm_rate(self) -> float:
        """The share of normal rows that alarm."""
        return self.false_alarms / max(self.false_alarms + self.quiet, 1)

    def missing_rate(self) -> float:
        """The share of anomalous rows that do not alarm."""
        return self.misses / max(self.misses + self.hits, 1)


def changes_of(alarms: np.ndarray) -> np.ndarray:
    """Steps at which the alarm starts or ends: SKAB's prediction of change points."""
    return np.flatnonzero(np.diff(np.r_[False, alarms.astype(bool)]))


def nab_standard(files: list[tuple[pd.Series, np.ndarray, np.ndarray]], place: str) -> float:
    """NAB's standard score of change points as SKAB counts it, in percent, pooled over files.

    A file is its times, the steps of its change points, and the steps that were predicted. Each
    change point has a window of 60 s that starts at it (`place="right"`, as in SKAB's notebooks)
    or ends at it (`"left"`, the evaluator's own default). The first prediction in a window gets a
    reward that falls from 1 at its start to -0.11 at its end, a prediction outside of all windows
    -0.11, a window without one -1. 100 is a prediction at every window's start, 0 is none at all.
    """
    worth, windows = 0.0, 0
    for times, changes, predictions in files:
        seconds = (times - times.iloc[0]).dt.total_seconds().to_numpy()
        worth += nab_of_file(seconds[changes], seconds[predictions], place)
        windows += len(changes)
    return 50 * (worth / windows + 1)


def nab_of_file(changes_s: np.ndarray, predictions_s: np.ndarray, place: str) -> float:
    """The sum of rewards in one file; of two windows that overlap, the later one is cut."""
    worth, outside, end = 0.0, np.ones(len(predictions_s), bool), -np.inf
    for change in changes_s:
        first = change if place == "right" else change - NAB_WINDOW_S
        start, end = max(first, end), first + NAB_WINDOW_S
        within = (predictions_s >= start) & (predictions_s <= end)
        outside &= ~within
        worth += reward((predictions_s[within][0] - start) / (end - start)) if any(within) else -1
    return worth + NAB_FALSE_POSITIVE * outside.sum()


def reward(place: float) -> float:
    """What a prediction at this share of its window is worth: from 1 at 0 to -0.11 at 1."""
    angle = np.pi * (place - 0.5)
    middle, half = (1 + NAB_FALSE_POSITIVE) / 2, (1 - NAB_FALSE_POSITIVE) / 2
    return float(middle - half * np.tanh(angle) / np.tanh(np.pi / 2))


def ratio_interval(
    parts: np.ndarray, totals: np.ndarray, draws: int = 2_000, seed: int = 0
) -> list[float]:
    """A 95 % interval of sum(parts) / sum(totals) by bootstrap over series, one entry a series."""
    drawn = np.random.default_rng(seed).integers(0, len(parts), (draws, len(parts)))
    sums = totals[drawn].sum(1)
    ratios = parts[drawn].sum(1)[sums > 0] / sums[sums > 0]
    return np.quantile(ratios, (0.025, 0.975)).tolist() if len(ratios) else []
