"""Bins of a histogram likelihood, and grids: the values of a column that may be drawn.

A grid is a JSON object of lists: "step" (values are multiples of it), "values" (one of these),
"heaps" (one of these if a draw is next to one), "between" (the smallest and largest value) and
"rows" (a level of fewer rows is not drawn).
"""

import math
from decimal import Decimal
from typing import Any

import numpy as np

MOST_BINS = 64
ROWS_A_BIN = 8

HEAP = 0.05  # share of the values that are one and the same
REPEATED = 0.5  # share of distinct values among all, up to which values count as repeated
Bin = list[float]  # lower edge, upper edge, least and most value met in it, share of the values


def repeated(values: np.ndarray) -> bool:
    """True where values come again and again: heaps, grids, whole numbers."""
    return len(np.unique(values)) <= REPEATED * len(values)


def heaped(values: np.ndarray) -> bool:
    """True where values repeat, or one of them holds a share that no smooth density has."""
    counts = np.unique(values, return_counts=True)[1]
    return repeated(values) or bool(counts.max(initial=0) >= max(HEAP * len(values), 3))


def bins(features: np.ndarray) -> list[Bin]:
    """The bins of a cell's values; edges lie midway between values of neighbouring bins.

    A value that holds more than an even share has a bin of its own, as narrow as its neighbours
    allow: draws from it are that value.
    """
    values, counts = np.unique(features, return_counts=True)
    if not len(values):
        values, counts = np.zeros(1), np.ones(1)
    most = int(np.clip(counts.sum() / ROWS_A_BIN, 1, MOST_BINS))
    groups = _groups(counts, counts.sum() / most)
    if len(values) <= MOST_BINS and repeated(features):  # a scale of levels: each by itself
        groups = [(i, i) for i in range(len(values))]
    low, high = (np.array([values[g[i]] for g in groups]) for i in (0, -1))
    room = float(np.ptp(values)) / len(values) or 1.0
    middle = (high[:-1] + low[1:]) / 2
    edges = np.concatenate([[low[0] - room / 2], middle, [high[-1] + room / 2]])
    edges = np.maximum.accumulate(edges)
    shares = np.array([counts[g[0] : g[-1] + 1].sum() for g in groups]) / counts.sum()
    held = np.stack([edges[:-1], edges[1:], low, high, shares], 1).astype(np.float32)
    return [row for row in held.tolist() if row[1] > row[0]]


def _groups(counts: np.ndarray, share: float) -> list[tuple[int, int]]:
    """First and last place of each bin's values: closed once it holds its share."""
    found, first, held = [], 0, 0
    for i, count in enumerate(counts):
        if count >= share and i > first:  # a heap stands alone
            found.append((first, i - 1))
            first, held = i, 0
        held += count
        if held >= share or i == len(counts) - 1:
            found.append((first, i))
            first, held = i + 1, 0
    return found


Grid = dict[str, list[float]]

FEW_ROWS = 3  # a value that fewer rows hold could tell of a person: it is not drawn on purpose
MOST_VALUES = 1_000  # kept of a column whose values repeat
COVERED = 0.95  # share of the rows that the kept values must hold
SPARSE = 1.5  # multiples of the step for each value met: from here on values are far apart
FINE_STEPS = (1.0, 0.5, 0.25, 0.2, 0.1, 0.05, 0.025, 0.02, 0.01, 0.005, 0.0025, 0.002, 0.001)
COARSE_STEPS = tuple(
    digit * 10.0**power for power in (6, 5, 4, 3, 2, 1, 0) for digit in (5, 2.5, 2, 1)
)
LEAST_COARSE = 30  # numbers from which on a step above 1 is no chance
STEPS = np.array((*COARSE_STEPS[:-1], *FINE_STEPS))
SETTLED_STEPS = np.array((1.0, 0.1, 0.01, 0.001))  # that few numbers are enough for


