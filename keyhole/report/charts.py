"""Charts of a fit and of scored rows, as SVG inside the page.

A template draws them and the style sheet colours them: the page's security policy forbids style
attributes, so a colour is the name of a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from keyhole.autoencoder.width import WidthChoice
from keyhole.core.curves import score_edges
from keyhole.core.progress import History
from keyhole.report.rows import ScoredRows
from keyhole.report.words import count, number, template

INK, QUIET, NET, OTHER, ALARM = "ink", "quiet", "net", "other", "alarm"
WIDTH, TOP, RIGHT, BOTTOM = 720, 26, 8, 42  # pixels: of a chart, and around its area
LETTER, LABEL = 6.3, 26  # pixels: of a letter, of the label of the vertical axis
LINE, NAME_GAP = 13, 8  # pixels: the height of a name, and from its point
MARGIN = 0.012  # of the horizontal axis, beyond the data at both ends
LINEAR, LINEAR_SHARE = 10.0, 0.8  # a logarithmic axis is linear up to here, 0.8 decades long
P_VALUE_BARS = 20
TARGET = 6.0  # pixels: the radius of a hidden dot, large enough for a pointer
WIDTH_TICKS = 12  # of the width curve, at most

Values = Float[np.ndarray, " point"]


@dataclass(frozen=True)
class Axis:
    """A label, the values at both ends, and ticks; `logarithmic` above `LINEAR`."""

    label: str
    low: float
    high: float
    ticks: Sequence[float] = ()
    logarithmic: bool = False

    def place(self, values: Any) -> np.ndarray:
        """Where values stand, from 0 to 1 between the ends."""
        low, high, x = (self._scaled(np.asarray(v, float)) for v in (self.low, self.high, values))
        return (x - low) / (high - low)

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        if not self.logarithmic:
            return values
        decades = LINEAR_SHARE + np.log10(np.maximum(values, LINEAR) / LINEAR)
        return np.where(values < LINEAR, LINEAR_SHARE * values / LINEAR, decades)


def across(label: str, low: float, high: float, *, counts: bool = False) -> Axis:
    """A horizontal axis over data between these ends, with a margin; `counts`: whole ticks."""
    room = MARGIN * (high - low) or 0.5
    return upward(label, low - room, high + room, counts=counts, most_ticks=9)


def upward(
    label: str, low: float, high: float, *, counts: bool = False, most_ticks: int = 6
) -> Axis:
    """A vertical axis between these ends; `counts`: whole ticks."""
    from matplotlib.ticker import MaxNLocator

    steps = [1, 2, 2.5, 5, 10]
    places = MaxNLocator(most_ticks, steps=steps, integer=counts).tick_values(low, high)
    ticks = [float(tick) for tick in places if low <= tick <= high]
    return Axis(label, low, high, [t for t in ticks if not counts or t == round(t)])


def upward_counts(most: int) -> Axis:
    """A vertical axis of numbers of rows: above 100, logarithmic from `LINEAR` on."""
    if most <= 100:  # few rows would look like many on a logarithmic axis
        return upward("rows", 0.0, 1.1 * max(most, 1), counts=True)
    powers = 10.0 ** np.arange(1, int(np.log10(1.6 * most)) + 1)
    ticks = [0.0, *powers.tolist()]
    return Axis("rows, logarithmic above 10", 0.0, 1.6 * most, ticks, logarithmic=True)


@dataclass(frozen=True)
class Shape:
    """A path in pixels; `fill` or `stroke` names its colour, `dots` are circles of a radius.

    `bars` are paths with their tooltips, `titles` the tooltips of the dots, or of the path.
    `hidden` dots are seen by the pointer alone.
    """

    path: str = ""
    fill: str = ""
    stroke: str = ""
    width: float = 0.0
    dash: str = ""
    dots: list[tuple[str, str]] = field(default_factory=list)
    radius: float = 0.0
    titles: Sequence[str] = ()
    hidden: bool = False
    bars: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Label:
    """A text beside a point, in pixels; `anchor` is the end of it that is at the point."""

    x: float
    y: float
    anchor: str
    text: str


@dataclass
class Chart:
    """Lines, bars and dots over two axes, drawn in the order that they are added."""

    x: Axis
    y: Axis
    height: float  # pixels
    shapes: list[Shape] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.texts = [tick_texts(axis.ticks) for axis in (self.x, self.y)]
        self.left = LABEL + LETTER * max(map(len, self.texts[1]), default=0)
        self.wide, self.high = WIDTH - self.left - RIGHT, self.height - TOP - BOTTOM

    def line(
        self, x: Any, y: Any, colour: str, width: float, *, dash: str = "", radius: float = 0.0
    ) -> None:
        """A line through points, broken where one is not finite; dots where `radius` is given."""
        points = self._points(np.asarray(x, float), np.asarray(y, float))
        path, pen = [], "M"
        for point in points:
            if point is not None:
                path.append(f"{pen}{point[0]} {point[1]}")
            pen = "M" if point is None else "L"
        dots = [point for point in points if point is not None] if radius else []
        self.shapes.append(Shape("".join(path), "", colour, width, dash, dots, radius))

    def upright(self, x: float, colour: str, width: float, dash: str, title: str = "") -> None:
        """A line across the whole height, with a tooltip."""
        self.line([x, x], [self.y.low, self.y.high], colour, width, dash=dash)
        self.shapes[-1] = replace(self.shapes[-1], titles=[title] if title else [])

    def bars(
        self, left: Values, right: Values, heights: np.ndarray, colour: str, titles: Sequence[str]
    ) -> None:
        """Bars from 0 to their heights, each with a tooltip."""
        starts, ends = self._points(left, np.zeros(len(left))), self._points(right, heights)
        corners = zip(starts, ends, titles, heights > 0, strict=True)
        self.shapes.append(Shape(fill=colour, bars=[
            (f"M{a[0]} {a[1]}V{b[1]}H{b[0]}V{a[1]}Z", title)
            for a, b, title, some in corners if a and b and some
        ]))  # fmt: skip

    def dots(
        self, x: Values, y: Values, colour: str, radius: float, titles: Sequence[str],
        *, hidden: bool = False,
    ) -> None:  # fmt: skip
        """Points, each with a tooltip; those that are not finite are left out."""
        pairs = zip(self._points(x, y), titles, strict=True)
        points = [(point, title) for point, title in pairs if point is not None]
        self.shapes.append(Shape(
            stroke=colour, dots=[point for point, _ in points], radius=radius,
            titles=[title for _, title in points], hidden=hidden,
        ))  # fmt: skip

    def name(self, x: float, y: float, text: str) -> bool:
        """Write a text beside a point; False where it would cover another one."""
        left, top = self.wide * float(self.x.place(x)), self.high * (1 - float(self.y.place(y)))
        anchor, gap = ("start", NAME_GAP) if left < self.wide / 2 else ("end", -NAME_GAP)
        label = Label(round(left + gap, 1), round(top + NAME_GAP / 2, 1), anchor, text)
        if any(_overlap(label, other) for other in self.labels):
            return False
        self.labels.append(label)
        return True

    def svg(self, label: str, key: Sequence[tuple[str, str, str]], note: str = "") -> str:
        """The chart as an element of the page, `label` for screen readers.

        `key` explains the colours: words, colour and sign of each; `note` stands at the right.
        """
        x, y = self.wide * self.x.place(self.x.ticks), self.high * (1 - self.y.place(self.y.ticks))
        return template("chart.svg.j2").render(
            chart=self, width=WIDTH, top=TOP, label=label, key=key, note=note,
            x_ticks=list(zip(x.tolist(), self.texts[0], strict=True)),
            y_ticks=list(zip(y.tolist(), self.texts[1], strict=True)),
        )  # fmt: skip

    def _points(self, x: np.ndarray, y: np.ndarray) -> list[tuple[str, str] | None]:
        places = np.column_stack([self.wide * self.x.place(x), self.high * (1 - self.y.place(y))])
        return [
            (f"{a:.6g}", f"{b:.6g}") if np.isfinite(a + b) else None for a, b in places.tolist()
        ]


def _overlap(a: Label, b: Label) -> bool:
    """Whether one text covers a part of another."""
    (low, high), (other_low, other_high) = (
        (at.x, at.x + width) if at.anchor == "start" else (at.x - width, at.x)
        for at, width in ((one, LETTER * len(one.text)) for one in (a, b))
    )
    return abs(a.y - b.y) < LINE and low < other_high and other_low < high


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Ticks with as many digits as tell them apart."""
    step = min(np.diff(ticks), default=1.0)
    digits = next((d for d in range(12) if abs(round(step, d) - step) < 1e-6 * step), 12)
    return [f"{tick + 0.0:,.{digits}f}".replace("-", "−") for tick in ticks]


