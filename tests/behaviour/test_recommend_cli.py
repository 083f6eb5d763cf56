"""Recommenders on the command line: what a user types, and what they see."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from keyhole import Recommender
from keyhole.cli import run


def plays(users=60, items=30, seed=0):
    """Rows of users of two tastes, with counts and times."""
    rng = np.random.default_rng(seed)
    user, item = np.indices((users, items))
    user, item = np.nonzero(rng.random((users, items)) < np.where(user % 2 == item % 2, 0.4, 0.04))
    return pd.DataFrame({"user": user, "item": [f"{i:03d}" for i in item],
                         "plays": rng.integers(1, 9, len(user)),
                         "time": 1_700_000_000 + np.arange(len(user))})  # fmt: skip


def ask(capfd, *arguments):
    code = run([str(a) for a in arguments])
    out, err = capfd.readouterr()
    return code, out, err


def refused(capfd, *arguments):
    """The one line of an error; in front of it, click says how a command is used."""
    code, out, err = ask(capfd, *arguments)
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    *usage, line = err.strip().splitlines()
    assert not usage or (usage[0].startswith("Usage:") and line.startswith("Error: ")), err
    assert len(usage) <= 3, err
    return line


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, a recommender and a detector."""
    folder = tmp_path_factory.mktemp("recommend")
    rows = plays()
    rows.to_csv(folder / "plays.csv", index=False)
    rows.to_parquet(folder / "plays.parquet")
    later = plays(seed=4)
    later.to_csv(folder / "later.csv", index=False)
    rows[rows["user"] < 3].assign(user=lambda f: "new" + f["user"].astype(str)).to_csv(
        folder / "histories.csv", index=False
    )
    pd.DataFrame({"user": [3, 4, 5]}).to_csv(folder / "users.csv", index=False)
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(200, 3)), columns=["a", "b", "c"])
    table.to_csv(folder / "table.csv", index=False)
    for arguments in (
        ["plays.csv", "-o", "m.keyhole", "--for", "recommend", "--net", "linear:strength=5"],
        ["table.csv", "-o", "detector.keyhole", "--steps", "20"],
    ):
        data, flag, out, *others = arguments
        paths = [str(folder / data), flag, str(folder / out)]
        assert run(["fit", *paths, *others, "--no-report", "--quiet"]) == 0
    return folder


def test_fit_says_columns_data_model_and_verdict(place, capfd):
    out = place / "n.keyhole"
    code, _, err = ask(capfd, "fit", place / "plays.csv", "-o", out, "--for", "recommend",
                       "--net", "item_knn", "--above", 2, "--no-report")  # fmt: skip
    assert code == 0
    assert "user: user, item: item, value: plays, time: time" in err
    assert "rows with plays missing or not above 2 left out" in err
    assert "60 users and 30 items" in err
    assert "verdict" in err
    assert f"wrote     {out}" in err
    assert Recommender.load(out).fitted_.model.kind == "item_knn"
    assert refused(capfd, "fit", place / "plays.csv", "-o", out, "--for", "recommend",
                   "--no-report").count("--force") == 1  # fmt: skip


def test_csv_and_parquet_give_the_same_recommender(place, capfd):
    out = place / "p.keyhole"
    code, _, err = ask(capfd, "fit", place / "plays.parquet", "-o", out, "--for", "recommend",
                       "--net", "linear:strength=5", "--no-report", "--quiet")  # fmt: skip
    assert (code, err) == (0, "")
    one, two = (Recommender.load(place / name).recommend([3, 4]) for name in (out, "m.keyhole"))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_columns_are_named_by_options(place, capfd):
    plays().set_axis(["who", "what", "much", "at"], axis=1).to_csv(
        place / "named.csv", index=False
    )
    base = ["fit", place / "named.csv", "-o", place / "named.keyhole", "--for", "recommend",
            "--no-report", "--net", "popularity"]  # fmt: skip
    assert "--user COLUMN" in refused(capfd, *base)
    code, _, err = ask(capfd, *base, "--user", "who", "--item", "what", "--value", "much",
                       "--time", "at")  # fmt: skip
    assert code == 0
    assert "user: who, item: what, value: much, time: at" in err


