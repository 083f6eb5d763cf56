"""A row's score does not depend on which other rows are asked about with it."""

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.kills import estimator, table
from keyhole import AnomalyDetector

CLOSE = {"rtol": 1e-6, "atol": 1e-6}  # what docs/detection.md promises


@pytest.fixture(scope="module", params=[300, 1_200])  # five nets side by side, and one
def detector(request):
    return AnomalyDetector.from_fitted(
        estimator(0, 60).fit(table(request.param)), false_alarm_rate=0.05
    )


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1_000])
def test_a_row_alone_and_in_company_has_the_same_score_within_what_is_promised(detector, size):
    rows = table(2_000, 1)
    together = detector.score_samples(rows)
    likely = detector.autoencoder_.score_samples(rows)
    for start in (0, 13, 999):
        few = rows.slice(start, size)
        place = slice(start, start + len(few))
        np.testing.assert_allclose(detector.score_samples(few), together[place], **CLOSE)
        alone = detector.autoencoder_.score_samples(few)
        np.testing.assert_allclose(alone, likely[place], **CLOSE)


def test_company_that_is_strange_or_empty_changes_nothing(detector):
    rows = table(50, 1)
    empty = pa.table({f.name: pa.nulls(20, f.type) for f in rows.schema})
    together = detector.score_samples(pa.concat_tables([empty, rows, empty]))
    np.testing.assert_allclose(together[20:70], detector.score_samples(rows), **CLOSE)
    assert np.isnan(together[:20]).all()


def test_the_same_call_gives_the_same_bits(detector):
    rows = table(500, 1)
    np.testing.assert_array_equal(detector.score_samples(rows), detector.score_samples(rows))


def test_a_frame_without_a_single_value_in_a_column_of_levels_is_scored():
    rows = pa.table({"a": [1.0, 2.0, 4.0] * 10, "yes": [True, False, None] * 10})
    model = estimator(0, 5).fit(rows)
    alone = model.score_samples(pa.table({"a": [4.0], "yes": pa.nulls(1)}))
    np.testing.assert_allclose(alone, model.score_samples(rows)[2:3], **CLOSE)


def test_images_alone_and_in_company_score_the_same_within_what_is_promised():
    images = np.random.default_rng(0).random((70, 8, 8)).astype(np.float32)
    model = estimator(0, 5).fit(images)
    together = model.score_samples(images)
    alone = np.concatenate([model.score_samples(images[i : i + 1]) for i in range(10)])
    np.testing.assert_allclose(alone, together[:10], rtol=1e-5, atol=1e-5)