def learning_curve(history: History) -> str | None:
    """Training and held-out loss by step; None if nothing was evaluated."""
    steps = np.array(history.steps, float)
    training, held_out = np.array(history.loss, float), np.array(history.held_out, float)
    if not np.isfinite([training, held_out]).any():
        return None
    # The first fall of the loss is cut off: it would flatten the rest of the curve.
    late = steps >= steps[0] + 0.05 * (steps[-1] - steps[0])
    losses = np.concatenate([training, held_out])
    shown = losses[np.tile(late, 2) & np.isfinite(losses)]
    if not len(shown):
        shown = losses[np.isfinite(losses)]
    room = 0.08 * float(np.ptp(shown)) or 0.5
    y = upward("loss, nats per row", float(shown.min()) - room, float(shown.max()) + room)
    x = across("training step", float(steps[0]), float(steps[-1]), counts=True)
    chart = Chart(x, y, 238)
    radius = 3.0 if len(steps) < 4 else 0.0  # a line of few points may not be visible
    chart.line(steps, training, OTHER, 1.4, dash="5.6 2.8", radius=radius)
    chart.line(steps, held_out, NET, 2.2, radius=radius)
    best = f"best step on held-out rows: {history.best_step:,}"
    chart.upright(history.best_step, QUIET, 1, "1 3", best)
    titles = [
        f"step {step:,}: training {number(a)}, held out {number(b)} nats per row"
        for step, a, b in zip(history.steps, training.tolist(), held_out.tolist(), strict=True)
    ]
    chart.dots(steps, held_out, NET, TARGET, titles, hidden=True)
    label = (
        f"Learning curve over {count(len(steps), 'evaluation')}: the held-out loss went from "
        f"{number(held_out[0])} to {number(held_out[-1])} nats per row; "
        f"the best step was {history.best_step:,}."
    )
    key = [("training", OTHER, "╌╌"), ("held out", NET, "━━"), ("best step", QUIET, "┊")]
    return chart.svg(label, key)