def test_recommend_answers_known_users(place, capfd):
    code, out, err = ask(capfd, "recommend", place / "m.keyhole", "--user", 3, "--user", 4,
                         "-k", 2)  # fmt: skip
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == '"user","rank","item","score"'
    assert [line.split(",")[:2] for line in lines[1:]] == [["3", "1"], ["3", "2"],
                                                           ["4", "1"], ["4", "2"]]  # fmt: skip
    expected = Recommender.load(place / "m.keyhole").recommend([3, 4], k=2)
    assert [line.split(",")[2].strip('"') for line in lines[1:]] == expected["item"].tolist()


def test_recommend_answers_tables_of_users_and_of_histories(place, capfd):
    code, _, err = ask(capfd, "recommend", place / "m.keyhole", place / "users.csv", "-k", 3,
                       "-o", place / "top.csv")  # fmt: skip
    assert code == 0
    assert "top.csv" in err
    top = pd.read_csv(place / "top.csv", dtype={"item": str})
    assert top["user"].tolist() == [3] * 3 + [4] * 3 + [5] * 3
    assert top["rank"].tolist() == [1, 2, 3] * 3
    code, _, _ = ask(capfd, "recommend", place / "m.keyhole", place / "histories.csv", "-k", 30,
                     "-o", place / "new.parquet")  # fmt: skip
    assert code == 0
    new = pq.read_table(place / "new.parquet").to_pandas()
    known = Recommender.load(place / "m.keyhole").recommend([0, 1, 2], k=30)
    assert new["user"].tolist() == [f"new{user}" for user in known["user"]]
    assert new["item"].tolist() == known["item"].tolist()
    np.testing.assert_array_equal(new["score"], known["score"])


def test_recommend_writes_json_lines(place, capfd):
    code, out, _ = ask(capfd, "recommend", place / "m.keyhole", "--user", 3, "-k", 1, "--json")
    assert code == 0
    (row,) = [json.loads(line) for line in out.splitlines()]
    assert row["user"] == 3
    assert row["rank"] == 1
    assert set(row) == {"user", "rank", "item", "score"}


def test_recommend_allows_denies_and_includes_what_was_seen(place, capfd):
    def items(*options):
        code, out, _ = ask(capfd, "recommend", place / "m.keyhole", "--user", 3, "-k", 50,
                           *options, "--json")  # fmt: skip
        assert code == 0
        return [json.loads(line)["item"] for line in out.splitlines()]

    assert len(items("--include-seen")) == 30
    own = set(plays()["item"][plays()["user"] == 3])
    assert set(items()) == {f"{i:03d}" for i in range(30)} - own
    assert sorted(items("--include-seen", "--allow", "001", "--allow", "002")) == ["001", "002"]
    assert "001" not in items("--include-seen", "--deny", "001")


def test_an_unknown_user_gets_popular_items_and_a_warning(place, capfd):
    code, out, err = ask(capfd, "recommend", place / "m.keyhole", "--user", "nobody", "-k", 1)
    assert code == 0
    popular = plays()["item"].value_counts()
    assert out.splitlines()[1].startswith('"nobody",1,')
    assert popular[out.splitlines()[1].split(",")[2].strip('"')] == popular.max()
    assert "1 of 1 users are unknown, such as 'nobody'" in err


def test_a_user_without_an_item_left_gets_a_header_and_a_warning(place, capfd):
    code, out, err = ask(capfd, "recommend", place / "m.keyhole", "--user", 3, "--allow", "x")
    assert code == 0
    assert out.splitlines() == ['"user","rank","item","score"']
    assert "no item is left to recommend" in err


def test_embed_writes_vectors_of_items_or_of_users(place, capfd):
    code, out, _ = ask(capfd, "embed", place / "m.keyhole", "--items")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith('"item","embedding_0"')
    assert len(lines) == 31
    code, out, _ = ask(capfd, "embed", place / "m.keyhole", place / "users.csv")
    assert code == 0
    assert out.splitlines()[0].startswith('"user","embedding_0"')
    assert [line.split(",")[0] for line in out.splitlines()[1:]] == ["3", "4", "5"]


