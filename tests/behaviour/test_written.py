"""What stands in a CSV is read as it is written, and written as it was read."""

import csv
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from keyhole import Autoencoder, TrainingConfig
from keyhole.cli import run
from keyhole.core.parts import build
from keyhole.data import dates, open_source
from keyhole.data.numerals import study
from keyhole.errors import DataError, SettingError
from keyhole.modalities import Schema, Tabular
from keyhole.tasks import Impute

RNG = np.random.default_rng(0)
MONEY = RNG.lognormal(6, 1, 60).round(2)
LEVELS = RNG.choice(list("abc"), 60)


def comma(text):
    return text.translate(str.maketrans(",.", ".,"))


WAYS = {
    "$1,234.50": [f"${v:,.2f}" for v in MONEY],
    "12.5%": [f"{v:.1f}%" for v in MONEY],
    "1 234,50 €": [comma(f"{v:,.2f} €").replace(".", "\u00a0") for v in MONEY],
    "1.234,50": [comma(f"{v:,.2f}") for v in MONEY],
    "(1,234.50)": [f"({v:,.2f})" if v > 400 else f"{v:,.2f}" for v in MONEY],
    "1'234.50": [f"{v:,.2f}".replace(",", "'") for v in MONEY],
    "CHF 1234.50": [f"CHF {v:.2f}" for v in MONEY],
}


def table_of(columns, delimiter=","):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerows([list(columns), *zip(*columns.values(), strict=True)])
    return text.getvalue()


@pytest.fixture
def file(tmp_path):
    def write(content, name="t.csv"):
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


def learned(data, **schema):
    return Tabular.learn(open_source(data), Schema(**schema))[0]


def decode_codes(path):
    return next(iter(open_source(path).blocks(10_000)))


@pytest.mark.parametrize("texts", WAYS.values(), ids=WAYS)
def test_numbers_as_people_write_them_are_numbers_and_come_back_as_written(texts, file):
    for data in (
        file(table_of({"x": texts, "y": LEVELS})),
        pd.DataFrame({"x": texts, "y": LEVELS}),
    ):
        table = learned(data)
        column = table.by_name["x"]
        assert column.kind == "number"
        wanted = np.where([t[0] == "(" for t in texts], -MONEY, MONEY)
        wanted = [float(t[:-1]) for t in texts] if "%" in texts[0] else wanted
        rows = decode_codes(data)
        np.testing.assert_allclose(column.numbers(rows.column("x")), wanted)
        again = build("modality", table.recipe())
        back = again.written(again.decode(again.encode(rows)))["x"].to_pylist()
        assert back == texts


def test_a_text_scored_alone_means_what_it_means_in_its_file(file):
    values = [2069, 1234, 999_000, 45, 7] * 12
    table = learned(file(table_of({"x": [comma(f"{v:,}") for v in values], "y": LEVELS}, ";")))
    alone = table.encode(decode_codes(file("x;y\n2.069;a\n", "one.csv")))
    assert table.decode(alone)["x"].to_pylist() == [pytest.approx(2069, rel=1e-5)]
    frame = table.encode(decode_codes(pd.DataFrame({"x": [2069], "y": ["a"]})))
    np.testing.assert_allclose(alone.numbers, frame.numbers)


def test_a_sign_that_may_be_decimal_or_thousands_is_shown_and_can_be_told(file):
    path = file(table_of({"x": [f"{v:.3f}" for v in RNG.uniform(1, 9, 60)], "y": LEVELS}))
    text = decode_codes(path).column("x")[0].as_py()
    assert f"'{text}' is read as" in learned(path).reasons["x"]
    told = learned(path, kinds={"x": "number:,"})
    assert told.by_name["x"].range[0] > 1000
    assert "is read as" not in told.reasons["x"]
    with pytest.raises(SettingError, match=r"x='number:;': write 'number:\.'"):
        learned(path, kinds={"x": "number:;"})


def test_other_columns_of_the_file_decide_an_ambiguous_sign(file):
    columns = {"x": ["2.069", "3.100", "2.500"] * 20, "y": [comma(f"{v:.2f}") for v in MONEY]}
    assert learned(file(table_of(columns, ";"))).by_name["x"].range == [2069, 3100]
    columns["y"] = [f"{v:.2f}" for v in MONEY]
    assert learned(file(table_of(columns, ";"))).by_name["x"].range == [2.069, 3.1]


def test_a_text_that_is_no_number_in_the_columns_way_is_refused(file):
    table = learned(file(table_of({"x": WAYS["1.234,50"], "y": LEVELS}, ";")))
    with pytest.raises(DataError, match=r"column 'x', data row 1: expected a number, got '3\.5'"):
        table.encode(decode_codes(file("x;y\n3.5;a\n", "one.csv")))


