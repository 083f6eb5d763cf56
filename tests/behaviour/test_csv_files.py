"""CSV files of all sorts: wide headers, encodings, Excel's notes; memory follows no text."""

import io
import json
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keyhole import Autoencoder
from keyhole.data import open_source
from keyhole.data.numerals import study, study_columns
from keyhole.data.opening import narrow
from keyhole.data.sinks import CsvSink, JsonSink
from keyhole.data.source import weighted
from keyhole.errors import DataError
from keyhole.modalities import Schema, Tabular
from keyhole.modalities.profile import Profile
from keyhole.modalities.rows.feed import RowFeed
from keyhole.modalities.rows.split import Split
from keyhole.modalities.tabular.guess import guess
from keyhole.training import TrainingConfig

RNG = np.random.default_rng(0)


@pytest.fixture
def file(tmp_path):
    def write(content, name="t.csv"):
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


def values(path):
    rows = next(iter(open_source(path).blocks(1_000)))
    return {name: rows.column(name).to_pylist() for name in rows.names}


def test_a_header_longer_than_the_first_look_is_read_to_its_end(file):
    names = [f"{'measurement':_>60}{i}" for i in range(2_000)]
    path = file(",".join(names) + "\n" + ",".join(map(str, range(2_000))) + "\n")
    found = values(path)
    assert list(found) == names
    assert found[names[-1]] == ["1999"]


def test_a_header_longer_than_the_csv_modules_limit_is_learned_from_and_scored(file):
    names = [f"{i:_>500}" for i in range(300)]  # 150 kB; the limit is 131,072 characters
    lines = [",".join(names), *(",".join(f"{x:.3f}" for x in RNG.normal(size=300)) for _ in "123")]
    model = Autoencoder(training=TrainingConfig(steps=2, members=1)).fit(
        file("\n".join(lines) + "\n")
    )
    scores = model.score_samples(file("\n".join(lines) + "\n"))
    assert scores.shape == (3,)
    assert np.isfinite(scores).all()


def test_a_cell_longer_than_the_csv_modules_limit_is_read(file):
    for quote, encoding in (("", "utf-8"), ('"', "utf-8"), ('"', "utf-16")):
        text = f"a;b\n1;{quote}{'x' * 200_000}{quote}\n"
        assert values(file(text.encode(encoding)))["b"] == ["x" * 200_000], encoding


def test_many_columns_of_texts_are_read_in_seconds():
    levels = pa.array(["up on 3", "down 12", "left", "right"] * 5)  # 6 s of patterns for each 12
    started = time.monotonic()
    table, _ = Tabular.learn(
        open_source(pa.table({f"c{i}": levels for i in range(300)})), Schema()
    )
    assert {column.kind for column in table.columns} == {"category"}
    assert time.monotonic() - started < 30  # it was 150 s


def test_columns_that_are_parsed_together_read_as_each_does_alone():
    columns = [
        pa.array(texts, pa.string())
        for texts in (["1,234.50", "2.5"], [], ["$5", "(3)"], ["02139", "00501"], ["1.234", "7"])
    ]
    for decimal in ("", ".", ","):
        together = study_columns(columns, [decimal] * len(columns))
        assert together == [study(column, "", decimal) for column in columns]


def test_windows_1252_keeps_its_euros_and_quotes(file):
    assert values(file("preis;text\n5 €;„gut“\n".encode("cp1252"))) == {
        "preis": ["5 €"],
        "text": ["„gut“"],
    }


def test_the_note_of_excel_names_the_delimiter_and_is_no_header(file):
    assert values(file("sep=:\na:b\n1,5:2\n")) == {"a": ["1,5"], "b": ["2"]}
    with pytest.raises(DataError, match="is empty"):
        open_source(file("sep=;\n"))


