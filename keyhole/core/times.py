"""Moments and durations: in seconds, and as a person would write them."""

from __future__ import annotations

import re

import numpy as np

UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))  # by their seconds
DURATION = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*(ms|s|m|min|h|d|)\s*")
SECONDS = {"ms": 1e-3, "": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}


def seconds_of(moment: np.datetime64) -> float:
    """Seconds since 1970 in UTC."""
    return float(moment.astype("datetime64[us]").astype(np.int64)) / 1e6


def moment_text(seconds: float, step: float = 1.0) -> str:
    """A moment in UTC, to the second or as exactly as steps of less need."""
    unit = "s" if step >= 1 and step == round(step) else "ms" if step >= 1e-3 else "us"
    micros = np.datetime64(round(seconds * 1e6), "us")
    return str(micros.astype(f"datetime64[{unit}]")).replace("T", " ")


def iso_text(seconds: float) -> str:
    """A moment in UTC as ISO 8601, with as many digits as it needs."""
    text = str(np.datetime64(round(seconds * 1e6), "us"))
    return f"{text.rstrip('0').removesuffix('.')}Z"


def duration_text(seconds: float) -> str:
    """For example "12 s", "0.5 s", "3 min 20 s" or "1 d 4 h": two units at most."""
    if seconds < 60:
        return f"{seconds:.3g} s" if seconds >= 0.1 or not seconds else f"{1e3 * seconds:.3g} ms"
    first = next(i for i, (size, _) in enumerate(UNITS) if seconds >= size)
    (size, unit), (lesser, lesser_unit) = UNITS[first : first + 2]
    whole, rest = divmod(round(seconds / lesser), size // lesser)
    return f"{whole:,} {unit}" + (f" {rest} {lesser_unit}" if rest else "")


def seconds_of_text(text: str) -> float | None:
    """The seconds of a duration such as "90", "90s", "10m" or "2h"; None for another text."""
    match = DURATION.fullmatch(text)
    return None if match is None else float(match[1]) * SECONDS[match[2]]
