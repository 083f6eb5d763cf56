"""A detector keeps up with new rows, promises by other ones, and is found again as it was."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.mutants import manifest_of, seal
from keyhole import AnomalyDetector, Autoencoder, KeyholeWarning, TrainingConfig
from keyhole.errors import BundleError, DataError
from keyhole.store.bundle import write_tensors

MIX = np.random.default_rng(99).normal(size=(2, 2))


def draw(rows, seed=0, shift=0.0):
    """Two free columns, the first shifted, and two that follow them; a level."""
    rng = np.random.default_rng(seed)
    free = rng.normal(size=(rows, 2))
    x = np.hstack([free, free @ MIX + 0.2 * rng.normal(size=(rows, 2))])
    frame = pd.DataFrame(x, columns=list("abcd")).assign(kind=rng.choice(["x", "y", "z"], rows))
    return frame.assign(a=frame["a"] + shift)


def detector(X, steps=30, **settings):
    model = Autoencoder(training=TrainingConfig(steps), random_state=0)
    return AnomalyDetector(model, **{"false_alarm_rate": 0.05, **settings}).fit(X)


def kept(fitted, path):
    """The detector after a save and a load."""
    fitted.save(str(path))
    return AnomalyDetector.load(str(path))


def fleet(rows, seed=0):
    return draw(rows, seed).assign(machine=np.random.default_rng(seed).choice(["m", "n"], rows))


# New rows.


def test_the_first_partial_fit_is_a_fit():
    X = draw(100)
    model = Autoencoder(training=TrainingConfig(5), random_state=0)
    one, two = (
        AnomalyDetector(model, false_alarm_rate=0.05),
        AnomalyDetector(model, false_alarm_rate=0.05),
    )
    scores = one.partial_fit(X, np.zeros(100)).score_samples(X)
    np.testing.assert_array_equal(scores, two.fit(X).score_samples(X))


def test_p_values_mean_the_same_after_rows_like_those_of_training_were_taken_in():
    fitted, fresh = detector(draw(2_000)), draw(1_000, 1)
    shares = {}
    for when in ("before", "after"):
        p = fitted.p_value(fresh)
        shares[when] = [(p <= rate).mean() for rate in (0.05, 0.1, 0.5)]
        fitted.partial_fit(draw(1_000, 2))
    for found in shares.values():
        assert (np.abs(np.subtract(found, [0.05, 0.1, 0.5])) < [0.03, 0.04, 0.1]).all()
    assert fitted.scorer_.rows == 4_000


def test_a_regime_never_met_alarms_until_its_rows_were_taken_in():
    fitted, new = detector(draw(600)), draw(500, 1, shift=6)
    before = (fitted.predict(new) == -1).mean()
    fitted.partial_fit(draw(300, 2, shift=6))
    after = (fitted.predict(new) == -1).mean()
    assert before > 0.95
    assert after < 0.2  # 5 % are promised of old and new rows together


def test_what_was_taken_in_never_makes_usual_rows_alarm_more_often_than_promised():
    fitted = detector(draw(200))
    for seed in range(3):
        fitted.partial_fit(draw(200, seed + 1))
    assert (fitted.predict(draw(1_000, 9)) == -1).mean() < 0.07


def test_a_regime_that_was_taken_in_does_not_hide_the_next_one():
    fitted = detector(draw(600)).partial_fit(draw(300, 2, shift=6))
    assert (fitted.predict(draw(500, 3, shift=12)) == -1).mean() > 0.95


def test_the_net_and_the_units_stay_as_they_were():
    fitted = detector(draw(200))
    before = [w.clone() for w in fitted.autoencoder_.model_.network.parameters()]
    units, typical = fitted.scorer_.anomaly_score.units, fitted.scorer_.anomaly_score.typical
    fitted.partial_fit(draw(100, 1))
    after = list(fitted.autoencoder_.model_.network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    np.testing.assert_array_equal(fitted.scorer_.anomaly_score.units, units)
    np.testing.assert_array_equal(fitted.scorer_.anomaly_score.typical, typical)
    assert len(fitted.scorer_.anomaly_score.reference_points.points) == 300
    assert len(fitted.calibration_.anomaly_scores) == 300


def test_reference_points_do_not_grow_beyond_their_bound(monkeypatch):
    monkeypatch.setattr("keyhole.modalities.rows.split.MAX_REFERENCE_ROWS", 150)
    fitted, sizes = detector(draw(1_500)), []
    for seed in range(4):
        fitted.partial_fit(draw(700, seed))
        scorer = fitted.scorer_
        sizes.append((len(scorer.anomaly_score.reference_points.points), len(scorer.reference)))
    assert sizes == [sizes[0]] * 4
    assert sizes[0][0] == 150
    assert 150 < len(fitted.calibration_.anomaly_scores) <= sizes[0][1]


def test_rows_that_cannot_be_taken_in_leave_the_detector_as_it_was():
    fitted, X = detector(draw(100)), draw(50, 1)
    before = fitted.score_samples(X)
    with pytest.raises(DataError, match="'c', which this model needs, is absent"):
        fitted.partial_fit(X.drop(columns="c"))
    with pytest.raises(DataError, match="0 sample"):
        fitted.partial_fit(X[:0])
    with pytest.raises(DataError, match="infinity"):
        fitted.partial_fit(X.assign(a=np.inf))
    np.testing.assert_array_equal(fitted.score_samples(X), before)
    assert fitted.scorer_.rows == 100


def test_an_empty_row_that_is_taken_in_changes_no_promise():
    fitted = detector(draw(100))
    empty = draw(3, 1)
    empty.loc[:, list("abcd")], empty.loc[:, "kind"] = np.nan, None
    offset = fitted.offset_
    fitted.partial_fit(empty)
    assert fitted.offset_ == offset
    assert np.isfinite(fitted.score_samples(draw(5, 2))).all()


# Other promises.


def test_calibrating_on_good_rows_mends_promises_that_bad_training_rows_had_spoilt():
    X = draw(400)
    X.loc[:39, list("abcd")] = 8 * np.random.default_rng(1).normal(size=(40, 4))
    fitted, fresh = detector(X), draw(2_000, 2)
    spoilt = (fitted.predict(fresh) == -1).mean()
    y = np.r_[np.zeros(400), np.ones(30)]
    other = pd.concat([draw(400, 3), draw(30, 4, shift=9)])
    mended = (fitted.calibrate(other, y).predict(fresh) == -1).mean()
    assert spoilt < 0.005
    assert mended == pytest.approx(0.05, abs=0.035)
    assert len(fitted.calibration_.anomaly_scores) == 400


LABELS = {
    "0 and 1": lambda bad: bad.astype(int),
    "floats": lambda bad: bad.astype(float),
    "booleans": lambda bad: bad,
    "scikit-learn's": lambda bad: np.where(bad, -1, 1),
    "texts": lambda bad: np.where(bad, "fraud", "ok"),
    "a list": lambda bad: bad.tolist(),
    "a frame's column": lambda bad: pd.Series(bad.astype(int)),
    "gaps where nobody looked": lambda bad: np.where(
        bad, 1.0, np.where(bad.cumsum() % 2, np.nan, 0)
    ),
}


@pytest.mark.parametrize("how", LABELS)
def test_labels_are_understood_in_every_way_they_are_written(how):
    fitted = detector(draw(100), steps=5)
    X = pd.concat([draw(160, 1), draw(40, 2, shift=9)], ignore_index=True)
    y = LABELS[how](np.arange(200) >= 160)
    rate = fitted.choose_rate(X, y)
    assert 1 / 101 <= rate < 0.1
    assert fitted.set_params(false_alarm_rate=rate).predict(X)[160:].tolist() == [-1] * 40
    fitted.calibrate(X, y)
    assert len(fitted.calibration_.anomaly_scores) == 160


@pytest.mark.parametrize("label", [0, 1, -1, "ok", True])
def test_labels_of_one_kind_choose_no_rate(label):
    fitted = detector(draw(60), steps=2)
    with pytest.raises(DataError, match="labels of both classes are needed to choose a rate"):
        fitted.choose_rate(draw(20, 1), [label] * 20)


def test_labels_that_leave_no_row_to_calibrate_on_are_refused():
    fitted = detector(draw(60), steps=2)
    before = fitted.offset_
    with pytest.raises(DataError, match="no row is left to calibrate on"):
        fitted.calibrate(draw(20, 1), np.ones(20))
    with pytest.raises(DataError, match="3 different values"):
        fitted.calibrate(draw(21, 1), [0, 1, 2] * 7)
    assert fitted.offset_ == before


def test_labels_of_another_number_than_the_rows_are_refused():
    fitted = detector(draw(60), steps=2)
    for ask in (fitted.calibrate, fitted.choose_rate):
        with pytest.raises(DataError, match=r"9 labels.*20 rows"):
            ask(draw(20, 1), [0] * 8 + [1])


def test_a_rate_that_the_new_calibration_rows_cannot_promise_is_said():
    fitted = detector(draw(60), steps=2)
    with pytest.warns(KeyholeWarning, match="0.05 is too low for 9 calibration rows"):
        fitted.calibrate(draw(9, 1))


# Found again as it was.


def same(one, two, rows):
    np.testing.assert_array_equal(one.score_samples(rows), two.score_samples(rows))
    np.testing.assert_array_equal(one.p_value(rows), two.p_value(rows))
    np.testing.assert_array_equal(one.answer(rows).score_std, two.answer(rows).score_std)
    for name in ("offset_", "contamination_", "false_alarm_rate", "contamination", "group"):
        assert getattr(one, name) == getattr(two, name), name
    assert one.scorer_.rows == two.scorer_.rows
    assert one.scorer_.groups == two.scorer_.groups


@pytest.mark.parametrize("rows", [200, 1_200])
def test_a_detector_is_loaded_in_the_same_bits_before_and_after_new_rows(rows, tmp_path):
    """Takes a second: four bundles are written and read, and every answer explained."""
    fitted, new = detector(fleet(rows), group="machine", contamination=0.1), fleet(50, 1)
    new.loc[3, "a"], new.loc[4, "kind"] = np.nan, "never met"
    again = kept(fitted, tmp_path / "m")
    same(fitted, again, new)
    same(fitted.partial_fit(fleet(90, 2)), again.partial_fit(fleet(90, 2)), new)
    same(fitted, kept(again, tmp_path / "m"), new)
    same(fitted.calibrate(fleet(80, 3)), again.calibrate(fleet(80, 3)), new)
    same(fitted, kept(again, tmp_path / "n"), new)


def test_a_detector_that_took_in_many_times_its_training_rows_is_found_again(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("keyhole.modalities.rows.split.MAX_REFERENCE_ROWS", 100)
    fitted = detector(draw(60), steps=2)
    for seed in range(3):
        fitted.partial_fit(draw(8_000, seed))
    assert (fitted.scorer_.reference.fold < 0).all()  # those of the fit have made room
    same(fitted, kept(fitted, tmp_path / "m"), draw(50, 9))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A bundle of a detector with segments and levels, not to be changed."""
    path = tmp_path_factory.mktemp("whole") / "m"
    detector(fleet(1_200), steps=2, group="machine").save(str(path))
    return path


