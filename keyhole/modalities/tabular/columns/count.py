"""Counts: one feature with a negative binomial likelihood."""

from typing import Any, Self

import numpy as np

from keyhole.core.layout import Slot
from keyhole.data import arrow_types, cast, levels
from keyhole.modalities.expected import (
    Expected,
    Prediction,
    expected_range,
    number_texts,
    range_texts,
    whole,
)
from keyhole.modalities.tabular.columns.base import Column
from keyhole.modalities.tabular.columns.grids import Grid, between, grid, inside, legal, snapped
from keyhole.modalities.tabular.profile import Profile


class Count(Column):
    """A count; its feature is log(1 + count), from which the likelihood reads the count back."""

    kind = "count"

    def __init__(
        self,
        name: str,
        *,
        center: float,
        scale: float,
        most: float,
        rows: int,
        type: str,
        least: float = 0.0,
    ) -> None:
        self.name = name
        self.center = center
        self.scale = scale
        self.most = most
        self.rows = rows
        self.type = type
        self.least = least

    @classmethod
    def learn(cls, profile: Profile) -> Self:
        """The mean count, the spread of log(1 + count), and the range."""
        numbers = np.maximum(profile.numbers(), 0.0)
        logs = np.log1p(numbers)
        spread = float(logs.std()) if len(logs) else 0.0
        kind = arrow_types.name(profile.arrow_type)
        return cls(
            profile.name,
            center=float(np.log1p(numbers.mean())) if len(numbers) else 0.0,
            scale=spread if spread > 0 else 1.0,
            most=float(profile.most),
            rows=profile.observed,
            type="int64" if kind == "string" else kind,
            least=float(profile.least),
        )

    def slots(self) -> list[Slot]:
        """One number feature, log(1 + count)."""
        nats = float(np.log(self.rows + 2))
        return [Slot(self.name, self.kind, "counts", "", 0, self.center, self.scale, nats)]

    def encode(self, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """log(1 + count), and which are observed; below zero, where no count is, its mirror."""
        numbers = levels.numbers(self.name, values, start)
        observed = ~np.isnan(numbers)
        numbers = np.where(observed, numbers, 0.0)
        features = np.sign(numbers) * np.log1p(np.abs(numbers))
        return features.astype(np.float32)[:, None], observed[:, None]

    def decode(self, features: np.ndarray) -> Any:
        """The expected count, rounded where the column holds whole numbers."""
        return self.typed(self._counts(features))

    def bounds(self, profile: Profile) -> Grid:
        """The grid, and the ends of the range if several rows have them."""
        lattice = grid(profile.numbers())
        lattice = {"values": lattice["values"]} if "values" in lattice else {"step": [1.0]}
        return {**lattice, "between": between((self.least, self.most), profile.ends, 1.0)}

    def drawn(self, features: np.ndarray, grid: Grid | None = None) -> Any:
        """The drawn count, within the range of training."""
        return self.typed(legal(self._counts(features), grid or {}, 0.0))

    def allows(self, features: np.ndarray, grid: Grid) -> np.ndarray:
        """True where the count lies between the ends."""
        return inside(snapped(self._counts(features), grid, 0.0), grid)

    def _counts(self, features: np.ndarray) -> np.ndarray:
        return np.expm1(features[:, 0].astype(np.float64).clip(0, 50)).round()

    def typed(self, counts: np.ndarray) -> Any:
        """Counts, clipped to the range of training, in the column's type."""
        counts = counts.clip(self.least, self.most)
        return arrow_types.of_numbers(counts, self.type)

    def text(self, values: Any) -> list[str]:
        """Counts as text."""
        return number_texts(cast.floats(values)[0])

    def expected(self, features: np.ndarray, predicted: Prediction) -> Expected:
        """The likely range of the count."""
        low, high = self._ends(predicted.low[:, 0], predicted.high[:, 0])
        feature = features[:, 0].astype(np.float64)
        counts = np.round(np.sign(feature) * np.expm1(np.abs(feature)))
        return expected_range(counts, low, high, [0, self.most])

    def usual(self, low: float, high: float) -> tuple[str, float, float]:
        """The range between two features, in words, and its ends."""
        first, last = self._ends(np.array([low]), np.array([high]))
        return range_texts(first, last)[0], float(first[0]), float(last[0])

    def _ends(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return whole(*(np.expm1(np.maximum(end.astype(np.float64), 0)) for end in (low, high)))
