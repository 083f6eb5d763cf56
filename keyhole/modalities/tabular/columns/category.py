"""Categories (one code feature, softmax) and booleans (one feature, sigmoid)."""

from collections import Counter
from decimal import Decimal
from functools import cached_property
from typing import Any, Self

import numpy as np

from keyhole.core.layout import MOST_LEVELS, Slot
from keyhole.data import arrow_types, cast, levels
from keyhole.modalities.expected import Expected, Prediction, expected_levels, shorten
from keyhole.modalities.tabular.columns.base import Column, levels_text
from keyhole.modalities.tabular.columns.grids import FEW_ROWS, Grid
from keyhole.modalities.tabular.profile import Profile


class Category(Column):
    """A column with levels, most frequent first; one more code stands for all that are not listed.

    A level not in training is at least as anomalous as the rarest one.
    """

    kind = "category"
    effect_unit = "points"

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
        kind = arrow_types.name(profile.arrow_type, levels=profile.dictionary)
        return cls(
            profile.name,
            levels=[level for level, _ in found[:MOST_LEVELS]],
            counts=[count for _, count in found[:MOST_LEVELS]],
            type=kind,
            rows=profile.observed,
        )

    @cached_property
    def _texts(self) -> list[str]:
        return cast.texts(arrow_types.array(self.levels, self.type)).to_pylist()

    @property
    def unseen(self) -> float:
        """The last code."""
        return len(self.levels) + 1

    @property
    def options(self) -> list[str]:
        """All levels."""
        return [shorten(str(level)) for level in self.levels]

    def slots(self) -> list[Slot]:
        """One code feature: 1.. for the levels, and a last code for all others."""
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

    def decode(self, features: np.ndarray) -> Any:
        """The level of each code; an «other» becomes null: nothing says which."""
        import pyarrow as pa

        place = features[:, 0].astype(np.int64) - 1
        missing = (place < 0) | (place >= len(self.levels))
        return arrow_types.picked(self.levels, pa.array(place, mask=missing), self.type)

    def bounds(self, profile: Profile) -> Grid:
        """The rows that must hold a level; where none is held by so many, as many as there are."""
        return {"rows": [float(min(FEW_ROWS, max(self.counts, default=0)))]}

    def drawn(self, features: np.ndarray, grid: Grid | None = None) -> Any:
        """The drawn level; in place of one that may not be drawn, the most frequent one."""
        if not grid:
            return self.decode(features)
        return self.decode(np.where(self.allows(features, grid), features[:, 0], 1.0)[:, None])

    def allows(self, features: np.ndarray, grid: Grid) -> np.ndarray:
        """True for a level that rows enough hold."""
        place = features[:, 0].astype(np.int64) - 1
        known = (place >= 0) & (place < len(self.levels))
        rows = np.array([*self.counts, 0])[np.where(known, place, -1)]
        return known & (rows >= grid.get("rows", [1.0])[0])

    def text(self, values: Any) -> list[str]:
        """Levels, cut where they are long."""
        return [shorten(text) for text in levels_text(values)]

    def expected(self, features: np.ndarray, predicted: Prediction) -> Expected:
        """The likeliest levels that hold the share together."""
        if predicted.levels is None:
            raise ValueError("a category is predicted by the probabilities of its levels")
        last = predicted.levels.shape[1] - 1  # stands for all levels without their own
        place = np.minimum(features[:, 0].astype(np.int64) - 1, last)
        named = [shorten(text) for text in self._texts[:last]]
        return expected_levels(predicted.levels, place, [*named, "another level"])


NEITHER = 2.0  # the feature of a value that is neither of the two


class Boolean(Column):
    """A column with two values; any other value costs as much as an unobserved level."""

    kind = "boolean"
    effect_unit = "points"

    def __init__(
        self, name: str, *, no: Any, yes: Any, type: str, share: float, rows: int
    ) -> None:
        self.name = name
        self.no = no
        self.yes = yes
        self.type = type
        self.share = share
        self.rows = rows

    @classmethod
    def learn(cls, profile: Profile) -> Self:
        """The two most frequent values, the smaller one as `no`."""
        counts = profile.levels
        kind = arrow_types.name(profile.arrow_type, levels=profile.dictionary)
        texts = kind == "string" and profile.numeric and not profile.not_numbers
        texts = texts and profile.plain
        if texts:  # "1" and "1.0" are one
            whole = profile.whole and max(abs(profile.least), abs(profile.most)) < 2**63
            counts, kind = Counter(), "int64" if whole else "double"
            for text, count in profile.levels.items():
                counts[int(Decimal(text)) if whole else float(text)] += count
        found = counts.most_common(2)
        pair = sorted((level for level, _ in found), key=lambda level: (str(type(level)), level))
        if len(pair) < 2:
            pair = [None, *pair][-2:]
        counted = max(sum(counts.values()), 1)
        return cls(
            profile.name,
            no=pair[0],
            yes=pair[1],
            type=kind,
            share=counts[pair[1]] / counted,
            rows=counted,
        )

    @cached_property
    def _texts(self) -> list[str]:
        texts = cast.texts(arrow_types.array([self.no, self.yes], self.type)).to_pylist()
        return ["" if text is None else text for text in texts]  # a constant has no second value

    @property
    def unseen(self) -> float:
        """The feature of a value that is neither of the two."""
        return NEITHER

    @property
    def ends(self) -> tuple[float, float] | None:
        """The two values, if both are numbers."""
        if not isinstance(self.no, int | float) or not isinstance(self.yes, int | float):
            return None
        return (self.no, self.yes) if self.no <= self.yes else (self.yes, self.no)

    @property
    def options(self) -> list[str]:
        """Yes, then no."""
        return [shorten(str(self.yes)), shorten(str(self.no))]

    def exact(self, features: np.ndarray) -> np.ndarray:
        """The probability of yes."""
        return features[:, 0]

    def slots(self) -> list[Slot]:
        """One number feature: 0 for no, 1 for yes."""
        share = min(max(self.share, 0.5 / self.rows), 1 - 0.5 / self.rows)
        nats = float(np.log(self.rows + 2))
        spread = float(np.sqrt(share * (1 - share)))
        return [Slot(self.name, self.kind, "bernoulli", "", 0, share, spread, nats)]

    def encode(self, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """0, 1, or 2 for any other value."""
        import pyarrow.types as pt

        if pt.is_floating(values.type):
            levels.infinite(self.name, cast.floats(values)[0], start)
        places = levels.places(values, self._texts)  # NEITHER for any other value
        return places.clip(0).astype(np.float32)[:, None], (places >= 0)[:, None]

    def decode(self, features: np.ndarray) -> Any:
        """The more probable value of each row."""
        import pyarrow as pa

        likely = (features[:, 0] > 0.5).astype(np.int64)
        return arrow_types.picked([self.no, self.yes], pa.array(likely), self.type)

    def text(self, values: Any) -> list[str]:
        """Values as text."""
        return levels_text(values)

    def expected(self, features: np.ndarray, predicted: Prediction) -> Expected:
        """The likelier value and its probability, or both values where neither is likely."""
        share = np.stack([1 - predicted.middle[:, 0], predicted.middle[:, 0]], 1)
        place = np.where(features[:, 0] == NEITHER, 2, features[:, 0] > 0.5)
        return expected_levels(share, place, self.text(self.decode(np.array([[0.0], [1.0]]))))
