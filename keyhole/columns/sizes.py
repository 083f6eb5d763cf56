"""What a sample of numbers tells of its column: atom, tails, spread, grid, normal scores."""

import numpy as np
from scipy import stats

from keyhole.columns.bins import repeated

Grid = dict[str, list[float]]

LEAST_ATOM = 0.5  # share of rows that makes one value an atom
LONG_TAIL = 8.0  # outer 1 % this many times as far out as the quartiles: the column is bent
MOST_SCORES, LEAST_SCORES = 200, 10  # knots of normal scores
LEAST_HEAP = 3  # times that a value was met
MOST_VALUES = 1_000  # kept of a column whose values repeat


def atom_of(numbers: np.ndarray) -> list[float] | None:
    """The value that holds a large share of rows, and that share, short of all by half a row."""
    if not len(numbers):
        return None
    values, counts = np.unique(numbers, return_counts=True)
    share = counts.max() / len(numbers)
    # With few values each holds a large share; that is a small scale, not an atom.
    if share < LEAST_ATOM or (len(values) > 1 and share < 3 / len(values)):
        return None
    return [float(values[counts.argmax()]), float(min(share, 1 - 0.5 / len(numbers)))]


def long_tailed(numbers: np.ndarray) -> bool:
    """True where the outer hundredth lies much farther out than the quartiles."""
    if len(numbers) < 20:
        return False
    low, first, middle, third, high = np.quantile(numbers, (0.01, 0.25, 0.5, 0.75, 0.99))
    near, far = max(third - middle, middle - first), max(high - middle, middle - low)
    return bool(far > LONG_TAIL * near)


def spread_of(numbers: np.ndarray, robust: bool) -> tuple[float, float]:
    """Mean and standard deviation; median and the quartiles' distance where `robust`."""
    if not len(numbers):
        return 0.0, 1.0
    most = float(np.abs(numbers).max()) or 1.0  # squares of numbers as they are may overflow
    center, scale = float((numbers / most).mean()) * most, float((numbers / most).std()) * most
    if robust:
        first, middle, third = np.quantile(numbers, (0.25, 0.5, 0.75))
        center, scale = float(middle), float(third - first) / 1.349 or scale
    tiny = 1e-9 * max(abs(center), 1e-300)
    return center, scale if scale > tiny else max(abs(center), 1.0)


def grid(numbers: np.ndarray) -> Grid | None:
    """Where draws shall lie; None for free numbers.

    On the multiples of a "step", the coarsest of 1, .1, .01 and .001 that divides all numbers; on
    the "values" met, where they repeat and are few; else on one of the "heaps" if next to it.
    """
    most = float(np.abs(numbers).max(initial=0.0))
    for step in (1.0, 0.1, 0.01, 0.001):
        if most < 1e9 * step and np.allclose(numbers, np.round(numbers / step) * step, 0, 1e-9):
            return {"step": [step]}
    values, counts = np.unique(numbers, return_counts=True)
    if repeated(numbers) and 1 < len(values) <= MOST_VALUES:
        return {"values": values.tolist()}
    heaps = values[counts >= max(LEAST_HEAP, len(numbers) // MOST_VALUES)]
    return {"heaps": heaps.tolist()} if len(heaps) else None


def snapped(numbers: np.ndarray, grid: Grid | None, near: float) -> np.ndarray:
    """The nearest numbers of a grid; of heaps, only those nearer than `near`.

    A draw from a heap's own bin comes back through float32, a hair beside it.
    """
    if grid is None:
        return numbers
    (kind, values), *_ = grid.items()
    if kind == "step":
        digits = max(0, round(-np.log10(values[0])))  # 9.7, not 9.700000000000001
        whole = np.round(numbers / values[0]) * values[0]
        return np.round(whole, digits) + 0.0  # no negative zero
    known = np.array(values)
    nearest = known[np.searchsorted((known[1:] + known[:-1]) / 2, numbers)]
    return (
        np.where(np.abs(nearest - numbers) <= near, nearest, numbers)
        if kind == "heaps"
        else nearest
    )


def normal_scores(numbers: np.ndarray) -> list[list[float]] | None:
    """Values and their normal scores (van der Waerden's); None for too few values."""
    levels = (np.arange(MOST_SCORES) + 0.5) / MOST_SCORES
    least = 0.5 / max(len(numbers), 1)
    levels = levels[(levels > least) & (levels < 1 - least)]
    values, first = np.unique(np.quantile(numbers, levels), return_index=True)
    if len(values) < LEAST_SCORES:
        return None
    return [values.tolist(), stats.norm.ppf(levels[first]).tolist()]
