"""A callback of fit follows the training, may stop it, and its errors reach the user."""

import numpy as np
import pytest

from keyhole import AnomalyDetector, Autoencoder, TrainingConfig
from keyhole.training.loop import STOPPED

pytestmark = pytest.mark.filterwarnings("ignore::keyhole.errors.KeyholeWarning")
X = np.random.default_rng(0).normal(size=(80, 1)) * [1.0, 2.0, 3.0]
STEPS = 30


def model(**arguments):
    training = TrainingConfig(STEPS, members=1, batch=16, patience=None)
    return Autoencoder(width=1, training=training, random_state=0, **arguments)


class Follower:
    """Counts events, and stops at a step."""

    def __init__(self, stop_at=None):
        self.events, self.stop_at = [], stop_at

    def __call__(self, event):
        self.events.append(event)
        return self.stop_at is not None and np.bool_(event.step >= self.stop_at)


def test_a_callback_sees_every_evaluation_with_the_losses_of_the_history():
    follower = Follower()
    history = model().fit(X, on_evaluate=follower).model_.history
    assert [event.step for event in follower.events] == history.steps
    assert [event.held_out for event in follower.events] == history.held_out
    assert [event.loss for event in follower.events] == history.loss
    last = follower.events[-1]
    assert (last.step, last.steps) == (STEPS, STEPS)
    assert last.seconds > 0
    assert 0 < last.rate < 3e-3


@pytest.mark.parametrize("stop_at", [0, 10])
def test_a_callback_that_returns_true_stops_the_run_and_the_model_can_be_used(stop_at):
    follower = Follower(stop_at)
    fitted = AnomalyDetector(model()).fit(X, on_evaluate=follower)
    history = fitted.autoencoder_.model_.history
    assert history.ended == STOPPED
    assert history.steps[-1] == follower.events[-1].step == stop_at
    assert np.isfinite(fitted.score_samples(X)).all()


def test_answers_that_are_not_true_do_not_stop_it():
    history = model().fit(X, on_evaluate=lambda event: "a text").model_.history
    assert history.ended == "the planned steps were done"


@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), RuntimeError("my memory is full")])
def test_an_error_in_a_callback_reaches_the_user_unchanged(error):
    def fail(event):
        raise error

    with pytest.raises(type(error)) as caught:
        model().fit(X, on_evaluate=fail)
    assert caught.value is error


def test_a_verbose_model_shows_progress_beside_the_callback(capfd):
    follower = Follower(stop_at=10)
    model(verbose=True).fit(X, on_evaluate=follower)
    assert len(follower.events) > 1
    assert "held-out" in capfd.readouterr().err


def test_a_stopped_run_is_over_for_its_checkpoint_too(tmp_path):
    path = str(tmp_path / "run.checkpoint")
    model().fit(X, checkpoint=path, on_evaluate=Follower(stop_at=10))
    again = model().fit(X, checkpoint=path)
    assert again.model_.history.steps[-1] == 10
