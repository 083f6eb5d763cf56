"""Levels matched by value: texts, booleans and numbers that mean the same are one level.

A level is a JSON value: a text, a boolean or a number; any other value is stored as its text.
"""

import re
from collections import Counter
from collections.abc import Sequence
from decimal import Context, InvalidOperation
from typing import Any

import numpy as np

from keyhole.data import cast
from keyhole.errors import DataError

WORDS = {
    "true": "1", "false": "0", "yes": "1", "no": "0", "t": "1", "f": "0", "y": "1", "n": "0",
    "on": "1", "off": "0",
}  # fmt: skip
NUMBER = re.compile(r"[+-]?(?!0\d)(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?")  # 0123 is a code
MIDNIGHT = re.compile(r"(\d{4}-\d\d-\d\d)[t ]00:00(:00(\.0+)?)?z?")
EXACT = Context(prec=100)  # digits: more than any type has


def places(values: Any, known: Sequence[str]) -> np.ndarray:
    """The place of each value among known texts, their number for an unknown one, -1 for a gap.

    The text itself comes first, then what has the same value: "1.0" is 1, "TRUE" is true.
    """
    distinct, codes = _distinct(values)
    by_text = {text: place for place, text in reversed(list(enumerate(known)))}
    by_value: dict[str, int | None] = {}
    if not all(text in by_text for text in distinct):
        for place, text in enumerate(known):
            key = value_key(text)
            by_value[key] = None if key in by_value else place  # two levels of one value: neither
    indices = []
    for text in distinct:
        place = by_text.get(text)
        place = by_value.get(value_key(text)) if place is None else place
        indices.append(len(known) if place is None else place)
    return np.array([*indices, -1], np.int64)[codes]


def value_key(text: str) -> str:
    """A text that is the same for all ways to write one value."""
    lower = text.strip().lower()
    if lower in WORDS:
        return WORDS[lower]
    if NUMBER.fullmatch(lower) and len(lower) < 100:
        try:
            number = EXACT.create_decimal(lower).normalize(EXACT)
        except InvalidOperation:
            return text
        return str(number) if number else "0"
    midnight = MIDNIGHT.fullmatch(lower)
    return midnight[1] if midnight else text


def count(values: Any) -> Counter[Any]:
    """How often each value of an Arrow array stands in it; gaps are left out."""
    import pyarrow.compute as pc

    if not _hashable(values.type):
        values = cast.texts(values)
    values = values.drop_null()
    counted = pc.value_counts(values)  # pyright: ignore
    found: Counter[Any] = Counter()
    for level, times in zip(as_json(counted.field("values")), counted.field("counts").to_pylist(),
                            strict=True):  # fmt: skip
        if level == level:  # noqa: PLR0124  (NaN is a gap)
            found[level] += times
    return found


def as_json(values: Any) -> list[Any]:
    """The values as JSON can hold them exactly; null is None."""
    import pyarrow as pa
    import pyarrow.types as pt

    plain = pt.is_boolean(values.type) or pt.is_floating(values.type)
    if plain or (pt.is_integer(values.type) and values.type != pa.uint64()):
        return values.to_pylist()
    return cast.texts(values).to_pylist()


def _distinct(values: Any) -> tuple[list[str], np.ndarray]:
    """The texts of the distinct values, and the place of each value among them; -1 for a gap."""
    import pyarrow.compute as pc
    import pyarrow.types as pt

    values = cast.plain(values)
    if values.null_count == len(values):  # Arrow makes null a level of a column without a type
        return [], np.full(len(values), -1)
    if pt.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)  # pyright: ignore
    coded = (values if _hashable(values.type) else cast.texts(values)).dictionary_encode()
    codes = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)  # pyright: ignore
    return cast.texts(coded.dictionary).to_pylist(), codes.astype(np.int64)


def _hashable(arrow_type: Any) -> bool:
    """True where Arrow counts distinct values of the type."""
    import pyarrow.types as pt

    return not (pt.is_nested(arrow_type) or hasattr(arrow_type, "extension_name"))


def numbers(
    name: str, values: Any, start: int = 0, decimal: str | None = None, unit: str | None = None
) -> np.ndarray:
    """A column's numbers, NaN for missing; texts are read as `cast.floats` reads them.

    Raises: DataError that names the first cell that holds no number, or an infinite one.
    """
    found, bad = cast.floats(values, decimal, unit)
    unreadable(name, values, bad, start, "number")
    infinite(name, found, start)
    return found


def unreadable(name: str, values: Any, bad: np.ndarray, start: int, what: str) -> None:
    """Raises: DataError where there are cells at `bad`, none of which holds a `what`."""
    if not len(bad):
        return
    more = f" ({len(bad):,} such cells)" if len(bad) > 1 else ""
    first = int(bad[0])
    raise DataError(
        f"column {name!r}, data row {start + first + 1:,}: {said(values, first)} is no {what}, as "
        f"this column holds{more}; mend it or leave the cell empty"
    )


def infinite(name: str, found: np.ndarray, start: int) -> None:
    """Raises: DataError for the first infinite number."""
    at = np.flatnonzero(np.isinf(found))
    if len(at):
        raise DataError(infinity(name, start + int(at[0]) + 1))


def infinity(name: str, row: int) -> str:
    """What to say of an infinite number; rows count from 1."""
    return (
        f"Input contains infinity: column {name!r}, data row {row:,}; replace infinite values or "
        "leave the cell empty"
    )


def said(values: Any, place: int) -> str:
    """A value as the user wrote it, cut where it is long."""
    text = cast.texts(values[place:][:1])[0].as_py()
    return repr(text)[:60] if cast.is_text(values.type) else f"{text!s:.60}"
