"""Alarms on the command line: contamination, segments, false ones, models that keep up."""

import io
import os
import sys

import numpy as np
import pandas as pd
import pytest

from keyhole import AnomalyDetector
from keyhole.cli import run


def rows(count, seed=0, shift=0.0):
    """A machine's load, two columns that follow it, and a label."""
    rng = np.random.default_rng(seed)
    load = rng.normal(size=count)
    flow = 10 + load + shift + 0.2 * rng.normal(size=count)
    frame = pd.DataFrame({"unit": [f"u{i}" for i in range(count)], "flow": flow})
    return frame.assign(
        heat=300 + 20 * load + 2 * rng.normal(size=count),
        machine=rng.choice(["m1", "m2"], count),
        bad=int(shift != 0),
    ).round(4)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Tables, and a model with segments of which a twentieth part is bad."""
    folder = tmp_path_factory.mktemp("alarms")
    train = pd.concat([rows(285), rows(15, 1, shift=30)])
    train.to_csv(folder / "train.csv", index=False)
    pd.concat([rows(380, 2), rows(20, 3, shift=90)]).to_csv(folder / "new.csv", index=False)
    rows(300, 4).to_csv(folder / "good.csv", index=False)
    rows(200, 5, shift=8).to_csv(folder / "other.csv", index=False)
    assert run([str(a) for a in fit(folder, folder / "m.keyhole", "--group", "machine")]) == 0
    return folder


def fit(folder, out, *rest):
    return ["fit", folder / "train.csv", "-o", out, "--id", "unit", "--exclude", "bad",
            "--steps", "20", "--false-alarm-rate", "0.05", "--no-report", *rest]  # fmt: skip


@pytest.fixture
def model(place, tmp_path):
    """A copy of the model, to be changed."""
    AnomalyDetector.load(str(place / "m.keyhole")).save(str(tmp_path / "m.keyhole"))
    return tmp_path / "m.keyhole"


def ask(capfd, *arguments):
    code = run([str(a) for a in arguments])
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    assert ".py" not in err
    return code, out, err


def test_fit_keeps_contamination_and_segment_and_tells_what_stands_apart(place, capfd, tmp_path):
    out = tmp_path / "q.keyhole"
    code, _, err = ask(capfd, *fit(place, out, "--contamination", "0.1", "--group", "machine"))
    assert code == 0
    kept = AnomalyDetector.load(str(out))
    assert (kept.contamination, kept.group) == (0.1, "machine")
    assert 0.05 <= kept.contamination_ < 0.09  # a few good rows stand apart too
    assert "names the group" in err
    assert "at most 5 % of normal rows" in err
    assert "calibrated on 300 rows" in err
    assert "are far from the others" in err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--contamination", "0.5"], "--contamination 0.5: write 'auto', 'none', or the share"),
        (["--contamination", "some"], "--contamination some: write 'auto', 'none', or the share"),
        (["--contamination", "nan"], "--contamination nan: write 'auto', 'none', or the share"),
        (["--group", "machin"], "did you mean 'machine'?"),
    ],
)
def test_a_wrong_hint_of_fit_is_one_line_and_writes_nothing(place, capfd, tmp_path, wrong, said):
    code, out, err = ask(capfd, *fit(place, tmp_path / "q.keyhole", *wrong))
    assert code == 2
    assert out == ""
    assert said in err
    assert sum(line.startswith("keyhole: ") for line in err.splitlines()) == 1
    assert os.listdir(tmp_path) == []


def test_detect_raises_alarms_together_where_a_share_of_false_ones_is_promised(
    place, capfd, tmp_path
):
    out = tmp_path / "alarms.csv"
    code, _, err = ask(capfd, "detect", place / "m.keyhole", place / "new.csv", "--fdr", "0.2",
                       "-o", out)  # fmt: skip
    assert code == 0
    found = pd.read_csv(out)
    assert list(found) == ["unit", "anomaly_score", "score_std", "p_value", "alarm", "reasons"]
    assert found["alarm"][380:].all()
    assert found["alarm"].sum() <= 30
    assert found["reasons"].notna().tolist() == found["alarm"].tolist()
    assert f"{found['alarm'].sum()} alarms in 400 rows" in err
    assert "at most 20 % of them are expected to be false" in err
    detector = AnomalyDetector.load(str(place / "m.keyhole"))
    wanted = detector.answer(pd.read_csv(place / "new.csv"), fdr=0.2).alarm
    np.testing.assert_array_equal(found["alarm"], wanted)


def test_detect_reads_standard_input_once_where_a_share_is_promised_and_a_page_is_written(
    place, capfd, monkeypatch, tmp_path
):
    _, wanted, _ = ask(capfd, "detect", place / "m.keyhole", place / "new.csv", "--fdr", "0.2")
    text = (place / "new.csv").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    page = tmp_path / "page.html"
    code, out, _ = ask(capfd, "detect", place / "m.keyhole", "-", "--fdr", "0.2", "--report", page)
    assert code == 0
    assert out == wanted
    assert "report on <bdi>standard input</bdi>" in page.read_text()
    assert f'<h1 id="answer-title">{out.count(",true,")} alarms in 400 rows' in page.read_text()
    assert out.count("\n") == 401


@pytest.mark.parametrize("wrong", ["0", "1", "-0.1", "nan", "x"])
def test_a_wrong_share_of_false_alarms_is_one_line_and_writes_nothing(
    place, capfd, tmp_path, wrong
):
    out = tmp_path / "alarms.csv"
    code, _, err = ask(capfd, "detect", place / "m.keyhole", place / "new.csv", "--fdr", wrong,
                       "-o", out)  # fmt: skip
    assert code == 2
    assert "must be above 0 and below 1" in err or "'x' is not a valid float" in err
    assert not out.exists()


def test_an_alarm_rate_too_small_is_refused_with_the_least_possible_and_writes_nothing(
    place, capfd, tmp_path
):
    out = tmp_path / "alarms.csv"
    code, _, err = ask(capfd, "detect", place / "m.keyhole", place / "new.csv",
                       "--false-alarm-rate", "1e-9", "-o", out)  # fmt: skip
    assert code == 2
    assert "1e-09 is too low for 300 calibration rows" in err
    assert "lowest possible rate is" in err
    assert not out.exists()


def test_alarms_raised_together_say_what_their_p_values_rest_on(place, capfd):
    code, _, err = ask(capfd, "detect", place / "m.keyhole", place / "new.csv", "--fdr", "0.2")
    assert code == 0
    assert "ranks among 300 calibration rows" in err or "extrapolated: 300" in err


def test_a_share_that_cannot_be_promised_is_a_line_and_no_alarm(place, capfd):
    code, out, err = ask(capfd, "detect", place / "m.keyhole", place / "good.csv", "--fdr", 1e-4)
    assert code == 0
    assert "with 300 calibration rows the lowest p-value is 0.0033" in err
    assert '"alarm"' in out
    assert ",true," not in out


def test_a_machine_never_met_is_said(place, capfd, tmp_path):
    pd.read_csv(place / "good.csv").assign(machine="m9").to_csv(tmp_path / "n.csv", index=False)
    code, _, err = ask(capfd, "detect", place / "m.keyhole", tmp_path / "n.csv")
    assert code == 0
    assert "unknown groups: 'm9'; their scores are scaled like the" in err
    pd.read_csv(place / "good.csv").drop(columns="machine").to_csv(tmp_path / "x.csv", index=False)
    code, _, err = ask(capfd, "detect", place / "m.keyhole", tmp_path / "x.csv")
    assert code == 2
    assert "'machine', which the threshold of its group needs, is absent" in err


def test_score_gives_a_log_likelihood_a_row(place, capfd):
    code, out, err = ask(capfd, "score", place / "m.keyhole", place / "good.csv")
    assert code == 0
    found = pd.read_csv(io.StringIO(out))
    assert list(found) == ["log_likelihood"]
    model = AnomalyDetector.load(str(place / "m.keyhole")).autoencoder_
    wanted = model.score_samples(pd.read_csv(place / "good.csv"))
    np.testing.assert_allclose(found["log_likelihood"], wanted, rtol=1e-5)
    assert "300 rows" in err


def test_update_takes_rows_in_and_the_model_in_place_keeps_up(place, capfd, model):
    def alarms():
        _, out, _ = ask(capfd, "detect", model, place / "other.csv")
        return pd.read_csv(io.StringIO(out))["alarm"].mean()

    before = alarms()
    code, out, err = ask(capfd, "update", model, place / "other.csv")
    assert code == 0
    assert out == ""
    assert "200 rows added to 300 earlier ones" in err
    assert "calibrated on 500 rows" in err
    assert f"wrote     {model}" in err
    assert before > 0.95
    assert alarms() < 0.1


def test_update_writes_beside_the_model_where_it_is_told_to(place, capfd, model, tmp_path):
    out = tmp_path / "n.keyhole"
    before = model.read_bytes()
    assert ask(capfd, "update", model, place / "good.csv", "-o", out)[0] == 0
    assert model.read_bytes() == before
    assert AnomalyDetector.load(str(out)).scorer_.rows == 600
    code, _, err = ask(capfd, "update", model, place / "good.csv", "-o", out)
    assert code == 2
    assert "exists already" in err
    assert ask(capfd, "update", model, place / "good.csv", "-o", out, "--force")[0] == 0


def test_calibrate_promises_on_other_rows(place, capfd, model):
    spoilt = AnomalyDetector.load(str(model))
    code, _, err = ask(capfd, "calibrate", model, place / "good.csv")
    assert code == 0
    assert "calibrated on 300 rows" in err
    good = AnomalyDetector.load(str(model))
    assert good.offset_ > spoilt.offset_  # the bad rows of training no longer calibrate
    assert (good.p_value(rows(1_000, 9)) <= 0.05).mean() == pytest.approx(0.05, abs=0.035)


def test_calibrate_with_labels_leaves_anomalies_out_and_sets_the_rate_that_suits_them(
    place, capfd, model
):
    code, _, err = ask(capfd, "calibrate", model, place / "new.csv", "--label", "bad")
    assert code == 0
    assert "which fits 20 labelled anomalies best" in err
    assert "calibrated on 380 rows" in err
    kept = AnomalyDetector.load(str(model))
    assert kept.false_alarm_rate < 0.05
    alarms = kept.predict(pd.read_csv(place / "new.csv")) == -1
    assert alarms[380:].all()
    assert alarms[:380].sum() <= 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["calibrate", "good.csv", "--label", "bat"], "did you mean 'bad'?"),
        (["calibrate", "good.csv", "--label", "unit"], "300 different values"),
        (["calibrate", "other.csv", "--label", "bad"], "no row is left to calibrate on"),
        (["calibrate", "absent.csv"], "absent.csv"),
        (["update", "absent.csv"], "absent.csv"),
        (["update", "empty.csv"], "empty.csv holds 0 sample(s): a minimum of 1 is required"),
    ],
)  # fmt: skip
def test_a_fault_of_update_or_calibrate_is_one_line_and_the_model_stays(
    place, capfd, model, arguments, said
):
    (place / "empty.csv").write_text("unit,flow,heat,machine\n")
    before = model.read_bytes()
    verb, data, *rest = arguments
    code, out, err = ask(capfd, verb, model, place / data, *rest)
    assert code == 2
    assert out == ""
    assert said in err
    assert sum(line.startswith("keyhole: ") for line in err.splitlines()) == 1
    assert model.read_bytes() == before


def test_inspect_says_what_is_promised_and_what_stands_apart(place, capfd):
    code, out, _ = ask(capfd, "inspect", place / "m.keyhole")
    assert code == 0
    assert "at most 5 % of normal rows" in out
    assert "calibrated on 300 rows" in out


@pytest.mark.parametrize("verb", ["update", "calibrate"])
def test_a_header_without_rows_changes_no_model(place, capfd, model, tmp_path, verb):
    rows(0).to_csv(tmp_path / "none.csv", index=False)
    before = model.read_bytes()
    label = ["--label", "bad"] if verb == "calibrate" else []
    code, _, err = ask(capfd, verb, model, tmp_path / "none.csv", *label)
    assert code == 2
    assert "none.csv holds 0 sample(s)" in err
    assert "fault of keyhole's own" not in err
    assert model.read_bytes() == before
