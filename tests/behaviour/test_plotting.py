"""Plots draw what the model says, on given Axes or on a new figure, and leave pyplot alone."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.exceptions import NotFittedError

from keyhole import AnomalyDetector, Autoencoder, TrainingConfig
from keyhole.errors import DataError, SettingError
from keyhole.plotting import plot_codes, plot_history, plot_scores

pytestmark = pytest.mark.filterwarnings("ignore::keyhole.errors.KeyholeWarning")
ROWS = 200
SHORT = TrainingConfig(30, members=1, batch=32)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    load = rng.normal(size=ROWS)
    numbers = load[:, None] * [1, 2, 3] + 0.1 * rng.normal(size=(ROWS, 3))
    frame = pd.DataFrame(numbers, columns=list("abc")).assign(kind=np.where(load > 0, "u", "v"))
    frame.loc[0, ["a", "b"]] = [40.0, -40.0]
    return frame


@pytest.fixture(scope="module")
def detector(rows) -> AnomalyDetector:
    model = Autoencoder(width=2, training=SHORT, random_state=0)
    return AnomalyDetector(model, false_alarm_rate=0.05).fit(rows)


def test_the_learning_curve_holds_every_evaluation_and_marks_the_best_step(detector):
    history = detector.autoencoder_.model_.history
    ax = plot_history(detector)
    training, held_out, best = ax.lines
    assert training.get_xdata().tolist() == history.steps
    assert held_out.get_ydata().tolist() == history.held_out
    assert best.get_xdata()[0] == history.best_step
    assert ax.get_xlabel() == "training step"
    assert ax.get_ylabel() == "loss (nats per row)"
    low, high = ax.get_ylim()
    assert low < min(history.held_out) < high


def test_scores_are_counted_once_and_alarms_stand_out(detector, rows):
    answer = detector.answer(rows, explain_rows="none")
    ax = plot_scores(answer)
    every, alarms = ax.containers
    assert sum(bar.get_height() for bar in every) == ROWS
    assert sum(bar.get_height() for bar in alarms) == answer.alarm.sum() >= 1
    first_alarm = min(bar.get_x() for bar in alarms if bar.get_height())
    assert first_alarm == pytest.approx(answer.anomaly_score[answer.alarm].min(), rel=1e-6)
    assert ax.get_xlabel().startswith("anomaly score (1: a typical row)")
    assert ax.get_legend().get_texts()[0].get_text() == f"all rows ({ROWS})"


@pytest.mark.parametrize(
    ("color", "groups"),
    [(None, []), ("kind", ["u", "v"]), ("a", None), (np.arange(ROWS) % 12 % 3, ["0", "1", "2"])],
)
def test_codes_are_coloured_by_a_column_or_by_values(detector, rows, color, groups):
    ax = plot_codes(detector, rows, color)
    assert sum(len(points.get_offsets()) for points in ax.collections) == ROWS
    assert "first principal component" in ax.get_xlabel()
    if groups is None:  # a scale of numbers
        assert ax.figure.axes[1].get_ylabel() == color
        return
    assert len(ax.figure.axes) == 1
    assert ax.get_legend_handles_labels()[1] == groups


def test_a_code_of_one_number_is_drawn_beside_the_log_likelihood(rows):
    model = Autoencoder(width=1, training=SHORT, random_state=0).fit(rows)
    ax = plot_codes(model, rows)
    assert ax.get_ylabel() == "log-likelihood (nats)"
    np.testing.assert_allclose(
        ax.collections[0].get_offsets()[:, 1], model.score_samples(rows), rtol=1e-6
    )


def test_own_axes_are_drawn_on_and_returned(detector, rows):
    axes = Figure().subplots(1, 3)
    answer = detector.answer(rows, explain_rows="none")
    assert plot_history(detector, ax=axes[0]) is axes[0]
    assert plot_scores(answer, ax=axes[1]) is axes[1]
    assert plot_codes(detector, rows, ax=axes[2]) is axes[2]


def test_a_wrong_argument_is_one_line(detector, rows):
    with pytest.raises(SettingError, match="plot_scores takes an answer"):
        plot_scores(detector)
    with pytest.raises(SettingError, match="got DataFrame"):
        plot_history(rows)
    with pytest.raises(NotFittedError):
        plot_history(Autoencoder())
    with pytest.raises(DataError, match="there are 2 labels for 200 rows"):
        plot_codes(detector, rows, [1, 2])
    with pytest.raises(DataError, match="'colour'"):
        plot_codes(detector, rows, "colour")


def test_pyplot_is_never_imported():
    code = (
        "import sys, numpy as np; from keyhole import Autoencoder, TrainingConfig; "
        "from keyhole.plotting import plot_history; assert 'matplotlib' not in sys.modules; "
        "m = Autoencoder(width=1, training=TrainingConfig(2, members=1)); "
        "plot_history(m.fit(np.random.default_rng(0).normal(size=(40, 3)))); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
