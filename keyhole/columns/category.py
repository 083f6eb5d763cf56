"""Levels, one code cell: a categorical likelihood through a softmax."""

from functools import cached_property
from typing import Any, Self

import numpy as np

from keyhole.columns import arrowtype, cast, levels
from keyhole.columns.base import Column, levels_text, shorten
from keyhole.columns.expected import Expected, Prediction, expected_levels
from keyhole.columns.grids import FEW_ROWS, Grid
from keyhole.columns.profile import MOST_LEVELS, Profile
from keyhole.core.layout import Slot


class Category(Column):
    """A column with levels, most frequent first; one more code stands for all that are not listed.

    A level never met in training is at least as surprising as the rarest one.
    """

    kind = "category"

    def __init__(
        self, name: str, *, levels: list[Any], counts: list[int], type: str, rows: int
    ) -> None:
        self.name = name
        self.levels = levels
        self.counts = counts
        self.type = type
        self.rows = rows

    @classmethod
    def learn(cls, profile: Profile) -> Self:
        """Levels by frequency, ties by name, at most 100,000."""
        found = sorted(profile.levels.items(), key=lambda item: (-item[1], str(item[0])))
        kind = arrowtype.name(profile.arrow_type, levels=profile.dictionary)
        return cls(
            profile.name,
            levels=[level for level, _ in found[:MOST_LEVELS]],
            counts=[count for _, count in found[:MOST_LEVELS]],
            type=kind,
            rows=profile.seen,
        )

    @cached_property
    def _texts(self) -> list[str]:
        return cast.texts(arrowtype.array(self.levels, self.type)).to_pylist()

    def slots(self) -> list[Slot]:
        """One code cell: 1.. for the levels, and a last code for all others."""
        others = max(self.rows - sum(self.counts), 0)
        counts = np.array([*self.counts, others], float) + 0.5  # a Jeffreys prior's half a row
        shares = tuple((counts / counts.sum()).tolist())
        nats = float(np.log(self.rows + 2))
        levels = len(self.levels) + 1
        return [Slot(self.name, self.kind, "categorical", "", levels, 0.0, 1.0, nats, shares)]

    def encode(self, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The code of each level, the last code for an unknown one, 0 where missing."""
        codes = levels.places(values, self._texts) + 1
        return codes[:, None], (codes > 0)[:, None]

    def decode(self, cells: np.ndarray) -> Any:
        """The level of each code; an «other» becomes null: nothing says which."""
        import pyarrow as pa

        place = cells[:, 0].astype(np.int64) - 1
        missing = (place < 0) | (place >= len(self.levels))
        return arrowtype.picked(self.levels, pa.array(place, mask=missing), self.type)

    def bounds(self, profile: Profile) -> Grid:
        """The rows that must hold a level; where none is held by so many, as many as there are."""
        return {"rows": [float(min(FEW_ROWS, max(self.counts, default=0)))]}

    def drawn(self, cells: np.ndarray, grid: Grid | None = None) -> Any:
        """The drawn level; in place of one that may not be drawn, the most frequent one."""
        if not grid:
            return self.decode(cells)
        return self.decode(np.where(self.allows(cells, grid), cells[:, 0], 1.0)[:, None])

    def allows(self, cells: np.ndarray, grid: Grid) -> np.ndarray:
        """True for a level that rows enough hold."""
        place = cells[:, 0].astype(np.int64) - 1
        known = (place >= 0) & (place < len(self.levels))
        rows = np.array([*self.counts, 0])[np.where(known, place, -1)]
        return known & (rows >= grid.get("rows", [1.0])[0])

    def text(self, values: Any) -> list[str]:
        """Levels, cut where they are long."""
        return [shorten(text) for text in levels_text(values)]

    def expected(self, cells: np.ndarray, predicted: Prediction) -> Expected:
        """The likeliest levels that hold the share together."""
        if predicted.levels is None:
            raise ValueError("a category is predicted by the probabilities of its levels")
        last = predicted.levels.shape[1] - 1  # stands for all levels without their own
        place = np.minimum(cells[:, 0].astype(np.int64) - 1, last)
        named = [shorten(text) for text in self._texts[:last]]
        return expected_levels(predicted.levels, place, [*named, "another level"])
