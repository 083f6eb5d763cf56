"""The timeline of a series in the page, and what happened around a moment of it."""

import base64
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_report import Read
from test_series import START, plant

from keyhole import AnomalyDetector, Autoencoder, Schema, SettingError, TrainingConfig
from keyhole.cli import run
from keyhole.cli.moments import as_json, as_text, course_of
from keyhole.core.decimation import Bins
from keyhole.core.times import duration_text, iso_text, moment_text, seconds_of_text
from keyhole.data import open_source
from keyhole.data.series import WindowSource
from keyhole.modalities import SeriesModality
from keyhole.modalities.series.propose import propose
from keyhole.report import render, score_rows
from keyhole.report.timeline import for_page
from keyhole.report.timeline_chart import timeline_chart, tops
from keyhole.report.timeline_data import packed
from keyhole.tasks.detect.events import Event
from keyhole.tasks.detect.moment import Question, explain_moment

pytestmark = pytest.mark.filterwarnings("ignore::keyhole.errors.KeyholeWarning")
SECOND = np.timedelta64(1, "s")
FIRST = START.timestamp()
CHANNELS = ["flow", "pressure", "heat", "valve"]


def event(start, end, score, channels, group=None, seconds=None, goes_on=False):
    """An event, its times in seconds after the first row."""
    first, last = (np.datetime64(START) + SECOND * s for s in (start, end))
    seconds = tuple(map(float, range(len(channels)))) if seconds is None else seconds
    return Event(first, last, first + SECOND, score, channels, seconds, group, goes_on)


def machines(rows=1_000):
    """Two machines; a sensor of the first is off from 500 on, the second ends early."""
    one, two = plant(rows, 5).assign(machine="north"), plant(rows // 2, 6).assign(machine="south")
    one.loc[500:560, "pressure"] += 4
    return pd.concat([one, two]).sort_values("time", kind="stable").reset_index(drop=True)


@pytest.fixture(scope="module")
def detector():
    # Trained once for all: two seconds.
    rows = pd.concat([plant(600, s).assign(machine=n) for s, n in enumerate(("north", "south"))])
    model = Autoencoder(training=TrainingConfig(40), random_state=0)
    schema = Schema(time="time", group="machine")
    return AnomalyDetector(model, schema=schema).fit(rows.sort_values("time", kind="stable"))


@pytest.fixture(scope="module")
def files(detector, tmp_path_factory):
    """The saved detector, and rows of two machines."""
    folder = tmp_path_factory.mktemp("moments")
    detector.save(folder / "m.keyhole")
    machines().to_csv(folder / "today.csv", index=False)
    return str(folder / "m.keyhole"), str(folder / "today.csv")


@pytest.fixture(scope="module")
def scored(detector):
    events = [
        event(500, 580, 15.0, ("pressure", "flow"), "north", (0.0, 72.0)),
        event(100, 130, 4.0, ("heat",), "south", goes_on=True),
    ]
    return score_rows(detector, machines(), events=events, event_threshold=6.0)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=200),
    st.integers(1, 40), st.integers(4, 64), st.randoms(),
)  # fmt: skip
def test_bins_hold_the_ends_of_their_rows_in_any_portions(pauses, portion, most, random):
    times = np.cumsum(np.array(pauses, float))
    values = np.array([[random.random(), np.nan if random.random() < 0.3 else 1.0] for _ in times])
    bins = Bins(1.0, most, 2)
    for start in range(0, len(times), portion):
        bins.add(times[start : start + portion], values[start : start + portion])
    extremes = bins.extremes
    assert len(bins) <= most
    assert extremes.rows.sum() == len(times)
    for i, (first, last) in enumerate(zip(bins.first, bins.last, strict=True)):
        own = values[(times >= first) & (times <= last)]
        assert extremes.rows[i] == len(own) > 0
        assert (extremes.low[i, 0], extremes.high[i, 0]) == (own[:, 0].min(), own[:, 0].max())
        assert np.isnan(extremes.low[i, 1]) == np.isnan(own[:, 1]).all()
    assert (np.diff(bins.first) > 0).all()


