"""How good were the anomaly scores, where someone knows the truth? Labels are used here only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.utils.validation import check_is_fitted

from keyhole.autoencoder import input_validation
from keyhole.data.frames import is_frame
from keyhole.data.source import check_columns
from keyhole.errors import DataError, SettingError
from keyhole.tasks.detect.detector import AnomalyDetector, answer_rows
from keyhole.tasks.detect.labels import label_array, truth_of


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


def evaluate(detector: AnomalyDetector, X: Any, label: Any) -> Evaluation:
    """Compare the anomaly scores of a frame, an array or a path with labels.

    `label` names a column of X, or holds one label a row. Raises: DataError where the label is
    absent or holds only one class, SettingError for what is no detector.
    """
    if not isinstance(detector, AnomalyDetector):
        raise SettingError(
            f"evaluate takes an AnomalyDetector, got {type(detector).__name__:.40}; a fitted "
            "Autoencoder becomes one by AnomalyDetector.from_fitted(model)"
        )
    check_is_fitted(detector)
    name = str(label) if isinstance(label, str | int) else None
    if name is not None and not _has_names(X):
        raise DataError(
            f"{type(X).__name__:.40} has no column {name!r:.60}: give a frame or a path with "
            "that column, or the labels themselves: evaluate(detector, X, labels)"
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
    labels = labels if name is not None else [label_array(label, start)]
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
    at = sorted({k for k in (10, 50, 100, 500, int(truth.sum())) if k <= len(truth)})
    return Evaluation(
        rows=len(truth),
        anomalies=int(truth.sum()),
        positive=positive,
        auroc=float(roc_auc_score(truth, scored)),
        average_precision=float(average_precision_score(truth, scored)),
        precision_at={k: float(truth[order[:k]].mean()) for k in at},
        true_alarms=int((alarms & truth).sum()),
        false_alarms=int((alarms & ~truth).sum()),
        missed=int((~alarms & truth).sum()),
        true_calm=int((~alarms & ~truth).sum()),
    )
