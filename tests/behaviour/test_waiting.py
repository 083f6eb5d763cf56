"""Who waits hears what is done; who weights rows by an array hears how it is done here."""

import os
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import Thread

import numpy as np
import pytest
from sklearn.base import clone

from keyhole import AnomalyDetector, Autoencoder, Denoiser, Generator, Schema, TrainingConfig
from keyhole.autoencoder.sampling import Sampler
from keyhole.cli import run
from keyhole.core import progress
from keyhole.core.progress import advanced, shown, spoke, spoken_stages, stage
from keyhole.data.csv import CsvSource
from keyhole.errors import SettingError
from keyhole.modalities.profile import SourceProfile
from keyhole.modalities.tiles.source import NoiseEstimates
from keyhole.model.nets.unet import UNet
from keyhole.report import page, rows
from keyhole.tasks import Impute
from keyhole.tasks.detect.scorer import Scorer
from keyhole.tasks.image_denoiser import ImageDenoiser


def test_a_stage_that_says_nothing_is_spoken_for_again_and_again():
    heard = []
    with spoken_stages(lambda now: heard.append(str(now)), silence_s=0.3):
        stage("reading")
        time.sleep(0.6)
        stage("judging")
        time.sleep(1.4)
    assert (heard[0], heard[-1]) == ("reading", "judging, 1 s so far")
    assert len(heard) >= 4


def test_what_is_said_by_others_is_enough():
    heard = []
    with spoken_stages(lambda now: heard.append(now.name), silence_s=1.0):
        for _ in range(12):
            time.sleep(0.1)
            spoke()
    assert heard == []
    stage("nobody listens")
    spoke()


def test_a_slow_file_is_no_silence_on_the_command_line(tmp_path, monkeypatch, capsys):
    """Takes three seconds: the source waits."""
    rows = np.random.default_rng(0).normal(size=(300, 3))
    (tmp_path / "rows.csv").write_text("a,b,c\n" + "\n".join(",".join(map(str, r)) for r in rows))
    blocks = CsvSource.blocks

    def slow(self, count):
        time.sleep(2.5)
        monkeypatch.setattr(CsvSource, "blocks", blocks)
        return blocks(self, count)

    monkeypatch.setattr(CsvSource, "blocks", slow)
    out = str(tmp_path / "rows.keyhole")
    arguments = ["fit", str(tmp_path / "rows.csv"), "-o", out, "--steps", "3", "--no-report"]
    assert run(arguments) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("wait")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A table with gaps, a detector of it, images and a denoiser of them."""
    folder = tmp_path_factory.mktemp("waiting")
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{a + b:.3f}," + ("" if b > 1 else f"{b:.3f}") for a, b in
            rng.normal(size=(120, 2))]  # fmt: skip
    (folder / "rows.csv").write_text("\n".join(["a,b,c", *rows]))
    detector = AnomalyDetector(
        Autoencoder(training=TrainingConfig(2), random_state=0), false_alarm_rate=0.1
    )
    detector.fit(str(folder / "rows.csv")).save(str(folder / "m"))
    noisy = 10 * np.cumsum(rng.normal(size=(40, 40)), 1) + rng.normal(size=(40, 40))
    np.save(folder / "p.npy", noisy.astype(np.float32))
    training = TrainingConfig(2, batch=2)
    denoiser = Denoiser(net=UNet([4]), training=training, noise=1.0, random_state=0)
    denoiser.fit(str(folder / "p.npy")).save(str(folder / "d"))
    return folder


def slow(monkeypatch, where, method):
    """Half a second more in a method, the first time it is called; how often that was."""
    original, calls = getattr(where, method), []

    def late(*given, **named):
        if not calls:
            calls.append(method)
            time.sleep(0.5)
        return original(*given, **named)

    monkeypatch.setattr(where, method, late)
    return calls


COMMANDS = [
    ("fit {0}/rows.csv -o {1}/n --steps 2 --no-report", (SourceProfile, "__init__"),
        "reading the data"),
    ("fit {0}/rows.csv -o {1}/n --steps 2", (page, "fill"), "writing the page"),
    ("fit {0}/p.npy -o {1}/n --for denoise --net unet:channels=[4] --steps 2 --batch 2 "
     "--no-report",
     (NoiseEstimates, "unit"), "measuring the noise"),
    ("fit {0}/p.npy -o {1}/n --for denoise --net unet:channels=[4] --steps 2 --batch 2",
     (ImageDenoiser, "middle"), "writing the page"),
    ("detect {0}/m {0}/rows.csv -o {1}/o.csv", (Scorer, "score_block"), "detect"),
    ("detect {0}/m {0}/rows.csv -o {1}/o.csv --report {1}/o.html",
     (rows.RowCollector, "look"), "detect"),
    ("embed {0}/m {0}/rows.csv -o {1}/o.csv", (CsvSource, "blocks"), "embed"),
    ("impute {0}/m {0}/rows.csv -o {1}/o.csv", (CsvSource, "blocks"), "impute"),
    ("reconstruct {0}/m {0}/rows.csv -o {1}/o.csv", (CsvSource, "blocks"), "reconstruct"),
    ("score {0}/m {0}/rows.csv -o {1}/o.csv", (CsvSource, "blocks"), "score"),
    ("sample {0}/m -n 5 -o {1}/o.csv", (Sampler, "rows"), "sample"),
    ("denoise {0}/d {0}/p.npy -o {1}/o.npy", (ImageDenoiser, "bands"), "denoise"),
    ("update {0}/m {0}/rows.csv -o {1}/n", (CsvSource, "blocks"), "adding rows"),
    ("calibrate {0}/m {0}/rows.csv -o {1}/n", (CsvSource, "blocks"), "scoring the rows"),
    ("explain {0}/m {0}/rows.csv --row 3", (CsvSource, "blocks"), "reading the model"),
    ("inspect {0}/m", (Autoencoder, "load"), "reading the model"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "place", "expected"), COMMANDS)
def test_no_command_is_silent_while_a_stage_takes_long(
    command, place, expected, files, tmp_path, monkeypatch, capsys
):
    """Takes half a second each: the stage waits."""
    monkeypatch.setattr(progress, "SILENCE_S", 0.25)
    calls = slow(monkeypatch, *place)
    assert run(command.format(files, tmp_path).split()) == 0
    assert calls
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("wait")]
    assert any(line.startswith(f"wait      {expected}") for line in lines), lines


def test_quiet_stays_quiet(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SILENCE_S", 0.25)
    calls = slow(monkeypatch, CsvSource, "blocks")
    command = f"score {files}/m {files}/rows.csv -o {tmp_path}/o.csv --quiet"
    assert run(command.split()) == 0
    assert (calls, capsys.readouterr().err) == (["blocks"], "")


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (lambda model, path: AnomalyDetector.from_fitted(model).answer(path), "scoring the rows"),
        (lambda model, path: model.score_samples(path), "score_samples"),
        (lambda model, path: Impute(model).answer(path), "answer"),
        (lambda model, path: clone(model).fit(path), "fit"),
    ],
)
def test_a_verbose_model_says_what_takes_long(ask, expected, files, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SILENCE_S", 0.25)
    path = str(files / "rows.csv")
    model = Autoencoder.load(str(files / "m")).set_params(verbose=True)
    reference = AnomalyDetector.load(str(files / "m")).scorer_.reference
    model.model_ = replace(model.model_, reference=reference)
    slow(monkeypatch, CsvSource, "blocks")
    ask(model, path)
    assert f"wait      {expected}" in capsys.readouterr().err
    slow(monkeypatch, CsvSource, "blocks")
    model.set_params(verbose=False).score_samples(path)
    assert capsys.readouterr().err == ""


def test_rows_that_are_done_are_counted_and_a_bar_is_not_talked_over():
    heard = []
    with spoken_stages(lambda now: heard.append(str(now)), silence_s=0.2):
        stage("detect", total=3_000)
        advanced(2_000)
        time.sleep(0.3)
        shown(True)
        count = len(heard)
        time.sleep(0.4)
        assert len(heard) == count
        stage("writing the page")  # a bar that nobody stopped is over
        time.sleep(0.3)
    assert heard[0] == "detect, 2,000 of 3,000 rows"
    assert heard[-1] == "writing the page"


@contextmanager
def terminal(monkeypatch):
    """Standard error as a terminal; what it has shown, in the end."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    blocks: list[bytes] = []

    def read():
        with suppress(OSError):  # the other end is closed
            while block := os.read(ours, 4_096):
                blocks.append(block)

    reader, texts = Thread(target=read, daemon=True), []
    reader.start()
    with monkeypatch.context() as patch, os.fdopen(theirs, "w") as stderr:
        patch.setattr("sys.stderr", stderr)
        yield texts
    reader.join(timeout=10)
    os.close(ours)
    texts.append(b"".join(blocks).decode())


