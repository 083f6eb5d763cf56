"""Figures of a fit and of scored rows, as SVG inside the page.

matplotlib draws with placeholder colours; each becomes a class, which the style sheet colours for
light, dark and paper. The page's security policy forbids style attributes, so they are replaced.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from keyhole.core.progress import History
from keyhole.report.rows import ScoredRows
from keyhole.report.words import count, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


INK, QUIET, RULE, NET, OTHER, ALARM = (f"#00000{i}" for i in range(1, 7))
CLASSES = {INK: "ink", QUIET: "quiet", RULE: "rule", NET: "net", OTHER: "other", ALARM: "alarm"}
ATTRIBUTES = {"stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin",
        "stroke-dashoffset", "text-anchor", "fill-opacity", "opacity", "font-size"}  # fmt: skip


def thousands(value: float, _: float) -> str:
    """The label of a tick: an integer, or nothing."""
    return f"{value:,.0f}" if value == round(value) else ""


def marker(steps: np.ndarray) -> str:
    """The marker of a line: dots if it has too few points to be visible without."""
    return "o" if len(steps) < 4 else ""


def canvas(height: float) -> tuple[Figure, Axes]:
    """A figure, 10 wide, and its axes, in the style of the page."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, height), layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set(visible=side == "bottom", color=RULE, linewidth=1)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.margins(x=0.012)
    axes.tick_params(colors=QUIET, labelsize=11, length=0, pad=6, which="both")
    axes.minorticks_off()
    for name in ("x", "y"):
        getattr(axes, f"{name}axis").label.set(color=QUIET, size=11)
    return figure, axes


def key(axes: Axes, entries: list[tuple[str, str, str]]) -> None:
    """Draw the legend above the figure; the signs are coloured, the words are not."""
    x = 0.0
    for word, colour, sign in entries:
        for text, paint, ahead in ((sign, colour, 0.030), (word, INK, 0.0095 * len(word) + 0.024)):
            axes.text(x, 1.04, text, transform=axes.transAxes, color=paint, size=11)
            x += ahead


