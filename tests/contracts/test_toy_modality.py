"""A kind of rows that only this test knows runs everywhere, with no other file edited."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from keyhole import (
    AnomalyDetector,
    Autoencoder,
    DataError,
    Generator,
    SettingError,
    TrainingConfig,
)
from keyhole.cli import run
from keyhole.core.layout import Layout, Slot
from keyhole.core.parts import kinds
from keyhole.core.records import Batch
from keyhole.modalities import Field, Modality
from keyhole.report import write_report

TURN = 2 * np.pi


class Angles(Modality):
    """Angles on a circle in radians, encoded as sine and cosine."""

    kind, noun = "angles", "angles"
    columns = (Field("angle", "angle"),)
    reasons = {"angle": "a circle has no ends"}
    gaps = {}
    layout = Layout(tuple(Slot("angle", "angle", "student_t", part) for part in ("sin", "cos")))

    @classmethod
    def takes(cls, source):
        return source.names == ["angle"]

    def encode(self, rows, start=0):
        angle = torch.from_numpy(rows.matrix(["angle"], start))
        waves = 2**0.5 * torch.cat([angle.sin(), angle.cos()], 1).float()
        codes = torch.zeros((len(waves), 0), dtype=torch.int64)
        return Batch(waves.nan_to_num(), codes, ~waves.isnan())

    def decode(self, batch):
        sine, cosine = batch.numbers.double().cpu().numpy().T
        return pa.table({"angle": np.arctan2(sine, cosine) % TURN})


TOY = kinds("modality").pop("angles")


@pytest.fixture(autouse=True, scope="module")
def _only_here():
    kinds("modality")["angles"] = TOY
    yield
    kinds("modality").pop("angles")


def angles(n, seed=0):
    return pd.DataFrame({"angle": np.random.default_rng(seed).vonmises(0.0, 8.0, n) % TURN})


@pytest.fixture(scope="module")
def detector():
    model = Autoencoder(width=1, training=TrainingConfig(60), random_state=0)
    return AnomalyDetector(model).fit(angles(300))


def test_it_is_fitted_saved_and_loaded_bit_equal(detector, tmp_path):
    assert type(detector.autoencoder_.model_.modality) is Angles
    path, new = tmp_path / "m.keyhole", angles(50, seed=1)
    detector.save(path)
    loaded = AnomalyDetector.load(path)
    np.testing.assert_array_equal(loaded.score_samples(new), detector.score_samples(new))
    codes = detector.autoencoder_.transform(new)
    pd.testing.assert_frame_equal(loaded.autoencoder_.transform(new), codes)
    with pytest.raises(DataError, match="holds a table, but this model was fitted on angles"):
        detector.predict(np.zeros((3, 2)))


def test_rows_are_judged_on_the_circle_and_explained_in_its_own_units(detector):
    near, again, far = detector.score_samples(pd.DataFrame({"angle": [0.1, 0.1 + TURN, 3.0]}))
    assert near == pytest.approx(again, rel=1e-3)
    assert far < 3 * near < 0
    answer = detector.answer(pd.DataFrame({"angle": [0.1, 3.0]}), explain_rows="all")
    cell = answer.reasons[1][0]
    assert (cell.column, cell.value, cell.expected[:6]) == ("angle", "3", "about ")
    with pytest.raises(SettingError, match="anomaly maps are for images"):
        detector.anomaly_map(angles(3))


def test_rows_are_drawn_and_reported_on(detector, tmp_path):
    generator = Generator.from_fitted(detector.autoencoder_)
    drawn = generator.sample(200)["angle"]
    assert drawn.between(0, TURN).all()
    assert np.cos(drawn).mean() > 0.3  # as most of training; 0 if they were anywhere
    with pytest.raises(SettingError, match="are generated as a whole"):
        generator.sample(3, {"angle": 1.0})
    write_report(tmp_path / "page.html", generator, angles(20))
    assert "a circle has no ends" in (tmp_path / "page.html").read_text()


def test_every_command_takes_it(tmp_path, capfd):
    data, model = str(tmp_path / "new.csv"), str(tmp_path / "m.keyhole")
    angles(300).to_csv(data, index=False)
    tasks = ["--for", "detect", "--for", "sample"]
    assert run(["fit", data, "-o", model, "--steps", "60", *tasks]) == 0
    assert "a circle has no ends" in (tmp_path / "m.report.html").read_text()
    for verb in ("detect", "embed", "score", "reconstruct", "impute"):
        assert run([verb, model, data, "-o", str(tmp_path / f"{verb}.csv")]) == 0
        assert len(pd.read_csv(tmp_path / f"{verb}.csv")) == 300
    assert run(["sample", model, "-n", "7", "-o", str(tmp_path / "s.csv"), "--judge"]) == 0
    assert pd.read_csv(tmp_path / "s.csv")["angle"].between(0, TURN).all()
    assert run(["explain", model, data, "--row", "1", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["cells"][0]["column"] == "angle"
    assert run(["inspect", model, "--codes"]) == run(["inspect", model]) == 0
