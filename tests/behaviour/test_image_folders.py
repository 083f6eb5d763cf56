"""Folders of images: the whole tree is read, and what is passed over is counted and named."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from keyhole import AnomalyDetector
from keyhole.cli import run
from keyhole.data.images import is_images, open_images
from keyhole.errors import DataError, KeyholeWarning

Image = pytest.importorskip("PIL.Image")
UID = "1.2.840.113619.2.5.1762583153.215519.978957063.80"
TINY = ["--net", "unet:channels=[4],precision=float32", "--steps", "2", "--batch", "2",
        "--noise", "20", "--quiet", "--no-report"]  # fmt: skip


def save(path, seed=0, size=(24, 24)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, size, np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return path


def scan(path):
    """A DICOM file of pydicom's, copied to `path`."""
    data = pytest.importorskip("pydicom.data")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(str(data.get_testdata_file("MR_small.dcm")), path)
    return path


def names(images):
    return [image.name for image in images]


def test_images_are_found_at_any_depth_and_keep_their_place_in_the_tree(tmp_path):
    for name in ("a.png", "p1/s1/t1/x.png", "p2/s1/t1/x.png"):
        save(tmp_path / name)
    assert names(open_images(tmp_path)) == ["a.png", "p1/s1/t1/x.png", "p2/s1/t1/x.png"]
    assert names(open_images(f"{tmp_path}/p*/s1")) == ["p1/s1/t1/x.png", "p2/s1/t1/x.png"]
    assert names(open_images(f"{tmp_path}/**/x.png")) == ["p1/s1/t1/x.png", "p2/s1/t1/x.png"]
    two = [tmp_path / "p1" / "s1" / "t1" / "x.png", tmp_path / "p2"]
    assert names(open_images(two)) == ["p1/s1/t1/x.png", "p2/s1/t1/x.png"]


def test_a_tree_of_dicom_files_without_endings_is_read_whole(tmp_path):
    scan(tmp_path / "DICOM" / "ST000001" / "SE000001" / "IM000001")
    scan(tmp_path / "DICOM" / "ST000001" / "SE000001" / UID)
    scan(tmp_path / "DICOM" / "ST000001" / "SE000002" / "img0.001")
    scan(tmp_path / "DICOM" / "ST000001" / "SE000002" / "slice.scan")
    content = scan(tmp_path / "DICOM" / "ST000001" / "SE000003" / "I1").read_bytes()
    (tmp_path / "DICOM" / "ST000001" / "SE000003" / "I1").write_bytes(content[132:])
    (tmp_path / "DICOMDIR").write_bytes(content)
    images = open_images(tmp_path)
    assert len(images) == 5
    assert images.passed_over == {"an index of DICOM files": 1}
    assert is_images(tmp_path)
    assert is_images(tmp_path / "DICOM" / "ST000001" / "SE000001" / UID)
    with pytest.raises(DataError, match="give its folder"):
        open_images(tmp_path / "DICOMDIR")


