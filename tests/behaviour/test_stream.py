"""Events, streams and `keyhole watch`: what is answered while rows are still coming."""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from keyhole import AnomalyDetector, Autoencoder, DataError, Schema, SettingError, TrainingConfig
from keyhole.cli import run
from keyhole.data.follow import Follower, RowReader
from keyhole.errors import BundleError
from keyhole.tasks.detect.events import AlarmWindows, EventBuilder, EventRule, seconds_for_one

pytestmark = pytest.mark.filterwarnings("ignore::keyhole.errors.KeyholeWarning")
START = pd.Timestamp("2024-05-01")


def plant(n, seed, machine):
    """Two channels that follow one wave, and a valve."""
    rng, t = np.random.default_rng(seed), np.arange(n)
    wave = np.sin(t / 20 * 2 * np.pi)
    return pd.DataFrame({
        "time": START + pd.to_timedelta(t, unit="s"),
        "machine": machine,
        "flow": 5 + wave + 0.1 * rng.normal(size=n),
        "heat": 20 + np.cos(t / 7) + 0.1 * rng.normal(size=n),
        "valve": np.where(t // 100 % 3 == 0, "open", "shut"),
    })  # fmt: skip


def both(n, seed):
    """Rows of two machines as they come, with a fault in the heat of one of them."""
    one, two = plant(n, seed, "a"), plant(n, seed + 1, "b")
    two.loc[200:260, "heat"] += 6
    return pd.concat([one, two]).sort_values("time", kind="stable", ignore_index=True)


@pytest.fixture(scope="module")
def detector():
    clean = pd.concat([plant(900, 0, "a"), plant(900, 1, "b")], ignore_index=True)
    model = Autoencoder(training=TrainingConfig(40), random_state=0)
    return AnomalyDetector(model, schema=Schema(time="time", group="machine")).fit(clean)


@pytest.fixture(scope="module")
def path(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "plant.keyhole"
    detector.save(path)
    return str(path)


def answers(stream, frame, sizes):
    """The scores and events of a frame that is pushed in portions of these sizes."""
    scores, events, start = np.full(len(frame), np.nan), [], 0
    for size in sizes:
        update = stream.push(frame.iloc[start : start + size])
        scores[update.answer.rows - 1] = update.answer.anomaly_score
        events += update.events
        start += size
    return scores, events


@pytest.mark.parametrize("sizes", [[800], [380, *[1] * 160, 260], [7, 1, 292, 500]])
def test_a_stream_gives_the_scores_of_the_batch(detector, sizes):
    frame = both(400, 5)
    stream = detector.stream()
    scores, events = answers(stream, frame, sizes)
    last = stream.close()
    scores[last.answer.rows - 1] = last.answer.anomaly_score
    np.testing.assert_allclose(scores, -detector.score_samples(frame), rtol=1e-5)
    ended = [event for event in [*events, *last.events] if not event.open]
    batch = detector.events(frame)
    assert [(e.group, e.start, e.channel) for e in ended] == [
        (line.machine, np.datetime64(line.start, "ms"), line.channel)
        for line in batch.itertuples()
    ]


def test_an_event_names_its_machine_its_time_and_the_channel_that_started_it(detector):
    frame = both(400, 5)
    events = detector.events(frame)
    assert events.columns.tolist() == [
        "machine", "start", "end", "peak", "channel", "channels", "anomaly_score", "open",
    ]  # fmt: skip
    assert events["machine"].tolist() == ["b"]
    fault = START + pd.Timedelta(200, unit="s")
    assert fault - pd.Timedelta(3, unit="s") <= events["start"][0] <= fault + pd.Timedelta("6s")
    assert events["start"][0] < events["peak"][0] <= events["end"][0]
    assert events["channel"][0] == "heat"
    assert not events["open"][0]


def test_a_saved_stream_goes_on_as_if_it_had_not_stopped(detector, tmp_path):
    frame = both(400, 5)
    whole, _ = answers(detector.stream(), frame, [800])
    stream, scores = detector.stream(), np.full(800, np.nan)
    for start in range(0, 800, 100):  # also within the event
        update = stream.push(frame.iloc[start : start + 100])
        scores[update.answer.rows - 1] = update.answer.anomaly_score
        stream.save(tmp_path / "state.json")
        stream = detector.stream(state=tmp_path / "state.json")
    np.testing.assert_allclose(scores, whole, rtol=1e-12)
    assert os.path.getsize(tmp_path / "state.json") < 100_000


def test_the_state_of_another_model_is_refused(detector, tmp_path):
    stream = detector.stream()
    stream.save(tmp_path / "state.json")
    state = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps({**state, "model": "another"}))
    with pytest.raises(BundleError, match="another model"):
        detector.stream(state=tmp_path / "state.json")
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(BundleError, match="cannot be used"):
        detector.stream(state=tmp_path / "state.json")


def test_rows_may_be_dicts_and_what_is_no_row_is_refused(detector):
    stream, frame = detector.stream(), plant(60, 5, "a")
    rows = [stream.push(row).answer.rows for row in frame.to_dict("records")]
    assert np.concatenate(rows).tolist() == list(range(1, sum(map(len, rows)) + 1))
    assert sum(map(len, rows)) > 50
    with pytest.raises(DataError, match="heat"):
        stream.push(frame.drop(columns="heat"))
    with pytest.raises(DataError, match="frames or dicts of rows, not list"):
        stream.push([1, 2])


def test_positions_of_a_valve_may_be_numbers_in_portions_of_any_size():
    frame = plant(500, 0, "a").drop(columns="machine")
    frame["valve"] = np.where(frame["valve"] == "open", 3, 7)
    model = Autoencoder(training=TrainingConfig(5), random_state=0)
    schema = Schema(time="time", kinds={"valve": "category"})
    numbers = AnomalyDetector(model, schema=schema).fit(frame)
    scores, _ = answers(numbers.stream(), frame, [1, 30, 5, 100, 1, 363])
    known = ~np.isnan(scores)
    assert known.sum() > 450
    np.testing.assert_allclose(scores[known], -numbers.score_samples(frame)[known], rtol=1e-5)


def test_answers_of_a_stream_are_a_table_of_the_kind_that_was_pushed(detector):
    table = detector.stream().push(both(60, 5)).to_frame()
    assert isinstance(table, pd.DataFrame)
    assert table.columns.tolist() == [
        "row", "time", "machine", "anomaly_score", "score_std", "p_value", "alarm", "reasons",
    ]  # fmt: skip
    assert set(table["machine"]) == {"a", "b"}
    empty = detector.stream().push(both(60, 5).iloc[:0]).to_frame()
    assert (len(empty), empty.columns.tolist()) == (0, table.columns.tolist())


def test_a_clock_that_jumps_back_and_late_rows_are_counted_in_a_stream(detector):
    frame = plant(120, 5, "a")
    frame.loc[100, "time"] = frame.loc[97, "time"]  # late
    frame.loc[110:, "time"] -= pd.Timedelta("1D")  # another day: a new beginning
    stream = detector.stream()
    rows, _ = answers(stream, frame, [1] * 120)
    assert np.isnan(rows[100])
    assert stream.counts == ["1 row earlier than a row before: not used, and not answered"]


def test_tables_have_neither_events_nor_streams():
    frame = pd.DataFrame({"a": np.arange(60.0), "b": np.arange(60.0) % 7})
    model = AnomalyDetector(Autoencoder(training=TrainingConfig(5), random_state=0)).fit(frame)
    for ask in (model.events, lambda _: model.stream()):
        with pytest.raises(SettingError, match=r"fit with Schema\(time=\.\.\.\)"):
            ask(frame)


@pytest.mark.parametrize(
    ("rate", "seconds"),
    [("1/day", 86_400), ("2/week", 302_400), ("0.5 per hour", 7_200), ("1 a month", 2_592_000)],
)
def test_a_rate_of_false_events_is_read(rate, seconds):
    assert seconds_for_one(rate) == seconds


@pytest.mark.parametrize("rate", ["", "1", "day", "0/day", "-1/day", "1/year2"])
def test_another_rate_of_false_events_is_an_error_that_says_how_to_write_it(rate):
    with pytest.raises(SettingError, match="such as 1/day"):
        seconds_for_one(rate)


def built(times, scores=None, excess=None, merge=10.0):
    """The events of windows of one machine at these times."""
    rule = EventRule(1.0, 0.001, "1/day", 1.0, 1.0, merge)
    builder, n = EventBuilder(rule, ["a", "b"]), len(times)
    scores = np.full(n, 2.0) if scores is None else np.array(scores)
    excess = np.tile([5.0, 1.0], (n, 1)) if excess is None else np.array(excess)
    events = builder.add(AlarmWindows([None] * n, np.array(times, float), scores, excess))
    return [event for event in [*events, *builder.passed(None, 1e9)] if not event.open]


def test_a_clock_that_jumps_back_ends_an_event_and_the_next_one_begins():
    events = built([100, 105, 20, 25])
    assert [str(event.start)[-8:-4] for event in events] == ["1:40", "0:20"]


def test_windows_at_most_a_window_apart_are_one_event_and_one_alone_is_none():
    events = built([100, 105, 115, 130, 150, 151])
    moments = [(event.start, event.end) for event in events]
    assert moments == [
        (np.datetime64(first, "s"), np.datetime64(last, "s")) for first, last in
        ((100, 115), (150, 151))
    ]  # fmt: skip


def test_channels_follow_in_the_order_in_which_they_joined():
    excess = [[2.0, 9.0], [3.0, 9.0], [8.0, 9.0]]
    (event,) = built([100, 101, 103], scores=[2.0, 5.0, 3.0], excess=excess)
    assert (event.channels, event.seconds) == (("b", "a"), (0.0, 3.0))
    assert (event.peak, event.anomaly_score) == (np.datetime64(101, "s"), 5.0)


def test_fewer_false_events_raise_the_threshold(detector):
    rules = [EventRule.of(detector, rate) for rate in ("10/hour", "1/hour", "1/day")]
    thresholds = [rule.threshold for rule in rules]
    assert thresholds == sorted(thresholds)
    assert rules[0].threshold < rules[1].threshold
    with pytest.warns(UserWarning, match="the lowest possible rate"):
        least = EventRule.of(detector, "0.001/month")
    assert np.isfinite(least.threshold)


def test_detect_writes_events(path, tmp_path, capsys):
    both(400, 5).to_csv(tmp_path / "today.csv", index=False)
    out = ["-o", str(tmp_path / "a.csv"), "--events", str(tmp_path / "events.csv")]
    assert run(["detect", path, str(tmp_path / "today.csv"), *out, "--false-events", "1/day"]) == 0
    events = pd.read_csv(tmp_path / "events.csv", parse_dates=["start", "end"])
    assert events["machine"].tolist() == ["b"]
    assert "heat first" in capsys.readouterr().err
    assert run(["detect", path, str(tmp_path / "today.csv"), "--false-events", "often"]) == 2
    assert "--false-events often: write a number" in capsys.readouterr().err


@pytest.fixture
def watched(path, run_script, tmp_path):
    """What `keyhole watch` prints of a text on standard input."""

    def run_watch(text, *options):
        arguments = ["watch", path, *options]
        code = f"import sys\nfrom keyhole.cli import run\nsys.exit(run({arguments!r}))"
        return run_script(code, tmp_path, text)

    return run_watch


def test_watch_prints_events_of_csv_and_of_json_lines(watched):
    frame = both(400, 5)
    text = frame.to_csv(index=False)
    cut = text[: text.rindex(",")] + "\n" + "nonsense\n"  # two lines that are no rows
    shown = watched(cut)
    assert shown.returncode == 0
    began, ended = shown.stdout.splitlines()
    assert began.startswith("began     b: since 2024-05-01 00:03:")
    assert ended.startswith("ended     b: 2024-05-01 00:03:")
    assert "2 lines are not rows" in shown.stderr
    lines = frame.assign(time=frame["time"].astype(str)).to_json(orient="records", lines=True)
    events = [json.loads(line) for line in watched(lines, "--json").stdout.splitlines()]
    assert [event["event"] for event in events] == ["began", "ended"]
    assert events[0]["channel"] == "heat"


def test_watch_says_in_one_line_what_is_wrong_with_the_rows(watched):
    shown = watched(both(20, 5).drop(columns="heat").to_csv(index=False))
    assert shown.returncode == 2
    assert "heat" in shown.stderr.splitlines()[-1]
    assert "Traceback" not in shown.stderr


def test_watch_follows_a_file_that_grows_and_is_rotated_and_goes_on_after_a_stop(
    path, watched, tmp_path
):
    frame, live = both(400, 5), tmp_path / "live.csv"
    lines = frame.to_csv(index=False).splitlines(keepends=True)
    header, rows = lines[0], lines[1:]
    options = ["--follow", str(live), "--state", str(tmp_path / "state.json"), "--poll", "0.05"]
    command = [sys.executable, "-m", "keyhole", "watch", path, *options]
    live.write_text(header + "".join(rows[:100]))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while not process.stderr.readline().startswith("events"):
        pass
    with live.open("a") as file:
        file.write("".join(rows[100:200]) + rows[200][:9])  # cut in the middle of a row
        file.flush()
        time.sleep(0.3)
        file.write(rows[200][9:] + "".join(rows[201:500]))
    live.rename(tmp_path / "live.csv.1")
    live.write_text(header + "".join(rows[500:600]))
    assert process.stdout is not None
    first = process.stdout.readline()  # within the rotated file
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert first.startswith("began     b")
    with live.open("a") as file:
        file.write("".join(rows[600:]))
    second = watched("", *options, "--until-end")
    assert second.returncode == 0
    assert "continuing after row " in second.stderr
    rows_read = [re.search(r"rows +([\d,]+) rows", text)[1] for text in (err, second.stderr)]
    assert sum(map(int, rows_read)) == 800  # each row once
    assert [line.split()[0] for line in (out + second.stdout).splitlines()] == ["ended"]
    assert "no rows" not in err + second.stderr  # no line was lost or cut


def test_a_follower_reads_a_file_that_is_cut_and_written_anew(tmp_path):
    live = tmp_path / "live.csv"
    follower = Follower(str(live))
    assert follower.read() == []  # not there yet
    live.write_text("a\n1\n2\n")
    assert follower.read() == ["a", "1", "2"]
    live.write_text("3\n")
    assert follower.read() == ["3"]
    follower.close()


def test_a_file_that_takes_the_place_of_another_is_read_from_its_start(tmp_path):
    live = tmp_path / "live.csv"
    live.write_text("a\n1\n2\n")
    follower = Follower(str(live))
    assert follower.read() == ["a", "1", "2"]
    position = json.loads(json.dumps(follower.position))
    with live.open("a") as file:
        file.write("3\n")
    with closing(Follower(str(live), position)) as again:
        assert again.read() == ["3"]
    live.write_text("a\n7\n8\n9\n")  # longer than the old one
    assert follower.read() == ["a", "7", "8", "9"]
    follower.close()
    with closing(Follower(str(live), position)) as again:
        assert again.missed
        assert again.read() == ["a", "7", "8", "9"]


def test_a_quote_that_is_not_closed_costs_its_own_line_alone():
    reader = RowReader(["t", "x"], "live.csv")
    rows = reader.rows(["t,x", '"1', "2,3", "4,5"])
    assert rows is not None
    assert rows.table.to_pydict() == {"t": ["2", "4"], "x": ["3", "5"]}
    assert reader.broken == 1


def test_a_decimal_comma_is_read_as_in_a_file(detector):
    frame = plant(60, 5, "a")
    text = frame.to_csv(index=False, sep=";", decimal=",")
    rows = RowReader(["time", "machine", "flow", "heat", "valve"], "live.csv").rows(
        text.splitlines()
    )
    scores, _ = answers(detector.stream(), frame, [60])
    update = detector.stream().push(rows)
    np.testing.assert_allclose(update.answer.anomaly_score, scores[~np.isnan(scores)], rtol=1e-5)


def test_a_later_header_without_a_channel_is_an_error():
    reader = RowReader(["t", "x"], "live.csv")
    reader.rows(["t,x,y", "1,2,3"])
    with pytest.raises(DataError, match="'x'"):
        reader.rows(["t,z,y", "1,2,3"])


def test_truth_values_and_gaps_of_them_may_come_in_any_portions():
    frame = plant(300, 0, "a").drop(columns="machine")
    frame["valve"] = (frame["valve"] == "open").astype(object)
    frame.loc[::7, "valve"] = None
    model = Autoencoder(training=TrainingConfig(5), random_state=0)
    flags = AnomalyDetector(model, schema=Schema(time="time")).fit(frame)
    scores, _ = answers(flags.stream(), frame, [1, 30, 5, 100, 1, 163])
    known = ~np.isnan(scores)
    np.testing.assert_allclose(scores[known], -flags.score_samples(frame)[known], rtol=1e-5)


def test_a_header_is_no_row_wherever_it_stands_and_may_change_its_order():
    reader = RowReader(["t", "x"], "live.csv")
    rows = reader.rows(["t;x;y", "1;2,5;z", "x;t", "7;2", "", "t;x", "3;NA"])
    assert rows is not None
    assert rows.table.to_pydict() == {"t": ["1", "2", "3"], "x": ["2,5", "7", None]}
    assert reader.broken == 0


def test_a_state_needs_a_place_of_its_own(path, tmp_path, capsys):
    live = tmp_path / "live.csv"
    Path(live).write_text("time\n")
    assert run(["watch", path, "--follow", str(live), "--state", str(live)]) == 2
    assert run(["watch", path, "--until-end"]) == 2
    assert run(["watch", path, "--follow", str(tmp_path / "no" / "live.csv")]) == 2
    assert "in a folder that exists" in capsys.readouterr().err
