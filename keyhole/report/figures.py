"""Figures as SVG that stands inside the page: no style attributes, colours by class.

matplotlib draws with stand-in colours; each becomes a class, which the style sheet colours for
light, dark and paper. The page's security policy allows no style attribute, so none is kept.

The figures of a run and of the rows asked about.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from keyhole.core.progress import History
from keyhole.report.rows import Asked
from keyhole.report.words import count, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


INK, QUIET, RULE, NET, OTHER, ALARM = (f"#00000{i}" for i in range(1, 7))
CLASSES = {INK: "ink", QUIET: "quiet", RULE: "rule", NET: "net", OTHER: "other", ALARM: "alarm"}
KEPT = {"stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin",
        "stroke-dashoffset", "text-anchor", "fill-opacity", "opacity", "font-size"}  # fmt: skip


def thousands(value: float, _: float) -> str:
    """A whole number at a tick, nothing between."""
    return f"{value:,.0f}" if value == round(value) else ""


def marker(steps: np.ndarray) -> str:
    """Dots where a line has too few points to be seen without."""
    return "o" if len(steps) < 4 else ""


def canvas(height: float) -> tuple[Figure, Axes]:
    """A figure 10 wide and so high, and its axes, drawn as all figures of the page are."""
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
    """A line above the image that says what is what; the sign is coloured, the word is not."""
    at = 0.0
    for word, colour, sign in entries:
        for text, paint, ahead in ((sign, colour, 0.030), (word, INK, 0.0095 * len(word) + 0.024)):
            axes.text(at, 1.04, text, transform=axes.transAxes, color=paint, size=11)
            at += ahead


def svg(figure: Figure, prefix: str, said: str) -> str:
    """The figure as an element of the page; `said` is its text for those who do not see it."""
    import matplotlib as mpl

    drawn = io.StringIO()
    nothing: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(drawn, format="svg", metadata=nothing)
    svg = drawn.getvalue()
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
    return f'<svg viewBox="{area}" role="img" aria-label="{said}" class="figure">{body}'


def _attributes(style: str) -> str:
    """What a style attribute said, as classes and presentation attributes."""
    classes, attributes = [], []
    for declared in filter(None, (part.strip() for part in style.split(";"))):
        name, _, value = (part.strip() for part in declared.partition(":"))
        if name in {"fill", "stroke"} and value in CLASSES:
            classes.append(f"{name}-{CLASSES[value]}")
        elif name in {"fill", "stroke"}:
            attributes.append(f'{name}="{value}"')
        elif name == "font":
            size = re.search(r"([\d.]+)px", value)
            attributes.append(f'font-size="{size[1] if size else 11}"')
        elif name in KEPT:
            attributes.append(f'{name}="{value.removesuffix("px")}"')
    if classes:
        attributes.insert(0, f'class="{" ".join(classes)}"')
    return " ".join(attributes)


BINS = 80
P_BINS = 20


def learning_curve(history: History) -> str | None:
    """Training and held-out loss by step; None where nothing was evaluated."""
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
    said = (
        f"Learning curve over {count(len(steps), 'evaluation')}: the held-out loss went from "
        f"{number(lines['held out'][0])} to {number(lines['held out'][-1])} nats per row; "
        f"the best step was {history.best_step:,}."
    )
    return svg(figure, "curve", said)


def anomaly_score_histogram(asked: Asked) -> str | None:
    """A histogram of anomaly scores, alarms over all rows; None where every row is empty."""
    finite = np.isfinite(asked.anomaly_score)
    if not finite.any():
        return None
    values, alarms = asked.anomaly_score[finite], asked.anomaly_score[finite & asked.alarm]
    edges = _edges(values, asked.threshold)
    low, high = edges[0], edges[-1]
    held = [np.histogram(part.clip(low, high), edges)[0] for part in (values, alarms)]
    figure, axes = canvas(3.3)
    for counts, colour in zip(held, (NET, ALARM), strict=True):
        axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colour, lw=0)
    high_counts = held[0].max() > 100  # else a handful of strange rows is seen as it is
    if high_counts:
        axes.set_yscale("symlog", linthresh=10, linscale=0.8)
    axes.set_ylim(0, (1.6 if high_counts else 1.1) * max(held[0].max(), 1))
    axes.yaxis.set_major_formatter(thousands)
    axes.set(
        xlabel="anomaly score, × the usual",
        ylabel="rows, logarithmic above 10" if high_counts else "rows",
    )
    if np.isfinite(asked.threshold):
        axes.axvline(asked.threshold, color=INK, lw=1.2, ls=(0, (5, 3)))
    key(axes, [("all rows", NET, "■"), ("alarms", ALARM, "■"), ("threshold", INK, "╎")])
    beyond = int((values > high).sum())
    if beyond:
        text, at = f"last bar: {count(beyond, 'row')} from here on", (1, 1.04)
        axes.text(*at, text, transform=axes.transAxes, color=QUIET, size=11, ha="right")
    said = (
        f"Histogram of the anomaly score of {count(len(values), 'row')}, from "
        f"{number(values.min())} to {number(values.max())} times the usual, "
        f"median {number(float(np.median(values)))}; "
        f"{count(len(alarms), 'alarm')}, threshold {number(asked.threshold)} times the usual."
    )
    return svg(figure, "anomaly_score", said)


def p_value_histogram(asked: Asked) -> str | None:
    """How many rows have which p-value, beside the even line; None where every row is empty."""
    known = ~np.isnan(asked.p_value)
    if not known.any():
        return None
    values = asked.p_value[known]
    bins = int(np.clip(round(1 / values.min()), 1, P_BINS))  # few calibration rows: coarse steps
    held = [_by_p_value(part, bins) for part in (values, asked.p_value[known & asked.alarm])]
    even, at = len(values) / bins, np.arange(bins) / bins
    figure, axes = canvas(2.5)
    for counts, colour in zip(held, (NET, ALARM), strict=True):
        axes.bar(at, counts, 0.94 / bins, align="edge", color=colour, lw=0)
    axes.plot([0, 1], [even, even], color=INK, lw=1.2, ls=(0, (5, 3)))
    axes.set_ylim(0, 1.1 * max(held[0].max(), even))
    axes.yaxis.set_major_formatter(thousands)
    axes.set(xlabel="p-value", ylabel="rows")
    key(axes, [("all rows", NET, "■"), ("alarms", ALARM, "■"), ("as in training", INK, "╌╌")])
    said = (
        f"Histogram of the p-values of {count(len(values), 'row')} in {count(bins, 'bar')}: the "
        f"first, up to {number(1 / bins)}, holds {int(held[0][0]):,}; rows like those of "
        f"training would put {number(even, 0)} in each."
    )
    return svg(figure, "p-values", said)


def _by_p_value(values: np.ndarray, bins: int) -> np.ndarray:
    """Counts in even steps that hold their upper end, as «p of at most» does."""
    at = np.ceil(values * bins * (1 - 1e-12)).astype(int) - 1
    return np.bincount(at.clip(0, bins - 1), minlength=bins)


def _edges(values: np.ndarray, threshold: float) -> np.ndarray:
    """Where the bars begin and end: one at the threshold, far outliers in the last bar."""
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
    """Leave the first fall of the loss out of the image where it would flatten the rest."""
    late = steps >= steps[0] + 0.05 * (steps[-1] - steps[0])
    kept = np.concatenate([line[late & np.isfinite(line)] for line in lines.values()])
    if len(kept) and kept.max() > kept.min():
        room = 0.08 * (kept.max() - kept.min())
        axes.set_ylim(kept.min() - room, kept.max() + room)
