"""evaluate(detector, X, y): shares as scikit-learn counts them, with intervals."""

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from keyhole import AnomalyDetector, Autoencoder, TrainingConfig, evaluate
from keyhole.tasks.detect.shares import shares_of

pytestmark = pytest.mark.filterwarnings("ignore::keyhole.errors.KeyholeWarning")


def test_shares_are_those_of_scikit_learn_with_ties_too(rng):
    scores = np.sort(rng.integers(0, 30, 400).astype(float))[::-1]
    truth = rng.random(400) < scores / 60
    alarms = scores > 25
    shares, intervals = shares_of(truth, scores, alarms)
    assert shares["auroc"] == pytest.approx(roc_auc_score(truth, scores))
    assert shares["average_precision"] == pytest.approx(average_precision_score(truth, scores))
    assert shares["precision"] == pytest.approx(precision_score(truth, alarms))
    assert shares["recall"] == pytest.approx(recall_score(truth, alarms))
    for name, (low, high) in intervals.items():
        assert low < shares[name] < high
        assert high - low < 0.3


def test_an_interval_narrows_with_the_root_of_the_rows(rng):
    widths = []
    for rows in (300, 4_800):
        scores = np.sort(rng.normal(size=rows))[::-1]
        truth = rng.random(rows) < 1 / (1 + np.exp(-2 * scores))
        low, high = shares_of(truth, scores, scores > 1)[1]["auroc"]
        widths.append(high - low)
    assert 2.5 < widths[0] / widths[1] < 6.5


def test_a_detector_is_judged_by_labels_and_no_alarm_has_no_precision(rng):
    X = rng.normal(size=(200, 1)) * [1.0, 2.0, 3.0]
    model = Autoencoder(width=1, training=TrainingConfig(20, members=1), random_state=0)
    detector = AnomalyDetector(model, false_alarm_rate=0.05).fit(X)
    X[:4] *= [20, -20, 20]
    y = np.arange(200) < 4
    result = evaluate(detector, X, y)
    assert (result.anomalies, result.true_alarms, result.recall) == (4, 4, 1.0)
    assert result.precision == 4 / (4 + result.false_alarms)
    assert result.intervals["recall"] == (1.0, 1.0)
    low, high = result.intervals["precision"]
    assert low <= result.precision <= high
    assert evaluate(detector, X, y.astype(int) * -2 + 1).auroc == result.auroc
    calm = evaluate(detector.set_params(false_alarm_rate=1e-9), X[4:] * 1e-3, np.arange(196) < 2)
    assert (calm.true_alarms + calm.false_alarms, calm.precision) == (0, None)
    assert "precision" not in calm.intervals
