"""Numbers and texts as a page shows them: short, without control characters."""

import json
import math
from typing import Any

import numpy as np

from keyhole.modalities.expected import shorten

MOST_TEXT = 60  # characters of a name or value
JOINERS = "\u200c\u200d"  # join letters and emoji
UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&'\u2028\u2029"}


def plain(text: Any, most: int = MOST_TEXT) -> str:
    """The text on one line, at most `most` characters, all printable."""
    short = shorten(str(text)[: 4 * most], most)
    return "".join(c if c.isprintable() or c in JOINERS else _stand_in(c) for c in short)


def _stand_in(character: str) -> str:
    return " " if character.isspace() else "�"


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
    if share is None or not math.isfinite(share):
        return "–"
    return f"{number(100 * share, 0)} %"


def rate(share: float) -> str:
    """A share as a percentage of two digits: "0.25 %", "12 %"."""
    return f"{100 * share:.{2 if share < 0.995 else 3}g} %"


def times(anomaly_score: float, score_std: float) -> str:
    """An anomaly score with its standard deviation, "3.10 ± 0.21", if that is known."""
    text = number(anomaly_score)
    return text if np.isnan(score_std) else f"{text} ± {number(score_std)}"


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
