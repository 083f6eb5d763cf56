"""A seed given to a detector or a generator decides, whatever template it is given."""

import numpy as np
import pytest

from keyhole import AnomalyDetector, Autoencoder, Generator
from keyhole.training import TrainingConfig

X = np.random.default_rng(0).normal(size=(80, 3))


def scores(template):
    return AnomalyDetector(template, random_state=0, false_alarm_rate=0.3).fit(X).score_samples(X)


def draws(template):
    return Generator(template, random_state=0).fit(X).sample(5)


@pytest.mark.parametrize("answer", [scores, draws])
@pytest.mark.parametrize("state", [None, 7])
def test_the_seed_of_the_task_wins_over_its_template(answer, state):
    first, second = (
        answer(Autoencoder(training=TrainingConfig(steps=10, members=1), random_state=s))
        for s in (None, state)
    )
    np.testing.assert_array_equal(first, second)
