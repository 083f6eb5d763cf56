"""For a group of alarms: the pattern they share, from the cells that caused them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyhole.tasks.detect.answer import Reason


MOST_PATTERNS = 5
LEAST_ROWS = 2
SPEAKS = 0.5  # of the share of a row's first cell: weaker cells do not speak for the row
NEW = 0.5  # of a pattern's rows stand in no pattern before it

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


def shared(reasons: Mapping[int, Sequence[Reason]], places: Iterable[int]) -> list[Pattern]:
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


def _key(cell: Reason) -> Key:
    """What makes two cells alike: a level is itself, a number is its direction."""
    return cell.column, cell.direction, cell.value if cell.numbers is None else ""
