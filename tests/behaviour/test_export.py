"""A detector as an ONNX graph: the same answers without keyhole, or a refusal that says why."""

import json
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from keyhole import AnomalyDetector, Autoencoder, Schema, SettingError, TrainingConfig
from keyhole.cli import run
from keyhole.core.robust import trimmed
from keyhole.errors import FileError, MissingExtraError
from keyhole.modalities.tabular.columns import Boolean, Count, Number
from keyhole.store import write_onnx
from keyhole.tasks import export_onnx
from keyhole.tasks.detect.calibration import Calibration
from keyhole.tasks.detect.graph import (
    CalibrationGraph,
    ScoreGraph,
    TailsGraph,
    distances_to,
    interpolated,
    ranks,
)
from keyhole.tasks.detect.neighbours import ReferencePoints
from keyhole.tasks.detect.single_values import Tails

pytestmark = pytest.mark.filterwarnings("ignore::keyhole.errors.KeyholeWarning")
PARITY = 1e-5  # of a score, and of its size where that is above 1
RATE = 0.02
FINITE = st.floats(-1e12, 1e12)


def table(rows, seed):
    """Numbers, one with a long tail and one mostly zero, counts, and booleans; gaps everywhere."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, rows))
    frame = pd.DataFrame({
        "speed": 100 + 20 * a,
        "amount": np.exp(3 + 1.8 * b + 0.3 * a) * np.where(rng.random(rows) < 0.02, 50, 1),
        "extra": np.where(rng.random(rows) < 0.7, 0.0, rng.normal(5, 2, rows)),
        "errors": rng.poisson(np.exp(1 + 0.5 * a)).astype(float),
        "items": rng.poisson(np.exp(6 + 0.7 * b)).astype(float),
        "open": (a + b > 0).astype(float),
        "ready": np.where(rng.random(rows) < 0.3, "yes", "no"),
    })  # fmt: skip
    gap = rng.random(frame.shape) < 0.08
    return frame.mask(gap)


def odd_rows(rows, seed):
    """Such rows, half of them with a value of any size in one column; the last has no value."""
    rng, frame = np.random.default_rng(seed), table(rows, seed)
    for row in range(rows // 2):
        column = rng.integers(6)
        frame.iloc[row, column] = float(np.round(rng.normal() * 10 ** rng.uniform(0, 12)))
    frame.iloc[-1] = np.nan
    return frame


def matrix(frame):
    """The rows as a graph reads them."""
    return frame.assign(ready=frame["ready"].map({"yes": 1.0, "no": 0.0})).to_numpy(float)


def detector_of(X, *, steps=40, **settings):
    model = Autoencoder(training=TrainingConfig(steps), random_state=0)
    return AnomalyDetector(model, **{"false_alarm_rate": RATE, **settings}).fit(X)


def graph_of(detector):
    threshold = detector.calibration_.threshold(detector.false_alarm_rate)
    return ScoreGraph(detector.scorer_.anomaly_score, detector.calibration_, threshold)


def check_equal(figures, detector, rows):
    """Score, p-value and alarm of a graph are those of the detector, up to rounding."""
    answer = detector.answer(rows, explain_rows="none")
    score, p_value, alarm = (np.asarray(figure) for figure in figures)
    room = PARITY * np.maximum(1, np.abs(answer.anomaly_score))
    np.testing.assert_array_equal(np.isnan(score), np.isnan(answer.anomaly_score))
    known = ~np.isnan(score)
    assert (np.abs(score - answer.anomaly_score) <= room)[known].all()
    at_threshold = np.abs(answer.anomaly_score + detector.offset_) <= room
    assert (at_threshold | (alarm == answer.alarm)).all()
    one_rank = 1.01 / len(detector.calibration_.anomaly_scores)
    np.testing.assert_allclose(p_value, answer.p_value, rtol=1e-3, atol=one_rank)


@pytest.fixture(scope="module")
def fitted():
    return detector_of(table(1_500, 0))


@pytest.fixture(scope="module")
def exported(fitted, tmp_path_factory):
    """The file that the command wrote. Takes half a minute: the exporter traces it three times."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("graphs")
    fitted.save(folder / "m.keyhole")
    assert run(["export", str(folder / "m.keyhole"), "-o", str(folder / "m.onnx"), "--quiet"]) == 0
    return folder / "m.onnx"


