"""Categories (a code, softmax), booleans (sigmoid) and counts (negative binomial)."""

import math
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any, Self

import numpy as np

from keyhole.core.layout import FAR, MAX_LEVELS, Slot
from keyhole.data import cast, levels
from keyhole.data.lazy import pa, pt
from keyhole.modalities import expected as words
from keyhole.modalities.expected import Expected, Prediction
from keyhole.modalities.profile import Profile
from keyhole.modalities.tabular.columns import base
from keyhole.modalities.tabular.columns.base import FEW_ROWS, Column, Grid


class Category(Column):
    """A column with levels, most frequent first; one more code stands for all other levels.

    A level that training data lacks is at least as anomalous as the rarest one.
    """

    kind = "category"
    effect_unit = "points"

    def __init__(
        self, name: str, *, levels: list[Any], counts: list[int], type: str, rows: int
    ) -> None:
        self.name, self.levels, self.counts = name, levels, counts
        self.type, self.rows = type, rows

    @classmethod
    def learn(cls, profile: Profile) -> Self:
        """Levels by frequency, ties by name, at most `MAX_LEVELS`."""
        by_count = sorted(profile.levels.items(), key=lambda item: (-item[1], str(item[0])))
        return cls(
            profile.name,
            levels=[level for level, _ in by_count[:MAX_LEVELS]],
            counts=[count for _, count in by_count[:MAX_LEVELS]],
            type=cast.name_of(profile.arrow_type, levels=profile.dictionary),
            rows=profile.observed,
        )

    @cached_property
    def _texts(self) -> list[str]:
        return cast.texts(cast.array(self.levels, self.type)).to_pylist()

    @property
    def unseen(self) -> float:
        """The last code."""
        return len(self.levels) + 1

    @property
    def options(self) -> list[str]:
        """All levels."""
        return [words.shorten(str(level)) for level in self.levels]

    def slots(self) -> list[Slot]:
        """One code feature: 1.. for the levels, and a last code for all others."""
        others = max(self.rows - sum(self.counts), 0)
        counts = np.array([*self.counts, others], float) + 0.5  # a Jeffreys prior's half a row
        shares = tuple((counts / counts.sum()).tolist())
        nats, levels = float(np.log(self.rows + 2)), len(self.levels) + 1
        return [Slot(self.name, self.kind, "categorical", "", levels, 0.0, 1.0, nats, shares)]

    def encode(self, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The code of each level, the last code for an unknown level, 0 if missing."""
        codes = levels.indices(values, self._texts) + 1
        return codes[:, None], (codes > 0)[:, None]

    def decode(self, features: np.ndarray) -> Any:
        """The level of each code; null for other levels, which are unknown."""
        index, known = self._index(features)
        return cast.picked(self.levels, pa.array(index, mask=~known), self.type)

    def bounds(self, profile: Profile) -> Grid:
        """The rows that must hold a level, but at most those of the most frequent level."""
        return {"rows": [float(min(FEW_ROWS, max(self.counts, default=0)))]}

    def drawn(self, features: np.ndarray, grid: Grid | None = None) -> Any:
        """The drawn level, or the most frequent one if that level must not be drawn."""
        if not grid:
            return self.decode(features)
        return self.decode(np.where(self.allows(features, grid), features[:, 0], 1.0)[:, None])

    def allows(self, features: np.ndarray, grid: Grid) -> np.ndarray:
        """True for a level that enough rows hold."""
        index, known = self._index(features)
        rows = np.array([*self.counts, 0])[np.where(known, index, -1)]
        return known & (rows >= grid.get("rows", [1.0])[0])

    def _index(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The index of each row's level, and where it is one."""
        index = features[:, 0].astype(np.int64) - 1
        return index, (index >= 0) & (index < len(self.levels))

    def text(self, values: Any) -> list[str]:
        """Levels; long ones are cut."""
        return [words.shorten(text) for text in super().text(values)]

    def expected(self, features: np.ndarray, predicted: Prediction) -> Expected:
        """The most probable levels."""
        if predicted.levels is None:
            raise ValueError("a category needs the predicted probabilities of its levels")
        last = predicted.levels.shape[1] - 1  # the code of all other levels
        index = np.minimum(features[:, 0].astype(np.int64) - 1, last)
        names = [words.shorten(text) for text in self._texts[:last]]
        return words.expected_levels(predicted.levels, index, [*names, "another level"])


NEITHER = 2.0  # the feature of a third value


class Boolean(Column):
    """A column with two values; any other value costs as much as an unobserved level."""

    kind = "boolean"
    effect_unit = "points"

    def __init__(
        self, name: str, *, no: Any, yes: Any, type: str, share: float, rows: int
    ) -> None:
        self.name, self.no, self.yes = name, no, yes
        self.type, self.share, self.rows = type, share, rows

    @classmethod
    def learn(cls, profile: Profile) -> Self:
        """The two most frequent values, the smaller one as `no`."""
        counts = profile.levels
        kind = cast.name_of(profile.arrow_type, levels=profile.dictionary)
        numeric = kind == "string" and profile.numeric and not profile.not_numbers
        if numeric and profile.plain:  # "1" and "1.0" are one value
            whole = profile.whole and max(abs(profile.least), abs(profile.most)) < 2**63
            counts, kind = Counter(), "int64" if whole else "double"
            for text, count in profile.levels.items():
                counts[int(Decimal(text)) if whole else float(text)] += count
        pair = [level for level, _ in counts.most_common(2)]
        pair.sort(key=lambda level: (str(type(level)), level))
        no, yes = [None, None, *pair][-2:]
        rows = max(sum(counts.values()), 1)
        return cls(profile.name, no=no, yes=yes, type=kind, share=counts[yes] / rows, rows=rows)

    @cached_property
    def _texts(self) -> list[str]:
        texts = cast.texts(cast.array([self.no, self.yes], self.type)).to_pylist()
        return ["" if text is None else text for text in texts]  # a constant has no second value

    @cached_property
    def _whole_numbers(self) -> tuple[float, float] | None:
        """The two values as whole numbers, NaN for a word; None if they are others, or alike."""
        pair = [levels.number_of(text) for text in self._texts]
        no, yes = (math.nan if number is None else number for number in pair)
        exact = all(math.isnan(n) or (n.is_integer() and abs(n) < 2**24) for n in (no, yes))
        return (no, yes) if exact and no != yes else None

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
        return [words.shorten(str(self.yes)), words.shorten(str(self.no))]

    def exact(self, features: np.ndarray) -> np.ndarray:
        """The probability of yes."""
        return features[:, 0]

    def slots(self) -> list[Slot]:
        """One number feature: 0 for no, 1 for yes."""
        share = min(max(self.share, 0.5 / self.rows), 1 - 0.5 / self.rows)
        std, nats = float(np.sqrt(share * (1 - share))), float(np.log(self.rows + 2))
        return [Slot(self.name, self.kind, "bernoulli", "", 0, share, std, nats)]

    def encode(self, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """0, 1, or `NEITHER`."""
        if pt.is_floating(values.type):
            numbers, pair = cast.floats(values)[0], self._whole_numbers
            levels.check_finite(self.name, numbers, start)
            if pair is not None:  # a tenth of the time of levels
                gap, no, yes = np.isnan(numbers), numbers == pair[0], numbers == pair[1]
                features = np.select([yes, no | gap], [1.0, 0.0], NEITHER)
                return features.astype(np.float32)[:, None], ~gap[:, None]
        indices = levels.indices(values, self._texts)  # NEITHER for any other value
        return indices.clip(0).astype(np.float32)[:, None], (indices >= 0)[:, None]

    @classmethod
    def encode_tensors(cls, columns: Sequence[Self], values: Any) -> tuple[Any, Any]:
        """As `encode`. Raises: SettingError if two values are no numbers or truth values."""
        import torch

        pairs = [[levels.number_of(text) for text in column._texts] for column in columns]
        for column, (no, yes) in zip(columns, pairs, strict=True):
            if yes is None or (no is None and column.no is not None):
                raise column.no_numbers()
        no, yes = values.new_tensor([[math.nan if x is None else x for x in p] for p in pairs]).mT
        observed = ~values.isnan()
        features = torch.where(values == yes, 1.0, torch.where(values == no, 0.0, NEITHER))
        return torch.where(observed, features, 0.0).float(), observed

    def decode(self, features: np.ndarray) -> Any:
        """The more probable value of each row."""
        likely = (features[:, 0] > 0.5).astype(np.int64)
        return cast.picked([self.no, self.yes], pa.array(likely), self.type)

    def expected(self, features: np.ndarray, predicted: Prediction) -> Expected:
        """The likelier value and its probability, or both values if neither is likely."""
        shares = np.stack([1 - predicted.middle[:, 0], predicted.middle[:, 0]], 1)
        index = np.where(features[:, 0] == NEITHER, 2, features[:, 0] > 0.5)
        names = self.text(self.decode(np.array([[0.0], [1.0]])))
        return words.expected_levels(shares, index, names)


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
        self.name, self.center, self.scale = name, center, scale
        self.least, self.most, self.rows, self.type = least, most, rows, type

    @classmethod
    def learn(cls, profile: Profile) -> Self:
        """The mean count, the standard deviation of log(1 + count), and the range."""
        numbers = np.maximum(profile.numbers(), 0.0)
        logs = np.log1p(numbers)
        kind = cast.name_of(profile.arrow_type)
        return cls(
            profile.name,
            center=float(np.log1p(numbers.mean())) if len(numbers) else 0.0,
            scale=(float(logs.std()) if len(logs) else 0.0) or 1.0,
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

    @classmethod
    def encode_tensors(cls, columns: Sequence[Self], values: Any) -> tuple[Any, Any]:
        """As `encode`."""
        numbers = values.nan_to_num(nan=0.0).clamp(-FAR, FAR)
        return (numbers.sign() * numbers.abs().log1p()).float(), ~values.isnan()

    def decode(self, features: np.ndarray) -> Any:
        """The expected count, rounded."""
        return self.typed(self._counts(features))

    def bounds(self, profile: Profile) -> Grid:
        """The grid, and the smallest and largest count that may be drawn."""
        lattice = base.grid(profile.numbers())
        lattice = {"values": lattice["values"]} if "values" in lattice else {"step": [1.0]}
        return {**lattice, "between": base.between((self.least, self.most), profile.ends, 1.0)}

    def drawn(self, features: np.ndarray, grid: Grid | None = None) -> Any:
        """The drawn count, within the range of training."""
        return self.typed(base.legal(self._counts(features), grid or {}, 0.0))

    def allows(self, features: np.ndarray, grid: Grid) -> np.ndarray:
        """True where the count lies between the ends of the grid."""
        return base.allowed(self._counts(features), grid)

    def _counts(self, features: np.ndarray) -> np.ndarray:
        return np.expm1(features[:, 0].astype(np.float64).clip(0, 50)).round()

    def typed(self, counts: np.ndarray) -> Any:
        """Counts, clipped to the range of training, in the column's type."""
        return cast.of_numbers(counts.clip(self.least, self.most), self.type)

    def text(self, values: Any) -> list[str]:
        """Counts as text."""
        return words.number_texts(cast.floats(values)[0])

    def expected(self, features: np.ndarray, predicted: Prediction) -> Expected:
        """The likely range of the count."""
        low, high = self._ends(predicted.low[:, 0], predicted.high[:, 0])
        logs = features[:, 0].astype(np.float64)
        counts = np.round(np.sign(logs) * np.expm1(np.abs(logs)))
        return words.expected_range(counts, low, high, [0, self.most])

    def _ends(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logs = (np.maximum(end.astype(np.float64), 0) for end in (low, high))
        return words.whole(*map(np.expm1, logs))