def anomaly_score_histogram(scored: ScoredRows) -> str | None:
    """A histogram of the anomaly scores of all rows and of alarms; None if every row is empty."""
    finite = np.isfinite(scored.anomaly_score)
    if not finite.any():
        return None
    values, alarms = scored.anomaly_score[finite], scored.anomaly_score[finite & scored.alarm]
    edges = score_edges(values, scored.threshold)
    low, high = edges[0], edges[-1]
    heights = [np.histogram(part.clip(low, high), edges)[0] for part in (values, alarms)]
    x = across("anomaly score (1: a typical row)", float(low), float(high))
    chart = Chart(x, upward_counts(int(heights[0].max())), 238)
    titles = [
        f"anomaly score {number(a)} to {number(b)}: {count(int(rows), 'row')}, "
        f"{count(int(own), 'alarm')}"
        for a, b, rows, own in zip(edges[:-1], edges[1:], *heights, strict=True)
    ]
    for counts, colour in zip(heights, (NET, ALARM), strict=True):
        chart.bars(edges[:-1], edges[1:], counts, colour, titles)
    if np.isfinite(scored.threshold):
        title = f"alarms are above {number(scored.threshold)}"
        chart.upright(scored.threshold, INK, 1.2, "6 3.6", title)
    beyond = int((values > high).sum())
    note = f"last bar: {count(beyond, 'row')} from here on" if beyond else ""
    label = (
        f"Histogram of the anomaly score of {count(len(values), 'row')}, from "
        f"{number(values.min())} to {number(values.max())}, "
        f"median {number(float(np.median(values)))}; "
        f"{count(len(alarms), 'alarm')}, threshold {number(scored.threshold)}."
    )
    key = [("all rows", NET, "■"), ("alarms", ALARM, "■"), ("threshold", INK, "╎")]
    return chart.svg(label, key, note)