@pytest.fixture(scope="module")
def session(exported):
    import onnxruntime

    return onnxruntime.InferenceSession(exported)


def test_onnx_runtime_gives_the_scores_p_values_and_alarms_of_the_detector(fitted, session):
    rows = odd_rows(1_000, 5)
    figures = session.run(["anomaly_score", "p_value", "alarm"], {"rows": matrix(rows)})
    check_equal(figures, fitted, rows)
    assert 100 < figures[2].sum() < 900  # both sides of the threshold are tested


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_graph_takes_any_number_of_rows(fitted, session, rows):
    some = odd_rows(40, 6).head(rows)
    figures = session.run(None, {"rows": matrix(some)})
    assert [figure.shape for figure in figures] == [(rows,)] * 3
    if rows:
        check_equal(figures, fitted, some)


def test_an_empty_row_is_no_alarm_and_an_infinite_number_is(session):
    rows = matrix(table(3, 7))
    rows[0] = np.nan
    rows[1, 0] = np.inf
    score, p_value, alarm = session.run(None, {"rows": rows})
    assert np.isnan(score[0])
    assert np.isnan(p_value[0])
    assert not alarm[0]
    assert score[1] > 100
    assert alarm[1]


def test_the_metadata_say_which_columns_and_which_threshold(fitted, session):
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["columns"]) == list(table(1, 0).columns)
    assert float(metadata["threshold"]) == -fitted.offset_
    assert float(metadata["false_alarm_rate"]) == RATE
    assert metadata["keyhole"]


def test_a_graph_says_nothing_of_the_machine_that_wrote_it(exported):
    content = exported.read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content


@pytest.mark.parametrize("settings", [{}, {"contamination": "none"}])
@pytest.mark.parametrize("rows", [30, 400, 1_200])
def test_the_traced_score_is_the_detectors_for_any_number_of_training_rows(rows, settings):
    """Takes seconds: six fits; below 1,000 rows there are five nets, and other reference rows."""
    detector = detector_of(table(rows, rows), steps=10, **settings)
    some = odd_rows(200, 8)
    with torch.no_grad():
        check_equal(graph_of(detector)(torch.from_numpy(matrix(some))), detector, some)


@pytest.mark.parametrize("bottleneck", ["plain", "variational", "top_k", "fsq", "hyperspherical"])
def test_the_traced_score_is_the_detectors_for_any_code(bottleneck):
    """Takes seconds: a fit each."""
    model = Autoencoder(bottleneck, training=TrainingConfig(10), random_state=0)
    X = np.random.default_rng(0).normal(size=(300, 12))
    detector, rows = AnomalyDetector(model).fit(X), np.vstack([X[:100], 4 * X[100:200]])
    rows[::3, 2] = np.nan
    with torch.no_grad():
        check_equal(graph_of(detector)(torch.from_numpy(rows)), detector, rows)


def test_constant_columns_and_copies_of_training_rows_score_as_in_the_detector():
    X = np.repeat(np.random.default_rng(0).normal(size=(60, 3)).round(1), 3, axis=0)
    X[:, 1] = 2.0
    detector = detector_of(X, steps=10)
    rows = np.vstack([X[:50], X[:5] + np.array([0.0, 1.0, 0.0])])
    with torch.no_grad():
        check_equal(graph_of(detector)(torch.from_numpy(rows)), detector, rows)


# What cannot be exported.

