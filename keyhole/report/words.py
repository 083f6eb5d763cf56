"""Numbers and texts of the data as a page says them: short, without control characters."""

import json
import math
from typing import Any

import numpy as np

from keyhole.modalities.tabular.columns.base import shorten

MOST_TEXT = 60  # characters of a name or value
JOINERS = "\u200c\u200d"  # hold letters and emoji together
UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&'\u2028\u2029"}


def plain(text: Any, most: int = MOST_TEXT) -> str:
    """The text on one line, at most so long, of characters that can be printed."""
    short = shorten(str(text)[: 4 * most], most)
    return "".join(c if c.isprintable() or c in JOINERS else _stand_in(c) for c in short)


def _stand_in(character: str) -> str:
    return " " if character.isspace() else "�"


def number(value: float | None, digits: int = 2) -> str:
    """The number with a sign that is not a hyphen, or a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    value = 0.0 if abs(value) < 0.5 * 10**-digits else value
    said = f"{value:,.{digits}f}" if abs(value) < 1e9 else f"{value:.2e}"
    return said.replace("-", "−")


def percent(share: float | None) -> str:
    """A share as a whole percentage."""
    if share is None or not math.isfinite(share):
        return "–"
    return f"{number(100 * share, 0)} %"


def rate(share: float) -> str:
    """A share as a percentage of two digits, as rates are promised: «0.25 %», «12 %»."""
    return f"{100 * share:.{2 if share < 0.995 else 3}g} %"


def times(anomaly_score: float, score_std: float) -> str:
    """An anomaly score with its doubt, «3.10 ± 0.21», or alone where one net has none."""
    said = number(anomaly_score)
    return said if np.isnan(score_std) else f"{said} ± {number(score_std)}"


def chance(p_value: float) -> str:
    """A p-value to two digits."""
    return "–" if math.isnan(p_value) else f"{p_value:.2g}"


def count(amount: int, noun: str) -> str:
    """«1 row», «2,000 rows»."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def script_json(value: Any) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element."""
    said = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return said.translate(UNSAFE)
