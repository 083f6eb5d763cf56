"""Drawn values are ones that the column can hold, and no single row's own."""

import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.errors import KeyholeWarning, SettingError
from keyhole.modalities.tabular.columns.base import between, folded, grid, step_of
from keyhole.model.bottlenecks import Variational
from keyhole.model.heads import Mixed
from keyhole.model.priors import Mixture, Normal
from keyhole.tasks import Generator, Impute, Reconstruct
from keyhole.training import TrainingConfig

ROWS = 600
LIKERT = [0.38, 0.10, 0.04, 0.11, 0.37]
HALVES = np.arange(1, 5.1, 0.5)


def answers():
    """Scales and counts that a smooth density misses, and measurements of which none repeats."""
    rng = np.random.default_rng(0)
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 400, ROWS), "D")
    return pd.DataFrame(
        {
            "likert": rng.choice([1, 2, 3, 4, 5], ROWS, p=LIKERT),
            "month": rng.integers(1, 13, ROWS),
            "half": rng.choice(HALVES, ROWS),
            "calls": np.where(rng.random(ROWS) < 0.6, 0, rng.poisson(4, ROWS)),
            "pack": rng.choice([6, 12, 24, 48, 144], ROWS),
            "price": rng.choice([4.99, 9.99, 19.99], ROWS),
            "amount": rng.lognormal(4, 1, ROWS).round(2),
            "cents": (rng.lognormal(9, 1, ROWS) * 100).astype(int),
            "sensor": rng.normal(size=ROWS),
            "narrow": rng.normal(size=ROWS).astype(np.float32),
            "at": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.random(ROWS) * 1e7, "s"),
            "day": days,
            "saved": np.where(rng.random(ROWS) < 0.7, 0.0, rng.gamma(2, 50, ROWS)),
            "rare": np.where(np.arange(ROWS) < 2, "only me", rng.choice(["a", "b", "c"], ROWS)),
        }
    )


FREE = ["amount", "cents", "sensor", "narrow", "at"]


def fitted(frame, head, steps=200):
    model = Autoencoder(
        Variational(3, beta=0.5),
        head=head,
        training=TrainingConfig(steps, members=1),
        random_state=0,
    )
    return Generator(model, prior=Mixture(4), random_state=0).fit(frame)


@pytest.fixture(scope="module")
def drawn():
    return fitted(answers(), Mixed(continuous="binned")).sample(2_000)


def apart(real, made):
    """Total variation distance between the shares of two samples' values."""
    shares = [column.value_counts(normalize=True) for column in (real, made)]
    both = pd.concat(shares, axis=1).fillna(0.0)
    return float((both.iloc[:, 0] - both.iloc[:, 1]).abs().sum() / 2)


@pytest.mark.parametrize("name", ["likert", "month", "half", "calls", "pack", "price"])
def test_a_scale_of_few_values_is_drawn_by_its_own_shares(drawn, name):
    real = answers()[name]
    assert set(drawn[name]) <= set(real)
    assert apart(real, drawn[name]) <= 0.05


@pytest.mark.parametrize("name", FREE)
def test_no_draw_is_the_least_or_the_most_of_a_column_where_none_repeats(drawn, name):
    real = answers()[name]
    assert drawn[name].gt(real.min()).all()
    assert drawn[name].lt(real.max()).all()


def test_draws_reach_far_into_the_tails_without_their_ends(drawn):
    real = answers()["sensor"]
    assert drawn["sensor"].quantile(0.99) == pytest.approx(real.quantile(0.99), abs=0.4)
    assert drawn["sensor"].value_counts().max() < 5  # no heap at a bound


def test_a_level_of_one_or_two_rows_is_not_drawn(drawn):
    assert set(drawn["rare"]) == {"a", "b", "c"}


def test_days_and_amounts_that_are_mostly_zero_stay_between_their_ends(drawn):
    real = answers()
    assert drawn["day"].between(real["day"].min(), real["day"].max()).all()
    assert (drawn["saved"] == 0).mean() == pytest.approx((real["saved"] == 0).mean(), abs=0.05)
    assert drawn["saved"].between(0, real["saved"].max(), inclusive="left").all()


@pytest.mark.parametrize("continuous", ["student_t", "gaussian"])
def test_smooth_likelihoods_are_cut_off_at_the_ends_too(continuous):
    real = answers()
    made = fitted(real, Mixed(continuous=continuous), 60).sample(1_000)
    assert set(made["likert"]) <= {1, 2, 3, 4, 5}
    assert set(made["month"]) <= set(range(1, 13))
    assert set(made["half"]) <= set(HALVES)
    for name in FREE:
        assert made[name].gt(real[name].min()).all(), name
        assert made[name].lt(real[name].max()).all(), name


