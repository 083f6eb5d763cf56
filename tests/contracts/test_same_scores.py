"""The same table scores the same whatever holds it: files, frames, chunks, company."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keyhole import Autoencoder
from keyhole.training import Plan

RNG = np.random.default_rng(1)
ROWS = 120
FLAG = RNG.random(ROWS) > 0.4
TABLE = pa.table({
    "amount": pa.array(np.round(RNG.lognormal(8, 1, ROWS), 2), mask=RNG.random(ROWS) < 0.1),
    "whole": pa.array(RNG.integers(1_000, 9_000, ROWS)),
    "paid": pa.array(FLAG, mask=RNG.random(ROWS) < 0.1),
    "day": pa.array(np.datetime64("2024-01-01") + RNG.integers(0, 300, ROWS)),
    "zip": pa.array(np.array(["02139", "00501", "10001"])[RNG.integers(0, 3, ROWS)]),
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
    held = containers(TABLE, tmp_path_factory.mktemp("fit"))
    return Autoencoder(plan=Plan(steps=20, members=1), random_state=0).fit(held[request.param])


def test_every_container_scores_the_same(model, tmp_path):
    scores = {name: model.score_samples(x) for name, x in containers(TABLE, tmp_path).items()}
    for name, found in scores.items():
        np.testing.assert_allclose(found, scores["arrow"], rtol=0, atol=1e-5, err_msg=name)


def test_a_row_scores_alone_as_in_its_table(model, tmp_path):
    whole = model.score_samples(TABLE)
    for row in (0, 17, 119):
        for name, alone in containers(TABLE.slice(row, 1), tmp_path).items():
            found = model.score_samples(alone)
            np.testing.assert_allclose(found, whole[row : row + 1], atol=1e-5, err_msg=name)
