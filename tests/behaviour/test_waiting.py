"""Who waits hears what is done; who weights rows by an array hears how it is done here."""

import time

import numpy as np
import pytest

from keyhole import AnomalyDetector, Autoencoder, Denoiser, Generator, Hints, Plan
from keyhole.cli import common, run
from keyhole.core.stages import spoke, spoken_stages, stage
from keyhole.errors import SettingError
from keyhole.sources.csv import CsvSource


def test_a_stage_that_says_nothing_is_spoken_for_again_and_again():
    heard = []
    with spoken_stages(lambda name, seconds: heard.append((name, seconds)), silence_s=0.3):
        stage("reading")
        time.sleep(0.8)
        stage("judging")
        time.sleep(0.8)
    assert (heard[0][0], heard[-1][0]) == ("reading", "judging")
    assert len(heard) >= 4
    assert all(0 <= seconds < 1 for _, seconds in heard)


def test_what_is_said_by_others_is_enough():
    heard = []
    with spoken_stages(lambda name, _: heard.append(name), silence_s=1.0):
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
    assert "s so far" in lines[0]


def test_quiet_stays_quiet(capsys):
    with common.waiting(common.Say(quiet=True)):
        stage("reading")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("make", [Autoencoder, AnomalyDetector, Generator, Denoiser])
def test_weights_as_an_array_are_refused_with_the_way_to_give_them(make, rng):
    x = rng.normal(size=(40, 3))
    with pytest.raises(SettingError, match=r"Hints\(weight='COLUMN'\).*--weight COLUMN"):
        make().fit(x, sample_weight=np.ones(40))


def test_the_way_that_is_named_works(rng):
    """Rows of weight zero are not there: a model learns nothing of the far ones."""
    x = np.concatenate([rng.normal(size=(200, 2)), rng.normal(size=(20, 2)) + 1e3])
    names, weights = ["a", "b", "w"], np.repeat([1.0, 0.0], [200, 20])
    import pyarrow as pa

    table = pa.table(dict(zip(names, [*x.T, weights], strict=True)))
    model = Autoencoder(plan=Plan(3), hints=Hints(weight="w"), random_state=0)
    assert model.fit(table).rows_ == 200
