"""Bad input is one clear line: what, where, and what to do. Odd but good input is read."""

import gzip
import os
import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.data import open_source
from keyhole.errors import DataError, FileError, KeyholeError, SettingError
from keyhole.modalities import Schema, Tabular
from keyhole.tasks import Impute
from keyhole.training import TrainingConfig

RNG = np.random.default_rng(0)
ROWS = [(f"{RNG.normal():.3f}", RNG.choice(list("uvw")), f"{RNG.normal():.3f}") for _ in range(40)]
GOOD = "a,b,c\n" + "".join(",".join(row) + "\n" for row in ROWS)
FRAME = pd.DataFrame(RNG.normal(size=(50, 3)), columns=list("abc"))


def fitted(data, **schema):
    return Autoencoder(
        training=TrainingConfig(steps=2), schema=Schema(**schema), random_state=0
    ).fit(data)


def learned(data, **schema):
    """The columns of a table by name, without training a net on them."""
    return Tabular.learn(open_source(str(data)), Schema(**schema))[0].by_name


def refused(ask, *said, error=KeyholeError):
    """The one line that a fault is told in, in which all of these stand."""
    with pytest.raises(error) as caught:
        ask()
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    for part in said:
        assert re.search(part, text), (part, text)


@pytest.fixture
def file(tmp_path):
    def write(content, name="t.csv"):
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


def cells(path):
    rows = next(iter(open_source(path).blocks(1000)))
    return {name: rows.column(name).to_pylist() for name in rows.names}


def numbers(path, name):
    """A column's numbers, read as a model reads them that learned from the file."""
    column, rows = learned(path)[name], [b.column(name) for b in open_source(path).blocks(9)]
    return np.concatenate([column.numbers(values) for values in rows]).tolist()


EMPTY = {
    "none": ("", "is empty: expected a header line and rows"),
    "blank lines": ("\n\n", "is empty"),
    "a header": ("a,b\n", "holds a header but no rows"),
    "a header without an end": ("a,b", "holds a header but no rows"),
    "one row": ("a,b\n1,2\n", "holds 1 sample .* a minimum of 2 rows"),
    "no value": ("a,b\n" + ",\n" * 20, "no column to learn from .*a: has no values"),
    "names twice": ("a,b,a\n1,2,3\n", r"columns with the same name: \['a'\]; rename"),
    "an infinite number": (
        "a,b\n" + "1.5,2\n" * 7 + "2.5,-inf\n",
        "infinity: column 'b', data row 8; replace",
    ),
    "another delimiter": (
        "a:b\n" + "".join(f"{i / 7:.3f}:{i}\n" for i in range(30)),
        "read as one column: is its separator",
    ),
    "a longer row": ("a,b\n1,2\n3,4,5\n6,7\n", r"data row 2 \(line 3\) has 3 cells, the header 2"),
    "a shorter row": ("a,b\n" + "1,2\n" * 60 + "3\n", r"data row 61 \(line 62\) has 1 cells"),
    "an open quote": ('a,b\n"x,1\n' + "y,2\n" * 9, "is a quote left open"),
    "zero bytes": (b"PK\x03\x04\0\0abc", "neither CSV nor Parquet: it holds zero bytes"),
    "Latin-1 late": (b"a,b\n" + b"x,1\n" * 20_000 + b"K\xf6ln,2\n", "save it as UTF-8"),
}


@pytest.mark.parametrize("content", EMPTY.values(), ids=EMPTY)
def test_a_csv_that_cannot_be_learnt_from_says_why(content, file):
    text, said = content
    refused(lambda: fitted(file(text)), "t.csv" if "infinity" not in said else said, said)


@pytest.mark.parametrize("cut", [5, 60])
def test_a_gzipped_csv_that_was_cut_short_is_no_shorter_table(cut, file):
    whole = gzip.compress((GOOD * 50).encode())
    path = file(whole[:-cut], "t.csv.gz")
    refused(lambda: fitted(path), "t.csv.gz cannot be read", "is it complete", error=FileError)


def test_an_infinite_number_is_named_wherever_it_stands(file):
    array = FRAME.to_numpy().copy()
    array[7, 1] = np.inf
    for data, name in ((array, "x1"), (pd.DataFrame(array, columns=list("abc")), "b")):
        refused(lambda data=data: fitted(data), f"infinity: column '{name}', data row 8")
    model = fitted(FRAME.to_numpy())
    late = np.vstack([np.zeros((20_000, 3)), array])
    refused(lambda: model.score_samples(late), "column 'x1', data row 20,008")
    pq.write_table(pa.table(pd.DataFrame(array, columns=list("abc"))), path := file(b"", "i.pq"))
    refused(lambda: fitted(path), "infinity: column 'b', data row 8")


