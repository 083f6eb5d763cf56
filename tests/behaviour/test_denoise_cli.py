"""keyhole fit --for denoise and keyhole denoise: from files to files."""

import re

import numpy as np
import pytest

from benchmarks.mutants import manifest_of
from keyhole.cli import run
from keyhole.data.images import open_images

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("skimage")
TINY = ["--net", "unet:channels=[4,8],precision=float32", "--batch", "4", "--quiet"]


def scan(seed, size=(40, 48)):
    rng = np.random.default_rng(seed)
    image = 100 + 60 * np.sin(np.arange(size[1]) / 7) + 20 * rng.standard_normal(size)
    return image.clip(0, 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A folder of three noisy images, one of them in a folder of its own."""
    folder = tmp_path_factory.mktemp("scans")
    (folder / "late").mkdir()
    for seed, name in enumerate(["a.png", "b.png", "late/c.png"]):
        Image.fromarray(scan(seed)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def model(scans):
    """A denoiser fitted on the command line, its page beside it."""
    path = scans.parent / f"{scans.name}.keyhole"
    arguments = ["fit", str(scans), "--for", "denoise", "-o", str(path), "--steps", "4", *TINY]
    assert run([*arguments, "--noise", "20"]) == 0
    return path


def test_a_folder_becomes_a_model_with_a_page_that_shows_before_and_after(model):
    page = (model.parent / f"{model.stem}.report.html").read_text()
    assert len(re.findall(r'src="data:image/png;base64,', page)) == 9
    assert "not a medical device" in page
    assert "img-src data:" in page
    assert all(word in page for word in ("before", "after", "residual", "non-local means"))
    sections = manifest_of(model)["sections"]
    assert list(sections) == ["autoencoder", "denoise"]


def test_a_folder_is_denoised_into_a_folder_of_the_same_names_and_types(model, scans, tmp_path):
    assert run(["denoise", str(model), str(scans), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    assert found == ["a.png", "b.png", "late/c.png"]
    for name in found:
        before, after = (np.asarray(Image.open(f / name)) for f in (scans, tmp_path / "out"))
        assert after.dtype == np.uint8
        assert after.shape == before.shape
        assert 3 < np.abs(after.astype(float) - before).mean() < 30
    assert not (tmp_path / "out.part").exists()


def test_one_file_becomes_one_file(model, scans, tmp_path):
    out = tmp_path / "one.png"
    assert run(["denoise", str(model), str(scans / "a.png"), "-o", str(out), "--quiet"]) == 0
    assert np.asarray(Image.open(out)).shape == (40, 48)


def test_what_stands_there_is_not_written_over_unless_asked(model, scans, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "note.txt").write_text("mine")
    assert run(["denoise", str(model), str(scans), "-o", str(out), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "exists" in said
    assert said.count("\n") == 1
    assert run(["denoise", str(model), str(scans), "-o", str(out), "--force", "--quiet"]) == 0
    assert (out / "note.txt").read_text() == "mine"
    assert (out / "late" / "c.png").exists()


def test_a_killed_run_goes_on_with_the_files_that_are_missing(model, scans, tmp_path, capsys):
    from keyhole.jobs import images
    from keyhole.tasks.denoiser import Denoiser

    done = []

    def stop(count):
        done.append(count)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        images.denoise_files(
            Denoiser.load(model),
            open_images(scans),
            str(tmp_path / "out"),
            force=False,
            on_progress=stop,
        )
    assert not (tmp_path / "out").exists()
    assert run(["denoise", str(model), str(scans), "-o", str(tmp_path / "out")]) == 0
    assert "1 of them by an earlier run" in capsys.readouterr().err
    assert len(list((tmp_path / "out").rglob("*.png"))) == 3


def test_a_truncated_file_is_named_and_refused_or_left_out_and_counted(
    model, scans, tmp_path, capsys
):
    folder = tmp_path / "mixed"
    folder.mkdir()
    whole = (scans / "a.png").read_bytes()
    (folder / "good.png").write_bytes(whole)
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    out = ["-o", str(tmp_path / "out")]
    assert run(["denoise", str(model), str(folder), *out]) == 2
    said = capsys.readouterr().err
    assert "cut.png" in said
    assert 'bad="skip"' in said or "--bad skip" in said
    assert run(["denoise", str(model), str(folder), *out, "--bad", "skip"]) == 0
    said = capsys.readouterr().err
    assert "left out: cut.png" in said
    assert "1 files were left out, 1 read" in said
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["good.png"]


def test_a_dicom_copy_is_a_derived_instance_that_says_what_was_done(model, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    path, out = get_testdata_file("MR_small.dcm"), tmp_path / "out.dcm"
    assert run(["denoise", str(model), str(path), "-o", str(out), "--noise", "40", "--quiet"]) == 0
    before, after = pydicom.dcmread(path), pydicom.dcmread(out)
    assert after.SOPInstanceUID != before.SOPInstanceUID
    assert after.SeriesInstanceUID != before.SeriesInstanceUID
    assert after.PatientID == before.PatientID
    assert "DERIVED" in after.ImageType
    assert "keyhole" in after.DerivationDescription
    assert "not for diagnosis" in after.DerivationDescription
    assert after.pixel_array.dtype == before.pixel_array.dtype
    assert (after.pixel_array != before.pixel_array).mean() > 0.5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fit", "{scans}", "--for", "denoise", "--for", "detect", "-o", "{out}"], "by itself"),
        (["fit", "{scans}", "--for", "denoise", "--id", "a", "-o", "{out}"], "--id is for tables"),
        (["fit", "{none}", "--for", "denoise", "-o", "{out}"], "does not exist"),
        (["fit", "{empty}", "--for", "denoise", "-o", "{out}"], "holds no images"),
        (["fit", "{scans}", "--for", "denoise", "-o", "{out}", "--noise", "-3"], "above zero"),
        (["fit", "{scans}", "--for", "denoise", "-o", "{out}", "--axes", "QQ"], "axes"),
        (["fit", "{scans}", "--for", "denoise", "-o", "{out}", "--clean", "{one}"], "3 noisy"),
        (
            ["denoise", "{scans}", "{scans}", "-o", "{out}"],
            "is a folder; give a file",
        ),
        (["denoise", "{model}", "{none}", "-o", "{out}"], "does not exist"),
        (["denoise", "{model}", "{scans}", "-o", "{out}", "--device", "cuda:7"], "cuda:7"),
        (["detect", "{model}", "{scans}"], "denoise"),
    ],
)
def test_a_fault_is_one_line_and_leaves_nothing(model, scans, tmp_path, capsys, arguments, said):
    (tmp_path / "empty").mkdir()
    places = {"scans": scans, "model": model, "out": tmp_path / "out", "one": scans / "a.png",
              "none": tmp_path / "none", "empty": tmp_path / "empty"}  # fmt: skip
    assert run([part.format(**places) for part in arguments]) == 2
    heard = capsys.readouterr().err
    assert said in heard
    assert "Traceback" not in heard
    assert "fault of keyhole's own" not in heard
    assert not (tmp_path / "out").exists()
