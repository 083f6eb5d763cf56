"""What one streaming pass over a column finds out: bounded memory, whatever the rows."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keyhole.columns import cast

MOST_LEVELS = 100_000
MOST_NUMBERS = 64  # distinct numbers counted before "many" is answer enough


@dataclass
class Profile:
    """Statistics of one column, fed block by block, and a sample of its values at the end.

    `levels` counts texts and booleans, and numbers while there are at most `most_numbers`.
    """

    name: str
    arrow_type: Any = None
    rows: int = 0
    missing: int = 0
    least: float = np.inf
    most: float = -np.inf
    least_rows: int = 0  # that hold the least number
    most_rows: int = 0
    whole: bool = True  # every number met was an integer
    rising: bool = True  # every number met was above the one before
    not_numbers: int = 0  # texts that hold no number
    odd: str = ""  # one of them
    levels: Counter[Any] = field(default_factory=Counter)
    overflow: bool = False  # more levels were met than are counted
    sample: Any = None  # Arrow array of values from all over the table
    style: str | None = None  # how its texts write moments, if they all do
    last: float = -np.inf
    infinite: int = 0  # the first row, from 1, with an infinite number
    dictionary: bool = False  # typed as levels, whatever the levels are
    most_numbers: int = MOST_NUMBERS  # distinct numbers that are counted

    @property
    def seen(self) -> int:
        """How many cells held a value."""
        return self.rows - self.missing

    @property
    def ends(self) -> tuple[int, int]:
        """How many rows hold the least and the most number."""
        return self.least_rows, self.most_rows

    @property
    def numeric(self) -> bool:
        """True where at least nine cells in ten with a value hold a number."""
        return self.seen > 0 and self.not_numbers <= 0.1 * self.seen

    def add(self, values: Any) -> None:
        """Count a block (Arrow array) in."""
        import pyarrow.types as pt

        if pt.is_dictionary(values.type):
            self.dictionary, self.most_numbers = True, MOST_LEVELS
        values = cast.plain(values)
        if self.arrow_type is None or pt.is_null(self.arrow_type):
            self.arrow_type = values.type
        self.rows += len(values)
        if cast.is_text(values.type) or pt.is_boolean(values.type):
            self._count_texts(values)
        if not pt.is_boolean(values.type):
            self._count_numbers(*cast.floats(values), values)

    def _count_numbers(self, numbers: np.ndarray, bad: np.ndarray, values: Any) -> None:
        gaps = np.isnan(numbers)
        self.missing += int(gaps.sum()) - len(bad)
        if len(bad):
            self.not_numbers += len(bad)
            self.odd = str(values[int(bad[0])].as_py())
        endless = np.isinf(numbers)
        if endless.any() and not self.infinite:
            self.infinite = self.rows - len(numbers) + int(endless.argmax()) + 1
        numbers = numbers[~gaps & ~endless]
        if not len(numbers):
            return
        self._count_ends(numbers)
        self.whole = self.whole and bool((numbers == np.round(numbers)).all())
        if self.rising:
            self.rising = bool((np.diff(numbers, prepend=self.last) > 0).all())
            self.last = float(numbers[-1])
        if not self.overflow and not cast.is_text(values.type):
            self._count(*np.unique(numbers, return_counts=True), most=self.most_numbers)

    def _count_ends(self, numbers: np.ndarray) -> None:
        """The least and the most number, and how many rows hold each."""
        least, most = float(numbers.min()), float(numbers.max())
        if least <= self.least:
            kept = self.least_rows if least == self.least else 0
            self.least, self.least_rows = least, kept + int((numbers == least).sum())
        if most >= self.most:
            kept = self.most_rows if most == self.most else 0
            self.most, self.most_rows = most, kept + int((numbers == most).sum())

    def _count_texts(self, values: Any) -> None:
        import pyarrow.compute as pc
        import pyarrow.types as pt

        if pt.is_boolean(values.type):
            self.missing += values.null_count
        if not self.overflow:
            counted = pc.value_counts(values.drop_null())  # pyright: ignore
            found, counts = counted.field("values"), counted.field("counts")
            self._count(found.to_pylist(), counts.to_pylist(), most=MOST_LEVELS)

    def _count(self, found: Any, counts: Any, most: int) -> None:
        for level, count in zip(found, counts, strict=True):
            self.levels[level.item() if isinstance(level, np.generic) else level] += int(count)
        if len(self.levels) > most:
            self.overflow = True
            self.levels = Counter(dict(self.levels.most_common(most)))

    def numbers(self) -> np.ndarray:
        """The sample's numbers, gaps and infinite ones left out."""
        numbers, _ = cast.floats(self.sample)
        return numbers[np.isfinite(numbers)]
