"""Made rows beside real ones: what each of the five judgements finds, and what it survives."""

import datetime
import json
import math

import numpy as np
import pyarrow as pa
import pytest

from keyhole.errors import DataError, SettingError
from keyhole.tasks import judge


def columns(n, seed):
    """Four columns that depend on each other: two of numbers, one of levels, one truth value."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    b = a + 0.3 * rng.normal(size=n)
    town = np.array(["north", "middle", "south"])[np.digitize(a, [-0.5, 0.5])]
    return {"a": a, "b": b, "town": town, "warm": b > 0}


def table(n=500, seed=0, **changed):
    return pa.table({**columns(n, seed), **changed})


TRAIN, HELD_OUT = table(800, seed=10), table(800, seed=11)


@pytest.fixture(scope="module")
def alike():
    return judge(TRAIN, HELD_OUT, table(1500, seed=3))


def test_rows_of_the_same_distribution_cannot_be_told_apart(alike):
    assert alike.c2st_auc == pytest.approx(0.5, abs=0.06)
    assert alike.closer_share == pytest.approx(0.5, abs=0.05)
    assert alike.shape_error < 0.05
    assert alike.trend_error < 0.05
    assert alike.rows == {"train": 800, "held_out": 800, "made": 1500}


def test_rows_of_the_same_distribution_teach_as_much_as_training_rows(alike):
    assert alike.usefulness == pytest.approx(alike.real_usefulness, abs=0.03)
    assert alike.real_usefulness > 0.9


def test_equal_seeds_judge_equally_and_others_draw_other_rows():
    tables = table(90, seed=1), table(60, seed=2), table(70, seed=3)
    assert judge(*tables, seed=1) == judge(*tables, seed=1)
    assert judge(*tables, seed=1) != judge(*tables, seed=2)


def test_copies_of_training_rows_are_nearer_to_training_rows():
    found = judge(TRAIN, HELD_OUT, TRAIN.take(np.arange(0, 800, 2)))
    assert found.closer_share > 0.9
    assert found.shape_error < 0.05


def test_rows_that_all_three_tables_hold_count_half():
    assert judge(*[table(60)] * 3).closer_share == 0.5


def test_columns_shuffled_alone_keep_their_shapes_and_lose_their_trends(alike):
    rng = np.random.default_rng(0)
    held = {name: rng.permutation(values) for name, values in columns(500, 2).items()}
    found = judge(TRAIN, HELD_OUT, pa.table(held))
    assert found.shape_error < 0.05
    assert found.c2st_auc > 0.7
    assert found.trend_error > alike.trend_error + 0.15
    assert found.usefulness < 0.6


def test_a_column_that_moved_is_named_worst():
    held = columns(500, 3)
    found = judge(TRAIN, HELD_OUT, pa.table({**held, "b": held["b"] + 1}))
    assert found.worst_columns[0][0] == "b"
    assert found.worst_columns[0][1] == pytest.approx(0.37, abs=0.06)
    assert len(found.worst_columns) == 3


def test_a_trend_turned_round_is_wrong_by_one_and_one_that_stays_by_nothing():
    x = np.arange(200.0)
    real = pa.table({"x": x, "y": x, "z": np.repeat(["a", "b"], 100)})
    turned = real.set_column(1, "y", pa.array(x[::-1]))
    assert judge(real, real, real).trend_error == 0.0
    assert judge(*(t.select(["x", "y"]) for t in (real, real, turned))).trend_error == 1.0
    # x with y and y with z turn, x with z stays.
    assert judge(real, real, turned).trend_error == pytest.approx(2 / 3)


def test_gaps_count_by_their_share_and_the_rest_by_its_distance():
    x = np.arange(100.0)
    half = pa.table({"x": pa.array([None if i % 2 else i for i in range(100)], pa.float64())})
    assert judge(half, half, half).shape_error == 0.0
    full, nan = pa.table({"x": x}), pa.table({"x": np.where(x % 2, np.nan, x)})
    assert judge(full, full, nan).shape_error == pytest.approx(0.5 + 0.5 * 0.01)
    none = pa.table({"x": pa.nulls(100, pa.float64())})
    assert judge(full, full, none).shape_error == 1.0


def test_a_gap_is_a_level_of_its_own():
    real = pa.table({"level": ["a", None] * 50})
    assert judge(real, real, pa.table({"level": ["a"] * 100})).shape_error == 0.5
    nan = pa.table({"level": [1.0, np.nan] * 50})  # numbers beside words are levels
    assert judge(real, real, nan).shape_error == 0.5


def test_a_level_never_seen_is_nothing_in_common():
    real, made = pa.table({"level": ["a", "b"] * 50}), pa.table({"level": ["c"] * 100})
    found = judge(real, real, made)
    assert found.shape_error == 1.0
    assert found.usefulness is None
    strange = judge(TRAIN, HELD_OUT, table(town=["elsewhere"] * 500), target="town")
    assert strange.usefulness == 0.5
    assert strange.real_usefulness > 0.9
    assert strange.worst_columns[0] == ("town", 1.0)


@pytest.mark.parametrize(
    ("target", "least"), [("a", 0.8), ("town", 0.9), ("warm", 0.9)], ids=["R2", "three", "two"]
)
def test_usefulness_is_judged_by_the_column_that_is_named(target, least):
    found = judge(TRAIN, HELD_OUT, table(seed=3), target=target)
    assert least < found.real_usefulness <= 1
    assert found.usefulness == pytest.approx(found.real_usefulness, abs=0.05)


def test_numbers_are_predicted_where_no_column_has_levels():
    names = ["a", "b"]
    found = judge(*(x.select(names) for x in (TRAIN, HELD_OUT, table(seed=3))))
    assert found.usefulness == pytest.approx(0.9, abs=0.05)


def test_one_made_row_is_judged_where_it_can_be():
    found = judge(TRAIN, HELD_OUT, table(1))
    assert math.isnan(found.c2st_auc)
    assert found.to_json()["c2st_auc"] is None
    assert found.usefulness == 0.5
    assert found.closer_share in {0, 0.5, 1}
    assert "too few rows" in found.lines()[2]


def test_one_row_of_each_is_judged():
    found = judge(table(1), table(1), table(1))
    assert (found.shape_error, found.trend_error, found.closer_share) == (0, 0, 0.5)
    assert found.usefulness is None
    assert "unknown" in found.lines()[3]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_no_rows_are_an_error_that_says_which_are_absent(place):
    tables = [TRAIN, HELD_OUT, table(seed=3)]
    tables[place] = tables[place].slice(0, 0)
    with pytest.raises(DataError, match=f"no {('training', 'held-out', 'generated')[place]} rows"):
        judge(*tables)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_absent_column_is_named_with_the_table_that_lacks_it(place):
    tables = [TRAIN, HELD_OUT, table(seed=3)]
    tables[place] = tables[place].drop_columns("town")
    what = ("training", "held-out", "generated")[place]
    with pytest.raises(DataError, match=f"the {what} rows lack the column 'town'"):
        judge(*tables)


def test_a_target_that_is_no_column_is_told_the_nearest():
    with pytest.raises(SettingError, match="did you mean 'town'"):
        judge(TRAIN, HELD_OUT, TRAIN, target="twon")


def test_columns_are_matched_by_name():
    few = table(60)
    assert judge(few, few, few.select(["warm", "town", "b", "a"])) == judge(few, few, few)


@pytest.mark.parametrize("made", [[1.0] * 60, [None] * 60, [2.0] * 60])
@pytest.mark.parametrize("kind", [pa.float64(), pa.string(), pa.int64(), pa.bool_()])
def test_constant_columns_and_gaps_alone_are_judged(kind, made):
    def beside(values):
        known = [None if v is None else int(v) for v in values]
        return table(60, x=pa.array(known).cast(kind)).select(["town", "x", "b"])

    real, gaps = beside([1.0] * 60), beside([None] * 60)
    found = judge(real, real, beside(made))
    same = made[0] == 1.0 or (kind == pa.bool_() and made[0] == 2.0)
    assert dict(found.worst_columns)["x"] == (0.0 if same else 1.0)
    assert math.isfinite(found.trend_error)
    assert judge(real, real, beside(made), target="x").usefulness is None
    assert judge(gaps, gaps, gaps).closer_share == 0.5


def test_texts_that_read_as_numbers_are_numbers_where_one_table_has_numbers():
    few, texts = table(60), table(60, a=pa.array(columns(60, 0)["a"]).cast(pa.string()))
    assert judge(few, few, texts) == judge(few, few, few)
    words = judge(few, few, table(60, a=["word"] * 60))
    assert words.worst_columns[0] == ("a", 1.0)


def test_moments_spans_and_amounts_are_numbers():
    day, hour = datetime.datetime(2024, 1, 1), datetime.timedelta(hours=1)
    held = {
        "at": pa.array([day + i * hour for i in range(100)]),
        "day": pa.array([(day + i * 24 * hour).date() for i in range(100)]),
        "took": pa.array([i * hour for i in range(100)]),
        "cost": pa.array(range(100)).cast(pa.decimal128(21, 2)),
    }
    real = pa.table(held)
    found = judge(real, real, real.take(np.arange(50)))
    assert found.shape_error == pytest.approx(0.5)  # a level would be off by more
    assert found.trend_error == pytest.approx(0.0)
    moments = real.set_column(0, "at", held["at"].cast(pa.string()))
    assert judge(real, real, moments).shape_error == 0.0


def test_a_dictionary_is_levels_like_its_texts():
    few = table(60)
    coded = few.set_column(2, "town", few["town"].combine_chunks().dictionary_encode())
    assert judge(coded, few, few) == judge(few, few, few)


def test_more_levels_than_a_classifier_takes_are_judged():
    town = [f"town {i}" for i in range(500)]
    found = judge(table(town=town), table(town=town), table(town=town), target="town")
    assert found.shape_error == 0.0
    assert math.isfinite(found.c2st_auc)
    assert found.usefulness is not None


def test_infinite_numbers_are_gaps_and_large_ones_do_no_harm():
    few, b = table(60), columns(60, 0)["b"]
    infinite, gappy, large = (
        table(60, b=np.where(b > 1, far, b)) for far in (np.inf, np.nan, 1e300)
    )
    assert judge(few, few, infinite) == judge(few, few, gappy)
    assert judge(few, large, large).shape_error == pytest.approx(0.0, abs=0.1)
    assert math.isfinite(judge(large, large, large, target="b").usefulness)


def test_no_more_than_ten_thousand_rows_are_looked_at():
    many = pa.table({"x": np.arange(10_050)})
    assert judge(many, many, many.slice(0, 5)).rows["train"] == 10_000


def test_enough_held_out_rows_are_compared_with_alone():
    apart, enough = pa.table({"x": [9.0] * 1000}), pa.table({"x": [1.0] * 1000})
    assert judge(apart, enough, enough).shape_error == 0.0
    few = pa.table({"x": [1.0] * 500})
    assert judge(apart, few, few).shape_error == pytest.approx(2 / 3)


def test_a_judgement_is_told_in_five_lines_and_as_json(alike):
    lines = alike.lines()
    assert len(lines) == 5
    assert all("ideal" in line and "\n" not in line for line in lines)
    figures = [alike.shape_error, alike.trend_error, alike.c2st_auc, alike.usefulness]
    assert all(f"{figure:.3f}" in line for figure, line in zip(figures, lines, strict=False))
    assert f"{alike.closer_share:.1%}" in lines[4]
    assert json.loads(json.dumps(alike.to_json())) == alike.to_json()
