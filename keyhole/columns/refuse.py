"""Cells that a column cannot hold are refused in one line: which, what it holds, what to do."""

from typing import Any

import numpy as np

from keyhole.columns import cast
from keyhole.errors import DataError


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
