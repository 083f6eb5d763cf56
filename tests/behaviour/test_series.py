"""Sensor series: what a user gives, and what is answered for every row of it."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyhole import AnomalyDetector, Autoencoder, DataError, Schema, SettingError, TrainingConfig
from keyhole.cli import run
from keyhole.data import open_source
from keyhole.data.series import AnsweredSource
from keyhole.data.source import ArrowRows
from keyhole.data.tracks import WindowSpec
from keyhole.data.windows import Windower
from keyhole.modalities import SeriesModality, SeriesSchema
from keyhole.modalities.series.propose import propose
from keyhole.tasks import Embed, Impute, Reconstruct, Score

pytestmark = pytest.mark.filterwarnings("ignore::keyhole.errors.KeyholeWarning")
SHORT = TrainingConfig(40)
START = pd.Timestamp("2024-05-01")


def plant(n=1_500, seed=0):
    """Two channels that follow one wave, one of their own, and a valve."""
    rng, t = np.random.default_rng(seed), np.arange(n)
    wave = np.sin(t / 20 * 2 * np.pi)
    return pd.DataFrame({
        "time": START + pd.to_timedelta(t, unit="s"),
        "flow": 5 + wave + 0.1 * rng.normal(size=n),
        "pressure": 2 * wave + 0.1 * rng.normal(size=n),
        "heat": 20 + np.cos(t / 7) + 0.1 * rng.normal(size=n),
        "valve": np.where(t // 100 % 3 == 0, "open", "shut"),
    })  # fmt: skip


def windows_of(frame, spec):
    """All windows of a frame, as one table."""
    windower = Windower(spec)
    parts = windower.push(ArrowRows(pa.Table.from_pandas(frame, preserve_index=False)))
    parts += windower.close()
    return pa.concat_tables([part.table for part in parts if len(part.table)])


@pytest.fixture(scope="module")
def detector():
    # Trained once for all: two seconds.
    schema = Schema(time="time")
    model = Autoencoder(training=SHORT, random_state=0)
    return AnomalyDetector(model, schema=schema).fit(plant())


def test_clock_window_and_channels_are_proposed_and_shown(detector):
    modality = detector.autoencoder_.model_.modality
    assert isinstance(modality, SeriesModality)
    spec = modality.spec
    assert (spec.every, spec.channels) == (1.0, ("flow", "pressure", "heat", "valve"))
    assert spec.window == 20  # the period of the wave, in patches of 2
    assert (
        "a step every 1 s; windows of 20 steps (the dominant period)" in modality.reasons["time"]
    )
    assert modality.reasons["valve"] == "two texts"


def test_every_row_is_answered_in_its_place_with_its_time(detector):
    new = plant(400, seed=1)
    table = detector.answer(new).to_frame()
    pd.testing.assert_index_equal(table.index, new.index)
    assert table["time"].tolist() == new["time"].tolist()
    assert table["anomaly_score"].notna().all()
    shuffled = new.sample(frac=1, random_state=0)
    again = detector.answer(shuffled).to_frame()
    np.testing.assert_allclose(
        again.loc[new.index, "anomaly_score"], table["anomaly_score"], rtol=1e-5
    )


@pytest.mark.parametrize("channel", ["flow", "pressure", "heat"])
def test_a_shift_is_an_alarm_that_names_its_channel_first(detector, channel):
    new = plant(600, seed=2)
    new.loc[300:360, channel] += 4
    answer = detector.answer(new)
    assert answer.alarm[305:355].all()
    assert answer.alarm[:290].mean() < 0.1
    assert answer.reasons[330][0].column == channel
    assert answer.reasons[330][0].value == f"{new[channel][330]:.4g}"


def test_a_stuck_sensor_is_found_though_all_its_values_are_usual(detector):
    new = plant(600, seed=3)
    new.loc[300:380, "heat"] = new["heat"][300]
    scores = -detector.score_samples(new)
    assert np.median(scores[325:380]) > np.quantile(scores[:290], 0.95)


def test_a_saved_detector_scores_to_the_same_bits(detector, tmp_path):
    detector.save(tmp_path / "m.keyhole")
    loaded, new = AnomalyDetector.load(tmp_path / "m.keyhole"), plant(200, seed=1)
    np.testing.assert_array_equal(loaded.score_samples(new), detector.score_samples(new))


def test_codes_are_of_windows_and_all_else_of_rows(detector):
    model, new = detector.autoencoder_, plant(200, seed=1)
    new.loc[50:60, "pressure"] = np.nan
    windows = (200 - 20) // 2 + 1
    codes = Embed(model).answer(new)
    assert (len(codes), codes.columns[0]) == (windows, "time")
    assert codes["time"].iloc[0] == START + pd.Timedelta(19, unit="s")
    assert len(Score(model).answer(new)) == len(model.score_samples(new)) == 200
    expected = Reconstruct(model).answer(new)
    assert expected.columns.tolist() == ["flow", "pressure", "heat", "valve"]
    assert np.corrcoef(expected["flow"], new["flow"])[0, 1] > 0.5
    filled = Impute(model).answer(new)
    pd.testing.assert_frame_equal(filled.drop(columns="pressure"), new.drop(columns="pressure"))
    assert filled["pressure"].notna().all()
    assert (filled["pressure"].drop(range(50, 61)) == new["pressure"].drop(range(50, 61))).all()


def test_a_long_export_is_the_same_series_as_a_wide_one():
    wide = plant(400)[["time", "flow", "heat"]]
    long = wide.melt(id_vars="time", var_name="tag", value_name="value").sort_values("time")
    spec = propose(open_source(long), Schema(time="time"))
    assert (spec.tag, spec.value, spec.channels) == ("tag", "value", ("flow", "heat"))
    windows = [windows_of(frame, propose(open_source(frame), Schema(time="time")))
               for frame in (wide, long)]  # fmt: skip
    assert windows[0].column("heat").equals(windows[1].column("heat"))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-5, 3), st.booleans()), min_size=1, max_size=60),
    st.lists(st.integers(1, 20), min_size=1, max_size=20),
    st.integers(1, 6),
)
def test_rows_pushed_in_any_portions_make_the_same_windows(rows, portions, stride):
    steps, machines = np.cumsum([pause for pause, _ in rows]), [str(other) for _, other in rows]
    times = START + pd.to_timedelta(steps, unit="s")
    frame = pd.DataFrame({"t": times, "x": np.arange(len(steps), dtype=float), "m": machines})
    spec = WindowSpec("t", ("x",), "iso", 1.0, 6, stride, 2, group="m")

    def answers(sizes, saved):
        windower, start, answered = Windower(spec), 0, {}
        rows = pa.Table.from_pandas(frame, preserve_index=False)
        for size in sizes:
            for part in windower.push(ArrowRows(rows[start : start + size])):
                _keep(answered, part)
            start += size
            if saved:
                state = json.loads(json.dumps(windower.to_json()))
                windower = Windower.from_json(spec, state)
        for part in windower.close():
            _keep(answered, part)
        return answered, windower.counts

    def _keep(answered, part):
        for row, time, window, step in zip(
            part.rows, part.times, part.window, part.step, strict=True
        ):
            assert pd.Timestamp(time, unit="s") == times[row]
            lists = None if window < 0 else part.table.column("x")[int(window)].as_py()
            assert lists is None or lists[step] is not None
            answered[int(row)] = lists

    whole = answers([len(frame)], saved=False)
    assert sorted(whole[0]) == list(range(len(frame)))  # each row once
    assert answers((portions * len(frame))[: len(frame)], saved=False) == whole
    assert answers((portions * len(frame))[: len(frame)], saved=True) == whole


def test_no_window_crosses_a_pause_or_two_machines():
    one = plant(60).drop(index=range(30, 40))[["time", "flow"]].assign(machine="a")
    two = plant(40)[["time", "flow"]].assign(machine="b", flow=-1.0)
    frame = pd.concat([one, two]).sort_values("time", kind="stable")
    spec = WindowSpec("time", ("flow",), "iso", 1.0, 8, 2, 5, group="machine")
    blocks = list(AnsweredSource(open_source(frame), spec).blocks(1_000))
    for block in blocks:
        for machine, values in zip(
            block.windows.column("machine").to_pylist(), block.windows.column("flow").to_pylist(),
            strict=True,
        ):  # fmt: skip
            assert None not in values
            assert (machine == "b") == (set(values) == {-1.0})
    assert sum(map(len, blocks)) == 90


def test_late_rows_and_rows_without_a_time_are_counted_and_not_answered():
    frame = plant(40)[["time", "flow"]].astype({"time": object})
    frame.loc[20, "time"] = START + pd.Timedelta(17, unit="s")
    frame.loc[30, "time"] = None
    spec = WindowSpec("time", ("flow",), "iso", 1.0, 8, 2, 5)
    windower = Windower(spec)
    parts = windower.push(ArrowRows(pa.Table.from_pandas(frame, preserve_index=False)))
    window = np.zeros(40, int)
    for part in [*parts, *windower.close()]:
        window[part.rows] = part.window
    assert np.flatnonzero(window < 0).tolist() == [20, 30]
    assert windower.counts.sentences() == [
        "1 row earlier than a row before: not used, and not answered",
        "1 row without a time stamp that can be read: not used, and not answered",
    ]


def test_texts_among_numbers_are_gaps(detector):
    new = plant(200, seed=1)
    odd = new.astype({"flow": object})
    odd.loc[[40, 41], "flow"] = ["Bad", "No Data"]
    gap = new.copy()
    gap.loc[[40, 41], "flow"] = np.nan
    odd["flow"] = odd["flow"].astype(str)
    np.testing.assert_allclose(detector.score_samples(odd), detector.score_samples(gap), rtol=1e-3)


def test_a_level_and_a_gap_and_a_constant_channel_have_answers(detector):
    new = plant(200, seed=1)
    new.loc[100:, "valve"] = "stuck half way"
    new["heat"] = np.nan
    new["flow"] = 5.0
    assert np.isfinite(detector.score_samples(new)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.iloc[:0], "0 sample"),
        (lambda d: d.iloc[:1], "no two rows have different times"),
        (lambda d: d.iloc[:5], "no stretch of"),
        (lambda d: d.assign(time="soon"), "holds no time stamps that can be read"),
        (lambda d: d.drop(columns="time"), "column 'time', which the schema needs, is absent"),
    ],
)
def test_what_is_no_series_is_refused_in_one_line(change, message):
    model = Autoencoder(schema=Schema(time="time"), training=SHORT)
    with pytest.raises(DataError, match=message):
        model.fit(change(plant(100)))


def test_a_channel_that_is_absent_is_named(detector):
    with pytest.raises(DataError, match="'heat'"):
        detector.predict(plant(50).drop(columns="heat"))


def test_a_series_shorter_than_a_window_has_no_answer_and_no_alarm(detector):
    answer = detector.answer(plant(8))
    assert np.isnan(answer.anomaly_score).all()
    assert not answer.alarm.any()


def test_settings_that_make_no_series_are_refused():
    with pytest.raises(SettingError, match="a series needs time=COLUMN"):
        Autoencoder(schema=SeriesSchema()).fit(plant(100))
    with pytest.raises(SettingError, match="is for the machines of a series"):
        Autoencoder(schema=Schema(group="valve")).fit(plant(100))


def test_epochs_time_zones_and_a_summer_time_jump_are_read():
    n = 300
    zoned = pd.date_range("2024-10-27 00:30", periods=n, freq="min", tz="Europe/Berlin")
    for times in (zoned, zoned.astype("int64") // 10**6, zoned.astype(str)):
        frame = pd.DataFrame({"time": times, "x": np.sin(np.arange(n) / 5)})
        spec = propose(open_source(frame), Schema(time="time"))
        assert (spec.every, spec.window > 8) == (60.0, True)
        windows = sum(len(b) for b in AnsweredSource(open_source(frame), spec).blocks(1_000))
        assert windows == n  # one segment: the clock in UTC does not jump


def test_the_command_line_takes_a_series(tmp_path, capfd):
    data, new = tmp_path / "plant.csv", tmp_path / "new.csv"
    two = [plant(700, seed).assign(machine=name) for seed, name in enumerate("ab")]
    pd.concat(two).sort_values("time", kind="stable").to_csv(data, index=False)
    today = plant(300, seed=5)
    today.loc[200:240, "pressure"] += 4
    today.assign(machine="a").to_csv(new, index=False)
    model, out = str(tmp_path / "m.keyhole"), tmp_path / "alarms.csv"
    arguments = ["--time", "time", "--group", "machine", "--steps", "40", "--no-report"]
    assert run(["fit", str(data), "-o", model, *arguments]) == 0
    assert "a step every 1 s; windows of 20 steps" in capfd.readouterr().err
    page = ["--report", str(tmp_path / "page.html")]
    assert run(["detect", model, str(new), "-o", str(out), *page]) == 0
    answers = pd.read_csv(out)
    assert len(answers) == 300
    assert answers["alarm"][205:240].all()
    assert answers["reasons"][220].startswith("pressure = ")
    for verb, rows in (("score", 300), ("reconstruct", 300), ("impute", 300), ("embed", 141)):
        assert run([verb, model, str(new), "-o", str(tmp_path / "out.csv"), "--force"]) == 0
        assert len(pd.read_csv(tmp_path / "out.csv")) == rows
    assert run(["explain", model, str(new), "--row", "220"]) == 0
    assert "pressure" in capfd.readouterr().out
    assert run(["fit", str(data), "-o", model, "--window", "20"]) == 2
