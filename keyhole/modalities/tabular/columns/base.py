"""The interface of column kinds, ignored columns, and the values that may be drawn."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, ClassVar, Literal, Self

import numpy as np

from keyhole.core.layout import Slot
from keyhole.core.parts import Described
from keyhole.data import cast
from keyhole.data.lazy import pa
from keyhole.errors import SettingError
from keyhole.modalities.expected import Expected, Prediction, range_texts
from keyhole.modalities.profile import Profile

# The values of a column that may be drawn, a JSON object of lists: "step" (values are multiples of
# it), "values" (the only values), "heaps" (frequent values; a draw close to one moves to it),
# "between" (the smallest and largest value), "rows" (a level of fewer rows is not drawn).
Grid = dict[str, list[float]]


class Column(Described):
    """One column of a table: learned from a `Profile`, then frozen.

    Its constructor arguments are all that it learned, so they are what the manifest stores.
    """

    family = "column"
    effect_unit: ClassVar[Literal["", "points", "s"]] = ""  # of a change; points: of levels

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
        """The features (row, feature) of an Arrow array, float32 or codes; which are observed.

        `start` is the index of the first row in its source, for messages.
        Raises: DataError for a value that this column cannot hold.
        """

    @classmethod
    def encode_tensors(cls, columns: Sequence[Self], values: Any) -> tuple[Any, Any]:
        """What `encode` returns for all features of these columns, one after the other.

        `values` is a float64 tensor (row, column), NaN for a gap. Only with operations that an
        exported graph can have; an infinite number counts as one very far out.
        Raises: SettingError for columns that do not hold numbers.
        """
        raise columns[0].no_numbers()

    def no_numbers(self) -> SettingError:
        """The error for a column that an exported graph cannot read."""
        return SettingError(
            f"column {self.name!r} has the kind {self.kind!r}, and an exported graph reads "
            f"numbers alone: fit without it, Schema(exclude=[{self.name!r}]), or let keyhole "
            "itself answer"
        )

    @abstractmethod
    def decode(self, features: np.ndarray) -> Any:
        """The values of expected features (of a Bernoulli: probabilities), in Arrow."""

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
        """Decoded values as texts; `decimal` is the file's sign, for a column without its own."""
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
    std = float(np.sqrt(share * (1 - share)))
    nats = -float(np.log1p(-share))
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
        return pa.nulls(len(features))


MAX_BINS = 64  # of a histogram
ROWS_A_BIN = 8
HEAP = 0.05  # share of all values from which on one value is a heap
REPEATED = 0.5  # share of distinct values up to which values count as repeated
Bin = list[float]  # lower edge, upper edge, smallest and largest value in it, share of the values


def repeated(values: np.ndarray) -> bool:
    """True if most values occur several times, as on a grid."""
    return len(np.unique(values)) <= REPEATED * len(values)


def heaped(values: np.ndarray) -> bool:
    """True if values repeat, or one value is more frequent than in a smooth density."""
    counts = np.unique(values, return_counts=True)[1]
    return repeated(values) or bool(counts.max(initial=0) >= max(HEAP * len(values), 3))


def bins(features: np.ndarray) -> list[Bin]:
    """The bins of a feature; edges lie midway between values of neighbouring bins.

    A value with more than an equal share of the rows has a bin to itself, as narrow as its
    neighbours allow: draws from it are that value.
    """
    values, counts = np.unique(features if len(features) else np.zeros(1), return_counts=True)
    most = int(np.clip(counts.sum() / ROWS_A_BIN, 1, MAX_BINS))
    groups = _groups(counts, counts.sum() / most)
    if len(values) <= MAX_BINS and repeated(features):  # few levels: one bin each
        groups = [(i, i) for i in range(len(values))]
    low, high = values[[g[0] for g in groups]], values[[g[1] for g in groups]]
    room = float(np.ptp(values)) / len(values) or 1.0
    edges = np.r_[low[0] - room / 2, (high[:-1] + low[1:]) / 2, high[-1] + room / 2]
    edges = np.maximum.accumulate(edges)
    shares = np.array([counts[g[0] : g[1] + 1].sum() for g in groups]) / counts.sum()
    table = np.stack([edges[:-1], edges[1:], low, high, shares], 1).astype(np.float32)
    return [row for row in table.tolist() if row[1] > row[0]]


def _groups(counts: np.ndarray, share: float) -> list[tuple[int, int]]:
    """The first and last index of each bin's values; a bin is closed once it has its share."""
    groups, first, total = [], 0, 0
    for i, count in enumerate(counts):
        if count >= share and i > first:  # a heap has a bin to itself
            groups.append((first, i - 1))
            first, total = i, 0
        total += count
        if total >= share or i == len(counts) - 1:
            groups.append((first, i))
            first, total = i + 1, 0
    return groups


FEW_ROWS = 3  # a value of fewer rows could identify a person: it is not drawn on purpose
MAX_VALUES = 1_000  # in the grid of a column whose values repeat
COVERED = 0.95  # share of the rows that the values of a grid must hold
SPARSE = 1.5  # multiples of the step between the ends, per value, from which on values are sparse
FINE_STEPS = (1.0, 0.5, 0.25, 0.2, 0.1, 0.05, 0.025, 0.02, 0.01, 0.005, 0.0025, 0.002, 0.001)
COARSE_STEPS = np.outer(10.0 ** np.arange(6, -1, -1), (5, 2.5, 2, 1)).ravel()[:-1]
MIN_NUMBERS = 30  # with fewer, a coarse step may be chance
STEPS = np.array((*COARSE_STEPS, *FINE_STEPS))
DECIMAL_STEPS = np.array((1.0, 0.1, 0.01, 0.001))  # for few numbers


