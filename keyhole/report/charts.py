"""Charts as SVG inside the page: a template draws them, the style sheet colours them.

The page's security policy forbids style attributes, so a colour is the name of a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from jinja2 import Template

HERE = Path(__file__).parent
INK, QUIET, NET, OTHER, ALARM = "ink", "quiet", "net", "other", "alarm"
WIDTH, TOP, RIGHT, BOTTOM = 720, 26, 8, 42  # pixels: of a chart, and around its area
LETTER, LABEL = 6.3, 26  # pixels: of a letter, of the label of the vertical axis
MARGIN = 0.012  # of the horizontal axis, beyond the data at both ends
LINEAR, LINEAR_SHARE = 10.0, 0.8  # a logarithmic axis is linear up to here, 0.8 decades long

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
    return _linear(label, low - room, high + room, 9, counts)


def upward(label: str, low: float, high: float, *, counts: bool = False) -> Axis:
    """A vertical axis between these ends; `counts`: whole ticks."""
    return _linear(label, low, high, 6, counts)


def _linear(label: str, low: float, high: float, most: int, counts: bool) -> Axis:
    from matplotlib.ticker import MaxNLocator

    places = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10], integer=counts).tick_values(low, high)
    ticks = [float(tick) for tick in places if low <= tick <= high]
    return Axis(label, low, high, [t for t in ticks if not counts or t == round(t)])


def decades(label: str, high: float) -> Axis:
    """An axis from 0 that is logarithmic above `LINEAR`, with a tick for each power of ten."""
    powers = 10.0 ** np.arange(1, int(np.log10(high)) + 1)
    return Axis(label, 0.0, high, [0.0, *powers.tolist()], logarithmic=True)


@dataclass(frozen=True)
class Shape:
    """A path in pixels; `fill` or `stroke` names its colour, `dots` are circles of a radius."""

    path: str = ""
    fill: str = ""
    stroke: str = ""
    width: float = 0.0
    dash: str = ""
    dots: list[tuple[str, str]] = field(default_factory=list)
    radius: float = 0.0


@dataclass
class Chart:
    """Lines and bars over two axes, drawn in the order that they are added."""

    x: Axis
    y: Axis
    height: float  # pixels
    shapes: list[Shape] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.texts = [_texts(axis.ticks) for axis in (self.x, self.y)]
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

    def upright(self, x: float, colour: str, width: float, dash: str) -> None:
        """A line across the whole height."""
        self.line([x, x], [self.y.low, self.y.high], colour, width, dash=dash)

    def bars(self, left: Values, right: Values, heights: np.ndarray, colour: str) -> None:
        """Bars from 0 to their heights."""
        corners = zip(
            self._points(left, np.zeros(len(left))), self._points(right, heights), strict=True
        )
        path = [f"M{a[0]} {a[1]}V{b[1]}H{b[0]}V{a[1]}Z" for a, b in corners if a and b]
        self.shapes.append(Shape("".join(path), fill=colour))

    def svg(self, label: str, key: Sequence[tuple[str, str, str]], note: str = "") -> str:
        """The chart as an element of the page, `label` for screen readers.

        `key` explains the colours: words, colour and sign of each; `note` stands at the right.
        """
        values = {name: getattr(self, name) for name in ("left", "wide", "high", "height")}
        across, up = self.x.place(self.x.ticks), self.y.place(self.y.ticks)
        return template("chart.svg.j2").render(
            values, width=WIDTH, top=TOP, label=label, key=key, note=note, shapes=self.shapes,
            x_label=self.x.label, y_label=self.y.label,
            x_ticks=list(zip((self.wide * across).tolist(), self.texts[0], strict=True)),
            y_ticks=list(zip((self.high * (1 - up)).tolist(), self.texts[1], strict=True)),
        )  # fmt: skip

    def _points(self, x: np.ndarray, y: np.ndarray) -> list[tuple[str, str] | None]:
        places = np.column_stack([self.wide * self.x.place(x), self.high * (1 - self.y.place(y))])
        return [
            (f"{a:.6g}", f"{b:.6g}") if np.isfinite(a + b) else None for a, b in places.tolist()
        ]


def _texts(ticks: Sequence[float]) -> list[str]:
    """Ticks with as many digits as tell them apart."""
    step = min(np.diff(ticks), default=1.0)
    digits = next((d for d in range(12) if abs(round(step, d) - step) < 1e-6 * step), 12)
    return [f"{tick + 0.0:,.{digits}f}".replace("-", "−") for tick in ticks]


@cache
def template(name: str) -> Template:
    """A template of the page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template(name)
