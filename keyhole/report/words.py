"""Numbers and texts as a page shows them, short and without control characters; its templates."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keyhole.modalities.expected import shorten

if TYPE_CHECKING:
    from jinja2 import Template

FOLDER = Path(__file__).parent
MAX_TEXT = 60  # characters of a name or value
JOINERS = "\u200c\u200d"  # join letters and emoji
UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&'\u2028\u2029"}


def plain(text: Any, most: int = MAX_TEXT) -> str:
    """The text on one line, at most `most` characters, all printable."""
    short = shorten(str(text)[: 4 * most], most)
    return "".join(
        c if c.isprintable() or c in JOINERS else " " if c.isspace() else "�" for c in short
    )


def number(value: float | None, digits: int = 2) -> str:
    """The number with a minus sign instead of a hyphen; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    value = 0.0 if abs(value) < 0.5 * 10**-digits else value
    text = f"{value:,.{digits}f}" if abs(value) < 1e9 else f"{value:.2e}"
    return text.replace("-", "−")


def percent(share: float | None) -> str:
    """A share as a whole percentage."""
    return "–" if share is None or not math.isfinite(share) else f"{number(100 * share, 0)} %"


def rate(share: float) -> str:
    """A share as a percentage of two digits: "0.25 %", "12 %"."""
    return f"{100 * share:.{2 if share < 0.995 else 3}g} %"


def times(anomaly_score: float, score_std: float) -> str:
    """An anomaly score with its standard deviation, "3.10 ± 0.21", if that is known."""
    text = number(anomaly_score)
    return text if math.isnan(score_std) else f"{text} ± {number(score_std)}"


def chance(p_value: float) -> str:
    """A p-value to two digits."""
    return "–" if math.isnan(p_value) else f"{p_value:.2g}"


def count(amount: int, noun: str) -> str:
    """For example "1 row" or "2,000 rows"."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def script_json(value: Any) -> str:
    """JSON that is safe inside a script element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(UNSAFE)


def bar_length(share: float | None) -> float:
    """The length of a bar, from 0 to 100."""
    if share is None or not math.isfinite(share):
        return 0.0
    return round(100 * min(max(float(share), 0.0), 1.0), 1)


def base64_of(values: np.ndarray) -> str:
    """The bytes of an array as base64."""
    return base64.b64encode(values.tobytes()).decode("ascii")


@cache
def template(name: str) -> Template:
    """A template of the page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template(name)


def fill(name: str, values: dict[str, Any]) -> str:
    """A filled-in template whose security policy allows only its own style, scripts and data."""
    from markupsafe import Markup

    files = ("style.css", "theme.js", "map.js", "timeline.js")
    style, *scripts = [(FOLDER / file).read_text(encoding="utf8") for file in files]
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, scripts))}; "
        f"style-src {_hash(style)}; img-src data:; base-uri 'none'; form-action 'none'"
    )
    drawn_names = (
        "curve", "width_curve", "histogram", "p_values", "map_json", "timeline_json",
        "timeline_chart", "popularity_curve", "item_map", "map_chart",
    )  # fmt: skip
    drawn = {key: Markup(values[key]) for key in drawn_names if values.get(key)}
    names = [file.partition(".")[0] for file in files]
    own = dict(zip(names, map(Markup, (style, *scripts)), strict=True))
    return template(name).render(values | drawn | {"own": own, "policy": policy})


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
