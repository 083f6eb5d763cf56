"""Beyond the largest calibration score: p-values from a fitted tail, used only where it fits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole import Autoencoder, KeyholeWarning, TrainingConfig
from keyhole.errors import SettingError
from keyhole.store import read_bundle
from keyhole.tasks import AnomalyDetector
from keyhole.tasks.detect.calibration import Calibration, Discoveries
from keyhole.tasks.detect.tail import REACH, Tail, goodness_of_fit

RNG = np.random.default_rng(0)


def exponential(rows, seed=0):
    return Calibration.of(np.random.default_rng(seed).exponential(size=rows))


@pytest.mark.parametrize("rows", [300, 2_000, 20_000])
def test_the_tail_of_exponential_scores_is_between_the_truth_and_the_least_rank(rows):
    score = np.array([np.log((rows + 1) * 1e3)])  # its p-value: a thousandth of the least rank
    p_values = [exponential(rows, seed).p_value(score)[0] for seed in range(10)]
    assert 10 <= np.median(p_values) * (rows + 1) * 1e3 < 900


def test_the_extrapolation_errs_on_the_safe_side_where_few_rows_calibrate():
    scores = np.log(200 * 10.0 * np.ones(1))
    p_values = [exponential(200, seed).p_value(scores)[0] for seed in range(30)]
    assert np.median(p_values) > np.exp(-scores[0])


def test_a_p_value_falls_with_the_score_and_ends_at_a_hundredth_of_the_least_rank():
    calibration = exponential(1_000)
    p_value = calibration.p_value(np.array([0.0, 1.0, 5.0, 9.0, 12.0, 1e6, np.inf, np.nan]))
    assert (np.diff(p_value[:-1]) <= 0).all()
    assert p_value[5] == pytest.approx(1 / 1_001 / REACH)
    assert p_value[6] == p_value[5]
    assert np.isnan(p_value[7])


@given(st.integers(0, 50), st.floats(1.001 / 100, 0.999), st.floats(0, 30))
def test_a_row_alarms_exactly_where_its_p_value_is_within_an_extrapolated_rate(seed, part, beyond):
    calibration = exponential(400, seed % 5)
    score = calibration.anomaly_scores[-1] + beyond
    rate = part / 401
    alarms = score > calibration.threshold(rate)
    (p_value,) = calibration.p_value(np.array([score]))
    assert alarms == (p_value <= rate) or p_value == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize(
    "scores",
    [
        np.repeat(1.0, 500),
        RNG.poisson(3, 500).astype(float),
        np.r_[RNG.random(495), np.full(5, 900.0)],  # a few rows stand far apart
        RNG.random(150),
        np.empty(0),
        np.array([1.0]),
    ],
    ids=["constant", "counts", "apart", "few", "none", "one"],
)
def test_where_no_tail_fits_p_values_stay_ranks(scores):
    calibration = Calibration.of(scores)
    assert calibration.tail is None
    (p_value,) = calibration.p_value(np.array([1e9]))
    assert p_value == pytest.approx(1 / (len(scores) + 1))
    assert calibration.least_rate() == calibration.least_rank()


def test_the_test_of_fit_accepts_pareto_samples_and_refuses_others():
    rng = np.random.default_rng(1)
    accepted = [goodness_of_fit(np.sort(rng.pareto(3, 200))) > 0.1 for _ in range(40)]
    assert np.mean(accepted) > 0.75
    two_lumps = np.r_[rng.random(150), 5 + rng.random(50)]
    assert goodness_of_fit(np.sort(two_lumps)) < 0.02


def test_a_tail_is_the_same_each_time():
    scores = np.sort(np.random.default_rng(3).gamma(4, size=900))
    np.testing.assert_array_equal(Tail.fit(scores).log_p, Tail.fit(scores).log_p)


def test_bad_rows_are_named_where_ranks_alone_could_name_none():
    """Of 20,000 rows 60 are bad; by ranks among 500, 400 would have to be beyond them all."""
    rng, false, power = np.random.default_rng(0), [], []
    for _ in range(10):
        discoveries = Discoveries(Calibration.of(rng.exponential(size=500)), 0.1)
        anomaly_score = np.r_[rng.exponential(size=19_940), rng.uniform(40, 60, 60)]
        discoveries.add(anomaly_score)
        rate = discoveries.false_alarm_rate()
        alarms = anomaly_score > discoveries.calibration.threshold(rate)
        false.append(alarms[:-60].sum() / max(alarms.sum(), 1))
        power.append(alarms[-60:].mean())
    assert np.mean(power) > 0.9
    assert np.mean(false) <= 0.1


def test_good_rows_alone_raise_hardly_an_alarm_together():
    rng, raised = np.random.default_rng(0), []
    for _ in range(20):
        discoveries = Discoveries(Calibration.of(rng.exponential(size=500)), 0.1)
        discoveries.add(rng.exponential(size=20_000))
        raised.append(discoveries.false_alarm_rate() > 0)
    assert np.mean(raised) <= 0.15


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4)) @ rng.normal(size=(4, 4))
    return Autoencoder(training=TrainingConfig(30), random_state=0).fit(X), X


def test_a_rate_below_the_ranks_is_marked_as_extrapolated(model):
    fitted, X = model
    with pytest.warns(
        KeyholeWarning, match="extrapolated: ranks among 600 calibration rows serve rates"
    ):
        detector = AnomalyDetector.from_fitted(fitted, false_alarm_rate=0.0005)
    alarm = detector.answer(np.r_[X, [[90.0] * 4]]).alarm
    assert alarm[-1]
    assert alarm[:-1].sum() <= 1


def test_a_rate_too_small_is_refused_for_a_loaded_model_and_said_for_others(model, tmp_path):
    fitted, X = model
    AnomalyDetector.from_fitted(fitted).save(tmp_path / "m.keyhole")
    bundle = read_bundle(str(tmp_path / "m.keyhole"))
    with pytest.raises(SettingError, match=r"1e-09 is too low for 600 .*lowest possible rate"):
        AnomalyDetector.load(bundle, false_alarm_rate=1e-9)
    detector = AnomalyDetector.load(bundle).set_params(false_alarm_rate=1e-9)
    with pytest.warns(KeyholeWarning, match="no alarm can be raised"):
        assert not detector.answer(X[:5]).alarm.any()
