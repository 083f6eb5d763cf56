"""The Imputer fills gaps as a scikit-learn transformer does: what comes in comes out, complete."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keyhole import Autoencoder, Imputer, TrainingConfig
from keyhole.errors import DataError, SettingError
from keyhole.tasks import Impute

pytestmark = pytest.mark.filterwarnings("ignore::keyhole.errors.KeyholeWarning")
ROWS = 120
RNG = np.random.default_rng(0)
SIZE, NOISE = RNG.normal(size=(2, ROWS))
SHORT = TrainingConfig(80, members=1, batch=64, learning_rate=1e-2)


def template():
    return Autoencoder(width=1, training=SHORT)


def whole() -> pd.DataFrame:
    days = pd.to_timedelta((SIZE * 10).round(), unit="D")
    return pd.DataFrame(
        {
            "length": SIZE,
            "weight": 2 * SIZE + 0.3 * NOISE,
            "class": pd.Categorical(np.where(SIZE > 0, "large", "small")),
            "day": pd.Timestamp("2025-06-01") + days,
        },
        index=pd.Index(range(1_000, 1_000 + ROWS), name="key"),
    )


def gappy() -> pd.DataFrame:
    rows = whole()
    for first, name in enumerate(rows.columns):
        rows.loc[rows.index[first::8], name] = None
    return rows


@pytest.fixture(scope="module")
def imputer() -> Imputer:
    return Imputer(template(), random_state=0).fit(gappy())


def test_a_frame_comes_back_complete_with_its_index_dtypes_and_observed_values(imputer):
    rows = gappy()
    full = imputer.transform(rows)
    assert full.index.equals(rows.index)
    assert (full.dtypes == rows.dtypes).all()
    assert not full.isna().any().any()
    pd.testing.assert_frame_equal(full.where(rows.notna()), rows, check_freq=False)
    assert rows.isna().any().all()  # what was given is not changed


def test_filled_values_follow_from_the_rest_of_the_row(imputer):
    rows, full = gappy(), imputer.transform(gappy())
    gap = rows["weight"].isna()
    error = np.abs(full["weight"] - whole()["weight"])[gap].mean()
    assert error < 0.5 * np.abs(whole()["weight"] - whole()["weight"].mean())[gap].mean()
    far = gap & (np.abs(SIZE) > 1)
    assert (np.sign(full["weight"]) == np.sign(SIZE))[far].all()


def test_the_kind_of_container_is_that_of_the_rows_and_not_of_the_fit(imputer):
    rows = gappy()[["length", "weight"]]
    numbers = Imputer(template(), random_state=0).fit(rows)
    expected = numbers.transform(rows).to_numpy()
    filled = numbers.transform(pl.from_pandas(rows))
    assert isinstance(filled, pl.DataFrame)
    np.testing.assert_allclose(filled.to_numpy(), expected, rtol=1e-5)
    with pytest.warns(UserWarning, match="valid feature names"):
        array = numbers.transform(rows.to_numpy())
    assert type(array) is np.ndarray
    np.testing.assert_allclose(array, expected, rtol=1e-5)


def test_an_array_gives_an_array_and_one_row_is_enough():
    X = whole()[["length", "weight"]].to_numpy()
    imputer = Imputer(template(), random_state=0).fit(X)
    full = imputer.transform(np.array([[1.5, np.nan]]))
    assert full.shape == (1, 2)
    assert full[0, 0] == 1.5
    assert full[0, 1] > 0.5
    assert np.isfinite(imputer.transform(np.full((1, 2), np.nan))).all()
    with pytest.raises(DataError, match="0 sample"):
        imputer.transform(np.empty((0, 2)))


def test_names_out_are_the_columns_and_output_is_a_frame_where_one_is_asked_for(imputer):
    assert imputer.get_feature_names_out().tolist() == ["length", "weight", "class", "day"]
    X = whole()[["length", "weight"]].to_numpy()
    framed = Imputer(template(), random_state=0).set_output(transform="pandas").fit_transform(X)
    assert isinstance(framed, pd.DataFrame)
    assert framed.columns.tolist() == ["x0", "x1"]
    framed = imputer.set_output(transform="polars").transform(pl.from_pandas(gappy()))
    imputer.set_output(transform="default")
    assert isinstance(framed, pl.DataFrame)


def test_it_is_a_step_of_a_pipeline_and_of_a_column_transformer():
    rows, target = gappy()[["length", "weight"]], 3 * SIZE
    line = make_pipeline(Imputer(template(), random_state=0), StandardScaler(), LinearRegression())
    assert line.fit(rows, target).score(rows, target) > 0.5
    columns = ColumnTransformer(
        [("filled", Imputer(template(), random_state=0), ["length", "weight"])],
        remainder="drop", verbose_feature_names_out=False,
    ).set_output(transform="pandas")  # fmt: skip
    full = columns.fit_transform(gappy())
    assert full.columns.tolist() == ["length", "weight"]
    assert full.index.equals(rows.index)
    assert not full.isna().any().any()


def test_draws_differ_with_the_seed_alone_and_observed_values_stay(imputer):
    rows = gappy()
    drawn = Imputer.from_fitted(imputer.autoencoder_, sample_posterior=True, random_state=1)
    first, again = drawn.transform(rows), drawn.transform(rows)
    pd.testing.assert_frame_equal(first, again)
    other = drawn.set_params(random_state=2).transform(rows)
    gap = rows["weight"].isna()
    assert (other["weight"] != first["weight"])[gap].mean() > 0.5
    assert (other["weight"] == first["weight"])[~gap].all()


def test_it_fills_as_the_task_of_the_same_model_does(imputer):
    rows = gappy()
    expected = Impute(imputer.autoencoder_).answer(rows)
    pd.testing.assert_frame_equal(imputer.transform(rows), expected)
    pd.testing.assert_frame_equal(
        Imputer.from_fitted(imputer.autoencoder_).transform(rows), expected
    )


def test_a_saved_imputer_fills_the_same_values_and_holds_no_rows(imputer, tmp_path):
    path, rows = tmp_path / "gaps.keyhole", gappy()
    own = Imputer.from_fitted(imputer.autoencoder_, sample_posterior=True, random_state=3)
    own.save(path)
    loaded = Imputer.load(path)
    assert loaded.get_params()["sample_posterior"] is True
    assert loaded.autoencoder_.model_.reference is None
    first, second = (one.transform(rows)["weight"] for one in (own, loaded))
    np.testing.assert_array_equal(first, second)
    model = Autoencoder.load(path)  # which is what the command line reads
    assert not Impute(model).answer(rows).isna().any().any()
    model.save(tmp_path / "plain.keyhole")
    assert Imputer.load(tmp_path / "plain.keyhole").sample_posterior is False


def test_invalid_arguments_and_missing_columns_are_one_line(imputer):
    with pytest.raises(SettingError, match=r"sample_posterior='yes': expected True or False"):
        Imputer(template(), sample_posterior="yes").fit(gappy())
    with pytest.raises(SettingError, match="Imputer takes an Autoencoder, got str"):
        Imputer("plain").fit(gappy())
    with pytest.raises(DataError, match="weight"):
        imputer.transform(gappy().drop(columns="weight"))
