"""Figures as SVG that stands inside the page: no style attributes, colours by class.

matplotlib draws with stand-in colours; each becomes a class, which the style sheet colours for
light, dark and paper. The page's security policy allows no style attribute, so none is kept.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

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
    """A line above the picture that says what is what; the sign is coloured, the word is not."""
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