def test_draws_for_gaps_and_rebuilt_rows_stay_on_the_scale():
    real = answers()
    model = fitted(real, Mixed(continuous="binned"), 30).autoencoder_
    gappy = real.head(100).assign(likert=np.nan, month=np.nan, amount=np.nan)
    for copy in Impute(model, draws=3).copies(gappy):
        assert copy["likert"].isin([1, 2, 3, 4, 5]).all()
        assert copy["month"].between(1, 12).all()
        assert copy["amount"].gt(real["amount"].min()).all()
    rebuilt = Reconstruct(model).answer(real)
    assert rebuilt["likert"].between(1, 5).all()
    assert rebuilt["month"].between(1, 12).all()


@pytest.mark.parametrize(("name", "value"), [("likert", 0), ("likert", 6), ("month", 13)])
def test_a_value_off_the_scale_is_refused_where_it_is_given(name, value):
    made = fitted(answers(), Mixed(continuous="binned"), 2)
    with pytest.raises(SettingError, match=f"given {name}={value}: the training data range from"):
        made.sample(3, {name: value})


def test_a_value_of_a_single_row_may_be_given():
    real = answers()
    made = fitted(real, Mixed(continuous="binned"), 2)
    least = float(real["sensor"].min())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KeyholeWarning)  # whether it is rare is not asked
        assert made.sample(30, {"sensor": least})["sensor"].tolist() == [pytest.approx(least)] * 30


@pytest.mark.parametrize(
    ("numbers", "step"),
    [
        (np.arange(1, 5.1, 0.5), 0.5),
        (np.arange(0, 100, 25), 25.0),
        (np.array([0.25, 0.5, 1.75]), 0.25),
        (np.array([1_000, 43_000, 5_000]), 1_000.0),
        (np.array([0.01, 0.02, 0.05]), 0.01),
        (np.array([1, 2, 5]), 1.0),
        (np.array([0.1234567, 0.3]), None),
    ],
)
def test_a_step_is_the_coarsest_that_divides_all_numbers(numbers, step):
    assert step_of(np.tile(numbers.astype(float), 20)) == step


def test_few_numbers_make_no_step_above_one():
    assert grid(np.array([10.0, 20.0, 40.0])) == {"step": [1.0]}
    assert grid(np.array([7.5, 2.5])) == {"step": [0.1]}


def test_numbers_far_apart_are_drawn_from_those_that_rows_share():
    met = np.array([0.0] * 50 + [7.0] * 30 + [5_013.0] * 20 + [4_000.0])
    assert grid(met) == {"values": [0.0, 7.0, 5_013.0]}


def test_an_end_of_a_few_rows_is_left_out_and_one_of_many_is_not():
    assert between((1.0, 9.0), (5, 2), 1.0) == [1.0, 8.0]
    assert between((0.5, 0.5), (1, 1), None) == [0.5, 0.5]
    assert between((1.0, 2.0), (1, 1), 1.0) == [1.0, 2.0]  # nothing is left between
    low, high = between((1.0, 2.0), (1, 1), None)
    assert 1.0 < low < high < 2.0


def test_numbers_beyond_an_end_are_mirrored_not_cut_off():
    bounds = {"between": [0.0, 10.0]}
    beyond = np.array([-1.0, 3.0, 10.5, 23.0, -1e9])
    inside = folded(beyond, bounds)
    np.testing.assert_allclose(inside[:4], [1.0, 3.0, 9.5, 3.0])
    assert 0 <= inside[4] <= 10


@pytest.mark.parametrize("rows", [3, 5])
def test_a_handful_of_rows_can_be_drawn_from(rows):
    table = pd.DataFrame(
        {"a": np.arange(rows) + 0.5, "b": list("xyzzz")[:rows], "c": np.arange(rows)}
    )
    model = Autoencoder(
        Variational(1), head=Mixed(continuous="binned"), training=TrainingConfig(2), random_state=0
    )
    made = Generator(model, prior=Normal(), random_state=0).fit(table).sample(40)
    assert made["a"].between(0.5, rows - 0.5).all()
    assert set(made["b"]) <= set(table["b"])


def test_a_text_column_of_digits_keeps_its_levels():
    rng = np.random.default_rng(0)
    texts = pa.array(rng.choice(["1", "2", "3", "4", "5"], 300, p=LIKERT).tolist())
    table = pa.table({"likert": texts, "x": rng.normal(size=300), "y": rng.normal(size=300)})
    made = fitted(table, Mixed(continuous="binned"), 50).sample(500)
    assert set(made["likert"].to_pylist()) <= {"1", "2", "3", "4", "5"}


def test_a_value_is_given_to_a_column_whose_name_holds_an_equals_sign():
    from click import UsageError

    from keyhole.cli.tasks import _given

    columns = ["a", "a=b", "price=EUR"]
    assert _given(("price=EUR=5", "a=b=c", "a=x=y"), columns) == {
        "price=EUR": "5", "a=b": "c", "a": "x=y",
    }  # fmt: skip
    assert _given(("typo=1=2",), columns) == {"typo": "1=2"}  # named as no column later on
    for texts in (("a",), ("=5",), ("a=1", "a=2")):
        with pytest.raises(UsageError):
            _given(texts, columns)