def test_a_spike_of_one_row_in_a_million_stays_and_memory_does_not_grow():
    bins = Bins(0.5, 4_096, 1)
    for start in range(0, 1_000_000, 16_384):
        rows = np.arange(start, min(start + 16_384, 1_000_000))
        bins.add(1.7e9 + rows * 0.5, np.where(rows == 777_777, 9.0, 0.0)[:, None])
    assert len(bins) <= 4_096
    assert (bins.extremes.high == 9.0).sum() == 1
    assert bins.width == 0.5 * bins.steps == 128.0


def test_a_pause_of_a_year_costs_no_resolution():
    bins = Bins(1.0, 256, 1)
    for start in (0, 31_536_000):
        bins.add(start + np.arange(100.0), np.zeros((100, 1)))
    assert bins.width == 1.0


def test_the_page_shows_events_in_a_chart_and_in_a_table(detector, scored):
    page = render(detector.autoencoder_, scored)
    read = Read(page)
    assert read.open == []
    assert "Timeline of north" in read.text
    assert "2024-05-01 00:08:20 2024-05-01 00:09:40" in read.text
    assert "15.00 north pressure flow after 1 min 12 s" in read.text
    assert "goes on" in read.text
    assert len(page.encode()) < 1_000_000
    ids = [value for name, value in read.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    labels = re.findall(r'aria-labelledby="([^"]*)"', page)
    assert {name for label in labels for name in label.split()} <= set(ids)
    policy = next(v for _, v in read.attributes if v and v.startswith("default-src"))
    assert "unsafe" not in policy
    assert not [name for name, _ in read.attributes if name.startswith("on") or name == "style"]


def test_the_data_of_the_page_are_the_ends_of_each_bin(scored):
    rows, timeline = machines(), for_page(scored.timeline)
    data = json.loads(json.dumps(packed(timeline), allow_nan=False))
    assert [entry[0] for entry in data["events"]] == [1, 0]
    north = data["machines"][0]
    assert [panel["name"] for panel in north["panels"]][:2] == ["", "pressure"]
    index = np.frombuffer(base64.b64decode(north["index"]), "<u4") + north["first"]
    np.testing.assert_array_equal(index * north["steps"], FIRST + np.arange(1_000))
    pressure = north["panels"][1]
    values = np.frombuffer(base64.b64decode(pressure["low"]), "<f4") + pressure["base"]
    own = rows.loc[rows["machine"] == "north", "pressure"]
    np.testing.assert_allclose(values, own, atol=1e-5)
    assert pressure["high"] == ""  # a bin is one row
    valve = next(panel for panel in north["panels"] if panel["name"] == "valve")
    assert data["levels"][valve["levels"]] == ["open", "shut", "another level"]


def test_events_put_their_machine_and_the_channel_that_started_them_first(detector):
    rows = machines()
    calm = score_rows(detector, rows).timeline
    assert (calm.machines[0].name, calm.machines[0].channels[0]) == ("north", "pressure")
    assert {event.channel for event in calm.machines[0].events} == {"pressure"}
    events = [event(100, 130, 99.0, ("valve",), "south")]
    first = score_rows(detector, rows, events=events).timeline.machines[0]
    assert (first.name, first.channels[0], len(first.events)) == ("south", "valve", 1)


def test_a_page_without_an_event_says_so(detector):
    rows = plant(200, 1).assign(machine="north")
    page = Read(render(detector.autoencoder_, score_rows(detector, rows, events=[]))).text
    assert "Over time" in page
    assert "No event." in page


def test_the_chart_stands_alone_as_xml_with_a_title_a_text_and_a_band_for_each_event(scored):
    svg = ET.fromstring(timeline_chart(for_page(scored.timeline)))
    assert svg.find("title").text == "Timeline of north"
    assert "1 event; 4 channels, those to blame first: pressure" in svg.find("desc").text
    bands = [rect for rect in svg.iter("rect") if rect.get("class") == "band"]
    assert len(bands) == 1
    panels = [group for group in svg.iter("g") if group.get("class") == "panel"]
    assert len(panels) == len(CHANNELS) + 1 == len(tops(len(CHANNELS)))
    lines = [p.get("d") for p in svg.iter("path") if "line" in p.get("class", "").split()]
    assert all(line.startswith("M") for line in lines)


def test_a_spike_is_as_high_in_the_chart_of_a_long_series_as_in_its_data(detector):
    rows = plant(3_000, 1).assign(machine="north")
    rows.loc[1_234, "heat"] = 500.0
    timeline = score_rows(detector, rows).timeline
    svg = ET.fromstring(timeline_chart(for_page(timeline, 4_000)))
    panel = next(g for g in svg.iter("g") if g.get("class") == "panel"
                 and any(t.text == "heat" for t in g.iter("text")))  # fmt: skip
    path = next(p.get("d") for p in panel.iter("path") if "line" in p.get("class").split())
    heights = [float(y) for y in re.findall(r"(?:[ML][\d.]+ |V)([\d.]+)", path)]
    assert min(heights) < 5 < 35 < np.median(heights)
    assert len(re.findall("[ML]", path)) <= 480


def test_what_the_page_leaves_out_is_counted(detector, scored):
    timeline = replace(scored.timeline, more_channels=3, more_machines=7, more_events=1_040)
    text = Read(render(detector.autoencoder_, replace(scored, timeline=timeline))).text
    assert "3 more channels are left out" in text
    assert "7 more machines are left out" in text
    assert "The 2 strongest of 1,042 events" in text


def test_a_page_of_one_row_and_of_rows_without_a_window_is_written(detector):
    for count in (1, 8):
        rows = plant(count).assign(machine="north")
        read = Read(render(detector.autoencoder_, score_rows(detector, rows, events=[])))
        assert "Over time" in read.text


def test_hostile_names_come_out_as_text(scored):
    wild = "</script><img src=x onerror=alert(1)>"
    first = replace(scored.timeline.machines[0], name=wild)
    first = replace(first, channels=[wild, *first.channels[1:]])
    timeline = for_page(replace(scored.timeline, machines=[first]))
    read = Read(timeline_chart(timeline))
    assert set(read.tags) <= {"svg", "title", "desc", "g", "path", "rect", "text"}
    assert wild[:20] in read.text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.02, "20 ms"), (0.5, "0.5 s"), (59.9, "59.9 s"), (60, "1 min"),
     (200, "3 min 20 s"), (90_000, "1 d 1 h")],
)  # fmt: skip
def test_durations_are_written_in_two_units_at_most(seconds, text):
    assert duration_text(seconds) == text


