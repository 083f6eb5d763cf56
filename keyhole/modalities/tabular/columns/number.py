"""Continuous columns: standardized, transformed if their tails are long.

A value in a large share of the rows is a point mass (a hurdle model): one feature says whether a
row has it, another holds the value of the other rows.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from scipy import stats

from keyhole.core.layout import FAR, Slot
from keyhole.data import cast, levels
from keyhole.data.lazy import pa
from keyhole.data.numerals import NumberFormat
from keyhole.errors import SettingError
from keyhole.modalities import expected as words
from keyhole.modalities.expected import Expected, Prediction
from keyhole.modalities.profile import Profile
from keyhole.modalities.tabular.columns import base
from keyhole.modalities.tabular.columns.base import Column, Grid, point_mass_slot

MIN_POINT_MASS = 0.5  # share of rows that makes one value a point mass
LONG_TAIL = 8.0  # transform if the outer 1 % is this many times as far out as the quartiles
MAX_SCORES, MIN_SCORES = 200, 10  # knots of normal scores


def point_mass_of(numbers: np.ndarray) -> list[float] | None:
    """The value of a large share of the rows, and that share; at most all but half a row."""
    if not len(numbers):
        return None
    values, counts = np.unique(numbers, return_counts=True)
    share = counts.max() / len(numbers)
    # Each of few values has a large share; that is a small scale, not a point mass.
    if share < MIN_POINT_MASS or (len(values) > 1 and share < 3 / len(values)):
        return None
    return [float(values[counts.argmax()]), float(min(share, 1 - 0.5 / len(numbers)))]


def long_tailed(numbers: np.ndarray) -> bool:
    """True if the outer 1 % lies much farther out than the quartiles."""
    if len(numbers) < 20:
        return False
    low, first, middle, third, high = np.quantile(numbers, (0.01, 0.25, 0.5, 0.75, 0.99))
    inner = max(third - middle, middle - first)
    return bool(max(high - middle, middle - low) > LONG_TAIL * inner)


def spread_of(numbers: np.ndarray, robust: bool) -> tuple[float, float]:
    """Mean and standard deviation; if `robust`, estimated from the quartiles."""
    if not len(numbers):
        return 0.0, 1.0
    most = float(np.abs(numbers).max()) or 1.0  # squares of large numbers may overflow
    center, scale = float((numbers / most).mean()) * most, float((numbers / most).std()) * most
    if robust:
        first, middle, third = np.quantile(numbers, (0.25, 0.5, 0.75))
        center, scale = float(middle), float(third - first) / 1.349 or scale
    varies = scale > 1e-9 * max(abs(center), 1e-300)
    return center, scale if varies else max(abs(center), 1.0)


def normal_scores(numbers: np.ndarray) -> list[list[float]] | None:
    """Values and their van der Waerden normal scores; None for too few values."""
    levels = (np.arange(MAX_SCORES) + 0.5) / MAX_SCORES
    least = 0.5 / max(len(numbers), 1)
    levels = levels[(levels > least) & (levels < 1 - least)]
    values, first = np.unique(np.quantile(numbers, levels), return_index=True)
    if len(values) < MIN_SCORES:
        return None
    return [values.tolist(), stats.norm.ppf(levels[first]).tolist()]


VALUES_PER_BIN = 250  # fewer would make the mean of a bin follow the noise of a long tail
NEAR = 1e-5  # in units of the scale: closer numbers are the same value


class Number(Column):
    """A number; its feature is (x - center) / scale.

    If `transformed` is true, the feature is the asinh of that; a list maps values to normal
    scores. With a `point_mass` there is a Bernoulli feature, and the number is observed only in
    other rows. `knots` map an expected value to the mean of observed ones: the decoded mean of a
    transformed value is a median on the original scale.
    """

    kind = "number"

    def __init__(
        self,
        name: str,
        *,
        center: float,
        scale: float,
        transformed: bool | list[list[float]],
        point_mass: list[float] | None,
        range: list[float],
        type: str | dict[str, Any],
        knots: list[list[float]] | None = None,
    ) -> None:
        self.name, self.center, self.scale, self.range = name, center, scale, range
        self.transformed, self.point_mass, self.knots = transformed, point_mass, knots
        self.written_as = None if isinstance(type, str) else NumberFormat.of(type)
        self.type = type if isinstance(type, str) else str(type.get("of", "double"))

    def check(self) -> None:
        """Raises: SettingError if the range or the point mass is not a pair."""
        pairs = self.range, self.point_mass or [0.0, 0.0]
        if any(len(pair) != 2 for pair in pairs):
            raise SettingError(f"range, point_mass={pairs!r:.60}: expected pairs of numbers")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments; the type of a text column has its number format."""
        params = super().get_params(deep)
        if self.written_as is not None:
            params["type"] = {"of": self.type, **self.written_as.recipe()}
        return params

    def reads_as(self, decimal: str) -> bool:
        """True if texts with this decimal sign can be read without the column's format."""
        format_ = self.written_as
        return format_ is None or (not format_.unit and format_.decimal in {"", decimal})

    @classmethod
    def learn(cls, profile: Profile) -> Self:
        """Center and scale from the sample, robust if the tails are long."""
        numbers = profile.numbers()
        point_mass = point_mass_of(numbers)
        rest = numbers if point_mass is None else numbers[numbers != point_mass[0]]
        transformed = long_tailed(rest)
        center, scale = spread_of(rest, transformed)
        kind, ends = cast.name_of(profile.arrow_type), [profile.least, profile.most]
        if kind == "string":
            kind = "int64" if profile.whole and profile.most < 2**53 else "double"
        return cls(
            profile.name,
            center=center,
            scale=scale,
            transformed=transformed,
            point_mass=point_mass,
            range=cast.narrowed(ends, profile.exact_ends, lambda x: cast.of_numbers(x, kind)),
            type=kind if profile.format is None else {"of": kind, **profile.format.recipe()},
        )

    @classmethod
    def of_measure(cls, profile: Profile, scale: float) -> Self:
        """The column with this scale, without transform or point mass."""
        numbers = profile.numbers()
        center = float(numbers.mean()) if len(numbers) else 0.0
        return cls.learn(profile)._with(
            {"center": center, "scale": scale, "transformed": False, "point_mass": None}
        )

    @classmethod
    def over_time(cls, profile: Profile) -> Self:
        """The column of a sensor: one feature, in proportion to the reading."""
        numbers = profile.numbers()
        center, scale = spread_of(numbers, long_tailed(numbers))
        return cls.learn(profile)._with(
            {"center": center, "scale": scale, "transformed": False, "point_mass": None}
        )

    def _with(self, changed: dict[str, Any]) -> Self:
        return type(self)(**{**self.get_params(), **changed})

    def normalized(self, numbers: np.ndarray) -> Self:
        """The column transformed to the normal scores of these numbers, unless they repeat."""
        if self.point_mass is not None:
            numbers = numbers[numbers != self.point_mass[0]]
        if base.heaped(numbers):
            return self
        return self._with({"transformed": normal_scores(numbers) or self.transformed})

    @property
    def ends(self) -> tuple[float, float]:
        """The range of training."""
        return self.range[0], self.range[1]

    def exact(self, features: np.ndarray) -> np.ndarray:
        """The mean as a float of 64 bits."""
        return cast.floats(self._with({"type": "double"}).decode(features))[0]

    def slots(self) -> list[Slot]:
        """The point mass if there is one, then the number; a constant is a point mass only."""
        asinh = self.transformed is True
        value = Slot(self.name, self.kind, "student_t", unit=self.scale, transformed=asinh)
        if self.point_mass is None:
            return [value]
        slots = [point_mass_slot(self, self.point_mass[1]), value]
        return slots[:1] if self._constant else slots

    @property
    def _constant(self) -> bool:
        return self.range[0] == self.range[1]

    @property
    def _whole(self) -> bool:
        return self.type.startswith(("int", "uint"))

    def encode(self, values: Any, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The features of Arrow values; `encode_matrix` encodes many columns together."""
        return self.encode_floats(self.numbers(values, start))

    def numbers(self, values: Any, start: int = 0) -> np.ndarray:
        """The numbers of Arrow values, texts read in the column's format; NaN for missing."""
        f = self.written_as or NumberFormat()
        return levels.numbers(self.name, values, start, f.decimal or ".", f.unit or None)

    def written(self, values: Any) -> Any:
        """Texts if training data has money, percent, or decimal commas."""
        plain = self.written_as is None or self.written_as.plain
        return values if plain else self.cell_texts(values)

    def cell_texts(self, values: Any, decimal: str = "") -> Any:
        """Numbers as texts in the column's format."""
        format_ = self.written_as or NumberFormat()
        if not format_.decimal and decimal:
            format_ = replace(format_, decimal=decimal)
        return pa.array(format_.write(cast.floats(values)[0]), pa.string())

    def encode_floats(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The features of float values, NaN for missing."""
        observed = ~np.isnan(numbers)
        numbers = np.where(observed, numbers, self.center)
        features = self._transform(numbers)
        if self.point_mass is None:
            return features.astype(np.float32)[:, None], observed[:, None]
        at_point_mass = (numbers == self.point_mass[0]) & observed
        pair = np.stack([at_point_mass, np.where(at_point_mass, 0.0, features)], 1)
        known, count = np.stack([observed, observed & ~at_point_mass], 1), len(self.slots())
        return pair[:, :count].astype(np.float32), known[:, :count]

    @classmethod
    def encode_tensors(cls, columns: Sequence[Self], values: Any) -> tuple[Any, Any]:
        """As `encode_floats`. Raises: SettingError for normal scores."""
        import torch

        scores = [column.name for column in columns if isinstance(column.transformed, list)]
        if scores:
            raise SettingError(
                f"column {scores[0]!r} is encoded as normal scores, which an exported graph does "
                "not have: fit with another head than one of bins"
            )
        center = values.new_tensor([column.center for column in columns])
        scale = values.new_tensor([column.scale for column in columns])
        observed = ~values.isnan()
        numbers = torch.where(observed, values, center)
        features = ((numbers - center) / scale).clamp(-FAR, FAR)
        if any(column.transformed for column in columns):
            long_tails = torch.tensor([bool(column.transformed) for column in columns])
            features = torch.where(long_tails, asinh(features), features)
        if all(column.point_mass is None for column in columns):
            return features.float(), observed
        point_masses = [(column.point_mass or [math.nan])[0] for column in columns]
        at_point_mass = values == values.new_tensor(point_masses)
        rest = torch.where(at_point_mass, 0.0, features)
        pairs = torch.stack([at_point_mass.double(), rest], 2).flatten(1)
        known = torch.stack([observed, observed & ~at_point_mass], 2).flatten(1)
        parts = [[slot.head == "bernoulli" for slot in column.slots()] for column in columns]
        places = [2 * i + (not point) for i, part in enumerate(parts) for point in part]
        return pairs[:, places].float(), known[:, places]

    def decode(self, features: np.ndarray) -> Any:
        """The mean on the original scale, within the range of training data."""
        mean = self._inverse(features[:, -1])
        if self.point_mass is not None:
            share = features[:, 0].astype(np.float64)
            other = self.point_mass[0] if self._constant else mean
            mean = share * self.point_mass[0] + (1 - share) * other
        return self.typed(mean)

    def guess(self, features: np.ndarray) -> Any:
        """The decoded mean, calibrated by `knots`."""
        mean, _ = cast.floats(self.decode(features))
        if self.knots is not None:
            mean = np.interp(mean, self.knots[0], self.knots[1])
        return self.typed(mean)

    def bounds(self, profile: Profile) -> Grid:
        """The grid of the sample, and the smallest and largest number that may be drawn."""
        lattice = base.grid(profile.numbers())
        step = lattice.get("step", [1.0 if self._whole else None])[0]
        stored: type = np.float32 if self.type == "float" else float
        ends = stored(profile.least), stored(profile.most)
        return {**lattice, "between": base.between(ends, profile.ends, step)}

    def drawn(self, features: np.ndarray, grid: Grid | None = None) -> Any:
        """The drawn number, moved to the grid."""
        return self.typed(base.legal(self._numbers(features), grid or {}, NEAR * self.scale))

    def allows(self, features: np.ndarray, grid: Grid) -> np.ndarray:
        """True for numbers between the ends of the grid."""
        return base.allowed(self._numbers(features), grid, NEAR * self.scale)

    def _numbers(self, features: np.ndarray) -> np.ndarray:
        """The numbers of drawn features, not clipped."""
        numbers = self._inverse(features[:, -1])
        if self.point_mass is None:
            return numbers
        return np.where((features[:, 0] > 0.5) | self._constant, self.point_mass[0], numbers)

    def typed(self, mean: np.ndarray) -> Any:
        """Numbers, clipped to the range of training data, in the column's type."""
        return cast.of_numbers(np.clip(mean, self.range[0], self.range[1]), self.type)

    def calibrated(self, expected: np.ndarray, observed: np.ndarray) -> Self:
        """The column with `knots`: the least-squares increasing map, expected to observed.

        `expected` are decoded means of masked values of rows that the net has not trained on.
        """
        from sklearn.isotonic import IsotonicRegression

        finite = np.isfinite(expected) & np.isfinite(observed)
        expected, observed = expected[finite], observed[finite]
        if len(expected) < 4 * VALUES_PER_BIN or np.ptp(expected) == 0:
            return self  # the map is flat beyond its outermost bins: two would clip half the rows
        order = np.argsort(expected, kind="stable")
        bins = np.array_split(order, int(min(len(order) // VALUES_PER_BIN, 32)))
        expected_means = np.array([expected[b].mean() for b in bins])
        observed_means = np.array([observed[b].mean() for b in bins])
        increasing = IsotonicRegression().fit_transform(expected_means, observed_means)
        expected_means, first = np.unique(expected_means, return_index=True)
        return self._with({"knots": [expected_means.tolist(), increasing[first].tolist()]})

    def text(self, values: Any) -> list[str]:
        """Numbers with four digits, large ones in full."""
        return words.number_texts(cast.floats(values)[0])

    def expected(self, features: np.ndarray, predicted: Prediction) -> Expected:
        """The likely range, the point mass, or both if neither has enough probability."""
        if self._constant:
            text = f"{words.number_texts(np.array(self.range[:1]))[0]}, as in all training rows"
            known = np.ones(len(features), bool)
            return Expected([text] * len(features), features[:, 0] > 0.5, known)
        ends = self._ends(predicted.low[:, -1], predicted.high[:, -1])
        expected = words.expected_range(self._inverse(features[:, -1]), *ends, self.range)
        if self.point_mass is None:
            return expected
        text = words.number_texts(np.array(self.point_mass[:1]))[0]
        share, at_point_mass = predicted.middle[:, 0], features[:, 0] > 0.5
        return words.with_point_mass(self.point_mass[0], text, at_point_mass, share, expected)

    def _ends(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ends on the original scale; not negative if all training numbers are not."""
        low, high = self._inverse(low), self._inverse(high)
        if self.range[0] >= 0:
            low = np.where(high >= 0, low.clip(0), low)
        return words.whole(low, high) if self._whole else (low, high)

    def _transform(self, numbers: np.ndarray) -> np.ndarray:
        features = ((numbers - self.center) / self.scale).clip(-FAR, FAR)
        if isinstance(self.transformed, list):  # beyond the outermost scores, in units of `scale`
            values, scores = (np.array(part) for part in self.transformed)
            beyond = numbers - numbers.clip(values[0], values[-1])
            return np.interp(numbers, values, scores) + (beyond / self.scale).clip(-FAR, FAR)
        return np.arcsinh(features) if self.transformed else features

    def _inverse(self, features: np.ndarray) -> np.ndarray:
        features = features.astype(np.float64)
        if isinstance(self.transformed, list):
            values, scores = (np.array(part) for part in self.transformed)
            beyond = features - features.clip(scores[0], scores[-1])
            return np.interp(features, scores, values) + self.scale * beyond
        if self.transformed:
            features = np.sinh(np.clip(features, -50, 50))
        return self.center + self.scale * features


def encode_matrix(columns: list[Number], x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The features of floats (rows, columns) in one pass, which is faster than by column.

    None if a column has a transform or a point mass: these need `encode_floats`.
    """
    import torch

    if any(c.transformed or c.point_mass is not None for c in columns):
        return None
    usable = x.dtype in (np.float32, np.float64) and x.flags.writeable and min(x.strides) >= 0
    values = torch.from_numpy(x if usable else np.array(x, np.float64))  # torch rejects others
    center = values.new_tensor([column.center for column in columns])
    scale = values.new_tensor([column.scale for column in columns])
    features = ((values - center) / scale).to(torch.float32)
    observed = ~torch.isnan(features)
    return features.nan_to_num_(nan=0.0, posinf=FAR, neginf=-FAR).numpy(), observed.numpy()


def asinh(x: Any) -> Any:
    """The inverse hyperbolic sine of float64: ONNX Runtime has it for float32 alone."""
    size = x.abs()
    most = size.clamp(min=1.0)
    part = size / most
    return x.sign() * (most.log() + (part + (part.square() + (1 / most).square()).sqrt()).log())