def test_two_currencies_in_one_column_are_levels_not_one_number(file):
    texts = [f"{'$' if i % 2 else '€'}{i % 7}" for i in range(60)]
    table = learned(file(table_of({"x": texts, "y": LEVELS})))
    assert table.by_name["x"].kind == "category"
    assert "more than one unit" in table.reasons["x"]


def test_digits_with_leading_zeros_are_codes(file):
    zips = [f"{int(v):05d}" for v in RNG.choice([501, 2139, 10001, 94105], 60)]
    path = file(table_of({"zip": zips, "n": RNG.integers(5, 99, 60), "y": LEVELS}))
    table = learned(path)
    assert {n: c.kind for n, c in table.by_name.items()} == {
        "zip": "category", "n": "number", "y": "category",
    }  # fmt: skip
    assert table.decode(table.encode(decode_codes(path)))["zip"].to_pylist() == zips
    told = learned(path, kinds={"zip": "number"})
    assert told.by_name["zip"].kind == "number"
    assert told.written(told.decode(told.encode(decode_codes(path))))["zip"].to_pylist() == zips


def test_texts_of_digits_in_a_frame_stay_levels_unless_told(file):
    frame = pd.DataFrame({"code": [str(i % 7 + 10) for i in range(60)], "y": LEVELS})
    assert learned(frame).by_name["code"].kind == "category"
    assert learned(frame, kinds={"code": "number"}).by_name["code"].kind == "number"
    assert learned(file(frame.to_csv(index=False))).by_name["code"].kind == "number"


MOMENTS = pd.Timestamp("2020-01-01") + pd.to_timedelta(RNG.integers(0, 60_000, 60), "min")
FORMATS = {
    "%Y-%m-%dT%H:%M:%SZ": None, "%d-%m-%Y": None, "%d/%m/%Y": None, "%m/%d/%Y": None,
    "%d.%m.%Y %H:%M": None, "%b %d, %Y": None, "%d-%b-%Y": None, "%m/%d/%Y %I:%M %p": None,
    "%Y-%m-%d %H:%M:%S.250000": None, "%Y-%m-%dT%H:%M:%S+02:00": None, "%Y%m%d": None,
    "%Y%m%d%H%M%S": None, "%a, %d %b %Y %H:%M:%S GMT": None, "%d/%m/%y": None,
}  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
def test_dates_are_guessed_and_come_back_as_they_were_written(form, file):
    texts = [moment.strftime(form) for moment in MOMENTS]
    path = file(table_of({"at": texts, "y": LEVELS}))
    table = learned(path)
    assert table.by_name["at"].kind == "datetime"
    back = table.decode(table.encode(decode_codes(path)))["at"].to_pylist()
    style = table.by_name["at"].style
    wanted, found = (dates.read(pa.array(t), style) for t in (texts, back))
    np.testing.assert_allclose(found, wanted, atol=60)
    assert dates.write(dates.read(pa.array(texts), style), style) == texts


def test_digits_that_are_dates_in_a_frame_come_back_as_integers():
    days = [int(moment.strftime("%Y%m%d")) for moment in MOMENTS]
    table = learned(pd.DataFrame({"at": days, "y": LEVELS}))
    assert table.by_name["at"].kind == "datetime"
    back = table.decode(table.encode(decode_codes(pd.DataFrame({"at": days, "y": LEVELS}))))["at"]
    assert back.type == pa.int64()
    assert back.to_pylist() == days


def test_digits_are_dates_beside_decimal_commas_too(file):
    lines = [f"{moment:%Y%m%d};{i % 7},5" for i, moment in enumerate(MOMENTS)]
    table = learned(file("\n".join(["at;x", *lines, ""])))
    assert (table.by_name["at"].kind, table.by_name["x"].kind) == ("datetime", "number")


def test_digits_that_may_be_anything_stay_numbers():
    frame = pd.DataFrame({"x": [20201116, 20201117] * 30, "y": LEVELS})
    assert learned(frame).by_name["x"].kind != "datetime"
    assert learned(frame, kinds={"x": "datetime"}).by_name["x"].style == "%Y%m%d"
    ids = pd.DataFrame({"x": RNG.integers(10**7, 10**8, 60), "y": LEVELS})
    assert learned(ids).by_name["x"].kind != "datetime"


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 1_000), ("us", 10**6)])
def test_epochs_are_read_where_the_kind_is_told(unit, factor, file):
    counts = [int(m.timestamp()) * factor for m in MOMENTS]
    columns = {"at": counts, "y": LEVELS}
    for data in (pd.DataFrame(columns), file(table_of(columns))):
        assert learned(data).by_name["at"].kind != "datetime"
        column = learned(data, kinds={"at": "datetime"}).by_name["at"]
        assert column.style == f"epoch {unit}"
        assert column.range_s == [MOMENTS.min().timestamp(), MOMENTS.max().timestamp()]


