"""One model for a fleet: each segment's surprise in its own measure, as far as its rows can tell.

A machine that is noisier than the fleet has its surprise divided by how much noisier it is. A
segment with few rows is judged more by the whole: its factor is shrunk, as in empirical Bayes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keyhole.columns import cast
from keyhole.errors import DataError

OUT = 0.9  # quantile by which segments are compared: alarms are raised far out
AS_WHOLE = 10  # rows of a segment that weigh as much as the whole does
MOST_SEGMENTS = 10_000
FEW, MOST_ALONE = 20, 0.9  # from so many rows on, so many segments a row are identifiers


@dataclass(frozen=True)
class Segments:
    """The column that names the segment, and what each one's surprise is divided by."""

    column: str
    factors: dict[str, float]

    @classmethod
    def learn(cls, column: str, names: list[str], surprise: np.ndarray) -> Segments:
        """The factors of the segments of held-out rows.

        Raises: DataError for more segments than could each have a threshold.
        """
        groups, place = np.unique(np.array(names, dtype=str), return_inverse=True)
        alone = len(names) >= FEW and len(groups) > MOST_ALONE * len(names)
        if alone or len(groups) > MOST_SEGMENTS:
            raise DataError(
                f"segment={column!r}: it holds {len(groups):,} different values among "
                f"{len(names):,} rows: an identifier, not the part of a fleet; name another column"
            )
        whole, factors = _out(surprise), {}
        for i, group in enumerate(groups):
            own = surprise[(place == i) & ~np.isnan(surprise)]
            if len(own) and whole > 0:
                weight = len(own) / (len(own) + AS_WHOLE)
                factors[str(group)] = float((max(_out(own), 1e-3 * whole) / whole) ** weight)
        return cls(column, factors)

    def factor_of(self, names: list[str]) -> np.ndarray:
        """What the surprise of a row of each of these segments is divided by; 1 if never met."""
        return np.array([self.factors.get(name, 1.0) for name in names])


def names_of(values: Any) -> list[str]:
    """A segment's name for each row; a gap is a segment of its own."""
    return [name or "" for name in cast.texts(values).to_pylist()]


def unmet_in_words(unmet: set[str]) -> str:
    """A sentence on segments that training never met."""
    names, more = sorted(unmet)[:3], len(unmet) - 3
    said = ", ".join(map(repr, names)) + (f" and {more} more" if more > 0 else "")
    return f"segments that training never met: {said}; they are judged as the whole is"


def _out(surprise: np.ndarray) -> float:
    known = surprise[~np.isnan(surprise)]
    return float(np.quantile(known, OUT)) if len(known) else 0.0
