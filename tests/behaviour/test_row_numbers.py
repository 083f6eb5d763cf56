"""A row has one number in every file, page and line of the command line: data rows from 1."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from keyhole import AnomalyDetector, Autoencoder, TrainingConfig
from keyhole.cli import run
from keyhole.report import write_report
from keyhole.report.rows import score_rows

ODD = 6  # the strange row, counted from 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A detector, and twenty rows of which one is strange, as CSV and Parquet."""
    folder = tmp_path_factory.mktemp("rows")
    load = np.random.default_rng(0).normal(size=400)
    rows = pd.DataFrame({"flow": load, "heat": 3 * load})
    model = Autoencoder(training=TrainingConfig(60, members=1), random_state=0)
    AnomalyDetector(model, false_alarm_rate=0.05).fit(rows).save(str(folder / "m.keyhole"))
    rows = rows.head(20)
    rows.loc[ODD - 1, "heat"] = 90.0
    rows.to_csv(folder / "new.csv", index=False)
    rows.to_parquet(folder / "new.parquet")
    return folder


def ask(capfd, *arguments: object) -> str:
    """What a command writes to standard output."""
    assert run([str(a) for a in arguments]) == 0
    return capfd.readouterr().out


@pytest.mark.parametrize("name", ["new.csv", "new.parquet"])
def test_every_output_of_detect_and_explain_numbers_the_strange_row_alike(folder, capfd, name):
    model, data = folder / "m.keyhole", folder / name
    for ending in ("csv", "jsonl", "parquet"):
        ask(capfd, "detect", model, data, "-o", folder / f"out.{ending}", "--force")
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    for table in (
        pd.read_csv(folder / "out.csv"),
        pq.read_table(folder / "out.parquet").to_pandas(),
        pd.DataFrame(lines),
    ):
        assert table["row"].tolist() == list(range(1, 21))
        assert table["row"][table["anomaly_score"].idxmax()] == ODD
    explained = ask(capfd, "explain", model, data, "--row", ODD)
    assert explained.startswith(f"row {ODD}: alarm, anomaly score")
    assert json.loads(ask(capfd, "explain", model, data, "--row", ODD, "--json"))["row"] == ODD


def test_a_page_numbers_rows_as_files_do_and_python_labels_them_by_the_index(folder):
    detector = AnomalyDetector.load(str(folder / "m.keyhole"))
    rows = pd.read_csv(folder / "new.csv").set_index(pd.Index(range(100, 120)))
    answer = detector.answer(rows)
    place = answer.strongest(1)[0]
    assert (place, answer.rows[place], answer.name(place)) == (ODD - 1, 105, "index 105")
    assert answer.to_frame()["anomaly_score"].idxmax() == 105
    asked = score_rows(detector, rows)
    assert asked.ids[asked.strongest(1)[0]] == f"row {ODD}"
    write_report(str(folder / "page.html"), detector.autoencoder_, asked)
    assert f"row {ODD}" in (folder / "page.html").read_text()
