"""How good were the surprises, where someone knows the truth? Labels are used here only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from keyhole.errors import DataError
from keyhole.modalities.given import check_columns
from keyhole.sources import Source
from keyhole.tasks.detector import AnomalyDetector
from keyhole.tasks.labels import truth as truth_of


@dataclass(frozen=True)
class Evaluation:
    """Ranking by surprise, and the alarms at the detector's own threshold, against labels."""

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


def evaluate(detector: AnomalyDetector, source: Source, label: str) -> Evaluation:
    """Compare surprises with a label column.

    Raises: DataError where the label is absent or holds only one class.
    """
    check_columns([label], source.names, "evaluate --label")
    surprise, alarm, labels = [], [], []
    start = 0
    for rows in source.blocks(detector.autoencoder_.chunk_rows):
        answer = detector.answer_rows(rows, start, explain_rows="none")
        surprise.append(answer.surprise)
        alarm.append(answer.alarm)
        labels.append(rows.column(label))
        start += len(rows)
    truth, positive, known = truth_of(label, labels)
    scored, alarms = np.concatenate(surprise), np.concatenate(alarm)
    kept = known & ~np.isnan(scored)
    truth, scored, alarms = truth[kept], scored[kept], alarms[kept]
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
