"""The same table scores the same whatever holds it: files, frames, chunks, company."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keyhole import AnomalyDetector, Autoencoder, estimator
from keyhole.sources import csv
from keyhole.training import Plan

SAME = {"rtol": 0, "atol": 1e-6}
RNG = np.random.default_rng(1)
ROWS = 120
AMOUNTS = np.round(RNG.lognormal(7, 1.5, ROWS), 2)
THOUSANDS = [f"{x:,.2f}" for x in AMOUNTS]  # 1,234.50
FLAG = RNG.random(ROWS) > 0.4
TABLE = pa.table({
    "amount": pa.array(np.round(RNG.lognormal(8, 1, ROWS), 2), mask=RNG.random(ROWS) < 0.1),
    "whole": pa.array(RNG.integers(1_000, 9_000, ROWS)),
    "paid": pa.array(FLAG, mask=RNG.random(ROWS) < 0.1),
    "day": pa.array(np.datetime64("2024-01-01") + RNG.integers(0, 300, ROWS)),
    "zip": pa.array(np.array(["02139", "00501", "10001"])[RNG.integers(0, 3, ROWS)]),
    "english": pa.array(THOUSANDS, mask=RNG.random(ROWS) < 0.1),
    "german": pa.array([text.translate(str.maketrans(",.", ".,")) for text in THOUSANDS]),
    "french": pa.array([text[:-3].replace(",", " ") for text in THOUSANDS]),
    "size": pa.array(np.array(["S", "M", "L"])[RNG.integers(0, 3, ROWS)]),
})  # fmt: skip


def containers(table, folder):
    """The table in every container, by name."""
    csv, parquet = folder / "t.csv", folder / "t.parquet"
    table.to_pandas(types_mapper=pd.ArrowDtype).to_csv(csv, index=False)
    pq.write_table(table, parquet)
    numpy = table.to_pandas()
    return {
        "csv": str(csv), "parquet": str(parquet), "arrow": table, "pandas": numpy,
        "pandas with Arrow's types": table.to_pandas(types_mapper=pd.ArrowDtype),
        "levels": numpy.astype({"size": "category", "zip": "category"}),
        "polars": pl.from_arrow(table),
    }  # fmt: skip


@pytest.fixture(scope="module", params=["csv", "parquet", "pandas", "polars", "levels"])
def model(request, tmp_path_factory):
    data = containers(TABLE, tmp_path_factory.mktemp("fit"))[request.param]
    return Autoencoder(plan=Plan(steps=20, members=1), random_state=0).fit(data)


@pytest.fixture(scope="module")
def detector():
    fitted = Autoencoder(plan=Plan(steps=20, members=2), random_state=0).fit(TABLE)
    return AnomalyDetector.of(fitted, alarm_rate=0.1)


def test_numbers_with_signs_of_thousands_are_numbers_in_every_container(model):
    kinds = {name: model.table_.by_name[name].kind for name in ("english", "german", "french")}
    assert set(kinds.values()) == {"number"}


def test_every_container_scores_the_same(model, tmp_path):
    scores = {name: model.score_samples(x) for name, x in containers(TABLE, tmp_path).items()}
    for name, found in scores.items():
        np.testing.assert_allclose(found, scores["arrow"], **SAME, err_msg=name)


@pytest.mark.parametrize("rows", [7, 50])
def test_every_chunk_size_scores_the_same(detector, rows, tmp_path, monkeypatch):
    """Row groups, blocks of text and the rows that are scored at once."""
    models = (detector, detector.autoencoder_)
    whole = [model.score_samples(TABLE) for model in models]
    pq.write_table(TABLE, tmp_path / "groups.parquet", row_group_size=rows)
    data = {name: containers(TABLE, tmp_path)[name] for name in ("csv", "arrow")}
    data["parquet"] = str(tmp_path / "groups.parquet")
    monkeypatch.setattr(estimator, "CHUNK_ROWS", rows)
    monkeypatch.setattr(csv, "BLOCK_BYTES", 120 * rows)
    for model, expected in zip(models, whole, strict=True):
        for name, x in data.items():
            np.testing.assert_allclose(model.score_samples(x), expected, **SAME, err_msg=name)


def test_a_row_scores_alone_as_in_its_table(model, tmp_path):
    whole = model.score_samples(TABLE)
    for row in (0, 17, 119):
        for name, alone in containers(TABLE.slice(row, 1), tmp_path).items():
            found = model.score_samples(alone)
            np.testing.assert_allclose(found, whole[row : row + 1], **SAME, err_msg=name)


def test_a_row_scores_alone_as_among_thousands(detector):
    many = pa.concat_tables([TABLE] * 40)
    for model in (detector, detector.autoencoder_):
        together = model.score_samples(many)
        alone = [model.score_samples(TABLE.slice(row, 1))[0] for row in range(0, ROWS, 10)]
        np.testing.assert_allclose(together[-ROWS::10], alone, **SAME)
        np.testing.assert_array_equal(together[:ROWS], together[-ROWS:])
