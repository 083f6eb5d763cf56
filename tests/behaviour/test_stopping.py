"""A run that is stopped, or meets a disk that is full or closed: what stays, and what is said."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from keyhole import AnomalyDetector, Autoencoder, cli
from keyhole.cli import run
from keyhole.core.files import scratch_file, write_whole
from keyhole.core.outputs import Scratch
from keyhole.data import opening
from keyhole.errors import FileError
from keyhole.training import TrainingConfig


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A table, and a model of it."""
    folder = tmp_path_factory.mktemp("stopping")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=150), "b": rng.choice(["x", "y"], 150)})
    frame.to_csv(folder / "t.csv", index=False)
    training = TrainingConfig(steps=20)
    AnomalyDetector(Autoencoder(training=training, random_state=0), false_alarm_rate=0.05).fit(
        frame
    ).save(str(folder / "m"))
    return folder


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files; all that is read goes there."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(opening, "MEMORY_BYTES", 0)
    monkeypatch.setattr(opening, "SPOOL_ROWS", 10)
    return tmp_path


def waiting(place, temporary):
    """A command line that spools what it reads from a pipe which does not end; pid and pipe."""
    reader, writer = os.pipe()
    os.write(writer, b"a,b\n")
    os.set_blocking(writer, False)
    pid = os.fork()
    if not pid:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)  # whatever the tests were started with
        signal.alarm(60)  # a child that hangs must not keep the tests from ending
        os.close(writer)
        os.dup2(reader, 0)
        sys.stdin = os.fdopen(0, "r")
        sys.argv = ["keyhole", "detect", str(place / "m"), "-", "--fdr", "0.1", "--quiet"]
        code = 99
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        finally:
            os._exit(code)
    end = time.monotonic() + 20
    while not list(temporary.glob("keyhole.*.tmp/*")) and time.monotonic() < end:
        with suppress(BlockingIOError):
            os.write(writer, b"0.5,x\n" * 600)  # whole or not at all: below what a pipe takes
    assert list(temporary.glob("keyhole.*.tmp"))
    return pid, writer


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_to_end_clears_temporary_folders(place, temporary, number, code):
    pid, pipe = waiting(place, temporary)
    os.kill(pid, number)
    _, status = os.waitpid(pid, 0)
    os.close(pipe)
    assert os.waitstatus_to_exitcode(status) == code
    assert list(temporary.iterdir()) == []


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_signal_to_end_is_heard_while_a_pipe_is_silent(place, temporary):
    pid, pipe = waiting(place, temporary)
    time.sleep(1)  # what was written is read, and the next read waits
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    os.close(pipe)
    assert os.waitstatus_to_exitcode(status) == 143
    assert list(temporary.iterdir()) == []


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_what_a_kill_leaves_is_cleared_by_a_later_run_and_nothing_in_use(place, temporary):
    pid, pipe = waiting(place, temporary)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    (left,) = temporary.iterdir()
    foreign = temporary / "keyhole.notours.tmp"
    foreign.mkdir()
    with Scratch() as other:
        used = Path(other.folder())
        assert not left.exists()
        with Scratch() as scratch:
            scratch.folder()
            assert used.exists()
            assert foreign.exists()
    os.close(pipe)
    assert list(temporary.iterdir()) == [foreign]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_scratch_file_that_a_kill_left_is_cleared_by_the_next_write_to_its_place(tmp_path):
    pid = os.fork()
    if not pid:
        with scratch_file(tmp_path / "a.tif") as scratch:
            Path(scratch).write_bytes(b"pixels")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert len(list(tmp_path.iterdir())) == 1
    write_whole(tmp_path / "a.tif", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_a_temporary_folder_that_is_not_needed_need_not_exist(place, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    out = str(tmp_path / "o.csv")
    assert run(["detect", str(place / "m"), str(place / "t.csv"), "-o", out, "--quiet"]) == 0
    Autoencoder(training=TrainingConfig(steps=3)).fit(str(place / "t.csv"))


def test_a_temporary_folder_that_is_needed_and_absent_is_named(place, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    monkeypatch.setattr(opening, "MEMORY_BYTES", 0)
    with pytest.raises(FileError, match=r"no temporary folder can be made.*set TMPDIR"):
        Autoencoder(training=TrainingConfig(steps=3)).fit(str(place / "t.csv"))


def fault(capfd, *arguments):
    """The one line that a command line that failed has said."""
    code = run([str(a) for a in arguments])
    err = capfd.readouterr().err
    assert code == 2
    assert "fault of keyhole's own" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("keyhole: ")]
    return line


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("/dev/full", "/dev/full cannot be written: the disk is full"),
        ("{}/" + "n" * 256 + ".csv", "the name is too long"),
        ("{}/absent/o.csv", "/absent does not exist"),
        ("{}/t.csv/o.csv", "/o.csv cannot be written"),
        ("/proc/o.csv", "/proc/o.csv cannot be written"),
        ("/proc/o.parquet", "/proc/o.parquet cannot be written"),
    ],
)
@pytest.mark.parametrize("verb", ["detect", "impute", "embed"])
def test_an_output_that_cannot_be_written_is_one_line_with_path_and_cause(
    place, capfd, verb, out, reason
):
    said = fault(capfd, verb, place / "m", place / "t.csv", "-o", out.format(place), "--force")
    assert reason in said


def test_a_name_as_long_as_the_disk_takes_is_written(place, tmp_path, capfd):
    out = tmp_path / ("n" * 251 + ".csv")
    assert run(["score", str(place / "m"), str(place / "t.csv"), "-o", str(out)]) == 0
    model = tmp_path / ("m" * 255)
    AnomalyDetector.load(str(place / "m")).save(str(model))
    AnomalyDetector.load(str(model)).save(str(model))
    assert sorted(p.name for p in tmp_path.iterdir()) == [model.name, out.name]


def piped(place, output):
    command = [
        sys.executable,
        "-m",
        "keyhole",
        "score",
        str(place / "m"),
        str(place / "t.csv"),
    ]
    return subprocess.run(
        [*command, "--quiet"], check=False, stdout=output, stderr=subprocess.PIPE, text=True
    )


def test_standard_output_that_is_full_is_one_line(place):
    """Takes seconds: a process of its own, whose standard output fails once more at its end."""
    with open("/dev/full", "w") as full:
        done = piped(place, full)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("keyhole: standard output cannot be written: the disk is full")