def test_a_fit_on_a_terminal_shows_a_bar_and_takes_it_away(files, tmp_path, monkeypatch):
    command = f"fit {files}/rows.csv -o {tmp_path}/m --steps 3 --no-report"
    with terminal(monkeypatch) as texts:
        assert run(command.split()) == 0
    assert "3 of 3" in texts[0]
    assert "held-out error" in texts[0]
    assert texts[0].rindex("\x1b[?25h") > texts[0].rindex("3 of 3")  # the cursor is back


def test_rows_on_a_terminal_have_a_bar_too(files, tmp_path, monkeypatch):
    with terminal(monkeypatch) as texts:
        assert run(f"detect {files}/m {files}/rows.csv -o {tmp_path}/o.csv".split()) == 0
    assert "120 rows" in texts[0]


@pytest.mark.parametrize("make", [Autoencoder, AnomalyDetector, Generator, Denoiser])
def test_weights_as_an_array_are_refused_with_the_way_to_give_them(make, rng):
    x = rng.normal(size=(40, 3))
    with pytest.raises(SettingError, match=r"Schema\(weight='COLUMN'\).*--weight COLUMN"):
        make().fit(x, sample_weight=np.ones(40))


def test_the_way_that_is_named_works(rng):
    """Rows of weight zero are not there: a model learns nothing of the far ones."""
    x = np.concatenate([rng.normal(size=(200, 2)), rng.normal(size=(20, 2)) + 1e3])
    names, weights = ["a", "b", "w"], np.repeat([1.0, 0.0], [200, 20])
    import pyarrow as pa

    table = pa.table(dict(zip(names, [*x.T, weights], strict=True)))
    model = Autoencoder(training=TrainingConfig(3), schema=Schema(weight="w"), random_state=0)
    assert model.fit(table).model_.rows == 200
