"""A rule that all training rows keep is kept by drawn rows, listed, and can be switched off."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.cli import run
from keyhole.data import open_source
from keyhole.errors import BundleError, SettingError
from keyhole.modalities import Schema, Tabular
from keyhole.model.bottlenecks import Variational
from keyhole.model.heads import Mixed
from keyhole.model.priors import Normal
from keyhole.tasks import Generator, Impute
from keyhole.training import TrainingConfig

ROWS = 400


def stays(rows=ROWS):
    """Bookings: dates in order, nights between them, net and tax and gross to the cent."""
    rng = np.random.default_rng(0)
    checkin = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 365, rows), "D")
    nights = rng.geometric(0.3, rows)
    net = (rng.gamma(3, 3_000, rows) + 1_000).astype(int)
    tax = (net * rng.choice([0.07, 0.19], rows)).astype(int)
    return pd.DataFrame(
        {
            "checkin": checkin,
            "checkout": checkin + pd.to_timedelta(nights, "D"),
            "net": net / 100,
            "tax": tax / 100,
            "gross": (net + tax) / 100,
            "cold": (low := rng.normal(5, 8, rows).round(1)),
            "warm": (low + rng.gamma(2, 4, rows)).round(1),
            "guests": rng.integers(1, 5, rows),
        }
    )


def learned(frame):
    return Tabular.learn(open_source(frame), Schema())[0]


def said(table):
    return [] if table.lawful is None else sorted(map(str, table.lawful.rules))


def fitted(frame, steps=40, **arguments):
    model = Autoencoder(
        Variational(2, beta=0.5), head=Mixed(continuous="binned"), training=TrainingConfig(steps,
            members=1),
        random_state=0,
    )  # fmt: skip
    return Generator(model, prior=Normal(), random_state=0, **arguments).fit(frame)


@pytest.fixture(scope="module")
def generator():
    return fitted(stays())


def cents(frame, name):
    return (frame[name] * 100).round().astype(int)


def assert_lawful(drawn):
    assert (drawn["checkin"] < drawn["checkout"]).all()
    assert (drawn["cold"] <= drawn["warm"]).all()
    assert (cents(drawn, "net") + cents(drawn, "tax") == cents(drawn, "gross")).all()


RULES = ["checkin < checkout", "cold <= warm", "net + tax = gross"]


def test_rules_that_all_rows_keep_are_found_and_those_that_never_bind_are_not():
    table = stays().assign(income=np.random.default_rng(1).gamma(9, 5_000, ROWS) + 1_000)
    rules = said(learned(table))
    assert [rule.replace("cold < ", "cold <= ") for rule in rules] == RULES


def test_one_row_that_breaks_a_rule_ends_it():
    table = stays()
    table.loc[7, "checkout"] = table.loc[7, "checkin"] - pd.Timedelta(days=1)
    assert not any("checkin" in rule for rule in said(learned(table)))


def test_a_gap_breaks_no_rule():
    table = stays()
    table.loc[:50, "checkout"] = None
    table.loc[50:90, "checkin"] = None
    assert "checkin < checkout" in said(learned(table))


@pytest.mark.parametrize("rows", [2, 10])
def test_a_few_rows_make_no_rule(rows):
    assert said(learned(stays(rows))) == []


def test_columns_without_order_make_no_rule():
    rng = np.random.default_rng(0)
    assert said(learned(pd.DataFrame(rng.normal(size=(500, 6)), columns=list("abcdef")))) == []


def test_dates_and_days_between_them_are_a_sum():
    table = stays()[["checkin", "checkout", "guests"]]
    table["nights"] = (table["checkout"] - table["checkin"]).dt.days
    assert said(learned(table)) == ["checkin + nights days = checkout"]
    drawn = fitted(table).sample(300)
    assert ((drawn["checkout"] - drawn["checkin"]).dt.days == drawn["nights"]).all()


def test_a_copy_a_shift_and_another_unit_are_lines():
    rng = np.random.default_rng(0)
    a = rng.normal(10, 3, ROWS).round(2)
    table = pd.DataFrame(
        {"a": a, "b": a, "c": a + 5, "x": rng.normal(size=ROWS), "f": 1.8 * a + 32}
    )
    assert said(learned(table)) == ["b = a", "c = a + 5", "f = 1.8 * a + 32"]
    drawn = fitted(table).sample(200)
    np.testing.assert_allclose(drawn["b"], drawn["a"], atol=1e-9)
    np.testing.assert_allclose(drawn["f"], 1.8 * drawn["a"] + 32, atol=0.006)


def test_an_order_of_three_is_listed_in_two_steps():
    rng = np.random.default_rng(0)
    a = rng.normal(size=ROWS)
    b, c = a + rng.random(ROWS), a + 1 + rng.random(ROWS)
    assert said(learned(pd.DataFrame({"c": c, "a": a, "b": b}))) == ["a < b", "b < c"]


def test_drawn_rows_keep_the_rules(generator):
    assert_lawful(generator.sample(1_000))


def test_stays_are_as_long_as_those_of_training(generator):
    drawn, real = generator.sample(1_000), stays()
    nights = [(f["checkout"] - f["checkin"]).dt.days for f in (drawn, real)]
    assert nights[0].mean() == pytest.approx(nights[1].mean(), abs=0.6)
    assert nights[0].median() == pytest.approx(nights[1].median(), abs=1)
    assert nights[0].max() <= nights[1].max()


def test_rules_can_be_switched_off(generator):
    free = Generator.from_fitted(generator.autoencoder_, rules=False)
    drawn = free.sample(500)
    assert (drawn["checkin"] > drawn["checkout"]).mean() > 0.1
    assert (cents(drawn, "net") + cents(drawn, "tax") != cents(drawn, "gross")).mean() > 0.5
    assert said(fitted(stays(), 2, rules=False).autoencoder_.model_.modality) == []
    assert said(generator.autoencoder_.model_.modality)  # which was not changed


def test_what_is_given_takes_part_in_rules(generator):
    drawn = generator.sample(50, {"checkin": "2024-10-01", "net": 50.0, "tax": 9.5})
    assert_lawful(drawn)
    assert set(drawn["gross"]) == {59.5}
    assert set(drawn["checkin"]) == {pd.Timestamp("2024-10-01")}
    totals = generator.sample(50, {"gross": 80.0})
    assert_lawful(totals)
    assert set(totals["gross"]) == {80.0}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"checkin": "2024-06-02", "checkout": "2024-06-01"}, "satisfy checkin < checkout"),
        ({"net": 50.0, "tax": 9.5, "gross": 60.0}, "satisfy net + tax = gross"),
        ({"net": 200.0, "gross": 100.0}, "tax was"),
    ],
)
def test_given_values_that_break_a_rule_are_refused(generator, values, message):
    with pytest.raises(SettingError) as fault:
        generator.sample(5, values)
    assert message in str(fault.value)
    assert "--no-rules" in str(fault.value)


@pytest.mark.filterwarnings("ignore::keyhole.errors.KeyholeWarning")
def test_given_values_may_break_a_rule_that_is_switched_off(generator):
    free = Generator.from_fitted(generator.autoencoder_, rules=False)
    assert len(free.sample(5, {"checkin": "2024-06-02", "checkout": "2024-06-01"})) == 5


def test_gaps_are_filled_by_the_rules(generator):
    gappy = stays(60)
    gappy.loc[:20, "checkout"] = None
    gappy.loc[15:30, "checkin"] = None
    gappy.loc[:10, "gross"] = np.nan
    gappy.loc[11:30, "tax"] = np.nan
    for copy in (*generator.impute(gappy, draws=2), Impute(generator.autoencoder_).answer(gappy)):
        assert_lawful(copy)
        for name in gappy:
            there = gappy[name].notna()
            assert (copy.loc[there, name] == gappy.loc[there, name]).all(), name


def test_rules_are_checked_on_every_row_of_a_long_table():
    rng = np.random.default_rng(0)
    a = rng.normal(size=150_000)
    table = pd.DataFrame({"a": a, "b": a + rng.random(len(a)), "c": a + rng.random(len(a))})
    table.loc[140_000:140_000, "c"] = table["a"].min() - 10
    assert "a < b" in said(learned(table)) or "a <= b" in said(learned(table))
    assert not any("c" in rule.split() and "a" in rule.split() for rule in said(learned(table)))


def test_rules_are_kept_in_a_bundle_and_a_forged_one_is_refused(generator, tmp_path):
    generator.save(tmp_path / "g.keyhole")
    loaded = Generator.load(tmp_path / "g.keyhole")
    assert said(loaded.autoencoder_.model_.modality) == said(
        generator.autoencoder_.model_.modality
    )
    recipe = generator.autoencoder_.model_.modality.recipe()
    for rule in (
        {"kind": "order", "columns": ["net", "none"], "numbers": [0.0] * 42},
        {"kind": "order", "columns": ["net", "tax"], "numbers": [0.0]},
        {"kind": "line", "columns": ["net", "tax"], "numbers": [0.0, 1.0]},
        {"kind": "spell", "columns": ["net", "tax"], "numbers": [1.0]},
    ):
        with pytest.raises(BundleError, match="not a valid rule between columns"):
            Tabular.restored(recipe | {"rules": [rule], "columns": columns_of(generator)})


def columns_of(generator):
    return [column.recipe() for column in generator.autoencoder_.model_.modality.columns]


def test_the_command_line_lists_rules_keeps_them_and_switches_them_off(tmp_path, capfd):
    path, model, out = (str(tmp_path / name) for name in ("stays.csv", "m.keyhole", "made.csv"))
    stays().to_csv(path, index=False)

    def ask(*arguments):
        code = run([*arguments])
        return code, "".join(capfd.readouterr())

    code, output = ask("fit", path, "--for", "sample", "--steps", "20", "--prior", "normal",
                       "-o", model, "--no-report")  # fmt: skip
    assert code == 0
    assert "checkin < checkout" in output
    assert "net + tax = gross" in ask("inspect", model)[1]
    assert ask("sample", model, "-n", "300", "-o", out)[0] == 0
    assert_lawful(pd.read_csv(out, parse_dates=["checkin", "checkout"]))
    assert ask("sample", model, "-n", "300", "-o", out, "--force", "--no-rules")[0] == 0
    made = pd.read_csv(out)
    assert (made["checkin"] > made["checkout"]).mean() > 0.1
    code, output = ask("sample", model, "--given", "checkin=2024-06-02",
                       "--given", "checkout=2024-06-01", "-o", out, "--force")  # fmt: skip
    assert code == 2
    assert "checkin < checkout" in output


@st.composite
def tables(draw):
    """Random tables of one to three rules: orders, a chain, a sum, with gaps."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    rows = draw(st.integers(60, 150))
    spread = draw(st.sampled_from([0.1, 1.0, 100.0]))
    whole = draw(st.booleans())
    a = rng.normal(size=rows) * spread * 10
    b = a + rng.exponential(spread, rows)
    c = b + rng.exponential(spread * 10, rows)
    d = rng.exponential(spread, rows)
    frame = pd.DataFrame({"a": a, "b": b, "c": c, "d": d})
    if whole:
        frame = (frame * 100 / spread).round().astype(int)
    frame["e"] = frame["c"] + frame["d"]
    if draw(st.booleans()) and not whole:
        frame.loc[rng.random(rows) < 0.2, "b"] = np.nan
    return frame