def test_an_infinite_number_in_an_excluded_column_is_nobodys_business():
    assert fitted(FRAME.assign(d=np.inf), exclude=["d"]).score(FRAME) < 0


GOOD_CSV = {
    "plain": GOOD.encode(),
    "byte order mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "UTF-16": GOOD.encode("utf16"),
    "carriage returns": GOOD.replace("\n", "\r\n").encode(),
    "old Mac": GOOD.replace("\n", "\r").encode(),
    "semicolons, decimal commas": GOOD.replace(",", ";").replace(".", ",").encode(),
    "tabs, decimal commas": GOOD.replace(",", "\t").replace(".", ",").encode(),
    "bars": GOOD.replace(",", "|").encode(),
    "blank first lines": b"\n\n" + GOOD.encode(),
    "no last line end": GOOD.rstrip().encode(),
    "spaces": GOOD.replace(",", ", ").encode(),
    "quotes": re.sub(r"([^,\n]+)", r'"\1"', GOOD).encode(),
}


@pytest.mark.parametrize("content", GOOD_CSV.values(), ids=GOOD_CSV)
def test_every_way_to_write_a_csv_gives_the_same_cells(content, file):
    found = cells(file(content))
    assert list(found) == ["a", "b", "c"]
    assert found["b"] == [row[1] for row in ROWS]
    for name, place in (("a", 0), ("c", 2)):
        assert numbers(file(content), name) == [float(row[place]) for row in ROWS]


def test_a_gzipped_csv_is_read(file):
    assert cells(file(gzip.compress(GOOD.encode()), "t.csv.gz")) == cells(file(GOOD))


def test_quoted_cells_may_hold_quotes_delimiters_and_line_ends(file):
    text = '"a\nb",c\n"x\ny",1\n"p,q",2\n"say ""hi""",3\n'
    assert cells(file(text)) == {"a\nb": ["x\ny", "p,q", 'say "hi"'], "c": ["1", "2", "3"]}


def test_latin_1_is_read(file):
    found = cells(file("stadt;größe\nKöln;1\nBär;2\n".encode("latin1")))
    assert found == {"stadt": ["Köln", "Bär"], "größe": ["1", "2"]}


def test_thousands_and_decimal_commas_are_told_apart(file):
    assert numbers(file("a;b\n1.234,5;x\n7;y\n0;z\n"), "a") == [1234.5, 7, 0]
    assert numbers(file("a\tb\n1,234\tx\n7\ty\n0\tz\n"), "a") == [1234, 7, 0]


def test_a_decimal_comma_that_comes_late_counts(file, monkeypatch):
    monkeypatch.setattr("keyhole.data.csv.BLOCK_BYTES", 64)
    text = "a;b\n" + "7;x\n" * 40 + "7,5;x\n" * 39 + "8;x\n"
    assert numbers(file(text), "a") == [7.0] * 40 + [7.5] * 39 + [8.0]


def test_some_texts_among_numbers_count_as_missing_with_a_caution(file):
    text = GOOD.replace(ROWS[3][0], "n.a.").replace(ROWS[9][0], "broken")
    model = fitted(file(text))
    assert model.model_.modality.by_name["a"].kind == "number"
    assert "2 cells are not numbers, such as 'n.a.'" in model.model_.modality.reasons["a"]
    batch = model.model_.score_block(next(iter(open_source(file(text)).blocks(100)))).batch
    assert (~batch.observed).sum() == 2
    assert np.isfinite(model.score_samples(file("a,b,c\nodd,u,1.5\n"))).all()


CHANGED = {
    "a text": (FRAME.assign(b=["x"] * 50), "column 'b', data row 1: expected a number, got 'x'"),
    "one text": (
        pd.DataFrame({"a": ["1"] * 9, "b": [*"12345678", "?!"], "c": ["1"] * 9}),
        r"column 'b', data row 9: expected a number, got '\?!'",
    ),
    "a date": (
        FRAME.assign(b=pd.Timestamp("2024-05-01")),
        "data row 1: expected a number, got 2024-05-01",
    ),
    "a near name": (FRAME.rename(columns={"b": "bb"}), "column 'b', .* absent; did you mean 'bb'"),
    "a lost column": (FRAME[["a"]].assign(zzzz=1.0), r"absent \(2 columns are absent\); given"),
    "no rows": (FRAME[:0], "0 sample"),
    "other width": (FRAME.to_numpy()[:, :2], "X has 2 features, but Autoencoder is expecting 3"),
}


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")  # scikit-learn's own
@pytest.mark.parametrize("changed", CHANGED.values(), ids=CHANGED)
def test_data_that_changed_since_training_is_refused(changed):
    data, said = changed
    refused(lambda: fitted(FRAME).score_samples(data), said, error=ValueError)


