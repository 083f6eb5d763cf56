"""What an Autoencoder promises: types come back, weights weigh, rows held out stay out."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.data import open_source
from keyhole.modalities import Schema
from keyhole.modalities.rows.feed import RowFeed
from keyhole.modalities.rows.holdout import HeldOutRows
from keyhole.modalities.rows.split import CALIBRATE, STOP, TRAIN, Split
from keyhole.model.bottlenecks import Plain
from keyhole.training import TrainingConfig


def fitted(data, *, steps=3, width=None, **schema):
    training = TrainingConfig(steps=steps)
    return Autoencoder(
        Plain(width), training=training, schema=Schema(**schema), random_state=0
    ).fit(data)


def mixed(rows=60, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    return pd.DataFrame(
        {
            "x": x,
            "y": 2 * x + 0.1 * rng.normal(size=rows),
            "city": rng.choice(["Rome", "Bonn", "Oslo"], rows),
            "day": rng.integers(0, 9, rows),
        }
    )


def weights_of(model):
    return torch.cat([w.flatten() for w in model.model_.network.parameters()])


def same_model(a, b):
    assert a.model_.history.best_step, "the weights are those before training: nothing is compared"
    return torch.equal(weights_of(a), weights_of(b)) and np.array_equal(
        a.model_.typical_nats, b.model_.typical_nats
    )


def test_rows_come_back_in_the_types_of_a_pandas_frame():
    rng, n = np.random.default_rng(0), 60
    when = pd.date_range("2024-01-01", periods=n, freq="7h")
    frame = pd.DataFrame(
        {
            "number": rng.normal(size=n),
            "single": rng.normal(size=n).astype("f4"),
            "whole": rng.integers(1000, 9000, n),
            "small": rng.integers(0, 255, n).astype("uint8"),
            "nullable": pd.array([None, *rng.integers(1000, 9000, n - 1)], dtype="Int64"),
            "boolean": pd.array([None, *(rng.random(n - 1) < 0.5)], dtype="boolean"),
            "level": pd.Categorical(rng.choice(list("abc"), n)),
            "code": pd.Categorical(rng.integers(1, 5, n)),
            "text": [None, *rng.choice(["x", "y", "z"], n - 1)],
            "when": when,
            "zoned": when.tz_localize("UTC").tz_convert("Europe/Berlin"),
            "span": pd.to_timedelta(rng.integers(1, 10**6, n), unit="s"),
        }
    )
    model = fitted(frame)
    back = model.inverse_transform(model.transform(frame))
    assert back.dtypes.to_dict() == frame.dtypes.to_dict()
    assert set(back["code"].dropna()) <= {1, 2, 3, 4}
    assert back["when"].between(when[0], when[-1]).all()


def test_rows_come_back_in_the_types_of_a_polars_frame():
    rng, n = np.random.default_rng(0), 60
    day = dt.date(2024, 1, 1)
    frame = pl.DataFrame(
        {
            "number": rng.normal(size=n),
            "whole": rng.integers(1000, 9000, n),
            "level": pl.Series(rng.choice(list("abc"), n), dtype=pl.Categorical),
            "day": pl.date_range(day, day + dt.timedelta(days=n - 1), eager=True),
            "boolean": rng.random(n) < 0.5,
            "text": rng.choice(["x", "y", "z"], n),
            "null": pl.Series([None] * n),
        }
    )
    model = fitted(frame)
    codes = model.transform(frame)
    assert isinstance(codes, pl.DataFrame)
    back = model.inverse_transform(codes)
    assert back.schema == frame.drop("null").schema


@pytest.mark.parametrize("dtype", ["f8", "f4", "i4", "?"])
def test_an_array_comes_back_as_an_array_of_its_type(dtype):
    X = (np.random.default_rng(0).normal(size=(40, 3)) * 3).astype(dtype)
    model = fitted(X)
    assert model.inverse_transform(model.transform(X)).dtype == np.dtype(dtype)


def test_a_wide_code_rebuilds_rows_after_some_training():
    """Takes seconds: the one test here in which a net has to learn something."""
    frame = mixed(400)
    model = fitted(frame, steps=300, width=6)
    back = model.inverse_transform(model.transform(frame))
    assert np.corrcoef(back["x"], frame["x"])[0, 1] > 0.9
    assert (back["city"] == frame["city"]).mean() > 0.8


def test_a_row_with_a_gap_is_scored_and_an_empty_row_is_not():
    frame = mixed()
    model = fitted(frame)
    frame.loc[0, "x"] = np.nan
    frame.loc[1] = [np.nan, np.nan, None, np.nan]
    scores = model.score_samples(frame)
    assert np.isfinite(scores[[0, 2]]).all()
    assert np.isnan(scores[1])


@pytest.mark.parametrize("frame", [mixed(30)[["x"]], mixed(30)[["city"]], mixed(2), mixed(5)])
def test_a_tiny_table_is_learnt_and_said_to_be_tiny(frame):
    model = fitted(frame)
    assert np.isfinite(model.score_samples(frame)).all()
    assert "KH006" in [finding.code for finding in model.findings_]


def test_a_table_of_constants_is_learnt_and_a_change_is_surprising():
    frame = pd.DataFrame({"a": [3] * 30, "b": ["x"] * 30, "c": [2.5] * 30})
    model = fitted(frame)
    usual, odd = model.score_samples(pd.DataFrame({"a": [3, 4], "b": ["x", "x"], "c": [2.5, 2.5]}))
    assert odd < usual
    back = model.inverse_transform(model.transform(frame))
    assert back.to_dict("list") == frame.to_dict("list")


def test_a_number_far_out_of_reach_is_scored_and_costs_more():
    X = np.random.default_rng(0).normal(size=(60, 3))
    model = fitted(X)
    usual, far, farther = model.score_samples(np.array([[0, 0, 0], [1e9, 0, 0], [1e300, 0, 0]]))
    assert usual > far > farther > -np.inf


def test_doubling_all_weights_changes_nothing():
    frame = mixed(240).assign(w=np.random.default_rng(1).random(240) + 0.5)
    doubled = frame.assign(w=2 * frame["w"])
    assert same_model(fitted(frame, weight="w"), fitted(doubled, weight="w"))
    assert not same_model(fitted(frame, weight="w"), fitted(frame.assign(w=1.0), weight="w"))


def test_a_row_of_weight_zero_has_no_influence():
    frame = mixed(240).assign(w=1.0)
    more = pd.concat([frame[:20], mixed(7, seed=5).assign(w=0.0, x=1e9, city="?"), frame[20:]])
    assert same_model(fitted(more, weight="w"), fitted(frame, weight="w"))


def test_a_row_of_weight_zero_has_no_influence_in_a_file_of_row_groups(tmp_path):
    frame = mixed(240).assign(w=1.0)
    more = pd.concat([mixed(20, seed=5).assign(w=0.0, x=1e9), frame])
    for name, part in {"a": more, "b": frame}.items():
        pq.write_table(pa.table(part), tmp_path / f"{name}.parquet", row_group_size=20)
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    assert same_model(*[fitted(path, weight="w") for path in paths])


@pytest.fixture
def grouped(tmp_path):
    pq.write_table(pa.table(mixed(1500)), tmp_path / "t.parquet", row_group_size=250)
    return tmp_path / "t.parquet"


def test_a_table_larger_than_memory_is_learnt_pool_by_pool_the_same_each_time(
    grouped, monkeypatch
):
    """Takes seconds: three fits, which read row groups anew for every pool."""
    monkeypatch.setattr("keyhole.modalities.rows.feed.POOL_FEATURES", 2 * 250 * 4)
    first, again = (fitted(grouped, steps=40) for _ in range(2))
    assert same_model(first, again)
    np.testing.assert_array_equal(first.score_samples(grouped), again.score_samples(grouped))
    other = Autoencoder(training=TrainingConfig(steps=40), random_state=1).fit(grouped)
    assert not torch.equal(weights_of(first), weights_of(other))


def test_pools_go_through_every_training_row_and_no_other(grouped, monkeypatch):
    monkeypatch.setattr("keyhole.modalities.rows.feed.POOL_FEATURES", 2 * 250 * 4)
    model, source = fitted(grouped), open_source(grouped)
    split = Split(1500, seed=3)
    feed = RowFeed(source, model.model_.modality, split, seed=3, rows=1500)
    assert (feed.pools, feed.groups_a_pool) == (3, 2)
    met = []
    for place in range(3):
        feed.batch(place, 8, steps_a_pool=1)
        met += feed._pool[0].numbers[:, 0].tolist()
    trains = split.trains(source.group(0), 0)[0].sum()
    fresh, _ = HeldOutRows.gather(source, split, len(model.model_.modality.layout)).fresh()
    assert 0 < trains < 250
    assert len(met) == 1500 - len(fresh)
    held = model.model_.modality.encode(fresh).numbers[:, 0].tolist()
    assert not set(met) & set(held)


def test_a_csv_spooled_to_disk_makes_the_same_model_as_one_in_memory(tmp_path, monkeypatch):
    mixed(1200).to_csv(tmp_path / "t.csv", index=False)
    in_memory = fitted(tmp_path / "t.csv", steps=40)
    monkeypatch.setattr("keyhole.data.opening.MEMORY_BYTES", 20_000)
    spooled = fitted(tmp_path / "t.csv", steps=40)
    assert same_model(in_memory, spooled)


@pytest.mark.parametrize("rows", [300, 1500])
@pytest.mark.parametrize("groups", [3, 7, 40])
def test_a_group_is_never_split_and_every_part_has_one(rows, groups):
    frame = mixed(rows).assign(g=[f"g{i % groups}" for i in range(rows)])
    table = open_source(frame).group(0)
    split = Split.of(rows, 7, "group:g", table.arrow())
    part = pd.Series(split.assign(table, 0))
    assert (part.groupby(frame["g"]).nunique() == 1).all()
    wanted = range(min(5, groups)) if rows < 1000 else (TRAIN, STOP, CALIBRATE)
    assert set(part) == set(wanted)
    assert split.trains(table, 0).any(1).all()


@pytest.mark.parametrize("style", [None, "%Y-%m-%d", "%d.%m.%Y"])
def test_the_latest_rows_are_held_out_where_time_decides(style):
    when = pd.Series(pd.date_range("2020-01-01", periods=1500, freq="D"))
    order = np.random.default_rng(0).permutation(1500)
    texts = when if style is None else when.dt.strftime(style)
    table = open_source(mixed(1500).assign(when=texts[order].to_numpy())).group(0)
    split = Split.of(1500, 7, "time:when", table.arrow())
    part = split.assign(table, 0)
    held = order[part != TRAIN]
    assert held.min() > order[part == TRAIN].max()
    assert len(held) == pytest.approx(300, abs=2)
    assert set(part) == {TRAIN, STOP, CALIBRATE}


def test_folds_by_place_are_even_and_each_row_has_one_net_that_never_saw_it():
    table = open_source(mixed(103)).group(0)
    split = Split(103, seed=5)
    part = split.assign(table, 0)
    assert sorted(np.bincount(part)) == [20, 20, 21, 21, 21]
    assert (split.trains(table, 0).sum(0) == 4).all()
    halves = [
        split.assign(table.take(slice(0, 50)), 0),
        split.assign(table.take(slice(50, 103)), 50),
    ]
    np.testing.assert_array_equal(np.concatenate(halves), part)


@pytest.mark.parametrize("rows", [2, 3, 6])
@pytest.mark.parametrize("validation", ["random", "time:day", "group:city"])
def test_a_handful_of_rows_can_be_held_out_every_way(rows, validation):
    frame = mixed(rows).assign(day=range(rows), city=[*"abcabc"][:rows])
    assert np.isfinite(fitted(frame, validation=validation).score_samples(frame)).all()