def test_moments_and_durations_are_read_and_written():
    assert [seconds_of_text(t) for t in ("90", "90s", "10m", "1.5 h", "2d", "soon", "")] == [
        90, 90, 600, 5_400, 172_800, None, None,
    ]  # fmt: skip
    assert moment_text(FIRST, 1.0) == "2024-05-01 00:00:00"
    assert moment_text(FIRST + 0.25, 0.25) == "2024-05-01 00:00:00.250"
    assert [iso_text(FIRST), iso_text(FIRST + 0.5)] == [
        "2024-05-01T00:00:00Z", "2024-05-01T00:00:00.5Z",
    ]  # fmt: skip


def explain(files, capfd, *arguments):
    """The exit code of explain, and what it printed."""
    code = run(["explain", *files, "--quiet", *arguments])
    return code, *capfd.readouterr()


def test_a_moment_is_explained_channel_by_channel(files, detector, capfd):
    at = ["--at", "2024-05-01T00:08:50", "--machine", "north"]
    code, out, _ = explain(files, capfd, *at, "--around", "2m")
    assert code == 0
    lines, rows = out.splitlines(), machines()
    row = int(
        rows.index[(rows["time"] == "2024-05-01 00:08:50") & (rows["machine"] == "north")][0]
    )
    score = -detector.score_samples(rows)[row]
    assert lines[0].startswith(f"2024-05-01 00:08:50 UTC, row {row + 1:,} of machine 'north': ")
    assert f"anomaly score {score:.2f} ±" in lines[0]
    assert lines[0].endswith("an alarm")
    assert lines[1].startswith("event from 2024-05-01 00:08:")
    assert "started by pressure" in lines[1]
    assert lines[2].startswith("from 2024-05-01 00:06:50 to 2024-05-01 00:10:50")
    assert lines[4].split()[1:3] == ["pressure", f"{_median(rows, 'north', 410, 530):.4g}"]
    assert {line.split()[1] for line in lines[4:8]} == set(CHANNELS)
    assert "█" in lines[8]
    assert "threshold" in lines[8]


