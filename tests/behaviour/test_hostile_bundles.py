"""Bundles that pass their checksums, and would fail only once they are put to use."""

import json
import time
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest
from safetensors.torch import load_file

from benchmarks.kills import estimator, table
from benchmarks.mutants import manifest_of, seal
from keyhole import AnomalyDetector, Autoencoder, Generator
from keyhole.errors import BundleError
from keyhole.model.priors import Mixture
from keyhole.store.bundle import write_tensors
from keyhole.store.strict import strict_json
from keyhole.tasks import Impute, Reconstruct


@pytest.fixture(scope="module")
def model():
    return (
        Generator(estimator(0, 60), prior=Mixture(), random_state=0).fit(table(1_200)).autoencoder_
    )


@pytest.fixture
def bundle(model, tmp_path):
    AnomalyDetector.from_fitted(model, false_alarm_rate=0.05).save(str(tmp_path / "m"))
    return tmp_path / "m"


@pytest.mark.parametrize("value", [1e20, -1e30, 3e38])
@pytest.mark.parametrize("name", ["encoder", "decoder", "head", "prior"])
def test_finite_weights_that_make_no_numbers_are_refused_at_load(bundle, name, value):
    tensors = load_file(bundle)
    names = [key for key in tensors if key.startswith(name) and tensors[key].ndim > 1]
    if not names:
        pytest.skip(f"this model keeps no {name}")
    for key in names:
        tensors[key] = tensors[key].fill_(value)
    write_tensors(bundle, tensors, json.dumps(manifest_of(bundle)))
    with suppress(BundleError):  # else what is bounded on its way stays a number: it all works
        loaded = Autoencoder.load(str(bundle))
        loaded.sample(20)
        assert np.isfinite(loaded.score_samples(table(5))).all()


@pytest.mark.parametrize(
    ("name", "type_"),
    [("x", "timestamp[ns]"), ("x", "bool"), ("n", "date32[day]"), ("when", "double"),
     ("x", "string"), ("day", "timestamp[us, tz=Mars/Base]"), ("kind", "decimal32(3, 1)")],
)  # fmt: skip
def test_a_column_of_a_type_that_its_kind_does_not_make_does_no_harm(bundle, name, type_):
    manifest = manifest_of(bundle)
    columns = manifest["sections"]["autoencoder"]["modality"]["columns"]
    (column,) = [column for column in columns if column["name"] == name]
    column["type"] = type_
    seal(bundle, manifest)
    with suppress(BundleError):  # else values come back in the nearest type that the kind makes
        model = AnomalyDetector.load(str(bundle)).autoencoder_
        rows = table(5)
        gaps = pa.table({field.name: pa.nulls(2, field.type) for field in rows.schema})
        assert Impute(model).answer(rows).column(name).null_count == 0
        assert Impute(model, draws=2).answer(gaps).column(name).null_count == 0
        assert model.sample(5).num_rows == 5
        assert Reconstruct(model).answer(rows).num_rows == 5
        assert AnomalyDetector.load(str(bundle)).answer(rows).arrow().num_rows == 5


@pytest.mark.parametrize(
    "value", [{f"k{i}": 0 for i in range(140_000)}, [[]] * 140_000, [0.5] * 1_100_000]
)
def test_objects_and_lists_beyond_what_a_fit_makes_cost_little(value):
    text = json.dumps({"sections": value}).encode()
    began = time.process_time()
    with pytest.raises(BundleError, match="it holds a"):
        strict_json(text, "manifest.json")
    assert time.process_time() - began < 2


def test_lists_of_numbers_are_bound_before_work(bundle):
    """Each of 140,000 numbers, where a fit makes a few."""
    whole = manifest_of(bundle)
    numbers = [n / 140_000 for n in range(140_000)]
    modality = ("autoencoder", "modality")
    places = [
        (*modality, "columns", 0, "range"), (*modality, "grids", "hurdle", "heaps"),
        ("autoencoder", "held_out_nats"), ("detect", "anomaly_scores"),
    ]  # fmt: skip
    for place in places:
        manifest = json.loads(json.dumps(whole))
        *path, last = place
        record = manifest["sections"]
        for key in path:
            record = record[key]
        assert last in record, place
        record[last] = numbers
        seal(bundle, manifest)
        began = time.process_time()
        with pytest.raises(BundleError):
            AnomalyDetector.load(str(bundle))
        assert time.process_time() - began < 2, place