NAMED = {
    "UTF-32": ("a,b\n1,2\n".encode("utf-32"), "UTF-32 text; save it as UTF-8"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16-le"), "UTF-16 text without a byte order mark"),
    "a workbook": (b"PK\x03\x04\0\0abc", "an Excel .xlsx workbook; save the sheet as CSV"),
    "gzip": (b"\x1f\x8b\x08\0abc", "it is gzip; give the file the extension .gz"),
}


@pytest.mark.parametrize(("content", "said"), NAMED.values(), ids=NAMED)
def test_what_is_no_csv_is_named(content, said, file):
    with pytest.raises(DataError, match=said):
        open_source(file(content))


def test_an_open_quote_is_named_by_the_line_where_it_begins(file):
    path = file("a,b\nx,1\n" + 'y,"2\n' + "z,3\n" * 9)
    with pytest.raises(DataError, match=r"data row 2 \(line 3\) has|line 3"):
        list(open_source(path).blocks(100))


def test_a_name_with_a_comma_can_be_excluded():
    frame = pd.DataFrame(RNG.normal(size=(30, 4)), columns=["price, EUR", "a", "b", "c"])
    for told, left in (
        (["price, EUR"], {"a", "b", "c"}),
        (["a,b"], {"price, EUR", "c"}),
        (['"price, EUR",a'], {"b", "c"}),
    ):
        table, _ = Tabular.learn(open_source(frame), Schema(exclude=told))
        assert set(table.needs()) == left
        table, _ = Tabular.learn(open_source(frame), Schema(only=told))
        assert set(table.needs()) == set(frame) - left
    with pytest.raises(DataError, match="'d', which the schema needs, is absent"):
        Tabular.learn(open_source(frame), Schema(exclude=["a,d"]))


def test_long_texts_are_counted_up_to_a_bound_of_bytes(monkeypatch):
    monkeypatch.setattr("keyhole.modalities.profile.MAX_LEVEL_BYTES", 10_000)
    profile = Profile("text")
    for block in range(9):
        profile.add(pa.array([f"{block}-{i}-" + "x" * 500 for i in range(9)]))
        assert sum(map(len, profile.levels)) <= 10_000
    assert profile.heavy
    assert guess(profile).kind == "ignored"
    assert "too much memory" in guess(profile).reason


def test_a_group_too_large_for_a_pool_is_trained_on_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("keyhole.modalities.rows.feed.POOL_FEATURES", 6_000)
    frame = pd.DataFrame({"row": np.arange(4_000) + 0.5, "x": RNG.normal(size=4_000)})
    pq.write_table(pa.table(frame), tmp_path / "t.parquet", row_group_size=4_000)
    source = open_source(tmp_path / "t.parquet")
    table, source_profile = Tabular.learn(source, Schema())
    split = Split.of(4_000, 0, "random", source_profile.sample, 1)
    feed, met = RowFeed(source, table, split, 0, 4_000), []
    assert feed.pools == 2
    for pool in range(feed.pools):
        feed._turn_to(pool)
        assert len(feed._pool[0]) < 2_300
        met += feed._pool[0].numbers[:, 0].tolist()
    trained = split.trains(next(iter(source.blocks(4_000))), 0)[0].sum()
    assert len(met) == len(set(met)) == trained


def test_json_holds_no_infinity_and_durations_look_alike_in_json_and_csv():
    table = pa.table(
        {
            "x": [1.5, np.inf, -np.inf, np.nan],
            "span": pa.array([1_500, 0, None, -250], pa.duration("ms")),
            "deep": [[{"y": np.inf}], [], None, [{"y": 1.0}]],
        }
    )
    JsonSink(text := io.BytesIO()).write(table)
    rows = [json.loads(line, parse_constant=pytest.fail) for line in text.getvalue().splitlines()]
    assert [row["x"] for row in rows] == [1.5, None, None, None]
    assert [row["span"] for row in rows] == [1.5, 0, None, -0.25]
    assert rows[0]["deep"] == [{"y": None}]
    CsvSink(text := io.BytesIO(), False).write(table.select(["span"]))
    assert text.getvalue() == b'"span"\n1.5\n0\n\n-0.25\n'


def test_a_group_of_rows_is_never_read_whole(tmp_path, monkeypatch):
    """Learning and scoring stream it; 3 million rows of 11 columns (251 MB) add 380 MB at most."""
    frame = pa.table({f"x{i}": RNG.normal(size=3_000) for i in range(3)})
    pq.write_table(frame, tmp_path / "t.parquet", row_group_size=3_000)
    source, sizes = open_source(tmp_path / "t.parquet"), []
    blocks = type(source).group_blocks

    def watched(self, place, rows):
        for block in blocks(self, place, rows):
            sizes.append(len(block))
            yield block

    monkeypatch.setattr(type(source), "group", lambda *_: pytest.fail("read whole"))
    monkeypatch.setattr(type(source), "group_blocks", watched)
    monkeypatch.setattr("keyhole.modalities.rows.feed.BLOCK_ROWS", 500)
    model = Autoencoder(training=TrainingConfig(steps=3, members=1)).fit(
        str(tmp_path / "t.parquet")
    )
    assert len(model.score_samples(str(tmp_path / "t.parquet"))) == 3_000
    assert max(sizes) == 500


def test_texts_that_a_spreadsheet_would_run_get_an_apostrophe_and_numbers_none():
    harmless = ["-5", "+1 (650) 253-0000", "-", "1=2"]
    formulas = ["=1+1", "@x", "\tA", "+a", "＝1"]
    table = pa.table({"=x": formulas + harmless})
    CsvSink(text := io.BytesIO(), False).write(table)
    cells = [line.strip('"') for line in text.getvalue().decode().splitlines()]
    assert cells == ["'=x", *(f"'{formula}" for formula in formulas), *harmless]
    CsvSink(raw := io.BytesIO(), True).write(table)
    assert raw.getvalue() == text.getvalue().replace(b"'", b"")


def test_long_texts_of_a_frame_come_in_short_blocks_and_stay_behind_once_set_aside(monkeypatch):
    """150,000 texts of 10 kB took 2.3 GB beside the frame, and take 80 MB."""
    texts = pa.table({"x": np.arange(1_000.0), "text": [f"{i:0>500}" for i in range(1_000)]})
    monkeypatch.setattr("keyhole.data.source.BLOCK_BYTES", 20_000)
    blocks = list(open_source(texts).blocks(65_536))
    assert sum(map(len, blocks)) == 1_000
    assert max(block.arrow().nbytes for block in blocks) <= 20_000
    for source in (open_source(texts), weighted(open_source(texts), "x")):
        kept = narrow(source, {"x"})
        assert kept.names == ["x"]
        assert sum(map(len, kept.blocks(65_536))) == source.rows