def grid(numbers: np.ndarray) -> Grid:
    """The values to which draws are moved; empty if all numbers may be drawn."""
    values, counts = np.unique(numbers, return_counts=True)
    step = step_of(numbers)
    frequent = values[counts >= FEW_ROWS]
    covered = counts[counts >= FEW_ROWS].sum() >= COVERED * len(numbers)
    sparse = step is None or len(values) * SPARSE < np.ptp(values) / step + 1
    if repeated(numbers) and 1 < len(frequent) <= MAX_VALUES and covered and sparse:
        return {"values": frequent.tolist()}
    if step is not None:
        return {"step": [step]}
    heaps = values[counts >= max(FEW_ROWS, len(numbers) // MAX_VALUES)]
    return {"heaps": heaps.tolist()} if len(heaps) else {}


def step_of(numbers: np.ndarray) -> float | None:
    """The coarsest step that all numbers are multiples of; None if .001 is too coarse."""
    enough = len(numbers) >= MIN_NUMBERS and len(np.unique(numbers)) > 2
    steps = STEPS if enough else DECIMAL_STEPS
    steps = steps[float(np.abs(numbers).max(initial=0.0)) < 1e9 * steps]
    fits = _divides(steps[:, None], numbers[:100])  # all steps at once: few fit 100 numbers
    return next((float(step) for step in steps[fits] if _divides(step, numbers[100:])), None)


def _divides(step: Any, numbers: np.ndarray) -> Any:
    rest = np.abs(numbers - np.round(numbers / step) * step)
    return (rest <= 1e-9 * np.maximum(step, 1.0)).all(-1)


def between(ends: tuple[float, float], rows: tuple[int, int], step: float | None) -> list[float]:
    """The smallest and largest value that may be drawn, of a column with these `ends`.

    `rows` count those at each end. An end of few rows is excluded, because a draw of it would
    reveal their value, unless nothing would be left.
    """
    inner = []
    for end, count, sign in zip(ends, rows, (1.0, -1.0), strict=True):
        apart = max(step or 0.0, float(np.spacing(abs(end))))
        neighbour = end + sign * apart if step else np.nextafter(end, type(end)(sign * np.inf))
        inner.append(float(end if count >= FEW_ROWS else neighbour))
    return inner if inner[0] <= inner[1] else [float(end) for end in ends]


def snapped(numbers: np.ndarray, grid: Grid, near: float) -> np.ndarray:
    """The nearest values of a grid; a number moves to a heap only if it is within `near`.

    A draw from the bin of a heap is float32, so it differs from the heap by rounding.
    """
    if "step" in grid:
        step = grid["step"][0]
        digits = max(0, -int(Decimal(str(step)).normalize().as_tuple().exponent))
        whole = np.round(numbers / step) * step
        return np.round(whole, digits) + 0.0  # 9.7, not 9.700000000000001; no negative zero
    values = grid.get("values") or grid.get("heaps")
    if not values:
        return numbers
    known = np.array(values)
    nearest = known[np.searchsorted((known[1:] + known[:-1]) / 2, numbers)]
    moves = ("values" in grid) | (abs(nearest - numbers) <= near)
    return np.where(moves, nearest, numbers)


def legal(numbers: np.ndarray, grid: Grid, near: float) -> np.ndarray:
    """Numbers moved to the nearest values that may be drawn, mirrored if beyond an end."""
    numbers = folded(snapped(numbers, grid, near), grid)
    return snapped(numbers, grid, near) if "values" in grid else numbers


def allowed(numbers: np.ndarray, grid: Grid, near: float = 0.0) -> np.ndarray:
    """True for numbers that lie between the ends of the grid once they are moved to it."""
    low, high = grid.get("between") or (-np.inf, np.inf)
    numbers = snapped(numbers, grid, near)
    return (numbers >= low) & (numbers <= high)


def folded(numbers: np.ndarray, grid: Grid) -> np.ndarray:
    """Numbers beyond an end mirrored at it: clipping would pile them up on the end."""
    if "between" not in grid:
        return numbers
    low, high = grid["between"]
    width = high - low
    if not 0 < width < math.inf:
        return np.clip(numbers, low, high)
    distance = np.abs(np.mod(numbers - low + width, 2 * width) - width)
    within = (numbers >= low) & (numbers <= high)
    return np.where(within, numbers, np.clip(low + distance, low, high))


def rounding_grid(grid: Grid) -> Grid:
    """The grid for encoded values of real rows: it removes rounding errors only."""
    if "step" in grid:
        return {"step": grid["step"]}
    heaps = grid.get("values") or grid.get("heaps")
    return {"heaps": heaps} if heaps else {}


def is_valid(grid: Grid) -> bool:
    """False for a grid that no fit makes."""
    values = grid.get("values", []) + grid.get("heaps", [])
    ends = grid.get("between", [0.0, 0.0])
    return (
        set(grid) <= {"step", "values", "heaps", "between", "rows"}
        and all(0 < len(x) <= 2 * MAX_VALUES for x in grid.values())
        and all(math.isfinite(x) for numbers in grid.values() for x in numbers)
        and all(1e-9 <= step <= 1e9 for step in grid.get("step", []))
        and values == sorted(values)
        and len(ends) == 2
        and ends[0] <= ends[1]
    )
