"""Rows that a model makes have the dtypes, levels and labels of the frame they stand for."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from keyhole import Autoencoder, Generator, TrainingConfig
from keyhole.bottlenecks import Variational
from keyhole.model.priors import Mixture
from keyhole.tasks import Impute, Reconstruct

ROWS = 80
X = np.random.default_rng(0).normal(size=ROWS)
DAYS = pd.to_timedelta((X * 10).round(), unit="D")
SIZES = np.where(X < -0.5, "S", np.where(X < 0.5, "M", "L"))


def frame() -> pd.DataFrame:
    """A column of each kind that Arrow alone does not bring back, and an index with a name."""
    return pd.DataFrame(
        {
            "size": pd.Categorical(SIZES, ["XS", "S", "M", "L"], ordered=True),
            "cut": pd.cut(X, [-9, -1, 0, 1, 9]),
            "pair": pd.Categorical([(int(v > 0), "a") for v in X]),
            "plain": pd.Categorical(np.where(X > 0, "b", "a"), ["z", "b", "a"]),
            "nullable": pd.array((X * 10).astype(int), dtype="Int64"),
            "boolean": pd.array(X > 0, dtype="boolean"),
            "text": pd.array(np.where(X > 0, "u", "v"), dtype="string[pyarrow]"),
            "arrow": pd.array((X * 10).astype(int), dtype="int64[pyarrow]"),
            "period": pd.PeriodIndex(pd.Timestamp("2024-01-01") + DAYS, freq="D"),
            "zone": pd.Timestamp("2024-01-01", tz="Europe/Berlin") + DAYS,
            "single": X.astype("float32"),
            "small": (X * 5).round().astype("int8"),
        },
        index=pd.Index(range(500, 500 + ROWS), name="key"),
    )


def with_gaps() -> pd.DataFrame:
    rows = frame()
    for name in rows.columns.drop("small"):
        rows.loc[rows.index[::4], name] = None
    assert (rows.dtypes == frame().dtypes).all()
    return rows


def short(rows) -> Autoencoder:
    return Autoencoder(Variational(2), training=TrainingConfig(4, members=1), random_state=0).fit(
        rows
    )


@pytest.fixture(scope="module")
def model() -> Autoencoder:
    return short(frame())


def check_dtypes(made: pd.DataFrame) -> None:
    for name, dtype in frame().dtypes.items():
        assert made[name].dtype == dtype, name  # of categories: levels, order and ordered flag


def test_drawn_rows_have_the_dtypes_and_levels_of_training(model):
    made = Generator.from_fitted(model, prior=Mixture(), rows=frame())
    for rows in (made.sample(20), model.sample(20), made.interpolate(*[frame().head(1)] * 2)):
        check_dtypes(rows)
    drawn = made.sample(20, gaps=False)
    assert drawn["size"].cat.categories.tolist() == ["XS", "S", "M", "L"]
    assert drawn["size"].min() >= "S"  # ordered, and the unused level is not drawn
    assert all(isinstance(cell, pd.Interval) for cell in drawn["cut"])
    assert all(isinstance(cell, tuple) for cell in drawn["pair"])


def test_expected_rows_have_dtypes_index_and_labels_of_the_rows_given(model):
    made = Reconstruct(model).answer(frame())
    check_dtypes(made)
    pd.testing.assert_index_equal(made.index, frame().index)
    check_dtypes(model.inverse_transform(model.transform(frame())))


@pytest.mark.parametrize("arguments", [{}, {"mark": "_filled"}, {"draws": 2, "mark": "_filled"}])
def test_every_way_to_impute_keeps_types_seen_cells_and_labels(model, arguments):
    rows, task = with_gaps(), Impute(model, **arguments)
    made = task.answer(rows)
    times = arguments.get("draws", 1)
    check_dtypes(made)
    assert made.index.tolist() == np.repeat(rows.index, times).tolist()
    assert not made.isna().any().any()
    observed = made[rows.columns].iloc[::times][~(np.arange(ROWS) % 4 == 0)]
    pd.testing.assert_frame_equal(observed, rows[~(np.arange(ROWS) % 4 == 0)])
    assert task.filled["size"] == ROWS // 4 * times
    if "mark" in arguments:
        marks = made["size_filled"].to_numpy()
        assert marks.tolist() == np.repeat(np.arange(ROWS) % 4 == 0, times).tolist()
        assert not made["small_filled"].any()
    if "draws" in arguments:
        assert made["draw"].tolist() == [1, 2] * ROWS
        assert made.columns[0] == "draw"


def test_column_labels_that_are_no_text_come_back():
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=[10, 20, 30])
    two = rows.set_axis(
        pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["u", "v"]), axis=1
    )
    for given in (rows, two):
        model = short(given)
        codes = model.transform(given)
        for made in (
            Reconstruct(model).answer(given),
            Impute(model).answer(given),
            model.sample(3),
            model.inverse_transform(codes),
        ):
            pd.testing.assert_index_equal(made.columns, given.columns)
        drawn = Impute(model, draws=2, mark="_new").answer(given)
        assert drawn.columns.tolist()[1:4] == given.columns.tolist()


def test_polars_enumerations_and_small_types_come_back():
    rows = pl.DataFrame(
        {
            "size": pl.Series(SIZES, dtype=pl.Enum(["XS", "S", "M", "L"])),
            "plain": pl.Series(SIZES, dtype=pl.Categorical),
            "small": pl.Series((X * 9).astype("int16")),
            "x": X,
        }
    )
    model = short(rows)
    gappy = rows.with_columns(
        pl.when(pl.int_range(pl.len()) % 4 == 0).then(None).otherwise(pl.all()).name.keep()
    )
    for made in (
        Reconstruct(model).answer(rows),
        Reconstruct(model).answer(rows.lazy()),
        Impute(model, mark="_filled").answer(gappy),
        Impute(model, draws=2).answer(gappy),
        model.sample(5),
    ):
        assert {name: made.schema[name] for name in rows.columns} == dict(rows.schema)


def test_a_loaded_model_draws_the_same_values_in_the_types_of_arrow(model, tmp_path):
    made = Generator.from_fitted(model, prior=Mixture(), rows=frame())
    made.save(tmp_path / "m.keyhole")
    again = Generator.load(tmp_path / "m.keyhole").set_params(random_state=0).sample(10)
    rows = made.sample(10)
    assert again["size"].astype(str).tolist() == rows["size"].astype(str).tolist()
    assert again["cut"].tolist() == rows["cut"].astype(str).tolist()  # intervals as texts
    assert again["small"].dtype == np.int8
