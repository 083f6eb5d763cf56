"""How good were the anomaly scores, where someone knows the truth? Labels are used here only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from keyhole.autoencoder import input_validation
from keyhole.data.frames import is_frame
from keyhole.data.source import check_columns
from keyhole.errors import DataError, SettingError
from keyhole.tasks.detect.detector import AnomalyDetector, answer_rows
from keyhole.tasks.detect.labels import label_array, truth_of
from keyhole.tasks.detect.shares import shares_of


@dataclass(frozen=True)
class Evaluation:
    """Ranking by anomaly score, and the alarms at the detector's own threshold, against labels."""

    rows: int
    anomalies: int
    positive: str  # the label that was taken for an anomaly
    auroc: float
    average_precision: float
    precision_at: dict[int, float]
    true_alarms: int
    false_alarms: int
    missed: int
    true_calm: int
    precision: float | None  # the share of alarms that are anomalies; None without alarms
    recall: float  # the share of anomalies that alarm
    intervals: dict[str, tuple[float, float]]  # 95 % bootstrap intervals of the four shares


def evaluate(detector: AnomalyDetector, X: Any, y: Any) -> Evaluation:
    """Compare the anomaly scores and alarms of rows with labels.

    Precision and recall are those of the alarms at the detector's `false_alarm_rate`. Rows
    without a label, and empty rows, are left out.

    Parameters
    ----------
    detector : AnomalyDetector
        The fitted detector.
    X : frame, array or path
        The rows, with the columns of `fit`.
    y : str or array of shape (n_rows,)
        The name of a column of X, or one label a row. An anomaly is 1 or true, -1 among -1 and
        1, a word such as "fraud" or "anomaly", else the rarer label of two.

    Returns
    -------
    Evaluation
        `auroc`, `average_precision`, `precision`, `recall`, `precision_at` the k highest scores,
        `true_alarms`, `false_alarms`, `missed`, `true_calm`, and `intervals`: 95 % bootstrap
        intervals by name.

    Raises
    ------
    DataError
        Where labels are absent, or hold one class or more than two.
    SettingError
        For an object that is no detector.

    Examples
    --------
    >>> import numpy as np
    >>> from keyhole import AnomalyDetector, Autoencoder, TrainingConfig, evaluate
    >>> X = np.random.default_rng(0).normal(size=(300, 1)) * [1.0, 2.0, 3.0]
    >>> model = Autoencoder(width=1, training=TrainingConfig(steps=20))
    >>> detector = AnomalyDetector(model, false_alarm_rate=0.05, random_state=0).fit(X)
    >>> X[:5] *= [10, -10, 10]
    >>> result = evaluate(detector, X, np.arange(300) < 5)
    >>> result.anomalies, result.auroc > 0.99, result.recall
    (5, True, 1.0)
    """
    if not isinstance(detector, AnomalyDetector):
        raise SettingError(
            f"evaluate takes an AnomalyDetector, got {type(detector).__name__:.40}; a fitted "
            "Autoencoder becomes one by AnomalyDetector.from_fitted(model)"
        )
    check_is_fitted(detector)
    name = str(y) if isinstance(y, str | int) else None
    if name is not None and not _has_names(X):
        raise DataError(
            f"{type(X).__name__:.40} has no column {name!r:.60}: give a frame or a path with "
            "that column, or the labels themselves: evaluate(detector, X, y)"
        )
    source = input_validation.open_rows(detector.autoencoder_, X)
    if name is not None:
        check_columns([name], source.names, "evaluate")
    anomaly_score, alarm, labels, start = [], [], [], 0
    for rows in source.blocks(input_validation.CHUNK_ROWS):
        answer = answer_rows(detector, rows, start, explain_rows="none")
        anomaly_score.append(answer.anomaly_score)
        alarm.append(answer.alarm)
        if name is not None:
            labels.append(rows.column(name))
        start += len(rows)
    if start == 0:
        raise DataError(f"{source.name} holds no rows")
    labels = labels if name is not None else [label_array(y, start)]
    return _compared(name or "y", labels, np.concatenate(anomaly_score), np.concatenate(alarm))


def _has_names(X: Any) -> bool:
    return hasattr(X, "blocks") or isinstance(X, str | os.PathLike) or is_frame(X)


def _compared(label: str, labels: list[Any], scored: np.ndarray, alarms: np.ndarray) -> Evaluation:
    truth, positive, known = truth_of(label, labels)
    counted = known & ~np.isnan(scored)
    truth, scored, alarms = (part[counted] for part in (truth, scored, alarms))
    if truth.all() or not truth.any():
        raise DataError(
            f"label column {label!r} holds only one class in {len(truth):,} rows: "
            "nothing to compare"
        )
    order = np.argsort(-scored, kind="stable")
    shares, intervals = shares_of(truth[order], scored[order], alarms[order])
    at = sorted({k for k in (10, 50, 100, 500, int(truth.sum())) if k <= len(truth)})
    return Evaluation(
        rows=len(truth),
        anomalies=int(truth.sum()),
        positive=positive,
        auroc=shares["auroc"],
        average_precision=shares["average_precision"],
        precision_at={k: float(truth[order[:k]].mean()) for k in at},
        true_alarms=int((alarms & truth).sum()),
        false_alarms=int((alarms & ~truth).sum()),
        missed=int((~alarms & truth).sum()),
        true_calm=int((~alarms & ~truth).sum()),
        precision=shares["precision"] if alarms.any() else None,
        recall=shares["recall"],
        intervals=intervals,
    )
