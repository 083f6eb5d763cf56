"""JSON without what the standard reader lets pass: NaN, infinities, duplicate keys, depth."""

import json
import math
from typing import Any

from keyhole.errors import BundleError

MOST_DEPTH = 32


def strict_json(text: bytes, where: str) -> Any:
    """The value of a JSON text.

    Raises: BundleError that names the file and what is wrong with it.
    """
    try:
        value = json.loads(
            text.decode("utf8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_float=_finite,
        )
        _check_depth(value, 0)
    except RecursionError as fault:
        raise BundleError(f"{where} is nested too deeply") from fault
    except ValueError as fault:  # bad UTF-8, bad JSON, and what the hooks refuse
        raise BundleError(f"{where} is damaged: {fault!s:.160}") from fault
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large for a number")
    return value


def _check_depth(value: Any, depth: int) -> None:
    if depth > MOST_DEPTH:
        raise ValueError("it is nested too deeply")
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            if isinstance(item, dict | list):
                _check_depth(item, depth + 1)
