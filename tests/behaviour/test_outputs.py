"""No output of a command takes the place of an input, of another output, or of a model's files."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest

from keyhole import AnomalyDetector, Autoencoder
from keyhole.cli import run
from keyhole.core.outputs import Output, check_outputs
from keyhole.errors import FileError
from keyhole.training import TrainingConfig


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Tables, and a model, not to be changed."""
    folder = tmp_path_factory.mktemp("outputs")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=120), "b": rng.choice(["x", "y"], 120)})
    (folder / "data").mkdir()
    frame.to_csv(folder / "t.csv", index=False)
    frame.to_csv(folder / "other.csv", index=False)
    frame.to_parquet(folder / "data" / "1.parquet")
    frame.to_parquet(folder / "data" / "2.parquet")
    model = Autoencoder(training=TrainingConfig(steps=10), random_state=0)
    AnomalyDetector(model, false_alarm_rate=0.05).fit(frame).save(str(folder / "m"))
    return folder


@pytest.fixture
def place(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "p")
    os.link(tmp_path / "p" / "t.csv", tmp_path / "p" / "hard.csv")
    (tmp_path / "p" / "soft.csv").symlink_to(tmp_path / "p" / "t.csv")
    return tmp_path / "p"


def content(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("detect", "m", "t.csv", "-o", "x.csv", "--report", "x.csv"), "-o and --report are both"),
        (("detect", "m", "t.csv", "-o", "x.csv", "--report", "./x.csv"), "are both"),
        (("detect", "m", "t.csv", "-o", "t.csv"), "-o {}/t.csv is DATA itself"),
        (("detect", "m", "t.csv", "--report", "t.csv"), "--report {}/t.csv is DATA itself"),
        (("detect", "m", "t.csv", "-o", "hard.csv"), "is DATA itself"),
        (("detect", "m", "t.csv", "-o", "soft.csv"), "is DATA itself"),
        (("detect", "m", "soft.csv", "-o", "hard.csv"), "is DATA itself"),
        (("detect", "m", "data", "-o", "data/o.parquet"), "the next run would read it"),
        (("detect", "m", "data", "-o", "data/1.parquet"), "would read it"),
        (("detect", "m", "data", "--report", "data/1.parquet", "-o", "o.csv"), "would read it"),
        (("detect", "m", "data/*.parquet", "-o", "data/o.parquet"), "fits DATA"),
        (("detect", "m", "data/*.parquet", "-o", "data/2.parquet"), "is DATA itself"),
        (("detect", "m", "t.csv", "-o", "m/o.csv"), "a part of its path is a file"),
        (("detect", "m", "t.csv", "-o", "o.csv", "--report", "m/r.html"), "is a file"),
        (("detect", "m", "t.csv", "-o", "o.csv", "--report", "m"), "is the model itself"),
        (("detect", "m", "t.csv", "-o", "data.csv", "--report", "data"), "is a folder"),
        (("impute", "m", "t.csv", "-o", "t.csv"), "is DATA itself"),
        (("embed", "m", "t.csv", "-o", "t.csv"), "is DATA itself"),
        (("score", "m", "t.csv", "-o", "m/manifest.jsonl"), "path is a file"),
        (("reconstruct", "m", "data", "-o", "data/r.pq"), "the next run would read it"),
        (("sample", "m", "-o", "m/s.csv"), "a part of its path is a file"),
        (("fit", "t.csv", "-o", "n", "--report", "t.csv"), "--report {}/t.csv is DATA itself"),
        (("fit", "t.csv", "-o", "n", "--report", "n"), "-o and --report are both"),
        (("fit", "t.csv", "-o", "n", "--report", "n/r.html"), "n does not exist"),
        (("fit", "t.csv", "-o", "m/n"), "a part of its path is a file"),
        (("fit", "t.csv", "-o", "n", "--report", "absent/r.html"), "absent does not exist"),
        (("fit", "t.csv", "-o", "data"), "is a folder; give the name of a file"),
        (("fit", "t.csv", "-o", "other.csv"), "is not a keyhole model and would be lost"),
        (("fit", "data/*", "-o", "data/n"), "fits DATA"),
        (("update", "m", "t.csv", "-o", "m/n"), "a part of its path is a file"),
        (("calibrate", "m", "t.csv", "-o", "t.csv"), "is DATA itself"),
        (("demo", "--report", "x.html", "--sensors", "x.html"), "are both"),
    ],
)
def test_a_clash_is_refused_before_work_starts_even_with_force(place, capfd, arguments, reason):
    before = content(place)
    verb, *rest = arguments
    paths = [a if a.startswith("-") and a != "-" else f"{place}/{a}" for a in rest]
    force = [] if verb == "demo" else ["--force"]
    assert run([verb, *paths, *force]) == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert reason.format(place) in line
    assert line.startswith("keyhole: ")
    assert content(place) == before


def test_a_checkpoint_never_takes_the_place_of_the_data(place, capfd):
    os.rename(place / "t.csv", place / "n.part")
    assert run(["fit", f"{place}/n.part", "-o", f"{place}/n", "--no-report"]) == 2
    assert "n.part is DATA itself" in capfd.readouterr().err
    with pytest.raises(FileError, match=r"checkpoint .* is X itself"):
        Autoencoder().fit(str(place / "n.part"), checkpoint=str(place / "n.part"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("detect", "m", "data", "-o", "data/o.csv"),
        ("detect", "m", "t.csv", "-o", "o.csv", "--report", "o.html"),
        ("embed", "m", "data/*.parquet", "-o", "data/o.csv"),
        ("fit", "data", "-o", "data/n", "--steps", "3", "--report", "data/n.html"),
        ("update", "m", "t.csv", "-o", "m", "--force"),
    ],
)
def test_places_that_harm_nothing_are_written(place, arguments):
    verb, *rest = arguments
    plain = {"--steps", "3"}
    paths = [a if a.startswith("-") or a in plain else f"{place}/{a}" for a in rest]
    assert run([verb, *paths, "--quiet"]) == 0


def test_streams_are_no_places(tmp_path):
    both = [Output("-o", "/dev/null", "rows"), Output("--report", "/dev/null", "page")]
    check_outputs(both, {"DATA": "-"})
    check_outputs([Output("-o", "-", "rows")], {"DATA": "-"})


def test_a_image_folder_is_no_place_for_images_of_the_answer(tmp_path):
    (tmp_path / "images").mkdir()
    for inside in ("images/maps", "images/deep/maps", "images"):
        with pytest.raises(FileError):
            check_outputs(
                [Output("--anomaly-map", str(tmp_path / inside), "images", joins=True)],
                {"DATA": str(tmp_path / "images")},
                force=True,
            )
    outside = Output("--anomaly-map", str(tmp_path / "maps"), "images", joins=True)
    check_outputs([outside], {"DATA": str(tmp_path / "images")})


def test_names_that_differ_in_case_are_two_where_the_disk_says_so(tmp_path):
    names = [Output("-o", str(tmp_path / "A.csv"), "rows")]
    names.append(Output("--report", str(tmp_path / "a.csv"), "page"))
    (tmp_path / "probe").touch()
    if (tmp_path / "PROBE").exists():
        with pytest.raises(FileError, match="are both"):
            check_outputs(names, {})
    else:
        check_outputs(names, {})
