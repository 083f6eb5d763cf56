"""What a sample of numbers tells of its column: atom, tails, spread, normal scores."""

import numpy as np
from scipy import stats

LEAST_ATOM = 0.5  # share of rows that makes one value an atom
LONG_TAIL = 8.0  # outer 1 % this many times as far out as the quartiles: the column is bent
MOST_SCORES, LEAST_SCORES = 200, 10  # knots of normal scores


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


def normal_scores(numbers: np.ndarray) -> list[list[float]] | None:
    """Values and their normal scores (van der Waerden's); None for too few values."""
    levels = (np.arange(MOST_SCORES) + 0.5) / MOST_SCORES
    least = 0.5 / max(len(numbers), 1)
    levels = levels[(levels > least) & (levels < 1 - least)]
    values, first = np.unique(np.quantile(numbers, levels), return_index=True)
    if len(values) < LEAST_SCORES:
        return None
    return [values.tolist(), stats.norm.ppf(levels[first]).tolist()]
