"""Figures of a fit and of scored rows, as SVG inside the page."""

from __future__ import annotations

import numpy as np

from keyhole.core.progress import History
from keyhole.report.charts import (
    ALARM,
    INK,
    NET,
    OTHER,
    QUIET,
    Axis,
    Chart,
    across,
    decades,
    upward,
)
from keyhole.report.rows import ScoredRows
from keyhole.report.words import count, number

BINS = 80
P_BINS = 20


def learning_curve(history: History) -> str | None:
    """Training and held-out loss by step; None if nothing was evaluated."""
    steps = np.array(history.steps)
    lines = {
        "training": np.array(history.loss, float),
        "held out": np.array(history.held_out, float),
    }
    if not len(steps) or not any(np.isfinite(line).any() for line in lines.values()):
        return None
    x = across("step", float(steps[0]), float(steps[-1]), counts=True)
    chart = Chart(x, upward("nats per row", *_without_first_fall(steps, lines)), 238)
    radius = 3.0 if len(steps) < 4 else 0.0  # a line of few points may not be visible
    chart.line(steps, lines["training"], OTHER, 1.4, dash="5.6 2.8", radius=radius)
    chart.line(steps, lines["held out"], NET, 2.2, radius=radius)
    chart.upright(history.best_step, QUIET, 1, "1 3")
    key = [("training", OTHER, "╌╌"), ("held out", NET, "━━"), ("best step", QUIET, "┊")]
    label = (
        f"Learning curve over {count(len(steps), 'evaluation')}: the held-out loss went from "
        f"{number(lines['held out'][0])} to {number(lines['held out'][-1])} nats per row; "
        f"the best step was {history.best_step:,}."
    )
    return chart.svg(label, key)


def anomaly_score_histogram(scored: ScoredRows) -> str | None:
    """A histogram of the anomaly scores of all rows and of alarms; None if every row is empty."""
    finite = np.isfinite(scored.anomaly_score)
    if not finite.any():
        return None
    values, alarms = scored.anomaly_score[finite], scored.anomaly_score[finite & scored.alarm]
    edges = _edges(values, scored.threshold)
    low, high = edges[0], edges[-1]
    heights = [np.histogram(part.clip(low, high), edges)[0] for part in (values, alarms)]
    x = across("anomaly score, × the usual", float(low), float(high))
    chart = Chart(x, _of_counts(int(heights[0].max())), 238)
    for counts, colour in zip(heights, (NET, ALARM), strict=True):
        chart.bars(edges[:-1], edges[1:], counts, colour)
    if np.isfinite(scored.threshold):
        chart.upright(scored.threshold, INK, 1.2, "6 3.6")
    key = [("all rows", NET, "■"), ("alarms", ALARM, "■"), ("threshold", INK, "╎")]
    beyond = int((values > high).sum())
    note = f"last bar: {count(beyond, 'row')} from here on" if beyond else ""
    label = (
        f"Histogram of the anomaly score of {count(len(values), 'row')}, from "
        f"{number(values.min())} to {number(values.max())} times the usual, "
        f"median {number(float(np.median(values)))}; "
        f"{count(len(alarms), 'alarm')}, threshold {number(scored.threshold)} times the usual."
    )
    return chart.svg(label, key, note)


def p_value_histogram(scored: ScoredRows) -> str | None:
    """A histogram of the p-values, beside the uniform line; None if every row is empty."""
    known = ~np.isnan(scored.p_value)
    if not known.any():
        return None
    values = scored.p_value[known]
    bins = int(np.clip(round(1 / values.min()), 1, P_BINS))  # few calibration rows: coarse steps
    heights = [_by_p_value(part, bins) for part in (values, scored.p_value[known & scored.alarm])]
    even, left = len(values) / bins, np.arange(bins) / bins
    y = upward("rows", 0.0, 1.1 * max(float(heights[0].max()), even), counts=True)
    chart = Chart(across("p-value", 0.0, 1.0), y, 180)
    for counts, colour in zip(heights, (NET, ALARM), strict=True):
        chart.bars(left, left + 0.94 / bins, counts, colour)
    chart.line([0, 1], [even, even], INK, 1.2, dash="6 3.6")
    key = [("all rows", NET, "■"), ("alarms", ALARM, "■"), ("as in training", INK, "╌╌")]
    label = (
        f"Histogram of the p-values of {count(len(values), 'row')} in {count(bins, 'bar')}: the "
        f"first, up to {number(1 / bins)}, holds {int(heights[0][0]):,}; rows like those of "
        f"training would put {number(even, 0)} in each."
    )
    return chart.svg(label, key)


def _by_p_value(values: np.ndarray, bins: int) -> np.ndarray:
    """Counts in equal bins that contain their upper end, as "p <= 0.05" does."""
    index = np.ceil(values * bins * (1 - 1e-12)).astype(int) - 1
    return np.bincount(index.clip(0, bins - 1), minlength=bins)


def _edges(values: np.ndarray, threshold: float) -> np.ndarray:
    """The edges of the bars: one at the threshold, far outliers in the last bar."""
    low, usual, high = np.quantile(values, [0.1, 0.5, 0.9])
    low, high = float(values.min()), min(float(values.max()), usual + 8 * (high - low))
    if high <= low:
        low, high = float(values.min()) - 0.5, float(values.max()) + 0.5
    if np.isfinite(threshold):
        low, high = min(low, threshold), max(high, threshold + 0.05 * (high - low))
    step = (high - low) / min(BINS, 10 + len(values) // 10)
    middle = threshold if np.isfinite(threshold) else low
    before, after = (int(np.ceil(round(gap / step, 6))) for gap in (middle - low, high - middle))
    return middle + step * np.arange(-before, after + 1)


def _of_counts(most: int) -> Axis:
    """The axis of counts of rows; few rows are not exaggerated by a logarithmic one."""
    if most > 100:
        return decades("rows, logarithmic above 10", 1.6 * most)
    return upward("rows", 0.0, 1.1 * max(most, 1), counts=True)


def _without_first_fall(steps: np.ndarray, lines: dict[str, np.ndarray]) -> tuple[float, float]:
    """Ends that cut off the first fall of the loss, which would flatten the rest of the curve."""
    late = steps >= steps[0] + 0.05 * (steps[-1] - steps[0])
    shown = np.concatenate([line[late & np.isfinite(line)] for line in lines.values()])
    if not len(shown):
        shown = np.concatenate([line[np.isfinite(line)] for line in lines.values()])
    room = 0.08 * float(np.ptp(shown)) or 0.5
    return float(shown.min()) - room, float(shown.max()) + room
