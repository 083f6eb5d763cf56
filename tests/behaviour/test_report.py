import base64
import hashlib
import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from keyhole import Autoencoder
from keyhole.core.files import FileError
from keyhole.model.bottlenecks import Plain
from keyhole.report import ScoredRows, charts, page, render, score_rows, write_report
from keyhole.report.code_map import choose, pack
from keyhole.report.trust import LEVELS
from keyhole.tasks import AnomalyDetector
from keyhole.tasks.detect.answer import Pattern
from keyhole.tasks.drift import Remark
from keyhole.training import TrainingConfig

HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</script><script>alert(1)",
    "{{7*7}}", "</style>\u2028'onclick='", "--><!-- ]]> \x00 \ud800 \u202e",
]  # fmt: skip
VOID = {"meta", "img", "br", "link", "input"}


class Read(HTMLParser):
    """Which elements, attributes and texts a page has, and whether every element is closed."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts, self.scripts, self.open = [], [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.scripts if self.open and self.open[-1] == "script" else self.texts).append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    @property
    def map(self):
        return json.loads(next(s for s in self.scripts if s.startswith("{")))


def table(rows=60, names=("left", "right", "kind")):
    rng = np.random.default_rng(0)
    left = rng.normal(size=rows)
    kinds = np.array(["a", "b"])[rng.integers(0, 2, rows)]
    right = left + 0.1 * rng.normal(size=rows)
    return pd.DataFrame(dict(zip(names, (left, right, kinds), strict=True)))


def fitted(frame, width=2):
    training = TrainingConfig(steps=20)
    return Autoencoder(Plain(width=width), training=training, random_state=0).fit(frame)


def _array(text):
    return np.frombuffer(base64.b64decode(text), np.uint8)


def _rows(text):
    """Rows by number, from differences of seven bits a byte, the lowest first."""
    rows, last, scale = [], 0, 1
    for byte in _array(text).tolist():
        last, scale = last + (byte & 127) * scale, scale * 128
        if byte < 128:
            rows.append(last)
            scale = 1
    return np.array(rows)


@pytest.fixture(scope="module")
def model():
    return fitted(table())


def asked(rows, width=2, **more):
    rng = np.random.default_rng(1)
    anomaly_score = rng.gamma(2, 2, rows)
    pattern = Pattern("left", "above", "", tuple(range(min(rows, 20))), max(rows // 2, 20))
    threshold = float(np.quantile(anomaly_score, 0.99))
    said = ScoredRows(
        name="new.csv", anomaly_score=anomaly_score, score_std=np.full(rows, 0.25),
        p_value=rng.random(rows),
        alarm=anomaly_score >= threshold, threshold=threshold, false_alarm_rate=0.01,
        contamination=0.0,
        codes=rng.normal(size=(rows, width)), patterns=[pattern],
        ids=[f"row {i + 1}" for i in range(rows)],
        reasons={i: [("left", "9.5", "0.1 to 0.4", 0.75)] for i in range(min(rows, 500))},
        remarks=[Remark("alike", "these rows look like the training data")],
    )  # fmt: skip
    return replace(said, **more)


def test_a_page_with_100_000_points_stays_under_a_megabyte(model):
    # Over a second: 100,000 points are packed and their page is parsed.
    long = [(n * 30, n * 30, n * 30, 0.2) for n in "abcde"]
    many = asked(100_000)
    many = replace(many, reasons={int(i): long for i in many.strongest(200)})
    page = render(model, many)
    assert (len(page.encode()) < 1_000_000, Read(page).map["count"]) == (True, 100_000)


def test_a_page_of_more_rows_keeps_all_alarms_and_says_that_it_shows_a_sample(model):
    anomaly_score = np.random.default_rng(1).gamma(2, 2, 300_000)  # over a second: needs a sample
    said = asked(300_000, anomaly_score=anomaly_score, alarm=anomaly_score > 15)
    read = Read(render(model, said))
    assert read.map["count"] == 100_000
    flags = np.unpackbits(_array(read.map["alarm"]), count=100_000, bitorder="little")
    assert set(np.flatnonzero(said.alarm)) == set(_rows(read.map["row"])[flags == 1])
    assert "100,000 of 300,000 rows: all alarms and a random sample" in read.text


def test_long_names_of_four_byte_characters_cost_points_but_not_the_megabyte(model):
    # Over a second: the page is made twice, with fewer points the second time.
    wide, many = "\U0001d54f" * 90, asked(100_000)
    reasons = {int(i): [(wide, wide, wide, 0.3)] * 3 for i in many.strongest(200)}
    page = render(model, replace(many, reasons=reasons, ids=[wide] * 100_000))
    assert len(page.encode()) <= 1_000_000
    assert 30_000 < Read(page).map["count"] < 100_000


def test_hostile_names_and_values_come_out_as_text():
    tame, wild = table(), table(names=HOSTILE[:3])
    wild[HOSTILE[2]] = np.where(tame["kind"] == "a", HOSTILE[0], HOSTILE[3])
    cells = {i: [(h, h, h, 0.5) for h in HOSTILE] for i in range(60)}
    harmless = {i: [("x", "x", "x", 0.5) for _ in HOSTILE] for i in range(60)}
    ids = [HOSTILE[i % 6] for i in range(60)]
    found = [[Pattern(text, "", text, (0, 1), 9) for text in six] for six in (HOSTILE, "x" * 6)]
    remarks = [[Remark("level", text) for text in six] for six in (HOSTILE, "x" * 6)]
    columns = [pa.table({"x": six * 10}) for six in (HOSTILE[:3] + HOSTILE[:3], list("abcabc"))]
    said = asked(
        60, reasons=cells, ids=ids, name=HOSTILE[1], remarks=remarks[0], patterns=found[0],
        columns=columns[0],
    )  # fmt: skip
    calm = asked(
        60, reasons=harmless, ids=["x"] * 60, name="x", remarks=remarks[1], patterns=found[1],
        columns=columns[1],
    )  # fmt: skip
    page = render(fitted(wild), said)
    read, plainly = Read(page), Read(render(fitted(tame), calm))
    assert sorted(read.tags) == sorted(plainly.tags)
    assert {name for name, _ in read.attributes} == {name for name, _ in plainly.attributes}
    assert not [name for name, _ in read.attributes if name.startswith("on") or name == "style"]
    assert "{{7*7}}" in read.text
    assert "alert(1)" in read.text
    assert "\u2028" not in page
    assert "\x00" not in page
    assert "\u202e" not in page
    assert read.open == []


def test_the_map_says_hostile_names_unchanged_but_for_what_cannot_be_printed(model):
    said = asked(6, ids=HOSTILE, reasons={0: [(HOSTILE[2], "1", "2", 1.0)]})
    named = {
        point: (name, cells) for point, name, _, cells, _ in Read(render(model, said)).map["named"]
    }
    assert [named[i][0] for i in range(4)] == HOSTILE[:4]
    assert named[4][0] == "</style> 'onclick='"
    assert named[0][1] == [[HOSTILE[2], "1", "2", 1.0]]


def test_a_page_loads_nothing_and_runs_only_what_its_policy_names_by_hash(model):
    page = render(model, asked(50))
    read = Read(page)
    policy = next(v for _, v in read.attributes if v and v.startswith("default-src"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"https?:|//[a-z]+\.[a-z]|@import|url\((?!#)", page)
    refers = [value for name, value in read.attributes if name in {"href", "src", "srcset"}]
    assert all(value.startswith("#") for value in refers)
    ids = [value for name, value in read.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in refers} <= set(ids)
    inside = re.findall(r"<(?:style|script)>(.*?)</(?:style|script)>", page, re.S)
    digests = [base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in inside]
    assert [f"'sha256-{digest}'" in policy for digest in digests] == [True] * 3


def test_headings_go_down_one_step_at_a_time_from_one_first_heading(model):
    heights = [int(t[1]) for t in Read(render(model, asked(50))).tags if re.fullmatch("h[1-6]", t)]
    assert heights[0] == 1 == heights.count(1)
    assert all(after - before <= 1 for before, after in itertools.pairwise(heights))


def test_a_page_without_rows_tells_of_the_model_alone(model):
    read = Read(render(model, None))
    assert "canvas" not in read.tags
    assert "Prediction error on held-out rows" in read.text
    assert f"{model.model_.evidence['masked_nats']:,.2f}".replace("-", "−") in read.text
    assert model.model_.fingerprint in read.text
    assert model.findings_[0].code in read.text


def test_a_page_of_a_loaded_model_says_the_same_as_before(model, tmp_path, monkeypatch):
    monkeypatch.setattr(Autoencoder, "_sections", lambda self: {"generate": {}})  # keeps rows
    model.save(str(tmp_path / "kept"))
    again = Read(render(Autoencoder.load(str(tmp_path / "kept")), None)).text
    before = Read(render(model, None)).text
    cut = "How it was made"
    assert again[: again.index(cut)] == before[: before.index(cut)]


def test_a_single_row_or_a_single_column_can_be_shown(model):
    read = Read(render(model, asked(1)))
    assert "The only row is shown" in read.text
    page = render(fitted(table()[["left"]], width=1), asked(30, width=1))
    assert "the row's anomaly score is the vertical axis" in page


def test_empty_rows_are_on_the_map_but_among_no_anomalies(model):
    said = asked(30)
    said.anomaly_score[4], said.p_value[4], said.alarm[4] = np.nan, np.nan, False
    read = Read(render(model, said))
    assert "1 row had no observed value" in read.text
    assert base64.b64decode(read.map["level"])[4] == 255
    assert [point for point, _, value, *_ in read.map["named"] if value is None] == [4]
    assert "The 29 most anomalous of 30 rows" in read.text


def test_rows_that_are_all_empty_give_a_page_that_says_so(model):
    nothing = np.full(5, np.nan)
    said = asked(
        5, anomaly_score=nothing, p_value=nothing, alarm=np.zeros(5, bool), threshold=np.nan
    )
    assert "No row has an observed value" in Read(render(model, said)).text


def test_infinite_surprise_and_equal_codes_do_no_harm(model):
    said = asked(40, codes=np.ones((40, 2)))
    said.anomaly_score[7] = np.inf
    read = Read(render(model, said))
    assert "∞" in read.text
    assert set(np.frombuffer(base64.b64decode(read.map["xy"]), "<u2").tolist()) == {32768}


def test_a_page_is_written_whole_or_not_at_all(model, tmp_path):
    write_report(str(tmp_path / "page.html"), model, None)
    assert (tmp_path / "page.html").read_text(encoding="utf8").endswith("</html>\n")
    with pytest.raises(FileError, match="does not exist"):
        write_report(str(tmp_path / "absent" / "page.html"), model, None)


def test_the_strongest_row_is_told_with_its_cells(model):
    said = asked(20)
    said.anomaly_score[3] = 99.5
    read = Read(render(model, said))
    assert "row 4 99.50 ± 0.25" in read.text
    assert "left = 9.5 , expected 0.1 to 0.4 75 %" in read.text
    assert read.map["named"][0] == [3, "row 4", 99.5, [["left", "9.5", "0.1 to 0.4", 0.75]], 0.25]


def test_a_page_tells_what_alarms_share_how_many_are_promised_and_how_sure_that_is(model):
    said = asked(60, alarm=np.ones(60, bool), false_alarm_rate=0.05, contamination=0.06)
    text = Read(render(model, said)).text
    assert "expected by chance 3 5 % of 60 rows, if all are normal; up to 6 would" in text
    assert "About 6 % of the training rows are far from" in text
    assert "anomaly score (1: a typical row)" in text
    assert "Of the 30 strongest alarms; a row may have more than one pattern." in text
    assert "left above what was expected 20 of 30" in text
    assert text.index("50 most anomalous of 60") < text.index("what was expected 20 of 30")
    assert "What the alarms have in common" not in Read(render(model, asked(60, patterns=[]))).text


def test_a_detector_is_asked_in_blocks_and_says_what_its_answer_says(model, monkeypatch):
    monkeypatch.setattr("keyhole.autoencoder.input_validation.CHUNK_ROWS", 7)
    detector = AnomalyDetector.from_fitted(model, false_alarm_rate=0.2)
    frame = table()
    frame.loc[33, "left"] = 40.0
    frame.loc[5] = [np.nan, np.nan, None]
    said, answer = score_rows(detector, frame, name="here"), detector.answer(frame)
    np.testing.assert_array_equal(said.anomaly_score, answer.anomaly_score)
    np.testing.assert_array_equal(said.score_std, answer.score_std)
    np.testing.assert_array_equal(said.alarm, answer.alarm)
    np.testing.assert_array_equal(said.p_value, answer.p_value)
    np.testing.assert_allclose(said.codes, model.transform(frame), rtol=1e-5, atol=1e-6)
    assert said.ids == [f"row {i + 1}" for i in range(60)]  # pages count from 1
    assert said.strongest(1) == [33]
    cell = answer.reasons[33][0]
    assert said.reasons[33][0] == (cell.column, cell.value, cell.expected, cell.share)
    assert said.patterns == answer.patterns()
    assert said.contamination == detector.contamination_
    assert "row 34" in Read(render(model, said)).text


def test_a_sample_holds_the_strongest_rows_where_even_alarms_are_too_many():
    said = asked(1_000, alarm=np.ones(1_000, bool))
    rows = choose(said, 300)
    assert len(rows) == 300
    assert set(said.strongest(300)) == set(rows)
    assert not pack(said, 300).all_alarms


def test_every_class_and_id_of_the_style_sheet_is_one_of_the_pages():
    folder = Path(page.__file__).parent
    files = {file.name: file.read_text() for file in folder.glob("*.*") if file.suffix != ".py"}
    style = re.sub(r"#[0-9a-f]{3,6}\b", "", files.pop("style.css"))
    names = set(re.findall(r"[.#](?:fill-|stroke-)?([a-zA-Z][\w-]*)", style))
    colours = {charts.INK, charts.QUIET, charts.NET, charts.OTHER, charts.ALARM}
    assert {
        name for name in names - colours - set(LEVELS) if name not in "".join(files.values())
    } == set()
