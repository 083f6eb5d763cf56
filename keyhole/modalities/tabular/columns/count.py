"""Counts: one feature with a negative binomial likelihood."""

from typing import Any, Self

import numpy as np

from keyhole.core.layout import Slot
from keyhole.data import cast, levels
from keyhole.modalities.expected import Expected, Prediction, expected_range, number_texts, whole
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
        """The mean count, the standard deviation of log(1 + count), and the range."""
        numbers = np.maximum(profile.numbers(), 0.0)
        logs = np.log1p(numbers)
        std = float(logs.std()) if len(logs) else 0.0
        kind = cast.name_of(profile.arrow_type)
        return cls(
            profile.name,
            center=float(np.log1p(numbers.mean())) if len(numbers) else 0.0,
            scale=std if std > 0 else 1.0,
            most=float(profile.most),
            rows=profile.observed,
            type="int64" if kind == "string" else kind,
            least=float(profile.least),
        )

    @property
    def ends(self) -> tuple[float, float]:
        """Zero and the largest count."""
        return 0.0, self.most

    def exact(self, features: np.ndarray) -> np.ndarray:
        """The expected count, not rounded."""
        return np.expm1(features[:, 0]).clip(0, self.most)

    def slots(self) -> list[Slot]:
        """One number feature, log(1 + count)."""
        nats = float(np.log(self.rows + 2))
        return [Slot(self.name, self.kind, "counts", "", 0, self.center, self.scale, nats)]

    def encode(self, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """log(1 + count), and which are observed; for negative numbers, -log(1 - number)."""
        numbers = levels.numbers(self.name, values, start)
        observed = ~np.isnan(numbers)
        numbers = np.where(observed, numbers, 0.0)
        features = np.sign(numbers) * np.log1p(np.abs(numbers))
        return features.astype(np.float32)[:, None], observed[:, None]

    def decode(self, features: np.ndarray) -> Any:
        """The expected count, rounded."""
        return self.typed(self._counts(features))

    def bounds(self, profile: Profile) -> Grid:
        """The grid, and the smallest and largest count that may be drawn."""
        lattice = grid(profile.numbers())
        lattice = {"values": lattice["values"]} if "values" in lattice else {"step": [1.0]}
        return {**lattice, "between": between((self.least, self.most), profile.ends, 1.0)}

    def drawn(self, features: np.ndarray, grid: Grid | None = None) -> Any:
        """The drawn count, within the range of training."""
        return self.typed(legal(self._counts(features), grid or {}, 0.0))

    def allows(self, features: np.ndarray, grid: Grid) -> np.ndarray:
        """True where the count lies between the ends of the grid."""
        return inside(snapped(self._counts(features), grid, 0.0), grid)

    def _counts(self, features: np.ndarray) -> np.ndarray:
        return np.expm1(features[:, 0].astype(np.float64).clip(0, 50)).round()

    def typed(self, counts: np.ndarray) -> Any:
        """Counts, clipped to the range of training, in the column's type."""
        counts = counts.clip(self.least, self.most)
        return cast.of_numbers(counts, self.type)

    def text(self, values: Any) -> list[str]:
        """Counts as text."""
        return number_texts(cast.floats(values)[0])

    def expected(self, features: np.ndarray, predicted: Prediction) -> Expected:
        """The likely range of the count."""
        low, high = self._ends(predicted.low[:, 0], predicted.high[:, 0])
        logs = features[:, 0].astype(np.float64)
        counts = np.round(np.sign(logs) * np.expm1(np.abs(logs)))
        return expected_range(counts, low, high, [0, self.most])

    def _ends(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return whole(*(np.expm1(np.maximum(end.astype(np.float64), 0)) for end in (low, high)))