@pytest.fixture
def bundle(whole, tmp_path):
    return Path(shutil.copyfile(whole, tmp_path / "m"))


@pytest.mark.parametrize("names", [["trusted", "core", "masked"], None])
def test_a_detector_saved_with_other_views_is_calibrated_again(bundle, whole, tmp_path, names):
    manifest, new = manifest_of(bundle), fleet(50, 1)
    section = manifest["sections"]["detect"]
    section.update(views=names, units=[5.0] * 3, weights=[1.0] * 3)
    if names is None:
        del section["views"], section["weights"]  # as the first versions saved them
    seal(bundle, manifest)
    with pytest.warns(KeyholeWarning, match="calibrated again"):
        old = AnomalyDetector.load(str(bundle))
    same(old, AnomalyDetector.load(str(whole)), new)
    same(old, kept(old, tmp_path / "again"), new)


def refused(path, reason):
    with pytest.raises(BundleError) as caught:
        AnomalyDetector.load(str(path))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def put(tensors, name, column, value):
    cells = tensors[name]
    (cells if column is None else cells[:, column])[5] = value


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: put(t, "reference.fold", None, 1.0), "fold of a row"),
        (lambda t: put(t, "reference.fold", None, -3.0), "fold of a row"),
        (lambda t: put(t, "reference.fold", None, 0.5), "fold of a row"),
        (lambda t: put(t, "reference.factor", None, 0.0), "factor of a row"),
        (lambda t: put(t, "reference.fold", None, torch.nan), "NaN or infinite"),
        (lambda t: t["reference.fold"].fill_(0.0), "some rows calibrate, and others are near"),
        (lambda t: t["reference.fold"].fill_(-1.0), "some rows calibrate, and others are near"),
        (lambda t: put(t, "reference.features", 0, torch.nan), "NaN or infinite"),
        (lambda t: put(t, "reference.features", 0, torch.inf), "NaN or infinite"),
        (lambda t: put(t, "reference.features", 1, 1e35), "features: numbers that columns make"),
        (lambda t: put(t, "reference.features", 4, 9.0), "codes: levels of their columns"),
        (lambda t: put(t, "reference.features", 4, -1.0), "codes: levels of their columns"),
        (lambda t: put(t, "reference.features", 4, 1.5), "codes: levels of their columns"),
        (lambda t: t.update({"reference.features": t["reference.features"][:9]}),
         "do not belong"),
        (lambda t: t.pop("reference.fold"), "do not belong together"),
    ],
)  # fmt: skip
def test_a_memory_that_no_fit_makes_is_refused(bundle, change, reason):
    tensors = load_file(bundle)
    change(tensors)
    write_tensors(bundle, tensors, json.dumps(manifest_of(bundle)))
    refused(bundle, reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda found: found.update(units=[0.0, 1.0, 1.0, 1.0]), "units and factors: above zero"),
        (lambda found: found["units"].pop(), "units: one for each view"),
        (lambda found: found.update(weights=None), "weights: one for each view"),
        (lambda found: found.update(typical=[]), "typical: one for each column"),
        (lambda found: found["typical"].append(1.0), "typical: one for each column"),
        (lambda found: found["anomaly_scores"].insert(0, -1.0), "numbers: from 0 to 1e12"),
        (lambda found: found["anomaly_scores"].append(1e300), "numbers: from 0 to 1e12"),
        (lambda found: found.update(anomaly_scores=[]), "anomaly scores: at least one"),
        (lambda found: found.update(anomaly_scores=["x"]), "anomaly_scores=['x'] is not"),
        (lambda found: found["factors"].update(m=0.0), "units and factors: above zero"),
        (lambda found: found.update(factors=[1.0]), "factors=[1.0] is not"),
        (lambda found: found.update(apart=2.0), "rows and apart: what they count"),
        (lambda found: found.update(rows=1), "rows and apart: what they count"),
        (lambda found: found.update(false_alarm_rate=1.0), "false_alarm_rate: between 0 and 1"),
        (lambda found: found.update(hook="x"), "does not know: 'hook'"),
        (lambda found: found.pop("units"), "has no 'units'"),
    ],
)  # fmt: skip
def test_a_section_of_a_detector_that_no_fit_makes_is_refused(bundle, change, reason):
    manifest = manifest_of(bundle)
    change(manifest["sections"]["detect"])
    seal(bundle, manifest)
    refused(bundle, reason)


