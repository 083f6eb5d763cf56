"""Tables of real and drawn rows as numbers, and how far apart their columns and pairs are.

Numbers are Arrow's integers, floats, decimals, durations, dates and timestamps; texts,
dictionaries and truth values are levels. A column that is numbers in one table and texts in
another is numbers where every text reads as one. An infinite number counts as a gap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from keyhole.data import cast
from keyhole.data.lazy import pa, pc, pt

MAX_LEVELS = 250  # scikit-learn's boosted trees take 255 codes
MAX_PAIRS = 5_000  # of columns
TENTHS = 10  # bins of a column of numbers, beside one of levels
LARGE = 1e30  # forests compute in single precision


@dataclass(frozen=True)
class Tables:
    """Three tables as (row, column) floats: numbers with NaN for gaps, or codes of levels.

    Code 0 is a gap, 1 the level most frequent in real rows, and so on; levels of made rows alone
    come last.
    """

    names: list[str]
    levels: np.ndarray  # (column,): True where values are codes
    train: np.ndarray
    held_out: np.ndarray
    made: np.ndarray

    @classmethod
    def of(cls, tables: list[pa.Table]) -> Tables:
        """Training, held-out and made rows, columns in the order of the first."""
        names, levels, columns = tables[0].column_names, [], []
        ends = np.cumsum([table.num_rows for table in tables])
        for name in names:
            arrays = [table.column(name) for table in tables]
            numbers = _numbers(arrays)
            levels.append(numbers is None)
            columns.append(_codes(arrays, int(ends[1])) if numbers is None else numbers)
        return cls(names, np.array(levels), *np.split(np.stack(columns, 1), ends[:2]))


def _numbers(arrays: list[Any]) -> np.ndarray | None:
    """All values as floats; None where the column holds levels."""
    types = [values.type for values in arrays]
    if any(pt.is_dictionary(t) for t in types) or all(
        cast.is_text(t) or pt.is_boolean(t) or pt.is_null(t) for t in types
    ):
        return None
    dates = any(pt.is_timestamp(t) or pt.is_date(t) for t in types)
    parsed = [cast.seconds(values) if dates else cast.floats(values) for values in arrays]
    if any(len(bad) for _, bad in parsed):
        return None
    numbers = np.concatenate([part for part, _ in parsed])
    return np.where(np.isfinite(numbers), np.clip(numbers, -LARGE, LARGE), np.nan)


def _codes(arrays: list[Any], real: int) -> np.ndarray:
    """Codes of levels, ordered by their count among the first `real` values."""
    known = [
        pc.if_else(pc.is_nan(values), None, values) if pt.is_floating(values.type) else values  # pyright: ignore
        for values in map(cast.plain, arrays)
    ]
    texts = pa.chunked_array([cast.texts(values) for values in known]).combine_chunks()
    index = pc.fill_null(texts.dictionary_encode().indices, -1).to_numpy(False) + 1  # pyright: ignore
    count = np.bincount(index[:real], minlength=int(index.max()) + 1)
    rank = np.zeros(len(count))
    rank[1 + np.argsort(-count[1:], kind="stable")] = np.arange(1, len(count))
    return rank[index]


def _total_variation(real: np.ndarray, made: np.ndarray) -> float:
    size = int(max(real.max(), made.max())) + 1
    shares = [np.bincount(x.astype(np.int64), minlength=size) / len(x) for x in (real, made)]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def shape_error(real: np.ndarray, made: np.ndarray, level: bool) -> float:
    """How far two samples of a column are apart, 0 to 1.

    For numbers the difference of the shares that are gaps, plus Kolmogorov's and Smirnov's
    distance of the rest, weighted by the smaller share that holds numbers.
    """
    from scipy.stats import ks_2samp

    if level:
        return _total_variation(real, made)
    known = [x[~np.isnan(x)] for x in (real, made)]
    filled = len(known[0]) / len(real), len(known[1]) / len(made)
    apart = ks_2samp(*known, method="asymp").statistic if min(filled) > 0 else 0.0  # pyright: ignore
    return float(abs(filled[0] - filled[1]) + min(filled) * apart)


def trend_error(real: np.ndarray, tables: Tables, rng: np.random.Generator) -> float:
    """Mean over pairs of columns, 5,000 of them at most; 0 where there is only one column."""
    from scipy.stats import rankdata

    made, levels = tables.made, tables.levels
    pairs = np.array(list(combinations(range(len(levels)), 2)))
    if len(pairs) > MAX_PAIRS:
        pairs = rng.choice(pairs, MAX_PAIRS, replace=False)
    ranks = [rankdata(x, axis=0, nan_policy="omit") for x in (real, made)]
    bins = [_bins(real[:, i], made[:, i], level) for i, level in enumerate(levels)]
    errors = []
    for i, j in pairs:
        if levels[i] or levels[j]:
            joint = [a * (MAX_LEVELS + 2) + b for a, b in zip(bins[i], bins[j])]
            errors.append(_total_variation(*joint))
        else:
            rho = [_correlation(x[:, i], x[:, j]) for x in ranks]
            errors.append(abs(rho[0] - rho[1]) / 2)
    return float(np.mean(errors)) if errors else 0.0


def _bins(real: np.ndarray, made: np.ndarray, level: bool) -> list[np.ndarray]:
    """Both samples as few codes: numbers cut at the real tenths, a gap the last."""
    if level:
        return [merge_rare(real, MAX_LEVELS), merge_rare(made, MAX_LEVELS)]
    known = real[~np.isnan(real)]
    edges = np.unique(np.quantile(known, np.arange(1, TENTHS) / TENTHS)) if len(known) else known
    return [np.where(np.isnan(x), TENTHS, np.searchsorted(edges, x)) for x in (real, made)]


def merge_rare(codes: np.ndarray, most: int) -> np.ndarray:
    """Codes with the levels beyond the most frequent as one."""
    return np.minimum(codes, most + 1)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's over the rows without a gap; 0 where one is constant."""
    both = ~np.isnan(a) & ~np.isnan(b)
    if not both.any():
        return 0.0
    a, b = a[both] - a[both].mean(), b[both] - b[both].mean()
    scale = math.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else 0.0
