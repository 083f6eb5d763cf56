"""Bins for a histogram likelihood: about equal shares of the values, each heap by itself."""

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


def bins(cells: np.ndarray) -> list[Bin]:
    """The bins of a cell's values; edges lie midway between values of neighbouring bins.

    A value that holds more than an even share has a bin of its own, as narrow as its neighbours
    allow: draws from it are that value.
    """
    values, counts = np.unique(cells, return_counts=True)
    if not len(values):
        values, counts = np.zeros(1), np.ones(1)
    most = int(np.clip(counts.sum() / ROWS_A_BIN, 1, MOST_BINS))
    groups = _groups(counts, counts.sum() / most)
    if len(values) <= MOST_BINS and repeated(cells):  # a scale of levels: each by itself
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
