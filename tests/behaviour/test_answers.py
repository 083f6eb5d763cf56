"""What a detector promises of its answers."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole import AnomalyDetector, Autoencoder, KeyholeWarning, TrainingConfig
from keyhole.autoencoder.input_validation import open_rows
from keyhole.tasks import Embed, Impute, Reconstruct
from keyhole.tasks.detect.calibration import Calibration
from keyhole.tasks.detect.detector import answer_rows
from keyhole.tasks.drift import Drift


def sensors(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Three columns that hang together, a level that follows one of them, and an id."""
    rng = np.random.default_rng(seed)
    load = rng.normal(size=rows)
    return pd.DataFrame(
        {
            "unit": [f"u{i}" for i in range(rows)],
            "flow": 10 + load + 0.1 * rng.normal(size=rows),
            "heat": 300 + 20 * load + rng.normal(size=rows),
            "noise": rng.normal(size=rows),
            "mode": np.where(load > 0, "high", "low"),
        }
    )


@pytest.fixture(scope="module")
def detector() -> AnomalyDetector:
    model = Autoencoder(training=TrainingConfig(300), random_state=0)
    return AnomalyDetector(model, false_alarm_rate=0.05).fit(sensors(1_200))


def test_a_row_that_breaks_the_pattern_alarms_and_names_the_cell(detector):
    rows = sensors(50, seed=1)
    rows.loc[7, "heat"] = 300 - 20 * (rows.loc[7, "flow"] - 10) + 80
    answer = detector.answer(rows)
    assert answer.alarm[7]
    assert answer.strongest(1)[0] == 7
    cell = answer.reasons[7][0]
    assert cell.column == "heat"
    low, high = (
        float(end.replace(",", "")) for end in cell.expected.removesuffix(" (90 %)").split(" to ")
    )
    assert low < 300 + 20 * (rows.loc[7, "flow"] - 10) < high


ANSWER = ["anomaly_score", "score_std", "p_value", "alarm", "reasons"]


def test_the_answer_for_a_pandas_frame_is_pandas_and_has_its_index(detector):
    rows = sensors(30, seed=2).set_index(pd.Index([f"r{i}" for i in range(30)], name="key"))
    answer = detector.answer(rows)
    table = answer.to_frame()
    assert isinstance(table, pd.DataFrame)
    assert table.columns.tolist() == ANSWER
    pd.testing.assert_index_equal(table.index, rows.index)
    assert answer.rows.tolist() == rows.index.tolist()
    assert answer.name(4) == "index r4"
    np.testing.assert_allclose(
        table.loc["r4", "anomaly_score"], answer.anomaly_score[4], rtol=1e-6
    )
    two_levels = pd.MultiIndex.from_product([["a", "b"], range(15)], names=["line", "n"])
    table = detector.answer(rows.set_index(two_levels)).to_frame()
    pd.testing.assert_index_equal(table.index, two_levels)


def test_a_repeated_index_keeps_every_row_and_its_causes(detector):
    rows = sensors(50, seed=1)
    rows.loc[[7, 9], "heat"] += [500, -500]
    rows.index = pd.Index([5] * 50)
    answer = detector.answer(rows)
    assert {7, 9} <= set(answer.reasons)  # by position
    assert answer.to_frame()["reasons"].iloc[7].startswith("heat = ")
    assert len(answer.to_frame().loc[5]) == 50


@pytest.mark.parametrize("lazy", [False, True])
def test_the_answer_for_a_polars_frame_is_polars_with_positions_from_zero(detector, lazy):
    rows = pl.from_pandas(sensors(12, seed=2))
    table = detector.answer(rows.lazy() if lazy else rows).to_frame()
    assert isinstance(table, pl.DataFrame)
    assert table.columns == ["position", *ANSWER]
    assert table["position"].to_list() == list(range(12))


def test_rows_of_files_count_from_one_and_positions_of_arrow_and_arrays_from_zero(
    detector, tmp_path
):
    rows = pa.Table.from_pandas(sensors(12, seed=2), preserve_index=False)
    table = detector.answer(rows).to_frame()
    assert isinstance(table, pa.Table)
    assert table.column("position").to_pylist() == list(range(12))
    sensors(12, seed=2).to_csv(tmp_path / "rows.csv", index=False)
    for path in (tmp_path / "rows.csv", str(tmp_path / "rows.csv")):
        answer = detector.answer(path)
        assert answer.to_frame().column("row").to_pylist() == list(range(1, 13))
        assert answer.name(0) == "row 1"


def test_a_gap_makes_a_row_neither_calm_nor_loud(detector):
    rows = sensors(200, seed=3)
    full = detector.score_samples(rows)
    gappy = detector.score_samples(rows.assign(noise=np.nan))
    assert abs(np.median(full - gappy)) < 0.05  # of a usual row's anomaly score


