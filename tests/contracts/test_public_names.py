"""Every public name takes frames, arrays and paths, or refuses in one line that names the way."""

import inspect

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

import keyhole
from keyhole import (
    AnomalyDetector,
    Autoencoder,
    Denoiser,
    Generator,
    Imputer,
    KeyholeError,
    Schema,
    TrainingConfig,
    evaluate,
    tasks,
)
from keyhole.bottlenecks import Variational
from keyhole.model.nets.unet import UNet
from keyhole.model.priors import Mixture
from keyhole.report import write_report
from keyhole.tasks import Answer, Embed, Evaluation, Impute, Reconstruct

pytestmark = [
    pytest.mark.filterwarnings("ignore::keyhole.errors.KeyholeWarning"),
    # scikit-learn's, of an array where fit was given names
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
]
ROWS = 40
SHORT = TrainingConfig(2, members=1, batch=8)
LABELS = (np.arange(ROWS) % 10 == 0).astype(int)


def small(**arguments):
    return Autoencoder(Variational(2), training=SHORT, random_state=0, **arguments)


# What each public method does with rows; None: it takes no rows, and other tests are about it.
AUTOENCODER = {
    "fit": lambda m, x: small().fit(x),
    "fit_transform": lambda m, x: small().fit_transform(x),
    "transform": lambda m, x: m["model"].transform(x),
    "score_samples": lambda m, x: m["model"].score_samples(x),
    "log_likelihood": lambda m, x: m["model"].log_likelihood(x, samples=2),
    "score": lambda m, x: m["model"].score(x),
    "inverse_transform": lambda m, x: m["two"].inverse_transform(x),
}
DETECTOR = {
    "fit": lambda m, x: AnomalyDetector(small()).fit(x),
    "fit_predict": lambda m, x: AnomalyDetector(small()).fit_predict(x),
    "partial_fit": lambda m, x: AnomalyDetector.from_fitted(m["model"]).partial_fit(x),
    "calibrate": lambda m, x: AnomalyDetector.from_fitted(m["model"]).calibrate(x, LABELS),
    "choose_rate": lambda m, x: m["detector"].choose_rate(x, LABELS),
    "score_samples": lambda m, x: m["detector"].score_samples(x),
    "decision_function": lambda m, x: m["detector"].decision_function(x),
    "predict": lambda m, x: m["detector"].predict(x),
    "p_value": lambda m, x: m["detector"].p_value(x),
    "answer": lambda m, x: m["detector"].answer(x, explain_rows="all", fdr=0.2).to_frame(),
}
GENERATOR = {
    "fit": lambda m, x: Generator(small(), prior=Mixture(2)).fit(x).sample(3),
    "impute": lambda m, x: m["generator"].impute(x, 2),
}
IMPUTER = {
    "fit": lambda m, x: Imputer(small()).fit(x),
    "fit_transform": lambda m, x: Imputer(small()).fit_transform(x),
    "transform": lambda m, x: m["imputer"].transform(x),
}
OTHERS = {
    "Embed": lambda m, x: Embed(m["model"]).answer(x),
    "Impute": lambda m, x: Impute(m["model"]).answer(x),
    "Impute draws": lambda m, x: Impute(m["model"], draws=2).answer(x),
    "Impute mark": lambda m, x: Impute(m["model"], mark="_filled").answer(x),
    "Reconstruct": lambda m, x: Reconstruct(m["model"]).answer(x),
    "evaluate": lambda m, x: evaluate(m["detector"], x, LABELS),
    "write_report": lambda m, x: write_report(m["folder"] / "page.html", m["detector"], x),
}
USES = (
    {f"Autoencoder.{name}": use for name, use in AUTOENCODER.items()}
    | {f"AnomalyDetector.{name}": use for name, use in DETECTOR.items()}
    | {f"Generator.{name}": use for name, use in GENERATOR.items()}
    | {f"Imputer.{name}": use for name, use in IMPUTER.items()}
    | OTHERS
)
# Public methods that take no rows of a table, or that belong to scikit-learn.
WITHOUT_ROWS = {
    "Autoencoder": {"sample", "save", "load", "get_feature_names_out"},
    "AnomalyDetector": {"from_fitted", "save", "load", "anomaly_map", "events", "stream"},
    "Generator": {"from_fitted", "sample", "interpolate", "judge", "save", "load"},
    "Imputer": {"from_fitted", "save", "load", "get_feature_names_out"},
    "Recommender": {
        "fit", "partial_fit", "recommend", "similar_items", "embed", "explain", "evaluate", "save",
        "load", "histories", "ranked", "embedded", "allowed",
    },
    "Denoiser": {"fit", "fit_transform", "transform", "judge", "save", "load", "open", "parts"},
}  # fmt: skip
SKLEARN = {"set_params", "get_params", "get_metadata_routing", "set_output"}
REST = {  # names whose arguments are no rows
    "Schema", "ImageSchema", "SeriesSchema", "InteractionSchema", "TrainingConfig", "Denoiser",
    "Recommender", "BundleError",
    "DataError", "FileError", "FitError", "KeyholeError", "KeyholeWarning", "SettingError",
}  # fmt: skip