def grid(numbers: np.ndarray) -> Grid:
    """The values that draws lie on; empty for free numbers."""
    values, counts = np.unique(numbers, return_counts=True)
    step = step_of(numbers)
    often = values[counts >= FEW_ROWS]
    covered = counts[counts >= FEW_ROWS].sum() >= COVERED * len(numbers)
    far = step is None or len(values) * SPARSE < np.ptp(values) / step + 1
    if repeated(numbers) and 1 < len(often) <= MOST_VALUES and covered and far:
        return {"values": often.tolist()}
    if step is not None:
        return {"step": [step]}
    heaps = values[counts >= max(FEW_ROWS, len(numbers) // MOST_VALUES)]
    return {"heaps": heaps.tolist()} if len(heaps) else {}


def step_of(numbers: np.ndarray) -> float | None:
    """The coarsest step that all numbers are multiples of; None where .001 is too coarse."""
    most, several = float(np.abs(numbers).max(initial=0.0)), len(numbers) >= LEAST_COARSE
    several = several and len(np.unique(numbers)) > 2
    steps = STEPS if several else SETTLED_STEPS
    steps = steps[most < 1e9 * steps]
    fits = _divides(steps[:, None], numbers[:100])  # all steps at once: few fit so many numbers
    return next((float(step) for step in steps[fits] if _divides(step, numbers[100:])), None)


def _divides(step: Any, numbers: np.ndarray) -> Any:
    """True where all numbers are multiples of a step but for rounding."""
    rest = np.abs(numbers - np.round(numbers / step) * step)
    return (rest <= 1e-9 * np.maximum(step, 1.0)).all(-1)


def between(ends: tuple[float, float], rows: tuple[int, int], step: float | None) -> list[float]:
    """The least and the most that may be drawn, of a column that met these `ends`.

    `rows` hold the least and the most. An end that only a few rows hold is left out: a draw of it
    would show their value. Where nothing is left between the ends, they stay.
    """
    low, high = (
        end if count >= FEW_ROWS else _beside(end, way, step)
        for end, count, way in zip(ends, rows, (1.0, -1.0), strict=True)
    )
    low, high = (low, high) if low <= high else ends
    return [float(low), float(high)]


def _beside(end: float, way: float, step: float | None) -> float:
    """The next number that can be told from this one, in float32 too where `end` is one."""
    if step is None:
        return float(np.nextafter(end, type(end)(way * np.inf)))
    return end + way * max(step, float(np.spacing(abs(end))))


def snapped(numbers: np.ndarray, grid: Grid, near: float) -> np.ndarray:
    """The nearest numbers of a grid; of heaps, only those nearer than `near`.

    A draw from a heap's own bin comes back through float32, a hair beside it.
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
    return (
        nearest if "values" in grid else np.where(abs(nearest - numbers) <= near, nearest, numbers)
    )


def legal(numbers: np.ndarray, grid: Grid, near: float) -> np.ndarray:
    """Numbers brought to the nearest values that may be drawn; those beyond an end mirrored."""
    numbers = folded(snapped(numbers, grid, near), grid)
    return snapped(numbers, grid, near) if "values" in grid else numbers


def inside(numbers: np.ndarray, grid: Grid) -> np.ndarray:
    """True where a number lies between the ends of its grid."""
    low, high = grid.get("between") or (-np.inf, np.inf)
    return (numbers >= low) & (numbers <= high)


def folded(numbers: np.ndarray, grid: Grid) -> np.ndarray:
    """Numbers beyond an end mirrored back at it: cutting them off would heap them on the end."""
    if "between" not in grid:
        return numbers
    low, high = grid["between"]
    wide = high - low
    if not 0 < wide < math.inf:
        return np.clip(numbers, low, high)
    turn = np.abs(np.mod(numbers - low + wide, 2 * wide) - wide)
    return np.where(inside(numbers, grid), numbers, np.clip(low + turn, low, high))


def as_met(grid: Grid | None) -> Grid:
    """The grid for values that were met: only rounding errors of their cells are mended."""
    if grid is None:
        return {}
    heaps = grid.get("values") or grid.get("heaps")
    if "step" in grid:
        return {"step": grid["step"]}
    return {"heaps": heaps} if heaps else {}


def odd(grid: Grid) -> bool:
    """True for a grid that no fit makes."""
    if any(len(values) > 2 * MOST_VALUES for values in grid.values()):
        return True
    held = [x for values in grid.values() for x in values]
    values = grid.get("values", []) + grid.get("heaps", [])
    low, high = (*grid.get("between", [0.0, 0.0]), 0.0, 0.0)[:2]
    return (
        not set(grid) <= {"step", "values", "heaps", "between", "rows"}
        or not all(grid.values())
        or not all(map(math.isfinite, held))
        or any(not 1e-9 <= step <= 1e9 for step in grid.get("step", []))
        or values != sorted(values)
        or len(grid.get("between", [0, 0])) != 2
        or low > high
    )
