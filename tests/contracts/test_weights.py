"""What each view counts, and how far training rows are trusted, told from broken rows."""

import numpy as np
import pytest

from keyhole import AnomalyDetector, Autoencoder, TrainingConfig
from keyhole.tasks.detect.neighbours import LEAST_DISTRUST
from keyhole.tasks.detect.weights import (
    QUESTIONS,
    auroc_of_broken,
    distrust_of,
    names_of_views,
    weights_of,
)


def scorer_of(x):
    model = Autoencoder(training=TrainingConfig(150), random_state=0)
    return AnomalyDetector(model, false_alarm_rate=0.05).fit(x).scorer_


@pytest.fixture(scope="module")
def following():
    """The scorer of three columns, and three that follow them."""
    rng = np.random.default_rng(0)
    free = rng.normal(size=(400, 3))
    return scorer_of(np.hstack([free, free + 0.1 * rng.normal(size=(400, 3))]))


@pytest.mark.parametrize("auroc", [0.3, 0.5, 0.75, 1.0])
def test_half_of_the_weight_of_a_table_is_for_the_nearest_trusted_row(following, auroc):
    table = following.table
    weights = dict(zip(names_of_views(table), weights_of(table, auroc), strict=True))
    total = sum(weights.values())
    assert weights["trusted"] / total == 0.5
    assert weights["masked"] / total == max(auroc - 0.5, 0)
    assert weights["values"] == pytest.approx(2 * weights["core"])


def test_views_count_alike_where_no_rows_were_broken(following):
    weights = weights_of(following.table, None)
    assert weights.tolist() == [1.0, 1.0, 0.0, 1.0]
    assert distrust_of(weights) == LEAST_DISTRUST


@pytest.mark.parametrize(("auroc", "distrust"), [(0.5, 1.0), (0.75, 0.75), (1.0, 0.5)])
def test_training_rows_far_out_are_trusted_where_masked_values_are_predicted(
    following, auroc, distrust
):
    assert distrust_of(weights_of(following.table, auroc)) == distrust


def test_columns_that_follow_each_other_are_told_from_swapped_ones(following, rng):
    shares = []
    for scorer in (following, scorer_of(rng.normal(size=(400, 6)))):
        score = scorer.anomaly_score
        auroc = auroc_of_broken(scorer.table, score.network, scorer.reference)
        np.testing.assert_allclose(score.weights, weights_of(scorer.table, auroc))
        shares.append(score.weights[QUESTIONS.index("masked")] / score.weights.sum())
    assert shares[0] > 0.3
    assert shares[1] < 0.1