def p_value_histogram(scored: ScoredRows) -> str | None:
    """A histogram of the p-values, beside the uniform line; None if every row is empty."""
    known = ~np.isnan(scored.p_value)
    if not known.any():
        return None
    values = scored.p_value[known]
    bins = int(np.clip(round(1 / values.min()), 1, P_VALUE_BARS))  # few calibration rows: coarse
    heights = []
    for part in (values, scored.p_value[known & scored.alarm]):
        # Bins contain their upper end, as "p <= 0.05" does.
        index = np.ceil(part * bins * (1 - 1e-12)).astype(int) - 1
        heights.append(np.bincount(index.clip(0, bins - 1), minlength=bins))
    even, left = len(values) / bins, np.arange(bins) / bins
    y = upward("rows", 0.0, 1.1 * max(float(heights[0].max()), even), counts=True)
    chart = Chart(across("p-value", 0.0, 1.0), y, 180)
    titles = [
        f"p-value {number(i / bins)} to {number((i + 1) / bins)}: {count(int(rows), 'row')}, "
        f"{count(int(own), 'alarm')}; about {number(even, 0)} rows expected"
        for i, (rows, own) in enumerate(zip(*heights, strict=True))
    ]
    for counts, colour in zip(heights, (NET, ALARM), strict=True):
        chart.bars(left, left + 0.94 / bins, counts, colour, titles)
    chart.line([0, 1], [even, even], INK, 1.2, dash="6 3.6")
    label = (
        f"Histogram of the p-values of {count(len(values), 'row')} in {count(bins, 'bar')}: the "
        f"first, up to {number(1 / bins)}, holds {int(heights[0][0]):,}; rows like those of "
        f"training would put {number(even, 0)} in each."
    )
    key = [
        ("all rows", NET, "■"),
        ("alarms", ALARM, "■"),
        ("expected if all rows are normal", INK, "╌╌"),
    ]
    return chart.svg(label, key)


def width_curve(choice: WidthChoice | None) -> str | None:
    """Held-out nats by width, with the chosen width marked; None if the width was given."""
    if choice is None or not choice.nats:
        return None
    nats = np.array(choice.nats, float)
    widths = np.arange(1.0, len(nats) + 1)
    chosen = int(np.clip(choice.width, 1, len(nats)))
    bound = float(nats.min()) + choice.tolerance
    room = 0.06 * (max(float(nats.max()), bound) - float(nats.min())) or 0.5
    y = upward("prediction error, nats per row", nats.min() - room, max(nats.max(), bound) + room)
    x = across("width of the code", 1.0, float(len(nats)))
    x = replace(x, ticks=widths[:: -(-len(nats) // WIDTH_TICKS)].tolist())
    chart = Chart(x, y, 216)
    chart.upright(chosen, INK, 1.2, "6 3.6", f"chosen width: {chosen}")
    chart.line(widths[[0, -1]], [bound, bound], OTHER, 1.2, dash="1.2 2.4")
    chart.line(widths, nats, NET, 2.2, radius=2)
    chart.line([chosen], nats[[chosen - 1]], INK, 0, radius=4.5)
    titles = [f"width {w}: {number(n)} nats per row" for w, n in enumerate(nats.tolist(), 1)]
    chart.dots(widths, nats, NET, TARGET, titles, hidden=True)
    label = (
        f"Held-out nats per row by the width of the code: {number(nats[0])} at 1, "
        f"{number(nats[chosen - 1])} at {chosen}, the chosen width, and "
        f"{number(nats[-1])} at {len(nats)}."
    )
    key = [("held out", NET, "━━"), ("chosen", INK, "●"), ("as good as the best", OTHER, "┈┈")]
    return chart.svg(label, key)
