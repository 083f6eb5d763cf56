"""The interface of column kinds, and ignored columns.

A kind is learned from a `Profile`, then frozen. Its constructor arguments are all that it learned,
so they are what the manifest stores.
"""

from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np

from keyhole.core.layout import Slot
from keyhole.core.parts import Described
from keyhole.data import cast
from keyhole.modalities.expected import Expected, Prediction
from keyhole.modalities.tabular.columns.grids import Grid
from keyhole.modalities.tabular.profile import Profile


class Column(Described):
    """One column of a table, learned and frozen."""

    family = "column"
    matrix: ClassVar[bool] = False  # True: encodes from floats, many columns at once

    name: str

    @property
    def remark(self) -> str:
        """A note for the user, besides the reason for the kind; empty for most columns."""
        return ""

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
        """Decoded values in the way that training wrote them: texts for money, numbers as are."""
        return values

    def cell_texts(self, values: Any, decimal: str = "") -> Any:
        """Decoded values as texts of a text column, numbers with six digits.

        `decimal` is the file's decimal sign, for a column without its own.
        """
        import pyarrow.types as pt

        if not pt.is_floating(values.type):
            return cast.texts(values)
        return cast.number_texts(values)

    @abstractmethod
    def text(self, values: Any) -> list[str]:
        """Values of this column as a person would write them."""

    def expected(self, features: np.ndarray, predicted: Prediction) -> Expected:
        """What was expected instead of these features (row, feature), in words."""
        raise NotImplementedError(f"nothing is expected of a column that is {self.kind}")

    def usual(self, low: float, high: float) -> tuple[str, float, float]:
        """The range between two values of the first number feature, in words, and its ends."""
        raise NotImplementedError(f"a {self.kind} has no range")


def point_mass_slot(column: Column, share: float) -> Slot:
    """The Bernoulli feature that is 1 for rows at the column's point mass."""
    spread, nats = float(np.sqrt(share * (1 - share))), -float(np.log1p(-share))
    return Slot(column.name, column.kind, "bernoulli", "atom", 0, share, spread, nats)


def levels_text(values: Any) -> list[str]:
    """Values of an Arrow array as a person would write them; gaps as 'missing'."""
    return cast.texts(values).fill_null("missing").to_pylist()


def shorten(text: str, most: int = 40) -> str:
    """The text, cut with an ellipsis where it is longer than `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


class Ignored(Column):
    """A column without features: the net does not use it; answers can include it."""

    kind = "ignored"

    def __init__(self, name: str, *, reason: str = "") -> None:
        self.name = name
        self.reason = reason

    @classmethod
    def learn(cls, profile: Profile) -> Self:
        """The ignored column, whatever its values."""
        return cls(profile.name)

    def slots(self) -> list[Slot]:
        """None: an ignored column has no features."""
        return []

    def encode(self, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """No features."""
        return np.empty((len(values), 0), np.float32), np.empty((len(values), 0), bool)

    def decode(self, features: np.ndarray) -> Any:
        """Null for each row: an ignored column cannot be decoded."""
        import pyarrow as pa

        return pa.nulls(len(features))

    def text(self, values: Any) -> list[str]:
        """Values as text."""
        return levels_text(values)
