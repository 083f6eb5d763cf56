"""Texts of strangers cannot steer a terminal, forge a line of a log, or run in a browser."""

import io
import json
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from keyhole import AnomalyDetector, Autoencoder
from keyhole.cli import run
from keyhole.cli.common import Say, show
from keyhole.core.progress import tell
from keyhole.errors import DataError, KeyholeWarning, printable, printable_json
from keyhole.jobs import open_sink
from keyhole.report import score_rows, write_report
from keyhole.training import TrainingConfig

CLEAR, TITLE, CSI8 = "\x1b[2J", "\x1b]0;owned\x07", "\x9b2J"
FORGED, BIDI, SEPARATOR = "a\nkeyhole: all is well", "invoice\u202egpj.exe", "a\u2028b"
HOSTILE = [CLEAR, TITLE, CSI8, FORGED, "a\r  b", BIDI, "\u2066x\u2069", SEPARATOR, "\x00", "\x7f"]


def is_harmless(text):
    return all(line.isprintable() for line in text.rstrip("\n").split("\n"))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_is_one_line_that_is_only_printed(text):
    assert printable(text).isprintable()
    assert json.loads(printable_json(json.dumps(text, ensure_ascii=False))) == text


@pytest.mark.parametrize(
    "text", ["plain", "Größe 5 m²", "数値", "عمر", "1\u202f000\xa0€", "👩\u200d💻", "", r"C:\new"]
)
def test_letters_of_every_script_and_spaces_of_every_width_stay(text):
    assert printable(text) == text


def test_what_is_escaped_reads_as_in_a_python_text():
    assert printable("a\x1b[1m\n\u202e\U000e0041") == r"a\x1b[1m\n\u202e\U000e0041"
    assert printable("name of \udcff bytes") == r"name of \udcff bytes"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A table whose names and levels are hostile, and a model of it."""
    folder = tmp_path_factory.mktemp("hostile")
    names = {"n": f"n{CLEAR}\n{BIDI}", "k": "<b>k</b>\u202e", "card": "card\x1b[31m"}
    numbers = np.random.default_rng(0).normal(size=120)
    frame = pd.DataFrame({"n": numbers, "k": ["x\x1b[2J", "y</script>\u202e\n"] * 60})
    frame["card"] = [f"c{i}\x07\x1b[1m" for i in range(120)]
    frame = frame.rename(columns=names)
    frame.to_parquet(folder / "t.parquet")
    training = TrainingConfig(steps=20)
    AnomalyDetector(Autoencoder(training=training, random_state=0), false_alarm_rate=0.05).fit(
        frame
    ).save(str(folder / "m"))
    return folder


def ask(capfd, *arguments):
    code = run([str(a) for a in arguments])
    out, err = capfd.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "{}/m"),
        ("inspect", "{}/m", "--json"),
        ("inspect", "{}/m", "--codes"),
        ("explain", "{}/m", "{}/t.parquet", "--row", "3"),
        ("explain", "{}/m", "{}/t.parquet", "--row", "3", "--json"),
        ("detect", "{}/m", "{}/t.parquet", "--json"),
        ("detect", "{}/m", "{}/t.parquet", "-o", "{}/x\x1b[2J.txt"),
        ("detect", "{}/m\x1b[2J\u202e", "{}/t.parquet"),
        ("detect", "{}/m", "{}/no\x1b[2J.parquet"),
        ("detect", "{}/m", "{}/t.parquet", "--no\x1b[2J"),
        ("evaluate", "{}/m", "{}/t.parquet", "--label", "x\n\x1b[2J"),
        ("sample", "{}/m", "--given", "a\x1b[2J"),
        ("fit", "{}/t.parquet", "-o", "{}/n\x1b[2J", "--steps", "3", "--no-report"),
    ],
)
def test_no_command_prints_a_character_that_does_more_than_stand_there(place, capfd, arguments):
    _, out, err = ask(capfd, *(argument.format(place) for argument in arguments))
    assert is_harmless(out)
    assert is_harmless(err)
    assert out + err


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal, and keeps what came there."""

    def isatty(self):
        return True


def test_csv_on_a_terminal_is_printable_and_in_a_file_it_is_the_data(tmp_path, monkeypatch):
    table = pa.table({f"n{CLEAR}": HOSTILE, "v": range(len(HOSTILE))})
    content = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Terminal(content, encoding="utf8"))
        with open_sink("-", raw_text=True) as sink:
            sink.write(table)
        text = content.getvalue().decode()
    assert is_harmless(text)
    assert text.count("\n") == len(HOSTILE) + 1
    assert r'"\x1b[2J",0' in text
    with open_sink(str(tmp_path / "t.csv"), raw_text=True) as sink:
        sink.write(table)
    content = (tmp_path / "t.csv").read_bytes().decode()
    assert all(text.replace('"', '""') in content for text in HOSTILE)


def test_json_lines_are_printable_anywhere_and_the_same_data(tmp_path):
    table = pa.table({f"n{CLEAR}": HOSTILE})
    with open_sink(str(tmp_path / "t.jsonl")) as sink:
        sink.write(table)
    lines = (tmp_path / "t.jsonl").read_text("utf8").split("\n")[:-1]
    assert all(line.isprintable() for line in lines)
    assert [json.loads(line)[f"n{CLEAR}"] for line in lines] == HOSTILE


def test_errors_warnings_progress_and_logs_hold_printable_text(capsys):
    for text in HOSTILE:
        assert str(DataError(f"column {text}")).isprintable()
        assert str(KeyholeWarning(text)).isprintable()
        Say(False)(text, text)
        Say(True).warn(text)
        tell("verdict", text)
        show([text])
    out, err = capsys.readouterr()
    assert is_harmless(out)
    assert is_harmless(err)
    assert err.count("\n") == 3 * len(HOSTILE)


def test_a_page_shows_hostile_names_as_text(place, tmp_path):
    detector = AnomalyDetector.load(str(place / "m"))
    asked = score_rows(detector, str(place / "t.parquet"), name="<img src=x>\u202e")
    write_report(str(tmp_path / "r.html"), detector.autoencoder_, asked)
    page = (tmp_path / "r.html").read_text("utf8")
    assert "<b>k</b>" not in page
    assert "<img src=x>" not in page
    assert "y</script>" not in page
    assert not {"\x1b", "\u202e", "\x07"} & set(page)


def test_standard_error_that_is_closed_does_not_end_the_work(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    Say(False)("wrote", "x")
