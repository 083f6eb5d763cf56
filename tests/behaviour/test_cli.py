"""What a user types, and what they see."""

import json
import os
import subprocess
import sys

import click
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from keyhole.cli import cli, run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, and a model fitted by the command line."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    load = rng.normal(size=300)
    rows = pd.DataFrame(
        {
            "card": [f"c{i}" for i in range(300)],
            "amount": np.exp(load).round(2),
            "hours": (load * 3 + 12).round(1),
            "kind": np.where(load > 0, "web", "shop"),
            "fraud": 0,
        }
    )
    rows.to_csv(folder / "train.csv", index=False)
    rows.loc[5, ["amount", "hours", "fraud"]] = [900.0, 0.5, 1]
    rows.loc[9, "hours"] = np.nan
    rows.to_csv(folder / "new.csv", index=False)
    rows.to_parquet(folder / "new.parquet")
    code = run(
        ["fit", str(folder / "train.csv"), "-o", str(folder / "m.keyhole"), "--id", "card",
         "--exclude", "fraud", "--steps", "200", "--false-alarm-rate", "0.05", "--quiet"]
    )  # fmt: skip
    assert code == 0
    return folder


def ask(capfd, *arguments: object) -> tuple[int, str, str]:
    code = run([str(a) for a in arguments])
    out, err = capfd.readouterr()
    return code, out, err


def test_fit_shows_what_it_made_of_the_columns_and_how_far_to_trust_the_model(place, capfd):
    code, _, err = ask(capfd, "fit", place / "train.csv", "-o", place / "n.keyhole",
                       "--steps", "30", "--no-report")  # fmt: skip
    assert code == 0
    assert "columns   3 numbers, 1 ignored, 1 boolean (--verbose shows each)" in err
    assert "card  ignored   nearly every row has its own level: an identifier" in err
    assert "two texts" not in err
    assert "verdict " in err
    assert "about" in err


def test_fit_shows_the_kind_of_every_column_if_verbose(place, capfd):
    _, _, err = ask(capfd, "fit", place / "train.csv", "-o", place / "v.keyhole",
                    "--steps", "2", "--no-report", "--verbose")  # fmt: skip
    assert "columns   3 numbers, 1 ignored, 1 boolean\n" in err
    assert "kind    boolean   two texts" in err


def test_fit_writes_a_report_beside_the_model(place):
    page = (place / "m.report.html").read_text()
    assert "<html" in page
    assert len(page) < 1_000_000


@pytest.mark.parametrize("name", ["new.csv", "new.parquet"])
def test_detect_writes_rows_in_order_with_their_ids(place, capfd, name):
    out = place / f"{name}.alarms.csv"
    code, _, err = ask(capfd, "detect", place / "m.keyhole", place / name, "-o", out)
    assert code == 0
    found = pd.read_csv(out)
    assert found["card"].tolist() == [f"c{i}" for i in range(300)]
    assert found["alarm"][5]
    assert "amount = 900" in found["reasons"][5] or "hours = 0.5" in found["reasons"][5]
    assert "4 of 4" not in err
    assert "3 of 3 matched" in err


def test_csv_and_parquet_give_the_same_surprise(place, capfd):
    for name in ("new.csv", "new.parquet"):
        ask(
            capfd,
            "detect",
            place / "m.keyhole",
            place / name,
            "-o",
            place / f"{name}.pq",
            "--force",
        )
    one, two = (pq.read_table(place / f"{n}.pq").to_pandas() for n in ("new.csv", "new.parquet"))
    np.testing.assert_allclose(one["anomaly_score"], two["anomaly_score"], rtol=1e-5)


def test_alarms_exit_with_one_only_if_asked(place, capfd):
    code, out, _ = ask(capfd, "detect", place / "m.keyhole", place / "new.csv", "--fail-on-alarm")
    assert code == 1
    assert out.startswith('"card","anomaly_score","score_std","p_value","alarm","reasons"')
    assert ask(capfd, "detect", place / "m.keyhole", place / "new.csv")[0] == 0


def test_explain_names_the_row_by_number_or_by_id(place, capfd):
    _, by_row, _ = ask(capfd, "explain", place / "m.keyhole", place / "new.csv", "--row", 6)
    _, by_id, _ = ask(capfd, "explain", place / "m.keyhole", place / "new.csv", "--id", "c5")
    assert by_row == by_id
    assert by_row.startswith("card c5: alarm, anomaly score ")
    _, out, _ = ask(capfd, "explain", place / "m.keyhole", place / "new.csv", "--row", 6, "--json")
    assert json.loads(out)["row"] == 6