@settings(max_examples=6)
@given(tables())
def test_all_draws_keep_the_rules_of_random_tables(frame):
    made = fitted(frame, 5)
    table = made.autoencoder_.model_.modality
    assert table.lawful is not None
    drawn = made.sample(200)
    values = {name: drawn[name].to_numpy(float) for name in drawn}
    for rule in table.lawful.rules:
        off = rule.off(values)
        bound = 0.0 if rule.kind == "order" else 1e-6 * frame["e"].abs().max()
        assert not (off > bound).any(), rule
    free = Generator.from_fitted(made.autoencoder_, rules=False)
    loose = free.sample(200)
    assert ((loose["c"] + loose["d"] - loose["e"]).abs() > 1e-3 * frame["e"].std()).any()


def test_an_arrow_table_of_durations_keeps_its_order():
    rng = np.random.default_rng(0)
    short = rng.integers(1, 10_000, 200)
    table = pa.table({
        "least": pa.array(short, pa.duration("s")),
        "most": pa.array(short + rng.integers(0, 5_000, 200), pa.duration("s")),
        "x": rng.normal(size=200),
    })  # fmt: skip
    drawn = fitted(table).sample(200).to_pydict()
    assert all(a <= b for a, b in zip(drawn["least"], drawn["most"], strict=True))


def test_json_holds_the_rules(tmp_path, generator, capfd):
    generator.save(tmp_path / "g.keyhole")
    assert run(["inspect", str(tmp_path / "g.keyhole"), "--json"]) == 0
    rules = json.loads(capfd.readouterr().out)["sections"]["autoencoder"]["modality"]["rules"]
    assert ["checkin", "checkout"] in [rule["columns"] for rule in rules]
