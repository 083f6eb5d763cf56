"""For a group of alarms: the pattern they share, from the cells that caused them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from keyhole.tasks.detect.answer import Cell


MOST_PATTERNS = 5
LEAST_ROWS = 2
SPEAKS = 0.5  # of the share of a row's first cell: weaker cells do not speak for the row
NEW = 0.5  # of a pattern's rows stand in no pattern before it

NUMBER = re.compile(r"-?\d{1,3}(,\d{3})*(\.\d+)?(e[+-]\d+)?")
MOMENT = re.compile(r"\d{4}-\d\d-\d\d(T[\d:.]+)?")
LEVEL = re.compile(r" \(\d+ ?%( of training rows)?\)$")

Key = tuple[str, str, str]  # column, direction, level


@dataclass(frozen=True)
class Pattern:
    """A cell that some alarms share: `rows` of them, by their places, `of` so many explained.

    `direction` is "above" or "below" what was expected (a later moment is above), "" where there
    is none. `value` is the cell's text where it is the same in all rows, else "".
    """

    column: str
    direction: str
    value: str
    rows: tuple[int, ...]
    of: int

    @property
    def cell(self) -> str:
        """What the rows share, without how many they are."""
        if self.direction:
            same = f" = {self.value}," if self.value else ""
            return f"{self.column}{same} {self.direction} what was expected"
        if self.value:
            return f"{self.column} = {self.value!r}"
        return f"{self.column} unlike the rest of its row"

    def __str__(self) -> str:
        return f"{len(self.rows):,} of {self.of:,} alarms: {self.cell}"


def direction(value: str, expected: str) -> str:
    """Whether a cell's text lies "above" or "below" what was expected; "" else.

    «1,250» is above «12 to 1,100 (90 %)» and above «0 (95 %)». Levels have no direction, nor do
    flags that are written as 0 and 1, nor a number within the range.
    """
    bare = LEVEL.sub("", expected).rpartition(" or ")[2]
    ends = [_measure(end) for end in bare.split(" to ")]
    here = _measure(value)
    is_flag = bare != expected and {value, bare} <= {"0", "1"}
    if is_flag or here is None or len(ends) > 2:
        return ""
    known = [end for end in ends if end is not None]
    if len(known) < len(ends):
        return ""
    return "above" if here > max(known) else "below" if here < min(known) else ""


def shared(reasons: Mapping[int, Sequence[Cell]], places: Iterable[int]) -> list[Pattern]:
    """What groups of these rows share, the largest first: at most five patterns.

    A pattern is the first cell of some row: its column, and its direction or level. It holds
    each row where such a cell speaks. They are chosen greedily, each for the rows that no pattern
    before it holds, at least two of them; rows without a cell are not counted, and those in which
    no value stands out share nothing.
    """
    explained = [int(place) for place in places if reasons.get(int(place))]
    firsts = {_key(reasons[place][0]) for place in explained if reasons[place][0].stands_out}
    held: dict[Key, dict[int, str]] = {key: {} for key in sorted(firsts)}
    for place in explained:
        for cell in reasons[place]:
            speaks = cell.stands_out and cell.share >= SPEAKS * reasons[place][0].share
            if speaks and _key(cell) in held:
                held[_key(cell)][place] = cell.value
    found, covered = [], set()
    while held and len(found) < MOST_PATTERNS:
        key = max(held, key=lambda one: (len(held[one].keys() - covered), len(held[one])))
        rows = held.pop(key)
        gain = len(rows.keys() - covered)
        if gain < LEAST_ROWS:
            break
        if gain < NEW * len(rows):
            continue
        covered |= rows.keys()
        values = set(rows.values())
        same = values.pop() if len(values) == 1 and (key[1] or key[2]) else key[2]
        found.append(Pattern(key[0], key[1], same, tuple(sorted(rows)), len(explained)))
    return sorted(found, key=lambda pattern: -len(pattern.rows))


def _key(cell: Cell) -> Key:
    """What makes two cells alike: a level is itself, a number is its direction."""
    side = cell.direction
    ranged = _measure(cell.value) is not None and " to " in cell.expected
    return cell.column, side, "" if side or ranged else cell.value


def _measure(text: str) -> float | None:
    """The number or the moment (seconds) that a text is, else None."""
    if NUMBER.fullmatch(text):
        return float(text.replace(",", ""))
    if MOMENT.fullmatch(text):
        return _seconds(text)
    return None


def _seconds(text: str) -> float | None:
    try:
        return float(np.datetime64(text, "s").astype(np.int64))
    except ValueError:  # a level that looks like a date, such as 2024-13-01
        return None