def test_reordered_and_extra_columns_are_harmless():
    model = fitted(FRAME)
    same = model.score_samples(FRAME[["c", "a", "b"]].assign(more="x"))
    np.testing.assert_array_equal(same, model.score_samples(FRAME))


def test_an_unseen_level_is_scored_and_costs_more_than_a_known_one(file):
    model = fitted(file(GOOD))
    known, new = model.score_samples(file("a,b,c\n0,u,0\n0,ZZZ,0\n"))
    assert new < known


def test_parquet_that_is_damaged_says_so(file):
    pq.write_table(pa.table(FRAME), path := file(b"", "t.parquet"))
    whole = open_bytes(path)
    for content in (whole[:-50], b"", b"hello,there\n1,2\n"):
        path = file(content, "t.parquet")
        refused(lambda path=path: fitted(path), "cannot be read as Parquet", "complete")


def open_bytes(path):
    with open(path, "rb") as stream:
        return stream.read()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("tble.csv", r"does not exist; did you mean .*table.csv"),
        ("*.parq", "does not exist"),
        ("empty", "folder .*empty holds no .parquet file"),
        ("deep", r"holds no .parquet file and no image; did you mean '.*deep/\*/\*.parquet'"),
        ("s3://bucket/x", "only local paths are read"),
        ("*.csv", "names 2 text files; give one CSV"),
    ],
)
def test_a_path_that_leads_nowhere_says_what_is_there(path, said, tmp_path, file, monkeypatch):
    file(GOOD, "table.csv"), file(GOOD, "other.csv"), file(b"PAR1", "deep/1/x.parquet")
    os.mkdir(tmp_path / "empty")
    monkeypatch.chdir(tmp_path)
    refused(lambda: fitted(path), said, error=FileError)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"kinds": {"city": "number"}}, "column 'city' cannot be a number: it holds .*string"),
        (
            {"kinds": {"gap": "category"}},
            "'gap' cannot be a category: all its values are",
        ),
        ({"kinds": {"a": "datetime"}}, "column 'a' cannot be a datetime: it holds double"),
        ({"kinds": {"city": "town"}}, r"unknown kind; choose from \['boolean', 'category'"),
        ({"kinds": {"citi": "category"}}, "'citi', .* absent; did you mean 'city'"),
        ({"validation": "group"}, "write 'random', 'group:COLUMN' or 'time:COLUMN'"),
        ({"validation": "group:one"}, "holds 1 group.*at least 2"),
        ({"validation": "time:city"}, "has no dates or numbers that differ"),
        ({"weight": "city"}, "column 'city', data row 1: expected a number, got 'Rome'"),
        ({"weight": "a"}, "weight column 'a' holds -.*: weights must be zero or above"),
        ({"weight": "zero"}, "all weights of the frame are zero"),
        ({"only": ["gap"]}, "no column to learn from"),
    ],
)
def test_a_hint_that_the_table_does_not_bear_out_is_refused(schema, said):
    frame = FRAME.assign(city=["Rome", "Bonn"] * 25, gap=None, one="x", zero=0.0)
    refused(lambda: fitted(frame, **schema), said, error=(DataError, SettingError))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "NoneType is not a table: expected a frame"),
        ({"a": [1, 2]}, "dict is not a table"),
        ([[1.0, 2.0], [3.0]], "list has rows of unequal lengths"),
        (pl.Series([1.0, 2.0]), "Series is not a table.*to_frame"),
        ([1.0, 2.0], "Expected 2D array, got 1D"),
        (np.array([[{"a": 1}]] * 5, dtype=object), "column 'x0' holds {'a': 1}: a cell must be"),
        (np.zeros((5, 0)), r"0 feature\(s\)"),
        (pd.DataFrame([[1, 2]] * 5, columns=["a", "a"]), "same name"),
        (pd.DataFrame([[1, 2]] * 5, columns=["a", 1]), "convert all to texts"),
        (np.ones((5, 2)) * 1j, "Complex data not supported"),
    ],
    ids=str,
)
def test_what_is_no_table_is_refused(data, said):
    refused(lambda: fitted(data), said, error=ValueError)


def test_floats_of_more_bits_than_arrow_has_are_numbers_and_come_back():
    wide = np.linspace(0, 1, 60, dtype=np.longdouble)
    frame = pd.DataFrame({"a": wide, "b": np.r_[np.nan, np.arange(59.0)]})
    full = Impute(Autoencoder(training=TrainingConfig(steps=2)).fit(frame)).answer(frame)
    assert full["a"].dtype == wide.dtype
    np.testing.assert_array_equal(full["a"], wide)


def test_a_text_that_is_no_unicode_is_refused_by_its_column():
    frame = pd.DataFrame({"a": ["x", "\ud800"] * 9}, dtype=object)
    refused(lambda: fitted(frame), "column 'a' holds .*not a valid Unicode", error=DataError)