SLOW = {"write_report", "Generator.fit"}  # a second each; they open rows as the others do
FEW = ("polars", "numpy", "csv path")


def containers(rows: pd.DataFrame, folder, name: str) -> dict[str, object]:
    """The same rows, in everything that people hold rows in."""
    rows.to_csv(folder / f"{name}.csv", index=False)
    rows.to_parquet(folder / f"{name}.parquet")
    table = pa.Table.from_pandas(rows, preserve_index=False)
    return {
        "pandas": rows,
        "polars": pl.from_pandas(rows),
        "lazy": pl.from_pandas(rows).lazy(),
        "arrow": table,
        "batch": table.to_batches()[0],
        "numpy": rows.to_numpy(),
        "list": rows.to_numpy().tolist(),
        "csv": str(folder / f"{name}.csv"),
        "csv path": folder / f"{name}.csv",
        "parquet": str(folder / f"{name}.parquet"),
        "parquet path": folder / f"{name}.parquet",
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Fitted models, and rows in every container. Takes 2 s."""
    folder = tmp_path_factory.mktemp("public")
    rng = np.random.default_rng(0)
    load = rng.normal(size=ROWS)
    rows = pd.DataFrame({"a": load, "b": 2 * load + 0.1 * rng.normal(size=ROWS)})
    model = small().fit(rows)
    return {
        "folder": folder,
        "model": model,
        "two": model,  # its codes are as wide as the rows
        "detector": AnomalyDetector.from_fitted(model, false_alarm_rate=0.1),
        "imputer": Imputer.from_fitted(model),
        "generator": Generator.from_fitted(model, prior=Mixture(2), rows=rows),
        "rows": containers(rows, folder, "rows"),
        "labelled": containers(rows.assign(label=LABELS), folder, "labelled"),
    }


def one_line(fault: BaseException) -> bool:
    return 20 < len(str(fault)) < 400 and "\n" not in str(fault)


def test_every_public_name_and_method_is_in_this_contract():
    used = {use.partition(".")[0].partition(" ")[0] for use in USES}
    assert (used & set(keyhole.__all__)) | REST == set(keyhole.__all__)
    assert used <= set(keyhole.__all__) | set(tasks.__all__) | {"write_report"}
    for name in keyhole.__all__:
        cls = getattr(keyhole, name)
        if inspect.isclass(cls) and issubclass(cls, BaseEstimator):
            methods = {m for m, f in inspect.getmembers(cls, callable) if not m.startswith("_")}
            methods -= {m for m in methods if m.startswith("set_") and m.endswith("_request")}
            listed = {use.partition(".")[2] for use in USES if use.startswith(f"{name}.")}
            assert methods - SKLEARN == listed | WITHOUT_ROWS[name], name


@pytest.mark.parametrize("use", USES)
def test_every_way_to_hold_rows_is_taken(made, use):
    names = FEW if use in SLOW else made["rows"]
    for name in names:
        assert USES[use](made, made["rows"][name]) is not None or use == "write_report"


@pytest.mark.parametrize("use", USES)
def test_what_holds_no_rows_is_refused_in_one_line(made, use):
    nowhere = made["folder"] / "nowhere.csv"
    for odd in (7, "nowhere.csv", nowhere, pd.Series([1.0, 2.0]), object(), {"a": 1}):
        with pytest.raises(KeyholeError) as fault:
            USES[use](made, odd)
        assert one_line(fault.value), str(fault.value)


def test_labels_are_a_column_of_what_has_names_or_any_array(made):
    truth = evaluate(made["detector"], made["rows"]["pandas"], LABELS)
    assert (truth.rows, truth.anomalies) == (ROWS, 4)
    for name, rows in made["labelled"].items():
        if name in ("numpy", "list"):
            with pytest.raises(KeyholeError, match=r"no column 'label'.*evaluate\(detector, X, y"):
                evaluate(made["detector"], rows, "label")
            continue
        assert evaluate(made["detector"], rows, "label").auroc == pytest.approx(truth.auroc)
    for labels in (LABELS.tolist(), pd.Series(LABELS), pl.Series(LABELS), pa.array(LABELS)):
        assert evaluate(made["detector"], made["rows"]["numpy"], labels).auroc == truth.auroc


def test_a_page_is_of_any_model_and_any_rows(made):
    page = made["folder"] / "any.html"
    write_report(page, made["generator"])
    assert "The strongest rows" not in page.read_text()
    for model in (made["model"], made["detector"]):
        write_report(str(page), model, made["rows"]["polars"])
        assert "The strongest rows" in page.read_text()


def test_a_denoisers_page_and_images_are_of_arrays_and_refuse_tables(made, monkeypatch):
    monkeypatch.setattr("keyhole.modalities.tiles.tiles.MAX_SYNTHETIC", 0.0)  # takes seconds
    images = np.random.default_rng(0).normal(100, 5, (1, 16, 16)).astype(np.float32)
    denoiser = Denoiser(net=UNet([4]), training=SHORT, random_state=0).fit(images)
    write_report(made["folder"] / "d.html", denoiser, images)
    assert "Before and after" in (made["folder"] / "d.html").read_text()
    with pytest.raises(KeyholeError, match="shows images"):
        write_report(made["folder"] / "d.html", denoiser)
    for rows in (*made["rows"].values(), None, 7):
        for use in (denoiser.transform, Denoiser(training=SHORT).fit):
            if isinstance(rows, np.ndarray | list):
                continue  # a matrix is an image
            with pytest.raises(KeyholeError) as fault:
                use(rows)
            assert one_line(fault.value), str(fault.value)


def test_models_are_saved_and_loaded_by_text_or_path(made):
    for name in ("model", "detector", "generator", "imputer"):
        kind = type(made[name])
        for path in (made["folder"] / f"{name}.keyhole", str(made["folder"] / f"{name}2.keyhole")):
            made[name].save(path)
            assert isinstance(kind.load(path), kind)
        for odd in (None, 7, made["rows"]["pandas"]):
            for use in (made[name].save, kind.load):
                with pytest.raises(KeyholeError, match="expected a path") as fault:
                    use(odd)
                assert one_line(fault.value)


WRONG = {
    "a detector for a detector": lambda m: AnomalyDetector.from_fitted(m["detector"]),
    "a detector of a detector": lambda m: AnomalyDetector(m["detector"]).fit(m["rows"]["pandas"]),
    "a detector of a text": lambda m: AnomalyDetector("x").fit(m["rows"]["pandas"]),
    "a generator of a text": lambda m: Generator("x").fit(m["rows"]["pandas"]),
    "a generator of a detector": lambda m: Generator.from_fitted(m["detector"]),
    "a prior of text": lambda m: Generator.from_fitted(m["model"], prior="mixture"),
    "a task of a detector": lambda m: Embed(m["detector"]),
    "a task of nothing": lambda m: Impute(None),
    "a part of text": lambda m: Autoencoder("plan").fit(m["rows"]["pandas"]),
    "hints of text": lambda m: Autoencoder(schema="x").fit(m["rows"]["pandas"]),
    "an unknown hint": lambda m: small(schema=Schema(id="zz")).fit(m["rows"]["pandas"]),
    "no seed": lambda m: Autoencoder(random_state="x").fit(m["rows"]["pandas"]),
    "no seed of a generator": lambda m: Generator(random_state=[1.5]).fit(m["rows"]["pandas"]),
    "given values of a list": lambda m: m["generator"].sample(2, ["a"]),
    "an unknown choice": lambda m: m["detector"].answer(m["rows"]["pandas"], explain_rows="some"),
    "no detector": lambda m: evaluate(m["model"], m["labelled"]["pandas"], "label"),
    "an absent column": lambda m: evaluate(m["detector"], m["rows"]["pandas"], "label"),
    "too few labels": lambda m: evaluate(m["detector"], m["rows"]["pandas"], [0, 1]),
    "a page of a frame": lambda m: write_report("page.html", m["rows"]["pandas"]),
    "a page in the wrong order": lambda m: write_report(m["model"], "page.html"),
    "two rows for one": lambda m: m["generator"].interpolate(*[m["rows"]["polars"]] * 2),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_argument_is_refused_in_one_line(made, wrong):
    with pytest.raises(KeyholeError) as fault:
        WRONG[wrong](made)
    assert one_line(fault.value), str(fault.value)


def test_what_is_not_fitted_says_so_as_scikit_learn_does(made):
    for use in (
        lambda: AnomalyDetector.from_fitted(Autoencoder()),
        lambda: Generator().sample(),
        lambda: evaluate(AnomalyDetector(), made["labelled"]["pandas"], "label"),
        lambda: write_report(made["folder"] / "no.html", Autoencoder()),
        lambda: Embed(Autoencoder()).answer(made["rows"]["pandas"]),
    ):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            use()


def test_records_of_answers_are_exported(made):
    assert isinstance(made["detector"].answer(made["rows"]["arrow"]), Answer)
    assert isinstance(evaluate(made["detector"], made["rows"]["arrow"], LABELS), Evaluation)
