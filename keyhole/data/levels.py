"""Levels of categories, matched by value: "1.0" and 1 are one level; errors for bad cells.

A level is a JSON value: a text, a boolean or a number; any other value is stored as its text.
"""

import re
from collections import Counter
from collections.abc import Sequence
from decimal import InvalidOperation
from typing import Any

import numpy as np

from keyhole.data import cast
from keyhole.data.lazy import pa, pc, pt
from keyhole.errors import DataError

WORDS = {
    "true": "1", "false": "0", "yes": "1", "no": "0", "t": "1", "f": "0", "y": "1", "n": "0",
    "on": "1", "off": "0",
}  # fmt: skip
NUMBER = re.compile(r"[+-]?(?!0\d)(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?")  # 0123 is a code
MIDNIGHT = re.compile(r"(\d{4}-\d\d-\d\d)[t ]00:00(:00(\.0+)?)?z?")


def indices(values: Any, known: Sequence[str]) -> np.ndarray:
    """The index of each value among known texts; `len(known)` for an unknown value, -1 for a gap.

    An equal text is preferred to an equal value: "1.0" is 1, "TRUE" is true.
    """
    distinct, codes = _distinct(values)
    by_text = {text: i for i, text in reversed(list(enumerate(known)))}
    if not all(text in by_text for text in distinct):
        keys = [value_key(text) for text in known]
        counts = Counter(keys)  # two levels of one value: neither
        by_key = {key: i for i, key in enumerate(keys) if counts[key] == 1}
        for text in distinct:
            by_text.setdefault(text, by_key.get(value_key(text), len(known)))
    return np.array([*(by_text[text] for text in distinct), -1], np.int64)[codes]


def value_key(text: str) -> str:
    """The same text for all ways to write one value."""
    lower = text.strip().lower()
    if lower in WORDS:
        return WORDS[lower]
    if NUMBER.fullmatch(lower) and len(lower) < 100:
        try:
            number = cast.EXACT.create_decimal(lower).normalize(cast.EXACT)
        except InvalidOperation:
            return text
        return str(number) if number else "0"
    midnight = MIDNIGHT.fullmatch(lower)
    return midnight[1] if midnight else text


def number_of(text: str) -> float | None:
    """The number that is one level with this text, such as 1 for "true"; None if none is."""
    key = value_key(text)
    return float(key) if NUMBER.fullmatch(key.lower()) else None


def count(values: Any) -> Counter[Any]:
    """The number of times that each value occurs in an Arrow array, without gaps."""
    values = (values if _hashable(values.type) else cast.texts(values)).drop_null()
    table = pc.value_counts(values)
    counts: Counter[Any] = Counter()
    for level, count in zip(as_json(table.field("values")), table.field("counts").to_pylist()):
        if level == level:  # noqa: PLR0124  (NaN is a gap)
            counts[level] += count
    return counts


def as_json(values: Any) -> list[Any]:
    """The values as exact JSON values; null is None."""
    plain = pt.is_boolean(values.type) or pt.is_floating(values.type)
    if plain or (pt.is_integer(values.type) and values.type != pa.uint64()):
        return values.to_pylist()
    return cast.texts(values).to_pylist()


def _distinct(values: Any) -> tuple[list[str], np.ndarray]:
    """The texts of the distinct values, and the index of each value among them; -1 for a gap."""
    values = cast.plain(values)
    if values.null_count == len(values):  # Arrow makes null a level of a column without a type
        return [], np.full(len(values), -1)
    if pt.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    coded = (values if _hashable(values.type) else cast.texts(values)).dictionary_encode()
    codes = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)
    return cast.texts(coded.dictionary).to_pylist(), codes.astype(np.int64)


def _hashable(arrow_type: Any) -> bool:
    return not (pt.is_nested(arrow_type) or hasattr(arrow_type, "extension_name"))


def numbers(
    name: str, values: Any, start: int = 0, decimal: str | None = None, unit: str | None = None
) -> np.ndarray:
    """Numbers, NaN for missing. Raises: DataError for the first cell without a finite number."""
    floats, bad = cast.floats(values, decimal, unit)
    check_readable(name, values, bad, start, "number")
    check_finite(name, floats, start)
    return floats


def check_readable(name: str, values: Any, bad: np.ndarray, start: int, kind: str) -> None:
    """Raises: DataError if there are positions of `bad` values."""
    if len(bad):
        first = int(bad[0])
        more = f" ({len(bad):,} such cells)" if len(bad) > 1 else ""
        raise DataError(
            f"column {name!r}, data row {start + first + 1:,}: expected a {kind}, got "
            f"{cell_text(values, first)}{more}; correct it or leave the cell empty"
        )


def check_finite(name: str, numbers: np.ndarray, start: int) -> None:
    """Raises: DataError for the first infinite number."""
    rows = np.flatnonzero(np.isinf(numbers))
    if len(rows):
        raise DataError(infinity(name, start + int(rows[0]) + 1))


def infinity(name: str, row: int) -> str:
    """The message for an infinite number; rows count from 1."""
    return (
        f"Input contains infinity: column {name!r}, data row {row:,}; replace infinite values or "
        "leave the cell empty"
    )


def cell_text(values: Any, row: int) -> str:
    """A value for a message, cut after 60 characters."""
    text = cast.texts(values[row:][:1])[0].as_py()
    return repr(text)[:60] if cast.is_text(values.type) else f"{text!s:.60}"
