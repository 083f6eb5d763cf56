"""What a notebook shows: short readable answers, and progress that is no error."""

import sys
import types

import numpy as np
import pandas as pd
import pytest

from keyhole import Autoencoder
from keyhole.core import progress
from keyhole.model.bottlenecks import Plain
from keyhole.tasks import AnomalyDetector, Generator
from keyhole.tasks.cards import cards
from keyhole.tasks.detect.events import Event
from keyhole.tasks.drift import Drift
from keyhole.tasks.recommend.judge import RankingEvaluation
from keyhole.tasks.recommend.metrics import Interval
from keyhole.training import TrainingConfig


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"left": rng.normal(size=80), "right": rng.normal(size=80)})
    frame["sum"] = frame["left"] + frame["right"]
    template = Autoencoder(Plain(2), training=TrainingConfig(20), random_state=0)
    return template.fit(frame), frame


def test_progress_in_a_notebook_is_on_standard_output(monkeypatch, capsys):
    shell = types.SimpleNamespace(kernel=object())
    library = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", library)
    show = progress.progress()
    for step in (0, 5, 10):
        show(progress.Event(step, 10, 1.0, 0.5, 1e-3, 1.0, 2.0))
    progress.tell("verdict", "learned")
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "train     10 steps" in captured.out
    assert "verdict   learned" in captured.out


def test_without_a_notebook_progress_is_on_standard_error(capsys):
    assert not progress.in_notebook()
    progress.tell("verdict", "learned")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "verdict   learned\n")


def test_a_detectors_answer_names_its_strongest_rows(model):
    fitted, frame = model
    strange = frame.copy()
    strange.loc[7, "sum"] = 30.0
    answer = AnomalyDetector.from_fitted(fitted, false_alarm_rate=0.05).answer(strange)
    lines = repr(answer).splitlines()
    assert lines[0] == f"Answer: 80 rows, {answer.alarm.sum()} alarms"
    assert lines[1].startswith("  index 7: anomaly score ")
    assert "sum = 30" in lines[1]
    assert len(lines) == 6
    assert max(map(len, lines)) <= 160


def test_other_answers_are_sentences(model):
    fitted, frame = model
    judgement = repr(Generator.from_fitted(fitted).judge())
    assert judgement.startswith("Judgement of drawn rows:\n  single columns differ by")
    assert all(repr(card).startswith("<Card code_") for card in cards(fitted))
    drift = Drift(fitted.model_.modality)
    drift.add(fitted.model_.modality.encode(fitted_rows(fitted, frame)), np.linspace(0, 1, 80))
    assert repr(drift) == "Drift of 80 rows: these rows look like the training data"
    moment = np.datetime64("2024-05-01T00:00:00")
    event = Event(moment, moment + 60, moment, 9.5, ("flow", "heat"), (0.0, 20.0))
    assert repr(event) == (
        "<Event 2024-05-01 00:00:00 to 2024-05-01 00:01:00 (1 min): flow first, then heat (after "
        "20 s); anomaly score 9.5>"
    )
    ndcg = {"ndcg@100": Interval(0.4, 0.3, 0.5)}
    evaluation = RankingEvaluation(60, {"this model": ndcg}, {})
    assert repr(evaluation).splitlines()[1] == "  this model: ndcg@100 0.400"


def fitted_rows(fitted, frame):
    from keyhole.autoencoder.input_validation import blocks_of

    return next(iter(blocks_of(fitted, frame)))[1]
