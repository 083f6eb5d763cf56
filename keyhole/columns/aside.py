"""A column that is set aside: an identifier, an empty one, or one that the user excludes."""

from typing import Any, Self

import numpy as np

from keyhole.columns.base import Column, levels_text
from keyhole.columns.profile import Profile
from keyhole.core.layout import Slot


class Aside(Column):
    """No cells: the net never sees this column; answers carry it along where asked."""

    kind = "aside"

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

    def decode(self, cells: np.ndarray) -> Any:
        """Nothing is known of an aside column: all null."""
        import pyarrow as pa

        return pa.nulls(len(cells))

    def text(self, values: Any) -> list[str]:
        """Values as text."""
        return levels_text(values)
