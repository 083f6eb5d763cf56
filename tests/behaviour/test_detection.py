"""What alarms are worth: rates that hold, bad training rows, segments, odd tables."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV

from keyhole import AnomalyDetector, Autoencoder, KeyholeWarning, TrainingConfig
from keyhole.autoencoder.input_validation import open_rows
from keyhole.errors import DataError, SettingError
from keyhole.modalities import Schema
from keyhole.tasks.detect import scorer
from keyhole.tasks.detect.detector import answer_rows
from keyhole.tasks.detect.scorer import Groups
from keyhole.tasks.drift import Drift

MIX = np.random.default_rng(99).normal(size=(3, 3))


def draw(rows, seed=0):
    """Three free columns, and three that follow them."""
    rng = np.random.default_rng(seed)
    free = rng.normal(size=(rows, 3))
    return np.hstack([free, free @ MIX + 0.2 * rng.normal(size=(rows, 3))])


def detector(X, *, steps=10, seed=0, schema=None, **settings):
    """A detector after a few steps: most questions here are not about the net."""
    model = Autoencoder(training=TrainingConfig(steps), schema=schema, random_state=seed)
    return AnomalyDetector(model, **{"false_alarm_rate": 0.05, **settings}).fit(X)


@pytest.fixture(scope="module")
def usual():
    """A detector of two hundred usual rows whose nets have learned; not to be changed."""
    return detector(draw(200), steps=200)


# Rates that hold.


@pytest.mark.parametrize(("rows", "calibrating"), [(60, 60), (300, 300), (2_000, 200)])
def test_false_alarms_are_as_many_as_promised_however_few_the_training_rows(rows, calibrating):
    """Takes seconds: four fits, since the rate of one hangs on its own calibration rows."""
    found = []
    for seed in range(4):
        p = detector(draw(rows, seed), seed=seed).p_value(draw(1_000, 1_000 + seed))
        found.append([(p <= rate).mean() for rate in (0.05, 0.10)])
    for rate, share in zip((0.05, 0.10), np.mean(found, 0)):
        spread = np.sqrt(rate * (1 - rate) * (1 / calibrating + 1 / 1_000) / 4)
        assert share == pytest.approx(rate, abs=3 * spread)


def test_alarms_raised_together_are_false_no_more_often_than_promised(usual):
    fresh = draw(950, 7)
    rows = np.vstack([fresh, 6 + draw(50, 8)])
    answer = usual.answer(rows, fdr=0.2, explain_rows="alarms")
    assert answer.alarm[950:].all()
    assert 0 < answer.alarm[:950].sum() <= 25  # 12.5 are expected
    assert set(answer.reasons) == set(np.flatnonzero(answer.alarm))
    one_by_one = usual.answer(rows)
    np.testing.assert_array_equal(answer.p_value, one_by_one.p_value)
    assert one_by_one.alarm[:950].sum() > answer.alarm[:950].sum()


def test_a_share_that_the_calibration_rows_cannot_promise_raises_no_alarm_and_is_said(usual):
    rows = np.vstack([draw(2_000, 7), 6 + draw(1, 8)])
    with pytest.warns(
        KeyholeWarning, match="with 200 calibration rows the lowest p-value is 5e-05"
    ):
        assert not usual.answer(rows, fdr=0.001).alarm.any()


@pytest.mark.parametrize("fdr", [0, 1, -0.1, float("nan")])
def test_a_share_of_false_alarms_that_is_none_is_refused(usual, fdr):
    with pytest.raises(SettingError, match=r"it must be above 0 and below 1, such as 0.1"):
        usual.answer(draw(5), fdr=fdr)


def test_doubt_is_larger_where_no_training_row_lies_and_known_for_high_scores_alone(usual):
    inside, outside = usual.answer(draw(500, 3)), usual.answer(8 + draw(100, 3))
    high = inside.p_value <= 0.1
    assert 20 < high.sum() < 100
    np.testing.assert_array_equal(~np.isnan(inside.score_std), high)
    assert (inside.score_std[high] > 0).all()
    assert np.median(outside.score_std) > 1.2 * np.median(inside.score_std[high])


# Bad rows among those of training.


def contaminated(rows=400, share=0.2):
    """Rows of which the first share lie together, away from the others."""
    X, bad = draw(rows, 1), int(share * rows)
    X[:bad] = 4 + 0.3 * np.random.default_rng(5).normal(size=(bad, 6))
    return X, np.arange(rows) < bad


def test_a_cluster_of_bad_training_rows_is_found_unless_rows_are_said_to_be_good():
    """Takes a second: four fits of nets that learn."""
    X, bad = contaminated()
    areas = {
        contamination: roc_auc_score(
            bad, -detector(X, steps=40, contamination=contamination).score_samples(X)
        )
        for contamination in ("auto", 0.2, 0.3, "none")
    }
    assert areas.pop("none") < 0.5
    assert min(areas.values()) > 0.99


def test_contamination_is_found_as_large_as_it_is_where_bad_rows_are_scattered():
    """Takes a second: four fits."""
    shares = [0.0, 0.05, 0.1, 0.2]
    found = []
    for share in shares:
        X, bad = draw(400, 1), int(400 * share)
        X[:bad] = 10 * np.random.default_rng(5).normal(size=(bad, 6))
        found.append(detector(X).contamination_)
    np.testing.assert_allclose(found, shares, atol=0.015)


def test_contamination_never_moves_the_rule_of_the_threshold():
    X, _ = contaminated()
    for told in ("auto", "none", 0.1):
        fitted = detector(X, contamination=told)
        ranked = np.sort(fitted.calibration_.anomaly_scores)
        assert len(ranked) == 400
        assert fitted.offset_ == -ranked[400 - 20]  # 20 of 401 rows, or 5 %, lie at it or beyond


@pytest.mark.parametrize("wrong", [0.5, -1, "some", True, float("nan")])
def test_a_contamination_that_is_none_is_refused_in_a_line_that_says_what_to_do(wrong):
    with pytest.raises(SettingError, match=r"write 'auto', 'none', or the share") as caught:
        detector(draw(60), contamination=wrong)
    assert "\n" not in str(caught.value)


# A fleet.


def fleet(rows, seed, noisy="c"):
    """Four machines, one of them twice as noisy."""
    machine = np.random.default_rng(seed).choice(list("abcd"), rows)
    X = draw(rows, seed) * np.where(machine == noisy, 2, 1)[:, None]
    return pd.DataFrame(X, columns=list("uvwxyz")).assign(machine=machine)


@pytest.fixture(scope="module")
def of_fleet():
    return detector(fleet(900, 1), group="machine")


def test_a_machine_twice_as_noisy_alarms_about_as_rarely_as_the_others_once_it_is_a_segment(
    of_fleet,
):
    new = fleet(4_000, 50)
    alone = detector(fleet(900, 1).drop(columns="machine"))
    without, with_it = (
        pd.Series(one.predict(new) == -1).groupby(new["machine"]).mean()
        for one in (alone, of_fleet)
    )
    assert without["c"] > 0.15
    assert without.drop("c").max() < 0.005
    assert with_it["c"] < 0.6 * without["c"]
    assert with_it.drop("c").min() > 0.01
    assert (of_fleet.predict(new) == -1).mean() == pytest.approx(0.05, abs=0.02)


def test_the_segment_is_not_learnt_from_and_its_names_tell_factors(of_fleet):
    assert "machine" not in of_fleet.autoencoder_.model_.modality.needs()
    assert of_fleet.autoencoder_.model_.modality.reasons["machine"] == "names the group"
    factors = of_fleet.scorer_.groups.factors
    assert set(factors) == set("abcd")
    assert max(factors, key=factors.get) == "c"
    assert 1.5 < factors["c"] / factors["a"] < 3


def test_a_segment_never_met_is_judged_as_the_whole_is_and_is_said(of_fleet):
    new = fleet(60, 51)
    strange, gaps = new.assign(machine="zz"), new.assign(machine=None)
    plain = of_fleet.scorer_.anomaly_score
    with pytest.warns(KeyholeWarning, match="unknown groups: 'zz'"):
        scores = of_fleet.score_samples(strange)
    with pytest.warns(KeyholeWarning, match="unknown groups: ''"):
        np.testing.assert_array_equal(of_fleet.score_samples(gaps), scores)
    batch = of_fleet.autoencoder_.model_.modality.encode(
        next(open_rows(of_fleet.autoencoder_, new).blocks(100))
    )
    np.testing.assert_allclose(scores, -plain.score_block(plain.raw_scores(batch)), rtol=1e-6)
    drift = Drift(of_fleet.autoencoder_.model_.modality)
    for block in open_rows(of_fleet.autoencoder_, strange).blocks(100):
        answer_rows(of_fleet, block, drift=drift)
    assert any(
        "'zz'; their scores are scaled like the whole table" in said for said in drift.remarks()
    )


def test_a_gap_in_the_segment_column_is_a_segment_of_its_own():
    X = fleet(300, 1)
    X.loc[:99, "machine"] = None
    fitted = detector(X, group="machine")
    assert set(fitted.scorer_.groups.factors) == {"", *"abcd"}
    assert np.isfinite(fitted.score_samples(X)).all()


def test_a_segment_column_that_is_absent_is_named(of_fleet):
    with pytest.raises(
        DataError, match="'machine', which the threshold of its group needs, is absent"
    ):
        of_fleet.predict(fleet(9, 2).drop(columns="machine"))
    with pytest.raises(DataError, match=r"'machin', which group needs.*did you mean 'machine'"):
        detector(fleet(60, 1), group="machin")


def test_an_identifier_is_no_segment(monkeypatch):
    monkeypatch.setattr(scorer, "MAX_GROUPS", 50)
    with pytest.raises(DataError, match="60 different values among 60 rows, so it looks like"):
        Groups.learn("id", [f"u{i}" for i in range(60)], np.ones(60))
    held = Groups.learn("id", ["a"] * 59 + ["b"], np.ones(60))
    assert held.factor_of(["a", "b", "never met"]).tolist() == [1, 1, 1]


# Odd tables.


@pytest.mark.parametrize("rows", [0, 1])
def test_a_table_of_no_row_or_one_is_refused(rows):
    with pytest.raises(DataError, match=r"a minimum of [12]"):
        detector(pd.DataFrame(draw(rows)))


@pytest.mark.parametrize("schema", [None, "time:z", "group:z"])
@pytest.mark.parametrize("rows", [2, 3, 6])
def test_a_handful_of_rows_makes_a_detector(rows, schema):
    frame = pd.DataFrame(draw(rows), columns=list("uvwxyz")).assign(z=range(rows))
    how = Schema(validation=schema) if schema else None
    fitted = detector(frame, steps=2, schema=how, false_alarm_rate=0.5)
    assert np.isfinite(fitted.score_samples(frame)).all()
    assert fitted.score_samples(frame + 50).max() < fitted.score_samples(frame).min()


def test_more_columns_than_rows_are_no_fault():
    rng = np.random.default_rng(0)
    fitted = detector(rng.normal(size=(30, 80)))
    inside, outside = rng.normal(size=(40, 80)), 3 * rng.normal(size=(40, 80))
    assert fitted.score_samples(outside).max() < fitted.score_samples(inside).min()


def test_rows_that_are_all_alike_are_said_to_tell_nothing_and_what_differs_alarms():
    frame = pd.DataFrame({"a": [1.0] * 60, "b": ["x"] * 60})
    with pytest.warns(KeyholeWarning, match="all 60 calibration rows have the same score"):
        fitted = detector(frame)
    new = pd.DataFrame({"a": [1.0, 1.5, 1.0], "b": ["x", "x", "y"]})
    assert fitted.predict(new).tolist() == [1, -1, -1]


def test_rows_most_of_which_are_copies_leave_the_copies_calm():
    X = np.vstack([np.ones((90, 2)), draw(10, 1)[:, :2]])
    fitted = detector(X)
    scores = fitted.score_samples(np.array([[1.0, 1.0], [1.5, 1.0], [9.0, -9.0]]))
    assert scores[0] > scores[1] > scores[2]
    assert fitted.predict(np.array([[1.0, 1.0], [9.0, -9.0]])).tolist() == [1, -1]


def test_a_change_in_a_constant_column_alarms():
    X = np.c_[draw(100)[:, 0], np.full(100, 7.0)]
    assert detector(X).predict(np.array([[0.0, 7.0], [0.0, 8.0]])).tolist() == [1, -1]


def test_a_gap_in_any_column_makes_rows_neither_calm_nor_loud(usual):
    rows = draw(400, 9)
    full = usual.score_samples(rows)
    for column in range(6):
        gappy = rows.copy()
        gappy[:, column] = np.nan
        change = usual.score_samples(gappy) - full
        assert abs(np.median(change)) < 0.1  # of a usual row's anomaly score
        assert 0.01 < (usual.predict(gappy) == -1).mean() < 0.08


def test_a_row_with_no_observed_cell_is_no_alarm_together_with_others_either(usual):
    rows = draw(50, 9)
    rows[3] = np.nan
    rows[4] = 30
    answer = usual.answer(rows, fdr=0.3)
    assert np.isnan([answer.anomaly_score[3], answer.p_value[3], answer.score_std[3]]).all()
    assert np.flatnonzero(answer.alarm).tolist() == [4]
    assert usual.decision_function(rows)[3] == 0


def test_infinity_is_refused_with_its_place(usual):
    rows = draw(5)
    rows[3, 1] = np.inf
    with pytest.raises(DataError, match=r"contains infinity: column 'x?1', data row 4"):
        usual.predict(rows)


def test_surprise_keeps_counting_beyond_the_farthest_training_row(usual):
    scores = -usual.score_samples(np.array([[10.0**k] * 6 for k in range(6)]))
    assert (np.diff(scores) > 0).all()
    assert scores[5] > 5_000 * scores[0]


# scikit-learn.


def test_fit_predict_is_fit_and_then_predict():
    X = np.vstack([draw(200), 9 + draw(4, 1)])
    made = AnomalyDetector(
        Autoencoder(training=TrainingConfig(5), random_state=0), false_alarm_rate=0.05
    )
    alarms = made.fit_predict(X)
    assert (alarms[200:] == -1).all()
    np.testing.assert_array_equal(alarms, made.fit(X).predict(X))


def test_a_clone_keeps_contamination_and_segment():
    made = clone(AnomalyDetector(contamination=0.1, group="machine", false_alarm_rate=0.02))
    assert (made.contamination, made.group, made.false_alarm_rate) == (0.1, "machine", 0.02)
    made.set_params(contamination="none", group=None)
    assert made.get_params(deep=False)["contamination"] == "none"
    assert made.get_params()["group"] is None


def test_grid_search_goes_over_the_alarm_rate_of_a_detector():
    """Takes a second: six fits."""
    X = np.vstack([draw(280), 9 + draw(40, 1)])
    y = np.r_[np.ones(280), -np.ones(40)]
    order = np.random.default_rng(0).permutation(320)
    made = AnomalyDetector(Autoencoder(training=TrainingConfig(3), random_state=0))
    rates = {"false_alarm_rate": [0.05, 0.15, 0.6]}
    search = GridSearchCV(made, rates, cv=2, scoring="f1", refit=False)
    search.fit(X[order], y[order])
    assert search.best_params_ == {"false_alarm_rate": 0.15}  # an eighth of the rows is bad


def test_surprises_of_two_seeds_agree_on_which_rows_are_odd():
    X, new = draw(300), np.vstack([draw(100, 2), 3 + draw(100, 3)])
    one, two = (detector(X, seed=seed).score_samples(new) for seed in (0, 1))
    assert stats.spearmanr(one, two).statistic > 0.95


def test_a_million_rows_would_be_remembered_by_no_more_than_a_bounded_sample(monkeypatch):
    monkeypatch.setattr("keyhole.modalities.rows.split.MAX_REFERENCE_ROWS", 100)
    fitted = detector(draw(3_000), steps=2)
    assert len(fitted.scorer_.anomaly_score.reference_points.points) == 100
    assert len(fitted.scorer_.reference) <= 5 * 100
    assert torch.isfinite(fitted.scorer_.anomaly_score.reference_points.points).all()


def test_contamination_and_group_are_the_detectors_and_leave_the_schema_as_it_is(tmp_path):
    schema = Schema(exclude=["x"])
    model = Autoencoder(training=TrainingConfig(2), schema=schema, random_state=0)
    fitted = AnomalyDetector(model, contamination="none", group="machine").fit(fleet(300, 1))
    assert fitted.autoencoder_.schema.get_params() == schema.get_params()
    fitted.save(tmp_path / "m")
    loaded = AnomalyDetector.load(tmp_path / "m")
    assert (loaded.contamination, loaded.group) == ("none", "machine")
    assert "contamination" not in Schema().get_params()
    assert fitted.autoencoder_.schema.group is None  # that names the machines of a series


def test_a_fitted_autoencoder_takes_a_contamination_and_refuses_an_invalid_one():
    model = Autoencoder(training=TrainingConfig(2), random_state=0).fit(draw(60))
    made = AnomalyDetector.from_fitted(model, false_alarm_rate=0.05, contamination="none")
    assert made.scorer_.contamination == made.contamination == "none"
    with pytest.raises(SettingError, match=r"contamination=0\.7: write 'auto'"):
        AnomalyDetector.from_fitted(model, contamination=0.7)


def test_a_column_that_names_every_row_is_no_segment():
    rows = fleet(60, 1).assign(machine=[f"r{i}" for i in range(60)])
    with pytest.raises(DataError, match="looks like an identifier, not like groups"):
        detector(rows, group="machine")


def test_a_detector_of_a_model_that_was_told_nothing_is_found_again_as_it_was(tmp_path):
    model = Autoencoder(training=TrainingConfig(2), random_state=0).fit(draw(60))
    made = AnomalyDetector.from_fitted(model, false_alarm_rate=0.05)
    made.save(str(tmp_path / "m"))
    assert AnomalyDetector.load(str(tmp_path / "m")).contamination == made.contamination == "auto"
