"""What a few labels mean: which rows are anomalies. They judge and choose, and never train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keyhole.data import cast
from keyhole.data.lazy import pa
from keyhole.errors import DataError

BAD = {"1", "true", "yes", "y", "anomaly", "anomalous", "outlier", "abnormal", "fraud", "bad"}
GOOD = {"0", "false", "no", "n", "normal", "inlier", "nominal", "ok", "good", "legit"}


def anomalies(y: Any, rows: int) -> np.ndarray:
    """True where the label says anomaly; a row without a label counts as normal.

    Raises: DataError for more than two different labels, or not one for each of the rows.
    """
    return truth_of("y", [label_array(y, rows)])[0]


def label_array(y: Any, rows: int) -> Any:
    """Labels of any container as an Arrow array; NaN is no label.

    Raises: DataError for what holds not one label for each of the rows.
    """
    try:
        arrow = isinstance(y, pa.Array | pa.ChunkedArray)
        values = y if arrow else pa.array(np.asarray(y).ravel(), from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError) as fault:
        raise DataError(f"labels are not a column of values: {fault!s:.120}") from fault
    if len(values) != rows:
        raise DataError(f"there are {len(values):,} labels for {rows:,} rows; give one for each")
    return values


def truth_of(label: str, blocks: Sequence[Any]) -> tuple[np.ndarray, str, np.ndarray]:
    """Which rows are anomalies, which label says so, and which rows have a label.

    Raises: DataError for more than two different labels.
    """
    texts = [text for block in blocks for text in cast.texts(block).to_pylist()]
    known = np.array([text is not None for text in texts], bool)
    levels, counts = np.unique([t for t in texts if t is not None], return_counts=True)
    if len(levels) > 2:
        raise DataError(
            f"label column {label!r} holds {len(levels)} different values; expected two, such "
            "as 0 and 1"
        )
    positive = _positive(levels.tolist(), counts)
    return np.array([text == positive for text in texts], bool), str(positive), known


def best_rate(p_value: np.ndarray, bad: np.ndarray) -> float:
    """The false alarm rate, among the p-values, whose alarms agree best with the labels (F1).

    Raises: DataError where rows of one kind are absent.
    """
    known = ~np.isnan(p_value)
    p_value, bad = p_value[known], bad[known]
    if bad.all() or not bad.any():
        raise DataError("labels of both classes are needed to choose a rate; there is only one")
    rates, rate_index = np.unique(p_value, return_inverse=True)
    alarms = np.cumsum(np.bincount(rate_index, minlength=len(rates)))
    right = np.cumsum(np.bincount(rate_index[bad], minlength=len(rates)))
    best = int(np.argmax(2 * right / (alarms + bad.sum())))
    return float(min(rates[best], 1 - 1e-9))


def _positive(levels: list[str], counts: np.ndarray) -> str:
    texts = [_plain(level) for level in levels]
    if texts in (["-1", "1"], ["-1"]):  # scikit-learn's outlier detectors
        return levels[0]
    bad = [i for i, text in enumerate(texts) if text in BAD]
    good = [i for i, text in enumerate(texts) if text in GOOD]
    if len(bad) == 1:
        return levels[bad[0]]
    if len(good) == 1:
        return levels[1 - good[0]] if len(levels) == 2 else ""
    return levels[int(np.argmin(counts))] if levels else ""


def _plain(level: str) -> str:
    try:
        return f"{float(level):g}"
    except ValueError:
        return level.strip().lower()
