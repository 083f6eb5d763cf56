"""Summaries of benchmarks on entries whose figures are worked by hand."""

import json

import numpy as np
import pytest

from benchmarks import anomaly, anomaly_made, leads, table

# keyhole minus A: .1 and -.2; keyhole minus B: .05 and .2.
AUROC = {"keyhole": (0.9, 0.7), "A": (0.8, 0.9), "B": (0.85, 0.5)}


def entries_of(auroc=AUROC):
    """An entry a method and set, with an AP a tenth below the AUROC; None is a failed fit."""
    return [
        {"set": f"set {place}", "protocol": "clean", "seed": 0, "method": method}
        | ({"failed": ""} if value is None else figures(value))
        for method, values in auroc.items()
        for place, value in enumerate(values)
    ]


def figures(auroc):
    return {"auroc": auroc, "ap": auroc - 0.1, "cpu_seconds": 1.0}


def test_the_best_peer_is_chosen_on_the_measured_half_or_on_the_other():
    """Of two sets, B is best on the first (lead .05) and A on the second (lead -.2)."""
    auroc, ap = leads.halves(entries_of(), "clean")
    first = auroc["ahead"]  # the share of splits that measure the first set
    assert 0.35 < first < 0.65
    assert auroc["lead"] == pytest.approx(first * 0.05 - (1 - first) * 0.2)
    assert auroc["lead_other"] == pytest.approx(first * 0.1 + (1 - first) * 0.2)
    assert auroc["ahead_other"] == 1
    assert not auroc["met"]
    assert ap["lead"] == pytest.approx(auroc["lead"])  # the same differences
    times = sorted([f"A {200 - round(200 * first)}", f"B {round(200 * first)}"])
    assert sorted(auroc["best"].split(", ")) == times
    assert auroc["best_all"] == "A 200"  # mean leads are -.05 and .125
    assert auroc["lead_all"] == pytest.approx(first * 0.1 - (1 - first) * 0.2)
    assert auroc["ahead_all"] == first


def test_a_lead_on_every_half_meets_the_bars():
    auroc, _ = leads.halves(entries_of({"keyhole": (0.9, 0.8), "A": (0.89, 0.79)}), "clean")
    assert auroc["lead"] == pytest.approx(0.01)
    assert auroc["ahead"] == 1
    assert auroc["met"]
    short = leads.halves(entries_of({"keyhole": (0.9, 0.8), "A": (0.892, 0.792)}), "clean")
    assert [line["met"] for line in short] == [True, False]  # .008 is below the bar of AP


def test_the_bootstrap_draws_sets_in_pairs():
    """Means of two draws of .1 and -.2 are .1, -.05 and -.2, with shares 1/4, 1/2 and 1/4."""
    to_a, to_b = leads.differences(entries_of(), "clean")
    assert (to_a["method"], to_b["method"]) == ("A", "B")  # the nearest first
    assert to_a["auroc"] == pytest.approx(-0.05)
    np.testing.assert_allclose(to_a["auroc_95"], [-0.2, 0.1])
    assert to_b["ap"] == pytest.approx(0.125)
    np.testing.assert_allclose(to_b["ap_95"], [0.05, 0.2])


def test_unfinished_sets_never_favour_keyhole():
    """A peer is compared on its own sets; keyhole has its peers' lowest figure where it failed."""
    failed = {"keyhole": (0.9, None), "A": (0.8, 0.9), "B": (None, 0.5)}
    to_a, to_b = leads.differences(entries_of(failed), "clean")
    assert (to_a["auroc"], to_a["sets"]) == (pytest.approx((0.1 - 0.4) / 2), 2)
    assert (to_b["auroc"], to_b["sets"]) == (pytest.approx(0), 1)
    assert len(leads.halves(entries_of(failed), "clean")) == 2


def test_only_seeds_and_sets_on_which_keyhole_ran_are_compared():
    other_seed = [e | {"seed": 1} | figures(0.1) for e in entries_of() if e["method"] != "keyhole"]
    other_set = [e | {"set": "another"} for e in other_seed]
    more = [*entries_of(), *other_seed, *other_set]
    assert leads.differences(more, "clean") == leads.differences(entries_of(), "clean")


def test_ranks_count_an_unfinished_set_as_last():
    lines = table.summary(entries_of(AUROC | {"B": (0.85, None)}), "clean")
    ranks = {line["method"]: (line["rank_auroc"], line["sets"]) for line in lines}
    assert ranks == {"keyhole": (1.5, 2), "A": (2, 2), "B": (2.5, 1)}


def test_a_killed_run_continues_from_what_it_wrote(tmp_path, monkeypatch):
    monkeypatch.setattr(anomaly, "RESULTS", tmp_path)
    fits = []
    monkeypatch.setattr(
        anomaly, "figures_of", lambda *fit: fits.append(fit[0].name) or figures(0.5)
    )
    first = {"set": "a", "protocol": "clean", "seed": 0, "method": "KNN"} | figures(0.9)
    (tmp_path / "some.part").write_text(json.dumps(first) + "\n")
    labelled = [anomaly.LabelledTable(name, lambda seed: seed) for name in "ab"]
    entries = anomaly.collect("some", labelled, 1, ["KNN"])
    assert fits == ["a", "b", "b"]  # the first is there in one protocol
    assert entries[0] == first
    assert table.read(tmp_path / "some.json") == entries == table.merged([tmp_path / "some.json"])
    assert not (tmp_path / "some.part").exists()


@pytest.mark.parametrize("labelled", anomaly_made.tables(), ids=lambda labelled: labelled.name)
def test_a_generated_table_has_its_anomalies(labelled):
    values, labels = labelled.load(1)
    assert values.shape == (2_000, 12)
    assert np.isfinite(values).all()
    assert labels.sum() == 100
    np.testing.assert_array_equal(values, labelled.load(1)[0])
    assert not np.array_equal(values, labelled.load(2)[0])


def test_anomalies_are_of_their_kind():
    tables = {labelled.name: labelled.load(0) for labelled in anomaly_made.tables()}
    values, labels = tables["local/manifold"]
    normal, anomalies = values[labels == 0], values[labels == 1]
    assert (anomalies.std(0) / normal.std(0)).mean() < 1.3  # near the surface
    values, labels = tables["cluster/copula"]
    normal, anomalies = values[labels == 0], values[labels == 1]
    assert (anomalies.std(0) / normal.std(0)).mean() == pytest.approx(0.1, abs=0.02)
    values, labels = tables["dependency/mixture"]
    normal, anomalies = (np.corrcoef(values[labels == level].T) for level in (0, 1))
    off_diagonal = ~np.eye(12, dtype=bool)
    assert abs(normal[off_diagonal]).mean() > 2 * abs(anomalies[off_diagonal]).mean()