def test_day_or_month_first_is_asked_where_the_data_does_not_tell(file):
    texts = [f"{a:02}/{b:02}/2020" for a, b in RNG.integers(1, 13, (60, 2))]
    path = file(table_of({"at": texts, "y": LEVELS}))
    assert learned(path).by_name["at"].kind != "datetime"
    assert "dates as %d/%m/%Y or %m/%d/%Y?" in learned(path).reasons["at"]
    with pytest.raises(DataError, match=r"the day or the month may come first"):
        learned(path, kinds={"at": "datetime"})
    column = learned(path, kinds={"at": "datetime:%m/%d/%Y"}).by_name["at"]
    assert column.range_s[1] < pd.Timestamp("2020-12-31").timestamp()
    with pytest.raises(SettingError, match="unsupported format"):
        learned(path, kinds={"at": "datetime:%Q"})


@pytest.mark.parametrize("style", ["%Y", "%n" * 40, "%d/%m", "%Y-%m-%d %I", "%Y-%m-%d|Z", "x", ""])
def test_a_bundle_cannot_name_a_format_that_is_none(style):
    assert not dates.check(style)


GAPPY = (
    "sep=;\r\nland;betrag;plz;notiz;menge\r\n"
    + "".join(
        ";".join(
            [
                ["NA", "=DE", "None", "-null"][i % 4],
                "" if i % 5 == 0 else f'"{comma(f"{v:,.2f}")} €"',
                f"0{1001 + 7 * (i % 9)}",
                f"  “{i}” ",
                "?" if i % 9 == 0 else str(900 + i * 37 % 23),
            ]
        )
        + "\r\n"
        for i, v in enumerate(MONEY)
    )
).encode("cp1252")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gappy")
    (folder / "t.csv").write_bytes(GAPPY)
    schema = Schema(exclude=["land"])
    fitted = Autoencoder(training=TrainingConfig(steps=3), schema=schema, random_state=0).fit(
        folder / "t.csv"
    )
    fitted.save(str(folder / "m"))
    return folder


def impute(model, capsys, *options, data="t.csv", out="out.csv"):
    """The exit code, what was said, and the output."""
    arguments = ["impute", model / "m", model / data, "-o", model / out, "--force", *options]
    code = run([str(argument) for argument in arguments])
    return code, capsys.readouterr().err, model / out


def test_impute_changes_gaps_of_used_columns_alone_to_the_byte(model, capsys):
    code, err, out = impute(model, capsys)
    assert code == 0, err
    before, after = GAPPY.split(b"\r\n"), out.read_bytes().split(b"\r\n")
    assert len(before) == len(after)
    changed = 0
    for was, now in zip(before, after, strict=True):
        for cell, new in zip(was.split(b";"), now.split(b";"), strict=True):
            if cell in {b"", b"?"} and cell != new:
                changed += 1
            else:
                assert cell == new
    assert changed == 12 + 7
    money = after[2].split(b";")[1].decode("cp1252")
    assert study(pa.array([money.strip('"')])).format.suffix == " €"
    assert "19 values filled: betrag 12, menge 7" in err


def test_impute_marks_what_it_filled_and_refuses_a_name_that_is_taken(model, capsys):
    code, err, out = impute(model, capsys, "--mark", "_filled")
    assert code == 0, err
    lines = out.read_text("cp1252").splitlines()
    assert lines[1].endswith(";betrag_filled;plz_filled;menge_filled")
    assert lines[2].endswith(";true;false;true")
    assert lines[3].endswith(";false;false;false")
    fitted = Autoencoder.load(str(model / "m"))
    full = Impute(fitted, mark="_was").answer(str(model / "t.csv"))
    assert full["betrag_was"].to_pylist() == [i % 5 == 0 for i in range(60)]
    taken = pa.table({"betrag": ["1,00 €"], "plz": ["01001"], "menge": ["1"], "plzx": [1]})
    with pytest.raises(DataError, match="already has a column 'plzx'"):
        Impute(fitted, mark="x").answer(taken)
    (model / "clash.csv").write_text("betrag;plz;menge;menge_filled\n1,00 €;01001;;3\n")
    code, err, _ = impute(model, capsys, "--mark", "_filled", data="clash.csv")
    assert code == 2
    assert "already has a column 'menge_filled'" in err


def test_a_csv_is_imputed_into_parquet_and_json_too(model, capsys):
    for name in ("out.parquet", "out.jsonl"):
        assert impute(model, capsys, out=name)[0] == 0
    table = open_source(str(model / "out.parquet"))
    assert next(iter(table.blocks(99))).arrow()["land"].to_pylist()[:2] == ["NA", "=DE"]