def test_impute_leaves_seen_cells_as_they_were_to_the_letter(place, capfd):
    out = place / "full.csv"
    code, _, _ = ask(capfd, "impute", place / "m.keyhole", place / "new.csv", "-o", out)
    assert code == 0
    before, after = (pd.read_csv(f, dtype=str) for f in (place / "new.csv", out))
    assert before["hours"].isna().sum() == 1
    assert not after["hours"].isna().any()
    pd.testing.assert_frame_equal(before.drop(9), after.drop(9))


def test_embed_and_reconstruct_give_a_line_a_row(place, capfd):
    for verb, first in (("embed", "code_0"), ("reconstruct", "amount")):
        out = place / f"{verb}.parquet"
        assert ask(capfd, verb, place / "m.keyhole", place / "new.csv", "-o", out)[0] == 0
        table = pq.read_table(out)
        assert table.num_rows == 300
        assert table.column_names[0] == first


def test_evaluate_prints_ranking_and_confusion(place, capfd):
    code, out, _ = ask(
        capfd, "evaluate", place / "m.keyhole", place / "new.csv", "--label", "fraud"
    )
    assert code == 0
    assert "AUROC 1.0000" in out
    assert "1 of 1 anomalies found, 0 missed" in out
    _, out, _ = ask(capfd, "evaluate", place / "m.keyhole", place / "new.csv", "--label", "fraud",
                    "--json")  # fmt: skip
    assert json.loads(out)["anomalies"] == 1


