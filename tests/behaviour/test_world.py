"""Change of world: what a monitor reports of windows that come in, and what it does not."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.signal import lfilter

from keyhole import AnomalyDetector, Autoencoder, BundleError, Schema, TrainingConfig
from keyhole.bottlenecks import Plain
from keyhole.data.source import ArrowRows
from keyhole.data.windows import Windower
from keyhole.modalities.rows.holdout import in_order_of_time
from keyhole.tasks.detect.long_run import LongRun, correlation_length
from keyhole.tasks.detect.world import WorldMonitor

pytestmark = pytest.mark.filterwarnings("ignore::keyhole.errors.KeyholeWarning")
START = pd.Timestamp("2026-01-01")
CHANNELS = ["flow", "pressure", "heat", "speed"]
AT = 1_500  # the step at which a world changes


def persistent(steps, count, rng, persistence=0.5):
    noise = np.sqrt(1 - persistence**2) * rng.normal(size=(steps + 100, count))
    return lfilter([1], [1, -persistence], noise, axis=0)[100:]


def plant(steps, seed):
    """Four channels that share half of their variance, and a valve."""
    rng = np.random.default_rng(seed)
    values = persistent(steps, 1, rng) + persistent(steps, 4, rng)
    frame = pd.DataFrame(values / np.sqrt(2), columns=CHANNELS)
    frame["valve"] = np.where(rng.random(steps // 20 + 1) < 0.5, "open", "shut").repeat(20)[:steps]
    frame.insert(0, "time", START + pd.to_timedelta(np.arange(steps), unit="s"))
    return frame


@pytest.fixture(scope="module")
def detector():
    # Trained once for all: some seconds.
    model = Autoencoder(Plain(8), training=TrainingConfig(10, members=2), random_state=0)
    return AnomalyDetector(model, schema=Schema(time="time")).fit(plant(4_500, 0))


@pytest.fixture(scope="module")
def scorer(detector):
    return detector.scorer_


def windows_of(scorer, frame):
    """The encoded windows of a frame, and their last moments."""
    windower = Windower(scorer.table.spec)
    parts = windower.push(ArrowRows(pa.Table.from_pandas(frame, preserve_index=False)))
    table = pa.concat_tables([part.table for part in parts if part.table.num_rows])
    times = table.column("time").to_numpy()
    return scorer.table.encode(ArrowRows(table)), times


def changes_of(scorer, frame):
    return WorldMonitor(scorer).add(*windows_of(scorer, frame))


def changed(how):
    frame = plant(AT + 1_500, 1)
    how(frame)
    return frame


def shift(frame):
    frame.loc[AT:, "heat"] += 1.5


def independent(frame):
    other = plant(len(frame), 2)
    frame.loc[AT:, "speed"] = other["speed"]


def dead(frame):
    frame.loc[AT:, "flow"] = np.nan


def always_open(frame):
    frame.loc[AT:, "valve"] = "half"


def test_a_stream_like_training_has_no_change(scorer):
    assert changes_of(scorer, plant(40_000, 3)) == []


@pytest.mark.parametrize(
    ("how", "channel", "kind", "words"),
    [
        (shift, "heat", "level", "the level of heat is above what training shows"),
        (independent, "speed", "relation", "the relation of speed and "),
        (dead, "flow", "gaps", "flow has more gaps than in training"),
        (always_open, "valve", "shares", "the shares of the levels of valve differ"),
    ],
)
def test_a_change_names_its_channel_its_kind_and_its_beginning(scorer, how, channel, kind, words):
    change, *others = changes_of(scorer, changed(how))
    assert (change.kind, change.group, others) == (kind, None, [])
    assert change.what.split(" and ")[0] == channel
    assert words in change.text
    assert abs(change.since - (START + pd.Timedelta(AT, "s"))) < pd.Timedelta(100, "s")
    assert pd.Timedelta(0) < change.at - (START + pd.Timedelta(AT, "s")) < pd.Timedelta(1_000, "s")


def test_a_single_event_is_no_change(scorer):
    frame = plant(4_000, 4)
    frame.loc[2_000:2_010, "flow"] += 50.0
    frame.loc[3_000:3_120, CHANNELS] += 20.0
    assert changes_of(scorer, frame) == []


def test_portions_do_not_matter(scorer):
    batch, times = windows_of(scorer, changed(shift))
    whole = WorldMonitor(scorer).add(batch, times)
    monitor, sizes, parts, first = WorldMonitor(scorer), [1, 2, 50, 7, 300], [], 0
    for i in range(len(times)):
        last = first + sizes[i % len(sizes)]
        parts += monitor.add(batch.take(slice(first, last)), times[first:last])
        first = last
    assert parts == whole


def test_a_saved_state_goes_on_as_if_it_had_not_stopped(scorer):
    batch, times = windows_of(scorer, changed(shift))
    for half in (350, 450, 600):
        monitor = WorldMonitor(scorer)
        before = monitor.add(batch.take(slice(0, half)), times[:half])
        text = json.dumps(monitor.to_json())
        assert len(text) < 50_000
        monitor = WorldMonitor.from_json(scorer, json.loads(text))
        after = monitor.add(batch.take(slice(half, None)), times[half:])
        assert before + after == WorldMonitor(scorer).add(batch, times)


@pytest.mark.parametrize("offsets", [[[0.0]], [["much"]]])
def test_a_state_of_another_model_is_refused(scorer, offsets):
    state = {"machines": {"": {"count": 1, "ends": [0], "offsets": offsets}}}
    with pytest.raises(BundleError):
        WorldMonitor.from_json(scorer, state)


def test_a_channel_is_reported_once_until_reset(scorer):
    monitor, frame = WorldMonitor(scorer), changed(shift)
    batch, times = windows_of(scorer, frame)
    assert [change.what for change in monitor.add(batch, times)] == ["heat"]
    later = times + np.timedelta64(3_000, "s")
    assert monitor.add(batch, later) == []
    monitor.reset()
    assert [change.what for change in monitor.add(batch, later + np.timedelta64(3_000, "s"))] == [
        "heat"
    ]


def test_machines_are_followed_apart(scorer):
    (good, times), (bad, _) = (windows_of(scorer, f) for f in (plant(3_000, 5), changed(shift)))
    monitor, reports = WorldMonitor(scorer), []
    for first in range(0, len(times), 40):
        part = slice(first, first + 40)
        both = type(good).join([good.take(part), bad.take(part)])
        groups = ["a"] * len(times[part]) + ["b"] * len(times[part])
        reports += monitor.add(both, np.concatenate([times[part], times[part]]), groups)
    assert [(change.what, change.group) for change in reports] == [("heat", "b")]
    assert "the level of heat of b is above" in reports[0].text


def test_a_report_for_every_channel_leaves_nothing_to_watch(scorer):
    frame = plant(6_000, 6)
    frame.loc[1_000:, CHANNELS] += 3.0
    frame.loc[1_000:, "valve"] = "half"
    reports = changes_of(scorer, frame)
    assert {change.what for change in reports} == {*CHANNELS, "valve"}


def test_a_saved_detector_has_the_same_limits(detector, tmp_path):
    detector.save(tmp_path / "model")
    loaded = AnomalyDetector.load(tmp_path / "model")
    limits = [WorldMonitor(d.scorer_).limits(frozenset(), 0) for d in (detector, loaded)]
    np.testing.assert_allclose(*limits, rtol=1e-4)


def long_run(x, places=None, lengths=(8,)):
    places = np.arange(len(x)) if places is None else places
    return LongRun.of(x[:, None], places, lengths, np.array([0.01]))


def test_the_spread_of_means_is_that_of_the_series():
    rng = np.random.default_rng(0)
    for persistence in (0.0, 0.9):
        x = persistent(20_000, 1, rng, persistence)[:, 0]
        means = np.lib.stride_tricks.sliding_window_view(x, 8).mean(1)
        assert long_run(x).spread[0, 0] == pytest.approx(means.std(), rel=0.05)
        some = rng.random(len(x)) < 0.3  # a sample of windows tells the same
        sampled = long_run(x[some], np.flatnonzero(some))
        assert sampled.spread[0, 0] == pytest.approx(means.std(), rel=0.1)
        assert correlation_length(0.9 ** np.arange(200)) == pytest.approx(19, rel=0.01)


def test_a_series_that_wanders_is_hardly_known():
    rng = np.random.default_rng(0)
    calm, wandering = rng.normal(size=500), np.cumsum(rng.normal(size=500))
    assert long_run(calm).freedom[0, 0] > 50
    assert long_run(wandering).freedom[0, 0] < 5


def test_limits_of_a_feature_without_values_are_endless():
    assert np.isinf(long_run(np.full(20, np.nan)).thresholds(1e-3)).all()


def test_positions_go_machine_by_machine():
    machines = ["b", "a", "b", None, "a", "b"]
    position = in_order_of_time(np.array([0, 1, 2, 4, 5]), machines, overlap=1)
    apart = 2 * 64  # twice the rows that share values, 64 times
    assert position.tolist() == [2 * apart + 3, apart + 1, 2 * apart + 4, apart + 2, 2 * apart + 5]
    assert in_order_of_time(np.array([3, 7]), [], overlap=1).tolist() == [3, 7]


def test_new_reference_rows_follow_those_of_training(detector):
    reference = detector.scorer_.reference
    more = reference.with_rows(reference.batch.take(slice(0, 5)), np.ones(5), met=4_000)
    assert (more.position[-5:] > more.position[:-5].max()).all()
    assert len(more.position) == len(more)
