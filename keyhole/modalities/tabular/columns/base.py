"""The interface of column kinds, and ignored columns.

A kind is learned from a `Profile`, then frozen. Its constructor arguments are all that it learned,
so they are what the manifest stores.
"""

from abc import abstractmethod
from typing import Any, ClassVar, Literal, Self

import numpy as np

from keyhole.core.layout import Slot
from keyhole.core.parts import Described
from keyhole.data import cast
from keyhole.modalities.expected import Expected, Prediction, range_texts
from keyhole.modalities.tabular.columns.grids import Grid
from keyhole.modalities.tabular.profile import Profile


class Column(Described):
    """One column of a table, learned and frozen."""

    family = "column"
    effect_unit: ClassVar[Literal["", "points", "s"]] = ""  # of a change; points: of levels
    matrix: ClassVar[bool] = False  # True: encodes from floats, many columns at once

    name: str

    @property
    def remark(self) -> str:
        """A note for the user that follows the reason for the kind; empty for most columns."""
        return ""

    @property
    def unseen(self) -> float | None:
        """The feature of a value that training never met; None for columns without levels."""
        return None

    @property
    def ends(self) -> tuple[float, float] | None:
        """The least and the largest value in training; None for a column without numbers."""
        return None

    @property
    def options(self) -> list[str]:
        """The levels as short texts, those first whose probability is a feature or has a code."""
        return []

    def exact(self, features: np.ndarray) -> np.ndarray:
        """The values of features as floats, finer than the column's type would hold them."""
        return cast.floats(self.decode(features))[0]

    @classmethod
    @abstractmethod
    def learn(cls, profile: Profile) -> Self:
        """The column that this profile describes."""

    @abstractmethod
    def slots(self) -> list[Slot]:
        """The features of this column."""

    @abstractmethod
    def encode(self, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The features (row, feature) of an Arrow array, and which are observed.

        Float32 for numbers, int64 for codes; `start` is the index of the first row in its source,
        for messages. Raises: DataError for a value that this column cannot hold.
        """

    @abstractmethod
    def decode(self, features: np.ndarray) -> Any:
        """The values of features (row, feature), as an Arrow array of the column's type.

        Features are those of an expected row: a Bernoulli feature is a probability.
        """

    def guess(self, features: np.ndarray) -> Any:
        """The values for a gap, from the expected features of a masked column."""
        return self.decode(features)

    def bounds(self, profile: Profile) -> Grid:
        """The grid of values that may be drawn; empty if all may."""
        return {}

    def drawn(self, features: np.ndarray, grid: Grid | None = None) -> Any:
        """The values of features drawn from a likelihood, moved to values that `grid` allows."""
        return self.decode(features)

    def allows(self, features: np.ndarray, grid: Grid) -> np.ndarray:
        """True for rows whose drawn value is legal without a move."""
        return np.ones(len(features), bool)

    def written(self, values: Any) -> Any:
        """Decoded values in the format of training data: money becomes a text."""
        return values

    def cell_texts(self, values: Any, decimal: str = "") -> Any:
        """Decoded values as texts for a text column; floats have six digits.

        `decimal` is the file's decimal sign, for a column without its own.
        """
        return cast.short_texts(values)

    def text(self, values: Any) -> list[str]:
        """Values (an Arrow array) as texts for a person; gaps as 'missing'."""
        return cast.texts(values).fill_null("missing").to_pylist()

    def expected(self, features: np.ndarray, predicted: Prediction) -> Expected:
        """What was expected instead of these features (row, feature), in words."""
        raise NotImplementedError(f"a column of kind {self.kind} has no expected values")

    def usual(self, low: float, high: float) -> tuple[str, float, float]:
        """The range between two values of the first number feature, in words, and its ends."""
        first, last = self._ends(np.array([low]), np.array([high]))
        return range_texts(first, last)[0], float(first[0]), float(last[0])

    def _ends(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of two values of the first number feature."""
        raise NotImplementedError(f"a column of kind {self.kind} has no range")


def point_mass_slot(column: Column, share: float) -> Slot:
    """The Bernoulli feature that is 1 in rows at the column's point mass."""
    std, nats = float(np.sqrt(share * (1 - share))), -float(np.log1p(-share))
    return Slot(column.name, column.kind, "bernoulli", "atom", 0, share, std, nats)


class Ignored(Column):
    """A column that the net does not use; answers can include it."""

    kind = "ignored"

    def __init__(self, name: str, *, reason: str = "") -> None:
        self.name = name
        self.reason = reason

    @classmethod
    def learn(cls, profile: Profile) -> Self:
        """The column, whatever its values are."""
        return cls(profile.name)

    def slots(self) -> list[Slot]:
        """No features."""
        return []

    def encode(self, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """No features."""
        return np.empty((len(values), 0), np.float32), np.empty((len(values), 0), bool)

    def decode(self, features: np.ndarray) -> Any:
        """Null for each row."""
        import pyarrow as pa

        return pa.nulls(len(features))
