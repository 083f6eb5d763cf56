"""The same table scores the same whatever holds it: files, frames, chunks, company."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from keyhole import AnomalyDetector, Autoencoder
from keyhole.autoencoder import input_validation
from keyhole.data import cast, csv
from keyhole.training import TrainingConfig

SAME = {"rtol": 1.2e-7, "atol": 1e-6}  # the last bit of a float32, or a millionth
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
    return Autoencoder(training=TrainingConfig(steps=20, members=1), random_state=0).fit(data)


@pytest.fixture(scope="module")
def detector():
    fitted = Autoencoder(training=TrainingConfig(steps=20, members=2), random_state=0).fit(TABLE)
    return AnomalyDetector.from_fitted(fitted, false_alarm_rate=0.1)


def test_numbers_with_signs_of_thousands_are_numbers_in_every_container(model):
    kinds = {
        name: model.model_.modality.by_name[name].kind for name in ("english", "german", "french")
    }
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
    monkeypatch.setattr(input_validation, "CHUNK_ROWS", rows)
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


def test_dates_score_the_same_however_a_library_writes_them_as_csv(tmp_path):
    """pandas, polars and Arrow differ in the T, in fractions of a second and in midnights."""
    day = np.datetime64("2024-01-01")
    table = pa.table({
        "hour": pa.array((day + RNG.integers(0, 9_000, ROWS).astype("m8[h]")).astype("M8[us]")),
        "midnight": pa.array((day + RNG.integers(0, 300, ROWS)).astype("M8[ns]")),
        "fine": pa.array(day.astype("M8[us]") + RNG.integers(0, 10**12, ROWS).astype("m8[us]")),
        "size": TABLE["size"],
    })  # fmt: skip
    paths = [str(tmp_path / f"{name}.csv") for name in ("pandas", "polars", "arrow")]
    table.to_pandas().to_csv(paths[0], index=False)
    pl.from_arrow(table).write_csv(paths[1])
    pa_csv.write_csv(table, paths[2])
    for path in paths:
        fitted = Autoencoder(training=TrainingConfig(steps=5, members=1), random_state=0).fit(path)
        expected = fitted.score_samples(table)
        for other in paths:
            np.testing.assert_allclose(fitted.score_samples(other), expected, **SAME)


@pytest.mark.parametrize(
    ("style", "text", "datetime"),
    [
        ("%d.%m.%Y", "2024-02-03", "2024-02-03"),
        ("%Y-%m-%d", "2024-02-03T04:05:06.789000000", "2024-02-03T04:05:06.789"),
        ("%Y-%m-%d %H:%M:%S%z|+02:00", "2024-02-03T04:05Z", "2024-02-03T04:05"),
        ("%Y-%m-%d %H:%M:%S%z|+02:00", "2024-02-03T04:05", "NaT"),  # of which zone?
        ("%Y-%m-%d", "2024-02-03T04:05Z", "NaT"),
        ("%Y-%d-%m", "2024-02-13", "NaT"),
        ("%d.%m.%Y", "02/03/2024", "NaT"),
    ],
)
def test_only_a_date_that_can_be_read_in_one_way_is_read_beside_the_format(style, text, datetime):
    seconds, bad = cast.seconds(pa.array([text]), style)
    expected = np.datetime64(datetime, "us").astype("M8[us]")
    assert len(bad) == np.isnat(expected)
    assert np.isnat(expected) or seconds[0] == expected.astype(np.int64) / 1e6
