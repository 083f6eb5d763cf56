"""Two processes on one model or one output: nothing is lost, and each says what it waits for."""

import fcntl
import json
import os
import shutil
import signal
import threading
import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from benchmarks.kills import forked
from keyhole import AnomalyDetector, Autoencoder
from keyhole.cli import run
from keyhole.core.files import changing
from keyhole.errors import BundleError, FileError
from keyhole.jobs import files
from keyhole.tasks import impute
from keyhole.tasks.detect import counting
from keyhole.training import TrainingConfig


def rows(count, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=count)
    frame = pd.DataFrame({"a": a + shift, "b": 2 * a + 0.1 * rng.normal(size=count)})
    return frame.assign(c=rng.choice(["x", "y"], count))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Tables, and a model, not to be changed."""
    folder = tmp_path_factory.mktemp("races")
    for seed in (1, 2):
        rows(40, seed).to_csv(folder / f"new{seed}.csv", index=False)
    many = pd.concat([rows(100, 3), rows(20, 4, shift=40), rows(80, 5)])
    many.to_parquet(folder / "many.parquet", row_group_size=50)
    model = Autoencoder(training=TrainingConfig(steps=20), random_state=0)
    AnomalyDetector(model, false_alarm_rate=0.05).fit(rows(150, 0)).save(str(folder / "m"))
    return folder


@pytest.fixture
def place(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "p")
    return tmp_path / "p"


@pytest.mark.parametrize("verbs", [("update", "update"), ("update", "calibrate")])
def test_two_changes_of_one_model_at_once_are_both_in_it(place, verbs):
    pids = [
        forked(lambda v=verb, n=n: os._exit(run([v, f"{place}/m", f"{place}/new{n}.csv"])))
        for n, verb in enumerate(verbs, 1)
    ]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    met = AnomalyDetector.load(str(place / "m")).scorer_.rows
    assert met == 150 + 40 * verbs.count("update")
    assert sorted(p.name for p in place.iterdir() if p.name.startswith(".")) == []


def test_a_change_waits_for_another_and_says_so(place, capfd):
    done = threading.Event()

    def change():
        run(["update", f"{place}/m", f"{place}/new1.csv"])
        done.set()

    with changing(place / "m", lambda: None):
        thread = threading.Thread(target=change)
        thread.start()
        said, end = "", time.monotonic() + 30
        while "is changing" not in said and time.monotonic() < end:
            said += capfd.readouterr().err
        assert f"wait      another process is changing {place}/m" in said
        assert not done.wait(0.1)
    thread.join(30)
    assert done.is_set()


def test_a_model_that_changed_since_it_was_read_is_not_written_over(place):
    one, two = (AnomalyDetector.load(str(place / "m")) for _ in range(2))
    one.partial_fit(rows(40, 1)).save(str(place / "m"))
    two.partial_fit(rows(40, 2))
    with pytest.raises(FileError, match=r"m has changed since this model was read from it"):
        two.save(str(place / "m"))
    two.save(str(place / "other"))
    one.partial_fit(rows(40, 2)).save(str(place / "m"))  # its own save is no other's
    assert AnomalyDetector.load(str(place / "m")).scorer_.rows == 230
    assert AnomalyDetector.load(str(place / "other")).scorer_.rows == 190


def test_a_fit_onto_a_model_that_is_being_updated_is_not_lost(place):
    detector = AnomalyDetector.load(str(place / "m"))
    fresh = Autoencoder(training=TrainingConfig(steps=3), random_state=1).fit(rows(60, 9))
    AnomalyDetector.from_fitted(fresh, false_alarm_rate=0.1).save(str(place / "m"))
    with pytest.raises(FileError, match="has changed since"):
        detector.partial_fit(rows(40, 1)).save(str(place / "m"))
    assert AnomalyDetector.load(str(place / "m")).autoencoder_.model_.rows == 60


def test_a_link_to_a_model_is_followed_and_a_hard_link_is_a_file(place):
    (place / "latest").symlink_to(place / "m")
    os.link(place / "m", place / "hard")
    for name in ("latest", "hard"):
        assert AnomalyDetector.load(str(place / name)).autoencoder_.model_.rows == 150
    AnomalyDetector.load(str(place / "latest")).partial_fit(rows(40, 1)).save(place / "latest")
    assert (place / "latest").is_symlink()
    assert AnomalyDetector.load(str(place / "m")).scorer_.rows == 190
    assert AnomalyDetector.load(str(place / "hard")).scorer_.rows == 150  # is the old file
    (place / "nowhere").symlink_to(place / "absent")
    with pytest.raises(BundleError, match="nowhere does not exist"):
        AnomalyDetector.load(str(place / "nowhere"))


def test_a_model_whose_place_another_file_took_is_not_written_over(place):
    detector = AnomalyDetector.load(str(place / "m"))
    os.replace(place / "new1.csv", place / "m")
    with pytest.raises(FileError, match="m is not a keyhole model and would be lost"):
        detector.save(str(place / "m"))
    os.remove(place / "m")
    detector.save(str(place / "m"))  # where the old one was removed, nothing can be lost
    assert AnomalyDetector.load(str(place / "m")).scorer_.rows == 150


@pytest.fixture
def in_parts(monkeypatch):
    monkeypatch.setattr(files, "PART_ROWS", 50)


def detect(place, *rest):
    return run(
        ["detect", f"{place}/m", f"{place}/many.parquet", "-o", f"{place}/o.parquet", *rest]
    )


def test_a_resumed_run_counts_the_parts_of_the_run_that_was_killed(
    place, in_parts, capfd, monkeypatch
):
    assert detect(place, "--fail-on-alarm") == 1
    whole_run = capfd.readouterr().err
    alarms = int(np.sum(pq.read_table(place / "o.parquet")["alarm"].to_numpy()))
    assert alarms >= 20
    assert "pattern" in whole_run
    answers, blocks = pq.read_table(place / "o.parquet"), []
    os.remove(place / "o.parquet")
    answer_block = counting.Detecting.__call__

    def stopped(self, block, start):
        blocks.append(start)
        if start >= 150 and stops:
            raise KeyboardInterrupt
        return answer_block(self, block, start)

    monkeypatch.setattr(counting.Detecting, "__call__", stopped)
    stops = [True]
    assert detect(place) == 130
    assert (place / ".o.parquet.parts").is_dir()
    stops.clear()
    blocks.clear()
    capfd.readouterr()
    assert detect(place, "--fail-on-alarm") == 1
    assert blocks == [150]  # the only part that was missing holds few of the alarms
    assert capfd.readouterr().err == whole_run
    assert pq.read_table(place / "o.parquet").equals(answers)
    assert not (place / ".o.parquet.parts").exists()


def test_a_resumed_run_scores_only_the_missing_parts_though_alarms_depend_on_all_rows(
    place, in_parts, capfd, monkeypatch
):
    share = ("--fdr", "0.2")
    assert detect(place, *share) == 0
    whole_run, starts = capfd.readouterr().err, []
    answers = pq.read_table(place / "o.parquet")
    assert np.sum(answers["alarm"].to_numpy()) >= 20
    assert answers["reasons"].null_count == 200 - np.sum(answers["alarm"].to_numpy())
    os.remove(place / "o.parquet")
    draft, stops = counting.Detecting.draft, [True]

    def stopped(self, block, start):
        starts.append(start)
        if start >= 150 and stops:
            raise KeyboardInterrupt
        return draft(self, block, start)

    monkeypatch.setattr(counting.Detecting, "draft", stopped)
    assert detect(place, *share) == 130
    stops.clear()
    starts.clear()
    capfd.readouterr()
    assert detect(place, *share) == 0
    assert starts == [150]
    assert capfd.readouterr().err == whole_run
    assert pq.read_table(place / "o.parquet").equals(answers)
    assert not (place / ".o.parquet.parts").exists()


def test_a_resumed_run_with_a_page_reads_all_rows_again(place, in_parts, capfd, monkeypatch):
    draft, starts, stops = counting.Detecting.draft, [], [True]

    def stopped(self, block, start):
        starts.append(start)
        if start >= 150 and stops:
            raise KeyboardInterrupt
        return draft(self, block, start)

    monkeypatch.setattr(counting.Detecting, "draft", stopped)
    arguments = ("--fdr", "0.2", "--report", str(place / "page.html"))
    assert detect(place, *arguments) == 130
    stops.clear()
    starts.clear()
    assert detect(place, *arguments) == 0
    assert starts == [0, 50, 100, 150]
    assert "in 200 rows" in (place / "page.html").read_text()


def test_a_resumed_imputation_counts_the_cells_of_all_parts(place, in_parts, capfd, monkeypatch):
    frame = pd.read_parquet(place / "many.parquet").reset_index(drop=True)
    frame.loc[::3, "a"], frame.loc[120:, "c"] = np.nan, None
    frame.to_parquet(place / "gaps.parquet", row_group_size=50)
    arguments = ["impute", f"{place}/m", f"{place}/gaps.parquet", "-o", f"{place}/o.parquet"]
    assert run(arguments) == 0
    whole_run = capfd.readouterr().err
    assert "200 rows, 147 values filled: c 80, a 67" in whole_run
    answers = pq.read_table(place / "o.parquet")
    os.remove(place / "o.parquet")
    fill = impute.Filling.__call__

    def stopped(self, block, start):
        if start >= 100 and stops:
            raise KeyboardInterrupt
        return fill(self, block, start)

    monkeypatch.setattr(impute.Filling, "__call__", stopped)
    stops = [True]
    assert run(arguments) == 130
    stops.clear()
    capfd.readouterr()
    assert run(arguments) == 0
    assert capfd.readouterr().err == whole_run
    assert pq.read_table(place / "o.parquet").equals(answers)


def test_a_part_whose_counts_are_damaged_is_answered_again(place, in_parts, capfd):
    assert detect(place) == 0
    whole_run = capfd.readouterr().err
    os.remove(place / "o.parquet")
    with files.claimed(str(place / "o.parquet"), "of another run") as parts:
        parts.done(0, {"alarms": 7})
    assert detect(place) == 0
    assert capfd.readouterr().err == whole_run


def test_two_runs_into_one_output_say_who_writes_it(place, in_parts, capfd):
    folder = place / ".o.parquet.parts"
    with files.claimed(str(place / "o.parquet"), "of another run"):
        (folder / "000000.parquet").write_bytes(b"another's work")
        assert detect(place) == 2
        assert (folder / "000000.parquet").read_bytes() == b"another's work"
        since = json.loads((folder / "run.json").read_text())["since"]
    line = capfd.readouterr().err.splitlines()[-1]
    assert f"is being written by process {os.getpid()} since {since}: wait until it ends" in line
    assert detect(place) == 0  # what an ended run has left is no obstacle
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_lock_ends_with_its_process(tmp_path, number):
    pid = forked(lambda: _holds(tmp_path))
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    os.kill(pid, number)
    os.waitpid(pid, 0)
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(handle)


def _holds(folder):
    with changing(folder, lambda: None):
        (folder / "held").touch()
        time.sleep(60)
