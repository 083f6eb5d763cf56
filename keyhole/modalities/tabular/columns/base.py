"""A column kind: what its values mean, how they become cells, and how cells are said again.

A kind is learned from a `Profile` (one streaming pass), then frozen; its constructor
arguments are all that it learned, so they are what the manifest holds.

A column that is set aside: an identifier, an empty one, or one that the user excludes.
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
        """What a user should know of the column, beside why it is of its kind; empty for most."""
        return ""

    @classmethod
    @abstractmethod
    def learn(cls, profile: Profile) -> Self:
        """The column that this profile describes."""

    @abstractmethod
    def slots(self) -> list[Slot]:
        """The cells of this column."""

    @abstractmethod
    def encode(self, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The column's cells (rows, cells), and which are observed, from an Arrow array.

        Float32 for number cells, int64 for code cells; `start` is the place of the first value in
        its source, for messages. Raises: DataError for a cell that this column cannot hold.
        """

    @abstractmethod
    def decode(self, features: np.ndarray) -> Any:
        """The values, as an Arrow array of the column's own type, that cells (rows, cells) mean.

        Cells are those of an expected row: a Bernoulli cell holds a probability.
        """

    def guess(self, features: np.ndarray) -> Any:
        """The values for a gap, from guesses of its hidden cells; `decode` unless they differ."""
        return self.decode(features)

    def bounds(self, profile: Profile) -> Grid:
        """Which values may be drawn; empty where all that cells can mean may be."""
        return {}

    def drawn(self, features: np.ndarray, grid: Grid | None = None) -> Any:
        """The values that cells drawn from a likelihood mean, each one that `grid` allows."""
        return self.decode(features)

    def allows(self, features: np.ndarray, grid: Grid) -> np.ndarray:
        """True for rows whose drawn cells mean a value that may be drawn as it stands."""
        return np.ones(len(features), bool)

    def written(self, values: Any) -> Any:
        """Decoded values in the way that training wrote them: texts for money, numbers as are."""
        return values

    def cell_texts(self, values: Any, decimal: str = "") -> Any:
        """Decoded values as texts for the cells of a text column, numbers with six digits.

        `decimal` is the file's decimal sign, for a column that knows none.
        """
        import pyarrow.types as pt

        if not pt.is_floating(values.type):
            return cast.texts(values)
        return cast.number_texts(values)

    @abstractmethod
    def text(self, values: Any) -> list[str]:
        """Values of this column as a person would write them."""

    def expected(self, features: np.ndarray, predicted: Prediction) -> Expected:
        """What was expected in place of these values, (row, cell), in words."""
        raise NotImplementedError(f"nothing is expected of a column that is {self.kind}")

    def usual(self, low: float, high: float) -> str:
        """The range between two values of the first number cell, in words."""
        raise NotImplementedError(f"a {self.kind} has no range")


def point_mass_slot(column: Column, share: float) -> Slot:
    """The Bernoulli cell that says whether a row holds its column's atom."""
    spread, nats = float(np.sqrt(share * (1 - share))), -float(np.log1p(-share))
    return Slot(column.name, column.kind, "bernoulli", "atom", 0, share, spread, nats)


def levels_text(values: Any) -> list[str]:
    """Values of an Arrow array as a person would write them; gaps as «missing»."""
    return cast.texts(values).fill_null("missing").to_pylist()


def shorten(text: str, most: int = 40) -> str:
    """The text, cut with an ellipsis where it is longer than `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


class Ignored(Column):
    """No cells: the net never sees this column; answers carry it along where asked."""

    kind = "ignored"

    def __init__(self, name: str, *, reason: str = "") -> None:
        self.name = name
        self.reason = reason

    @classmethod
    def learn(cls, profile: Profile) -> Self:
        """The column set aside, whatever it holds."""
        return cls(profile.name)

    def slots(self) -> list[Slot]:
        """None: an aside column has no cells."""
        return []

    def encode(self, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """No cells for each row."""
        return np.empty((len(values), 0), np.float32), np.empty((len(values), 0), bool)

    def decode(self, features: np.ndarray) -> Any:
        """Nothing is known of an aside column: all null."""
        import pyarrow as pa

        return pa.nulls(len(features))

    def text(self, values: Any) -> list[str]:
        """Values as text."""
        return levels_text(values)