def _median(rows, machine, first, last):
    """The median pressure of a machine between two of its rows."""
    return rows.loc[rows["machine"] == machine, "pressure"].iloc[first:last].median()


def test_a_moment_is_explained_as_json_in_any_zone(files, capfd):
    code, out, _ = explain(files, capfd, "--at", "2024-05-01T02:12:50+02:00", "--json")
    course = json.loads(out)
    assert (code, course["at"], course["machine"]) == (0, "2024-05-01T00:12:50Z", "north")
    assert (course["alarm"], course["event"]) == (False, None)
    assert sum(channel["share"] for channel in course["channels"]) == pytest.approx(1)
    assert len(course["channels"][0]["course"]) == len(course["anomaly_scores"]) == 32
    assert {channel["at"] for channel in course["channels"]} >= {"shut"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--at", "2024-05-02"], "the nearest of machine 'north' is at 2024-05-01 00:16:39 UTC"),
        (["--at", "2024-05-02", "--machine", "south"], "nearest is at 2024-05-01 00:08:19 UTC"),
        (["--at", "2024-05-02", "--machine", "east"], "has no machine 'east'; it has 'north'"),
        (
            ["--at", "2024-05-01T00:05"],
            "at this time: choose one with --machine 'north' or",
        ),
        (["--at", "soon"], "'soon' is not a valid time"),
        (["--at", "2024-05-01", "--around", "long"], "write a duration such as 90s, 10m or 2h"),
        (["--row", "3", "--machine", "north"], "--around and --machine go with --at"),
        (["--row", "3", "--at", "2024-05-01"], "give one of --row, --id and --at"),
        (["--at", "2024-05-01T00:05", "--around", "0s"], "write a duration"),
    ],
)
def test_a_moment_that_cannot_be_explained_is_refused_in_one_line(
    files, capfd, arguments, message
):
    code, _, err = explain(files, capfd, *arguments)
    assert code == 2
    assert message in err.splitlines()[-1]


def test_the_event_of_a_moment_is_told(files, detector, capfd):
    events = [event(0, 9, 2.0, ("heat",), "north"), event(500, 580, 15.0, ("flow",), "north")]
    source = detector.autoencoder_.model_.modality.match(open_source(files[1]), None)
    course = explain_moment(detector, source, Question(FIRST + 530, 1.0, "north"), events)
    line = "event from 2024-05-01 00:08:20 to 2024-05-01 00:09:40, started by flow, score 15.00"
    assert as_text(course)[1] == line
    assert as_json(course)["event"]["start"] == "2024-05-01T00:08:20Z"


def test_a_table_without_a_time_has_no_moments():
    table = SimpleNamespace(moments=None)
    fitted = SimpleNamespace(autoencoder_=SimpleNamespace(model_=SimpleNamespace(modality=table)))
    with pytest.raises(SettingError, match="--at is for a sensor series, but these rows have no"):
        course_of(fitted, None, {"at": "2024-05-01", "around": None, "machine": None})


def test_a_long_export_has_the_readings_of_each_channel():
    wide = plant(400)[["time", "flow", "heat"]]
    long = wide.melt(id_vars="time", var_name="tag", value_name="value").sort_values("time")
    source, schema = open_source(long), Schema(time="time")
    windows = WindowSource(source, propose(source, schema))
    modality, _ = SeriesModality.learn(windows, schema)
    readings = modality.moments.read(next(source.blocks(1_000)))
    own = readings.values[~np.isnan(readings.values[:, 1])]
    assert modality.moments.channels == ("flow", "heat")
    assert np.isnan(own[:, 0]).all()
    np.testing.assert_allclose(own[:, 1], wide["heat"])