def svg(figure: Figure, prefix: str, label: str) -> str:
    """The figure as an element of the page; `label` is its text for screen readers."""
    import matplotlib as mpl

    buffer = io.StringIO()
    nothing: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    box = re.search(r'viewBox="([^"]*)"', svg)
    body = svg[svg.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.S)
    body = body.replace("xlink:href", "href")
    named = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in named else "", body)
    body = re.sub(r'style="([^"]*)"', lambda m: _attributes(m[1]), body)
    for name in named:
        body = re.sub(rf'(id="|#){re.escape(name)}(?=[")])', rf"\g<1>{prefix}-{name}", body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    area = box[1] if box else "0 0 720 240"
    return f'<svg viewBox="{area}" role="img" aria-label="{label}" class="figure">{body}'


def _attributes(style: str) -> str:
    """A style attribute as classes and presentation attributes."""
    classes, attributes = [], []
    for declaration in filter(None, (part.strip() for part in style.split(";"))):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name in {"fill", "stroke"} and value in CLASSES:
            classes.append(f"{name}-{CLASSES[value]}")
        elif name in {"fill", "stroke"}:
            attributes.append(f'{name}="{value}"')
        elif name == "font":
            size = re.search(r"([\d.]+)px", value)
            attributes.append(f'font-size="{size[1] if size else 11}"')
        elif name in ATTRIBUTES:
            attributes.append(f'{name}="{value.removesuffix("px")}"')
    if classes:
        attributes.insert(0, f'class="{" ".join(classes)}"')
    return " ".join(attributes)


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
    figure, axes = canvas(3.3)
    axes.plot(steps, lines["training"], color=OTHER, lw=1.4, ls=(0, (4, 2)), marker=marker(steps))
    axes.plot(steps, lines["held out"], color=NET, lw=2.2, marker=marker(steps))
    _zoom_in(axes, steps, lines)
    axes.axvline(history.best_step, color=QUIET, lw=1, ls=(0, (1, 3)))
    axes.xaxis.set_major_formatter(thousands)
    axes.set(xlabel="step", ylabel="nats per row")
    key(axes, [("training", OTHER, "╌╌"), ("held out", NET, "━━"), ("best step", QUIET, "┊")])
    label = (
        f"Learning curve over {count(len(steps), 'evaluation')}: the held-out loss went from "
        f"{number(lines['held out'][0])} to {number(lines['held out'][-1])} nats per row; "
        f"the best step was {history.best_step:,}."
    )
    return svg(figure, "curve", label)


def anomaly_score_histogram(scored: ScoredRows) -> str | None:
    """A histogram of the anomaly scores of all rows and of alarms; None if every row is empty."""
    finite = np.isfinite(scored.anomaly_score)
    if not finite.any():
        return None
    values, alarms = scored.anomaly_score[finite], scored.anomaly_score[finite & scored.alarm]
    edges = _edges(values, scored.threshold)
    low, high = edges[0], edges[-1]
    heights = [np.histogram(part.clip(low, high), edges)[0] for part in (values, alarms)]
    figure, axes = canvas(3.3)
    for counts, colour in zip(heights, (NET, ALARM), strict=True):
        axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colour, lw=0)
    high_counts = heights[0].max() > 100  # a logarithmic axis would exaggerate few rows
    if high_counts:
        axes.set_yscale("symlog", linthresh=10, linscale=0.8)
    axes.set_ylim(0, (1.6 if high_counts else 1.1) * max(heights[0].max(), 1))
    axes.yaxis.set_major_formatter(thousands)
    axes.set(
        xlabel="anomaly score, × the usual",
        ylabel="rows, logarithmic above 10" if high_counts else "rows",
    )
    if np.isfinite(scored.threshold):
        axes.axvline(scored.threshold, color=INK, lw=1.2, ls=(0, (5, 3)))
    key(axes, [("all rows", NET, "■"), ("alarms", ALARM, "■"), ("threshold", INK, "╎")])
    beyond = int((values > high).sum())
    if beyond:
        text = f"last bar: {count(beyond, 'row')} from here on"
        axes.text(1, 1.04, text, transform=axes.transAxes, color=QUIET, size=11, ha="right")
    label = (
        f"Histogram of the anomaly score of {count(len(values), 'row')}, from "
        f"{number(values.min())} to {number(values.max())} times the usual, "
        f"median {number(float(np.median(values)))}; "
        f"{count(len(alarms), 'alarm')}, threshold {number(scored.threshold)} times the usual."
    )
    return svg(figure, "anomaly_score", label)


def p_value_histogram(scored: ScoredRows) -> str | None:
    """A histogram of the p-values, beside the uniform line; None if every row is empty."""
    known = ~np.isnan(scored.p_value)
    if not known.any():
        return None
    values = scored.p_value[known]
    bins = int(np.clip(round(1 / values.min()), 1, P_BINS))  # few calibration rows: coarse steps
    heights = [_by_p_value(part, bins) for part in (values, scored.p_value[known & scored.alarm])]
    even, left = len(values) / bins, np.arange(bins) / bins
    figure, axes = canvas(2.5)
    for counts, colour in zip(heights, (NET, ALARM), strict=True):
        axes.bar(left, counts, 0.94 / bins, align="edge", color=colour, lw=0)
    axes.plot([0, 1], [even, even], color=INK, lw=1.2, ls=(0, (5, 3)))
    axes.set_ylim(0, 1.1 * max(heights[0].max(), even))
    axes.yaxis.set_major_formatter(thousands)
    axes.set(xlabel="p-value", ylabel="rows")
    key(axes, [("all rows", NET, "■"), ("alarms", ALARM, "■"), ("as in training", INK, "╌╌")])
    label = (
        f"Histogram of the p-values of {count(len(values), 'row')} in {count(bins, 'bar')}: the "
        f"first, up to {number(1 / bins)}, holds {int(heights[0][0]):,}; rows like those of "
        f"training would put {number(even, 0)} in each."
    )
    return svg(figure, "p-values", label)


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


def _zoom_in(axes: Axes, steps: np.ndarray, lines: dict[str, np.ndarray]) -> None:
    """Cut off the first fall of the loss, which would flatten the rest of the curve."""
    late = steps >= steps[0] + 0.05 * (steps[-1] - steps[0])
    values = np.concatenate([line[late & np.isfinite(line)] for line in lines.values()])
    if len(values) and values.max() > values.min():
        room = 0.08 * (values.max() - values.min())
        axes.set_ylim(values.min() - room, values.max() + room)