def test_evaluate_prints_measures_beside_baselines(place, capfd):
    code, out, err = ask(capfd, "evaluate", place / "m.keyhole", place / "later.csv")
    assert code == 0
    both = [set(zip(rows["user"], rows["item"], strict=True)) for rows in (plays(), plays(seed=4))]
    judged = len({user for user, _ in both[1] - both[0]})
    assert out.startswith(f"users     {judged} evaluated")
    for name in ("this model", "popularity", "item-kNN", "ndcg@100", "recall@20"):
        assert name in out
    assert "verdict" in err
    code, out, _ = ask(capfd, "evaluate", place / "m.keyhole", place / "later.csv", "--json")
    assert code == 0
    assert json.loads(out)["users"] == judged
    assert json.loads(out)["measures"]["this model"]["ndcg@100"][0] > 0.3


def test_update_adds_users_and_items(place, capfd):
    pd.DataFrame({"user": [900, 900], "item": ["001", "x1"], "plays": 1, "time": 1}).to_csv(
        place / "more.csv", index=False
    )
    out = place / "updated.keyhole"
    code, _, err = ask(capfd, "update", place / "m.keyhole", place / "more.csv", "-o", out)
    assert code == 0
    assert "2 pairs of users and items added to" in err
    assert "verdict" in err
    code, text, _ = ask(capfd, "recommend", out, "--user", 900, "-k", 50, "--include-seen")
    assert code == 0
    assert '"x1"' in text
    assert ask(capfd, "recommend", place / "m.keyhole", "--user", 900)[2].count("unknown") == 1
    assert "--force" in refused(capfd, "update", place / "m.keyhole", place / "more.csv",
                                "-o", out)  # fmt: skip
    assert ask(capfd, "update", out, place / "more.csv", "--quiet") == (0, "", "")


def test_inspect_says_what_the_model_is(place, capfd):
    code, out, _ = ask(capfd, "inspect", place / "m.keyhole")
    assert code == 0
    assert "60 users and 30 items" in out
    assert "parts     SolvedLinear(strength=5" in out
    assert "why       set by the user" in out
    assert "ndcg@100" in out
    code, out, _ = ask(capfd, "inspect", place / "m.keyhole", "--json")
    assert code == 0
    section = json.loads(out)["sections"]["recommend"]
    assert section["model"]["kind"] == "linear"
    assert section["columns"]["user"] == "user"


def test_a_recommender_of_standard_input(place, capfd, monkeypatch):
    import io
    import sys

    class Standard:
        buffer = io.BytesIO((place / "plays.csv").read_bytes())

    monkeypatch.setattr(sys, "stdin", Standard())
    code, _, err = ask(capfd, "fit", "-", "-o", place / "s.keyhole", "--for", "recommend",
                       "--net", "popularity", "--no-report")  # fmt: skip
    assert code == 0, err
    assert Recommender.load(place / "s.keyhole").fitted_.interactions.history.shape == (60, 30)