NUMBERS = np.random.default_rng(1).normal(size=(60, 2))
FRAME = pd.DataFrame({"a": NUMBERS[:, 0], "b": NUMBERS[:, 1]})
SHOPS = np.array(["Aachen", "Bonn", "Celle"])[np.arange(60) % 3]
DAYS = pd.date_range("2024-01-01", periods=60, freq="h")
REFUSED = {
    "category": (FRAME.assign(shop=SHOPS), {}, r"'shop' has the kind 'category'.*exclude=\['shop"),
    "date": (FRAME.assign(day=DAYS), {}, "'day' has the kind 'datetime'"),
    "texts": (FRAME.assign(ok=SHOPS == "Bonn").replace({"ok": {True: "go", False: "stop"}}), {},
              "'ok' has the kind 'boolean'"),
    "group": (FRAME.assign(shop=SHOPS), {"group": "shop"}, "each group of column 'shop'"),
    "series": (FRAME.assign(day=DAYS), {"schema": Schema(time="day")}, "on a sensor series"),
    "images": (np.random.default_rng(0).random((40, 8, 8)), {}, "fitted on images"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_graph_cannot_hold_is_refused_with_the_reason(case, tmp_path):
    X, settings, reason = REFUSED[case]
    model = Autoencoder(training=TrainingConfig(2, members=1, batch=8), random_state=0)
    detector = AnomalyDetector(model, false_alarm_rate=0.1, **settings).fit(X)
    with pytest.raises(SettingError, match=reason) as fault:
        export_onnx(detector, tmp_path / "m.onnx")
    assert "\n" not in str(fault.value)
    assert not list(tmp_path.iterdir())


def test_an_autoencoder_is_refused(tmp_path):
    with pytest.raises(SettingError, match="give a fitted AnomalyDetector"):
        export_onnx(Autoencoder(), tmp_path / "m.onnx")


def test_a_missing_library_is_named_with_its_extra(fitted, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"onnxscript is needed.*\[onnx\]"):
        export_onnx(fitted, tmp_path / "m.onnx")


class Sums(torch.nn.Module):
    def forward(self, rows):
        return rows.sum(1)


def test_a_graph_replaces_a_file_as_a_whole_or_not_at_all(tmp_path):
    pytest.importorskip("onnxscript")
    path, example = tmp_path / "sums.onnx", torch.zeros(4, 2, dtype=torch.float64)
    write_onnx(path, Sums(), example, ["sum"], {"keyhole": "1"})
    before = path.read_bytes()
    with pytest.raises(FileError):
        write_onnx(tmp_path / "none" / "sums.onnx", Sums(), example, ["sum"], {"keyhole": "1"})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["sums.onnx"]


class Searches(torch.nn.Module):
    def forward(self, rows):
        return torch.linalg.eigvals(rows.mT @ rows).real.sum() + rows.sum(1)


def test_an_operation_that_onnx_lacks_is_refused(tmp_path):
    pytest.importorskip("onnxscript")
    example = torch.zeros(4, 2, dtype=torch.float64)
    with pytest.raises(SettingError, match="exporter cannot trace a part of this model: "):
        write_onnx(tmp_path / "e.onnx", Searches(), example, ["sum"], {"keyhole": "1"})
    assert not list(tmp_path.iterdir())


def test_the_command_does_not_replace_a_file_unless_told(tmp_path, capsys):
    (tmp_path / "m.onnx").write_text("a graph")
    assert run(["export", "m.keyhole", "-o", str(tmp_path / "m.onnx")]) == 2
    assert "add --force" in capsys.readouterr().err


# The parts of a graph, each beside the detector's own.

COLUMNS = [
    Number("x", center=3.0, scale=2.0, transformed=False, point_mass=None, range=[0.0, 9.0],
           type="double"),
    Number("x", center=3.0, scale=2.0, transformed=True, point_mass=None, range=[0.0, 9.0],
           type="double"),
    Number("x", center=3.0, scale=2.0, transformed=True, point_mass=[0.0, 0.6], range=[0.0, 9.0],
           type="double"),
    Number("x", center=3.0, scale=2.0, transformed=False, point_mass=[3.0, 0.9], range=[3.0, 3.0],
           type="double"),
    Count("x", center=1.0, scale=1.0, most=9.0, rows=50, type="int64"),
    Boolean("x", no=0, yes=1, type="int64", share=0.5, rows=50),
    Boolean("x", no="no", yes="yes", type="string", share=0.5, rows=50),
    Boolean("x", no=2.5, yes=3.0, type="double", share=0.5, rows=50),
    Boolean("x", no=None, yes=3, type="int64", share=1.0, rows=50),
]  # fmt: skip


@pytest.mark.parametrize("kind", [Number, Count, Boolean])
@given(st.lists(FINITE | st.sampled_from([0.0, 1.0, 2.5, 3.0, np.nan]), min_size=1, max_size=20))
def test_a_tensor_is_encoded_as_the_columns_of_a_frame_are(kind, values):
    columns, numbers = [c for c in COLUMNS if isinstance(c, kind)], np.array(values)
    encoded = [column.encode(pa.array(numbers, from_pandas=True)) for column in columns]
    features, observed = (np.concatenate(part, 1) for part in zip(*encoded))
    rows = torch.from_numpy(numbers)[:, None].repeat(1, len(columns))
    traced, traced_observed = kind.encode_tensors(columns, rows)
    np.testing.assert_array_equal(traced_observed.numpy(), observed)
    np.testing.assert_allclose(traced.numpy(), features, rtol=1e-6, atol=1e-7)


@given(arrays.arrays(float, st.integers(2, 40), elements=FINITE), st.lists(FINITE, min_size=1))
def test_ranks_and_interpolation_are_numpys(numbers, values):
    rising, asked = np.unique(numbers), np.array([*values, *numbers])
    place = ranks(torch.from_numpy(rising), torch.from_numpy(asked)).numpy()
    np.testing.assert_array_equal(place, np.searchsorted(rising, asked))
    if len(rising) > 1:
        heights = np.arange(len(rising)) ** 1.5
        parts = (torch.from_numpy(part) for part in (asked, rising, heights))
        between = np.interp(asked, rising, heights)
        np.testing.assert_allclose(interpolated(*parts).numpy(), between, atol=1e-9)


@pytest.mark.parametrize("rows", [1, 5, 2_000])
def test_p_values_are_those_of_the_calibration_beyond_its_largest_score_too(rows):
    calibration = Calibration.of(np.random.default_rng(0).exponential(size=rows))
    scores = np.array([0.0, 0.5, 3.0, 9.0, 20.0, 1e6, np.nan, *calibration.anomaly_scores[:5]])
    p_value = CalibrationGraph(calibration)(torch.from_numpy(scores)).numpy()
    np.testing.assert_allclose(p_value, calibration.p_value(scores), rtol=1e-9)


@pytest.mark.parametrize("rows", [1, 7, 30, 300])
@pytest.mark.parametrize("share", [0.6, 1.0])
def test_distances_are_those_of_the_reference_points(rows, share):
    rng = np.random.default_rng(rows)
    known = torch.from_numpy(rng.normal(size=(rows, 3)).round(1)).float()
    far = torch.from_numpy(rng.normal(size=(40, 3)) * 10 ** rng.uniform(0, 6, (40, 1))).float()
    points, x = (
        ReferencePoints.of(known, trimmed(known, share)),
        torch.cat([known, known[:1], far]),
    )
    np.testing.assert_allclose(distances_to(points, x), points.distances(x), rtol=1e-5, atol=1e-6)


@given(arrays.arrays(float, (30, 2), elements=st.floats(-50, 50)), st.floats(1, 1e9))
def test_tails_cost_what_those_of_the_columns_do(values, far):
    tails = Tails.fit(values, np.array([30.0, 30.0]), np.array([False, True]))
    asked = np.vstack([values, values[:3] * far, [[-np.inf, 0.0]]])
    cost = TailsGraph(tails)(torch.from_numpy(asked)).numpy()
    np.testing.assert_allclose(cost, tails.cost(asked), rtol=1e-9, atol=1e-9)