def test_inspect_says_what_the_model_is(place, capfd):
    code, out, _ = ask(capfd, "inspect", place / "m.keyhole")
    assert code == 0
    for said in (
        "300 rows x 5 columns",
        "verdict",
        "at most 5 % of normal rows",
        "excluded",
    ):
        assert said in out
    _, out, _ = ask(capfd, "inspect", place / "m.keyhole", "--json")
    assert set(json.loads(out)) == {"about", "sections"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["detect", "{}/no.keyhole", "{}/new.csv"], "no.keyhole does not exist"),
        (["detect", "{}/m.keyhole", "{}/new.cvs"], "did you mean {}/new.csv?"),
        (["detect", "{}/m.keyhole", "{}/new.csv", "-o", "{}/x.txt"], "unknown file extension"),
        (["detect", "{}/m.keyhole", "{}/new.csv", "-o", "{}/train.csv"], "exists already"),
        (["fit", "{}/train.csv", "-o", "{}/m.keyhole"], "exists already"),
        (["fit", "{}/train.csv", "-o", "{}/q.keyhole", "--exclude", "froud"],
         "did you mean 'fraud'?"),
        (["fit", "{}/train.csv", "-o", "{}/q.keyhole", "--bottleneck", "plan:width=3"],
         "there is no bottleneck"),
        (["explain", "{}/m.keyhole", "{}/new.csv", "--row", "301"], "it has 300 rows"),
        (["evaluate", "{}/m.keyhole", "{}/new.csv", "--label", "frau"], "did you mean 'fraud'?"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_that_says_what_to_do_and_exit_code_two(place, capfd, arguments, said):
    code, out, err = ask(capfd, *[a.format(place) for a in arguments])
    assert code == 2
    assert out == ""
    assert said.format(place) in err
    assert "Traceback" not in err
    faults = [line for line in err.splitlines() if line.startswith("keyhole: ")]
    assert len(faults) == 1


def test_a_column_renamed_at_scoring_shows_the_nearest_name(place, capfd):
    pd.read_csv(place / "new.csv").rename(columns={"amount": "amuont"}).to_csv(
        place / "renamed.csv", index=False
    )
    code, _, err = ask(capfd, "detect", place / "m.keyhole", place / "renamed.csv")
    assert code == 2
    assert "column 'amount', which this model needs, is absent; did you mean 'amuont'?" in err


def test_texts_that_a_spreadsheet_would_run_are_neutralised_and_numbers_untouched(place, capfd):
    rows = pd.read_csv(place / "new.csv").head(3)
    rows["card"] = ["=cmd()", "-3.5", "@x"]
    rows["hours"] = [-1.0, 2.0, 3.0]
    rows.to_parquet(place / "hostile.parquet")
    _, out, _ = ask(capfd, "impute", place / "m.keyhole", place / "hostile.parquet")
    cells = [line.replace('"', "").split(",") for line in out.splitlines()]
    assert [row[0] for row in cells[1:]] == ["'=cmd()", "-3.5", "'@x"]
    assert cells[1][2] == "-1"
    rows.to_csv(place / "hostile.csv", index=False)  # one's own text comes back to the byte
    _, out, _ = ask(capfd, "impute", place / "m.keyhole", place / "hostile.csv")
    assert out.splitlines()[1].startswith("=cmd(),")


def test_standard_input_and_output_are_a_dash(place):
    text = (place / "new.csv").read_bytes()
    command = [
        sys.executable,
        "-m",
        "keyhole",
        "detect",
        str(place / "m.keyhole"),
        "-",
        "--json",
    ]
    done = subprocess.run(command, input=text, capture_output=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 300
    assert lines[5]["alarm"] is True


def test_a_run_that_was_killed_does_only_the_parts_that_are_missing(place, monkeypatch):
    from keyhole import Autoencoder
    from keyhole.data import open_source
    from keyhole.jobs import answer_file, files
    from keyhole.tasks import Embed

    monkeypatch.setattr(files, "PART_ROWS", 100)
    rows = pd.read_parquet(place / "new.parquet")
    rows.to_parquet(place / "groups.parquet", row_group_size=50)
    task = Embed(Autoencoder.load(str(place / "m.keyhole")))
    done: list[int] = []

    def answer(block, start, last=10_000):
        if start >= last:
            raise KeyboardInterrupt
        done.append(start)
        return task.table(block, start)

    out = str(place / "parts.parquet")
    with pytest.raises(KeyboardInterrupt):
        answer_file(
            lambda b, s: answer(b, s, 200),
            open_source(str(place / "groups.parquet")),
            out,
            chunk=50,
        )
    assert not os.path.exists(out)
    assert done == [0, 50, 100, 150]
    answer_file(answer, open_source(str(place / "groups.parquet")), out, chunk=50)
    assert done == [0, 50, 100, 150, 200, 250]
    whole = task.answer(rows).to_numpy()
    np.testing.assert_allclose(
        pq.read_table(out).to_pandas().to_numpy(), whole, rtol=1e-4, atol=1e-5
    )


def test_help_is_there_for_every_command_without_loading_torch():
    slow = {"torch", "numpy", "pyarrow", "sklearn"}
    code = "import sys; from keyhole.cli import run; run(['--help']); run(['embed', '--help']); "
    code += f"print(sorted({slow!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name in cli.list_commands(click.Context(cli)):
        assert f"\n  {name}" in done.stdout


def test_few_rows_say_that_nobody_can_tell_whether_they_look_alike(place, capfd):
    pd.read_csv(place / "new.csv").head(2).to_csv(place / "two.csv", index=False)
    _, _, err = ask(capfd, "detect", place / "m.keyhole", place / "two.csv")
    assert "2 rows are too few to compare" in err


@pytest.mark.parametrize("verb", ["detect", "evaluate"])
def test_an_alarm_rate_that_is_none_is_one_line(place, capfd, verb):
    rest = ["--label", "fraud"] if verb == "evaluate" else []
    code, _, err = ask(
        capfd, verb, place / "m.keyhole", place / "new.csv", *rest, "--false-alarm-rate", 2
    )
    assert code == 2
    assert "--false-alarm-rate 2.0: it must be above 0 and below 1" in err


def test_a_rate_that_the_rows_cannot_promise_is_a_line_and_no_trace_of_python(place, capfd):
    rest = ["--label", "fraud", "--false-alarm-rate", 1e-9]
    code, _, err = ask(capfd, "evaluate", place / "m.keyhole", place / "new.csv", *rest)
    assert code == 2
    assert "a false alarm rate of 1e-09 is too low for 300 calibration rows" in err
    assert ".py" not in err


def test_a_file_without_rows_leaves_earlier_answers_as_they_were(place, capsys):
    (place / "header.csv").write_text((place / "new.csv").read_text().splitlines()[0] + "\n")
    earlier = place / "earlier.csv"
    earlier.write_text("answers\n")
    command = ["detect", str(place / "m.keyhole"), str(place / "header.csv"), "-o", str(earlier)]
    assert run([*command, "--force"]) == 2
    assert "no rows" in capsys.readouterr().err
    assert earlier.read_text() == "answers\n"