MISUSE = [
    (["recommend", "m.keyhole"], "give --user, or DATA"),
    (["recommend", "m.keyhole", "users.csv", "--user", "3"], "give --user, or DATA"),
    (["recommend", "detector.keyhole", "--user", "3"], "holds no recommender"),
    (["recommend", "detector.keyhole", "users.csv"], "holds no recommender"),
    (["recommend", "m.keyhole", "--user", "3", "-k", "0"], "-k"),
    (["recommend", "m.keyhole", "--user", "3", "-k", "2.5"], "-k"),
    (["recommend", "missing.keyhole", "--user", "3"], "missing.keyhole"),
    (["recommend", "m.keyhole", "missing.csv"], "missing.csv"),
    (["recommend", "m.keyhole", "table.csv"], "--user COLUMN"),
    (["recommend", "plays.csv", "--user", "3"], "plays.csv"),
    (["recommend", "m.keyhole", "--user", "3", "-o", "m.keyhole", "--force"], "m.keyhole"),
    (["embed", "m.keyhole"], "--items"),
    (["embed", "m.keyhole", "users.csv", "--items"], "--items"),
    (["embed", "detector.keyhole", "--items"], "--items is for recommenders"),
    (["embed", "detector.keyhole"], "DATA"),
    (["evaluate", "detector.keyhole", "table.csv"], "--label"),
    (["evaluate", "m.keyhole", "missing.csv"], "missing.csv"),
    (["evaluate", "m.keyhole", "plays.csv"], "no user can be evaluated"),
    (["evaluate", "m.keyhole", "later.csv", "--label", "plays"], "--label"),
    (["evaluate", "m.keyhole", "later.csv", "--false-alarm-rate", "0.1"], "--false-alarm-rate"),
    (["inspect", "m.keyhole", "--codes"], "--codes"),
    (["detect", "m.keyhole", "plays.csv"], "--for recommend"),
    (["score", "m.keyhole", "plays.csv"], "--for recommend"),
    (["explain", "m.keyhole", "plays.csv", "--row", "1"], "--for recommend"),
    (["calibrate", "m.keyhole", "plays.csv"], "--for recommend"),
    (["sample", "m.keyhole"], "--for recommend"),
    (["update", "m.keyhole", "missing.csv"], "missing.csv"),
    (["update", "missing.keyhole", "plays.csv"], "missing.keyhole"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), MISUSE, ids=str)
def test_misuse_is_one_line_with_exit_code_two(place, capfd, monkeypatch, arguments, message):
    monkeypatch.chdir(place)
    assert message in refused(capfd, *arguments)


FIT_MISUSE = [
    (["--for", "recommend,detect"], "--for"),
    (["--for", "recommend", "--for", "detect"], "fit it by itself"),
    (["--for", "recommend", "--for", "denoise"], "fit it by itself"),
    (["--for", "recommend", "--exclude", "plays"], "--exclude is for tables"),
    (["--for", "recommend", "--columns", "plays"], "--columns is for tables"),
    (["--for", "recommend", "--kind", "plays=number"], "--kind is for tables"),
    (["--for", "recommend", "--id", "user"], "--id is for tables"),
    (["--for", "recommend", "--group", "user"], "--group is for tables"),
    (["--for", "recommend", "--weight", "plays"], "--weight is for tables"),
    (["--for", "recommend", "--bottleneck", "plain"], "--bottleneck is for tables"),
    (["--for", "recommend", "--prior", "mixture"], "--prior"),
    (["--for", "recommend", "--head", "multinomial"], "--head"),
    (["--for", "recommend", "--corruption", "item_dropout"], "--corruption"),
    (["--for", "recommend", "--steps", "5"], "--steps"),
    (["--for", "recommend", "--batch", "5"], "--batch"),
    (["--for", "recommend", "--learning-rate", "0.1"], "--learning-rate"),
    (["--for", "recommend", "--time-budget", "60"], "--time-budget"),
    (["--for", "recommend", "--size", "8x8"], "--size"),
    (["--for", "recommend", "--validation", "time:time"], "--validation"),
    (["--for", "recommend", "--contamination", "0.1"], "--contamination"),
    (["--for", "recommend", "--false-alarm-rate", "0.1"], "--false-alarm-rate"),
    (["--for", "recommend", "--no-rules"], "--no-rules"),
    (["--for", "recommend", "--device", "cpu"], "--device is not for recommenders"),
    (["--for", "recommend", "--user", "x"], "'x'"),
    (["--for", "recommend", "--net", "x"], "choose from auto"),
    (["--for", "recommend", "--net", "linear:strength=-1"], "strength"),
    (["--user", "user"], "--user is for --for recommend"),
    (["--item", "item"], "--item is for --for recommend"),
    (["--above", "3"], "--above is for --for recommend"),
    (["--for", "denoise", "--item", "item"], "--item is for --for recommend"),
]


@pytest.mark.parametrize(("options", "message"), FIT_MISUSE, ids=str)
def test_misuse_of_fit_is_one_line_and_writes_nothing(place, capfd, options, message):
    out = place / "none.keyhole"
    assert message in refused(
        capfd, "fit", place / "plays.csv", "-o", out, "--no-report", "--quiet", *options
    )
    assert not out.exists()