def test_a_row_with_no_observed_cell_scores_nan_and_never_alarms(detector):
    rows = sensors(3).astype({"mode": object})
    rows.loc[1, ["flow", "heat", "noise"]] = np.nan
    rows.loc[1, "mode"] = None
    answer = detector.answer(rows)
    assert np.isnan(answer.anomaly_score[1])
    assert np.isnan(answer.p_value[1])
    assert not answer.alarm[1]
    assert detector.predict(rows)[1] == 1


def test_a_level_never_met_is_surprising_and_is_remarked(detector):
    rows = sensors(60, seed=4)
    usual = detector.score_samples(rows)
    strange = rows.assign(mode=["sideways", *rows["mode"].tolist()[1:]])
    scores = detector.score_samples(strange)
    assert usual[0] - scores[0] > 3
    np.testing.assert_allclose(scores[1:], usual[1:], rtol=1e-5)
    drift = Drift(detector.autoencoder_.model_.modality)
    source = open_rows(detector.autoencoder_, strange)
    for block in source.blocks(100):
        answer_rows(detector, block, drift=drift)
    assert any("'mode': 1 of 60 rows have a level" in remark for remark in drift.remarks())


def test_thresholds_move_without_refitting(detector):
    rows = sensors(300, seed=5)
    tight = AnomalyDetector.from_fitted(detector.autoencoder_, false_alarm_rate=0.01).answer(rows)
    loose = AnomalyDetector.from_fitted(detector.autoencoder_, false_alarm_rate=0.2).answer(rows)
    assert tight.alarm.sum() < loose.alarm.sum()
    np.testing.assert_array_equal(tight.anomaly_score, loose.anomaly_score)
    assert (loose.p_value[loose.alarm] <= 0.2).all()
    assert (loose.p_value[~loose.alarm] > 0.2).all()


def test_a_rate_that_the_rows_cannot_promise_is_said_with_the_rate_that_is_possible():
    model = Autoencoder(training=TrainingConfig(20), random_state=0).fit(sensors(60))
    with pytest.warns(
        KeyholeWarning, match=r"too low for 60 calibration rows.*lowest possible rate"
    ):
        detector = AnomalyDetector.from_fitted(model, false_alarm_rate=0.001)
    assert (detector.predict(sensors(60)) == 1).all()


@given(
    st.lists(st.floats(-50, 50), min_size=1, max_size=60),
    st.floats(0.001, 0.999),
    st.floats(-60, 60),
)
def test_a_row_alarms_exactly_where_its_p_value_is_within_the_rate(held_out, rate, anomaly_score):
    calibration = Calibration(np.sort(np.array(held_out)))
    p = calibration.p_value(np.array([anomaly_score]))[0]
    assert 0 < p <= 1
    assert (anomaly_score > calibration.threshold(rate)) == (p <= rate * (1 + 1e-12))


def test_false_alarms_stay_near_the_promise_on_rows_like_those_of_training(detector):
    fresh = sensors(2_000, seed=6)
    assert 0.01 < detector.answer(fresh).alarm.mean() < 0.11


def test_seen_cells_stay_untouched_and_gaps_are_filled_near_the_truth(detector):
    rows = sensors(100, seed=7)
    gappy = rows.copy()
    gappy.loc[::2, "heat"] = np.nan
    gappy.loc[1::4, "mode"] = None
    full = Impute(detector.autoencoder_).answer(gappy)
    assert not full[["flow", "heat", "noise", "mode"]].isna().any().any()
    pd.testing.assert_series_equal(full["heat"][1::2], rows["heat"][1::2])
    assert full["unit"].tolist() == rows["unit"].tolist()
    off = (full["heat"] - rows["heat"])[::2]
    assert off.std() < 0.6 * rows["heat"].std()
    assert (full["mode"] == rows["mode"])[1::4].mean() > 0.7


def test_the_same_kind_of_frame_comes_back(detector):
    pandas = sensors(10).set_index(pd.Index(range(100, 110)))
    assert Embed(detector.autoencoder_).answer(pandas).index.tolist() == list(range(100, 110))
    polars = Reconstruct(detector.autoencoder_).answer(pl.from_pandas(sensors(10)))
    assert isinstance(polars, pl.DataFrame)
    assert polars.columns == ["flow", "heat", "noise", "mode"]
    assert polars["mode"].dtype == pl.String


def test_codes_do_not_depend_on_the_rest_of_the_batch(detector):
    rows = sensors(40, seed=8)
    together = Embed(detector.autoencoder_).answer(rows).to_numpy()
    alone = Embed(detector.autoencoder_).answer(rows.iloc[[13]]).to_numpy()
    np.testing.assert_allclose(together[13:14], alone, rtol=1e-4, atol=1e-5)


def test_an_answer_shows_itself_in_a_notebook_with_hostile_values_harmless(detector):
    rows = sensors(5)
    rows.loc[0, "mode"] = "<script>alert(1)</script>"
    page = detector.answer(rows, explain_rows="all")._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