def test_other_formats_without_a_telling_ending_are_known_by_their_first_bytes(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    save(tmp_path / "0001")
    tifffile.imwrite(tmp_path / "stack", np.zeros((9, 8), np.uint8))
    np.save(tmp_path / "x.npy", np.zeros((9, 8)))
    (tmp_path / "x.npy").rename(tmp_path / "frame.007")
    assert names(open_images(tmp_path)) == ["0001", "frame.007", "stack"]


def test_what_is_passed_over_is_counted_by_reason(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / ".hidden.png")
    for name in ("notes.txt", "deep/er/more.txt", "table.csv", "README"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("no image")
    os.symlink(tmp_path / "nowhere.png", tmp_path / "link.png")
    os.symlink(tmp_path, tmp_path / "deep" / "loop")
    os.mkfifo(tmp_path / "pipe.png")
    images = open_images(tmp_path)
    assert names(images) == ["a.png"]
    assert images.passed_over == {
        "hidden": 1, "ending .txt": 2, "ending .csv": 1, "a broken link": 1,
        "no file extension, and its first bytes are not those of an image": 1,
        "not a regular file": 1,
        "a link to a folder that was already read": 1,
    }  # fmt: skip
    assert images.passed_over_in_words().startswith("8 files were passed over: ending .txt (2)")


def test_a_link_to_another_folder_is_followed_once(tmp_path):
    save(tmp_path / "far" / "b.png")
    save(tmp_path / "top" / "a.png")
    os.symlink(tmp_path / "far", tmp_path / "top" / "one")
    os.symlink(tmp_path / "far", tmp_path / "top" / "two")
    images = open_images(tmp_path / "top")
    assert names(images) == ["a.png", "one/b.png"]
    assert images.passed_over == {"a link to a folder that was already read": 1}


def test_a_zarr_in_a_tree_is_one_image(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.save_array(str(tmp_path / "p1" / "cells"), np.zeros((9, 8)))
    save(tmp_path / "p1" / "a.png")
    assert names(open_images(tmp_path)) == ["p1/a.png", "p1/cells"]


def test_a_dicom_report_in_a_tree_is_passed_over_and_refused_by_itself(tmp_path):
    data = pytest.importorskip("pydicom.data")
    scan(tmp_path / "IM1")
    shutil.copyfile(str(data.get_testdata_file("reportsi.dcm")), tmp_path / "SR1")
    images = open_images(tmp_path)
    assert names(images) == ["IM1"]
    assert images.passed_over == {"DICOM without pixels: SR": 1}
    with pytest.raises(DataError, match="has no pixels"):
        open_images(tmp_path / "SR1")


def test_a_folder_without_images_says_what_is_in_it(tmp_path):
    (tmp_path / "a.doc").write_text("no")
    with pytest.raises(DataError, match=r"holds no images; 1 file was .*: ending .doc \(1\)"):
        open_images(tmp_path)


def test_the_library_warns_of_files_that_were_passed_over(tmp_path):
    from keyhole.data import open_source

    save(tmp_path / "a.png")
    (tmp_path / "b.xyz").write_text("no")
    with pytest.warns(KeyholeWarning, match=r"1 file was passed over: ending .xyz \(1\)"):
        assert open_source(str(tmp_path)).rows == 1


def test_the_command_line_denoises_a_tree_into_a_tree_and_names_what_it_passed_over(
    tmp_path, capsys
):
    for at, name in enumerate(("p1/x.png", "p2/x.png", "p2/deep/er/x.png")):
        save(tmp_path / "in" / name, at)
    (tmp_path / "in" / "note.txt").write_text("no")
    model, out = str(tmp_path / "m.keyhole"), str(tmp_path / "out")
    arguments = ["fit", str(tmp_path / "in"), "--for", "denoise", "-o", model, *TINY]
    assert run(arguments) == 0
    assert "1 file was passed over: ending .txt (1)" in capsys.readouterr().err
    page = ["--report", str(tmp_path / "page.html")]
    assert run(["denoise", model, str(tmp_path / "in"), "-o", out, "--quiet", *page]) == 0
    assert "1 file was passed over: ending .txt (1)" in (tmp_path / "page.html").read_text()
    written = sorted(str(p.relative_to(out)) for p in (tmp_path / "out").rglob("*.png"))
    assert written == ["p1/x.png", "p2/deep/er/x.png", "p2/x.png"]


@pytest.mark.parametrize(
    ("arguments", "said", "unsaid"),
    [
        (["--for", "denoise"], "--bad skip leaves", "bad="),
        (["--for", "denoise", "--bad", "skip", "--noise", "-3"], "--noise -3.0:", "noise="),
        (["--for", "denoise", "--bad", "skip", "--axes", "QQ"], "--axes QQ", "axes="),
        (["--false-alarm-rate", "3"], "--false-alarm-rate 3.0:", "false_alarm_rate="),
        (["--bottleneck", "mmd:weight=-1"], "weight=-1", "--weight"),
    ],
)
def test_errors_on_the_command_line_name_its_options(tmp_path, capsys, arguments, said, unsaid):
    save(tmp_path / "in" / "a.png")
    save(tmp_path / "in" / "c.png")
    if arguments[:2] == ["--for", "denoise"]:
        (tmp_path / "in" / "b.png").write_bytes(b"\x89PNG broken")
    out = ["-o", str(tmp_path / "m"), "--quiet", "--no-report", "--steps", "1"]
    assert run(["fit", str(tmp_path / "in"), *arguments, *out]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in error
    assert unsaid not in error


def test_images_of_several_sizes_are_brought_to_one_by_an_option(tmp_path, capsys):
    for at in range(12):
        save(tmp_path / "in" / f"{at}.png", at, (12 + at % 2, 12))
    fit = ["fit", str(tmp_path / "in"), "-o", str(tmp_path / "m"), "--steps", "1", "--no-report"]
    assert run([*fit, "--quiet"]) == 2
    assert "--size HEIGHTxWIDTH resizes them" in capsys.readouterr().err
    assert run([*fit, "--size", "8x8", "--quiet"]) == 0


def test_every_anomaly_map_has_a_file_of_its_own(tmp_path):
    pytest.importorskip("tifffile").imwrite(tmp_path / "a.tif", np.zeros((8, 8), np.uint8))
    from keyhole.report.anomaly_maps import _own_name

    taken = set()
    given = ["a.png", "a.tif", "A.png", "p/a.png", "a.png"]
    own = [_own_name(name, taken) for name in given]
    assert own[:2] == ["a.png.map.png", "a.tif.map.png"]
    assert len({name.casefold() for name in own}) == 5


def test_a_detector_writes_as_many_anomaly_maps_as_it_reports(tmp_path, capsys):
    folder = tmp_path / "in"
    for at in range(11):
        save(folder / f"{at:02}.png", at, (8, 8))
    for name in ("00.bmp", "01.bmp"):
        pixels = np.random.default_rng(9).integers(0, 255, (8, 8), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    model, maps = str(tmp_path / "m"), tmp_path / "maps"
    fit = ["fit", str(folder), "-o", model, "--steps", "1", "--no-report", "--quiet"]
    assert run(fit) == 0
    out = ["-o", str(tmp_path / "a.csv"), "--anomaly-map", str(maps)]
    assert run(["detect", model, str(folder), *out]) == 0
    assert "13 anomaly maps" in capsys.readouterr().err
    assert len(list(maps.rglob("*.png"))) == 13


def test_commands_take_images_that_are_worked_on_smaller_than_they_are(tmp_path):
    folder, model, table = tmp_path / "in", str(tmp_path / "m"), tmp_path / "a.csv"
    for at in range(12):
        save(folder / f"{at:02}.png", at, (80, 100))
    table.write_text("a,b\n1,2\n")
    fit = ["fit", str(folder), "-o", model, "--steps", "1", "--no-report", "--quiet"]
    assert run(fit) == 0
    assert run(["detect", model, str(folder), "-o", str(tmp_path / "out.csv"), "--quiet"]) == 0
    told = pd.read_csv(tmp_path / "out.csv")["anomaly_score"]
    with pytest.warns(KeyholeWarning, match="no alarm can be raised"):
        detector = AnomalyDetector.load(model)
    np.testing.assert_allclose(told, -detector.score_samples(str(folder)), rtol=1e-5)
    assert run(["detect", model, str(table), "-o", str(tmp_path / "t.csv"), "--quiet"]) == 2


def test_a_page_on_images_as_rows_names_what_was_passed_over(tmp_path):
    for at in range(12):
        save(tmp_path / "in" / f"{at}.png", at)
    (tmp_path / "in" / "note.txt").write_text("no")
    model = str(tmp_path / "m")
    assert run(["fit", str(tmp_path / "in"), "-o", model, "--steps", "2", "--quiet"]) == 0
    page = Path(f"{model}.report.html").read_text()
    assert "1 file was passed over: ending .txt (1)" in page


@pytest.mark.parametrize("others", [("A.png",), ("a\u0308.png", "\u00e4.png")])
def test_copies_that_are_one_file_on_some_disks_are_refused(tmp_path, others):
    from keyhole.jobs.images import check_distinct

    names = ["a.png", *others]
    with pytest.raises(DataError, match="which have the same name on some disks: rename one"):
        check_distinct(names, "in")
    with pytest.raises(DataError, match=r"in has several files named 'a\.png': give their folder"):
        check_distinct(["a.png", "a.png"], "in")
    check_distinct(["a.png", "b/a.png", "a.tif"], "in")


def test_a_file_is_read_and_scored_once_whatever_is_made_of_it(tmp_path, capsys, monkeypatch):
    """Answers under a false discovery rate, a page and anomaly maps, from one pass."""
    from keyhole.data.image_rows import ImageSource
    from keyhole.tasks.detect.scorer import Scorer

    rng = np.random.default_rng(0)
    images = rng.normal(100, 10, (40, 12, 12)).astype(np.float32)
    images[[7, 20, 31], 3:9, 3:9] += 300
    np.save(tmp_path / "new.npy", images)
    np.save(tmp_path / "good.npy", rng.normal(100, 10, (120, 12, 12)).astype(np.float32))
    model, maps, page = str(tmp_path / "m"), tmp_path / "maps", tmp_path / "page.html"
    fit = ["fit", str(tmp_path / "good.npy"), "-o", model, "--steps", "30", "--no-report"]
    assert run(fit) == 0
    monkeypatch.setattr("keyhole.autoencoder.input_validation.CHUNK_ROWS", 16)
    arguments = ["detect", model, str(tmp_path / "new.npy"), "--fdr", "0.2"]
    assert run([*arguments, "-o", str(tmp_path / "alone.csv")]) == 0
    read, scored = [], []
    blocks, score_block = ImageSource.blocks, Scorer.score_block

    def counted_blocks(self, rows):
        read.append(rows)
        return blocks(self, rows)

    def counted_rows(self, rows, start=0):
        scored.append(len(rows))
        return score_block(self, rows, start)

    monkeypatch.setattr(ImageSource, "blocks", counted_blocks)
    monkeypatch.setattr(Scorer, "score_block", counted_rows)
    more = ["--report", str(page), "--anomaly-map", str(maps)]
    assert run([*arguments, "-o", str(tmp_path / "all.csv"), *more]) == 0
    alarms = (tmp_path / "all.csv").read_text().count(",true,")
    assert read == [16]
    assert alarms >= 1
    assert sum(scored) == 40 + alarms  # which are scored again for their reasons
    assert (tmp_path / "all.csv").read_text() == (tmp_path / "alone.csv").read_text()
    assert len(list(maps.iterdir())) == 40
    assert f"{alarms} alarm" in page.read_text()