@pytest.mark.parametrize(
    ("reference", "reason"),
    [({"rows": 2**40, "folds": 1}, "do not belong"), ({"rows": 1, "folds": 1}, "do not belong"),
     ({"rows": -1, "folds": 1}, "do not belong"), ({"rows": 9}, "has no 'folds'")],
)  # fmt: skip
def test_a_claim_of_rows_that_the_file_does_not_hold_is_refused(bundle, reference, reason):
    manifest = manifest_of(bundle)
    manifest["sections"]["autoencoder"]["reference"] = reference
    seal(bundle, manifest)
    refused(bundle, reason)


def test_a_number_of_folds_that_no_fit_has_is_refused(bundle):
    manifest = manifest_of(bundle)
    manifest["sections"]["autoencoder"]["reference"]["folds"] = 2
    seal(bundle, manifest)
    refused(bundle, "folds: as many as networks, or one")


def test_a_model_that_remembers_no_rows_says_to_save_the_detector_or_fit_again(bundle, tmp_path):
    Autoencoder.load(str(bundle)).save(str(tmp_path / "bare"))
    assert not any(name.startswith("reference") for name in load_file(tmp_path / "bare"))
    refused(tmp_path / "bare", "saved without reference rows")
    refused(tmp_path / "bare", "or fit again")
    scores = Autoencoder.load(str(tmp_path / "bare")).score_samples(fleet(9))
    np.testing.assert_array_equal(scores, Autoencoder.load(str(bundle)).score_samples(fleet(9)))
