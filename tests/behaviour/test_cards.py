"""What a code dimension's card says, and what it survives."""

import json

import numpy as np
import pandas as pd
import pytest

from keyhole import Autoencoder
from keyhole.cli import run
from keyhole.errors import DataError, SettingError
from keyhole.model.bottlenecks import FSQ, L1, Plain, TopK, Variational
from keyhole.tasks import Generator
from keyhole.tasks.cards import cards, lines
from keyhole.training import TrainingConfig


def table(rows=240):
    """Everything follows `a`, but for a constant and for noise; `b` and `kind` have gaps."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=rows)
    when = pd.Timestamp("2024-01-01") + pd.to_timedelta((30 * a).round(), unit="D")
    frame = pd.DataFrame(
        {
            "a": 50 + 10 * a, "b": 100 - 5 * a + 0.1 * rng.normal(size=rows),
            "n": rng.poisson(np.exp(1 + a)), "boolean": np.where(a > 0, "yes", "no"),
            "kind": np.where(a > 0.7, "high", np.where(a > -0.7, "mid", "low")),
            "when": when, "constant": 7.0, "noise": rng.normal(size=rows),
        }
    )  # fmt: skip
    frame.loc[::9, "b"] = np.nan
    frame.loc[::7, "kind"] = None
    return frame


def fitted(bottleneck, frame=None, steps=150):
    training = TrainingConfig(steps=steps, members=2)
    model = Autoencoder(bottleneck, training=training, random_state=0)
    return model.fit(table() if frame is None else frame)


@pytest.fixture(scope="module")
def model():
    return fitted(Plain(1), steps=250)


def test_the_one_code_of_a_table_that_one_column_drives_names_what_follows_it(model):
    (card,) = cards(model)
    assert (card.name, card.variance, card.nats, card.moves) == ("code_0", 1.0, None, True)
    assert cards(model) == [card]  # the same every time
    moved = {effect.column: effect for effect in card.drives}
    assert {"a", "when", "b"} <= set(moved)
    assert not {"constant", "noise"} & set(moved)
    assert (
        np.sign(moved["a"].change) == np.sign(moved["when"].change) == -np.sign(moved["b"].change)
    )
    # What a normal does from its 10 % to its 90 % quantile, 2.56 standard deviations, as the model
    # has learned it: it is asked for the rows of these codes alone.
    codes = np.quantile(model.transform(table())["code_0"], [0.1, 0.9])
    ends = model.inverse_transform(codes[:, None].astype(np.float32))
    assert moved["a"].change == pytest.approx(ends["a"][1] - ends["a"][0], rel=0.02)
    assert moved["b"].change == pytest.approx(ends["b"][1] - ends["b"][0], rel=0.02)
    gone = (ends["when"][1] - ends["when"][0]).total_seconds()
    assert moved["when"].change == pytest.approx(gone, rel=0.02)
    assert abs(moved["a"].change) == pytest.approx(25.6, rel=0.4)
    assert card.monotone
    assert "constant" not in {name for name, _ in card.driven_by}
    assert 0.9 < card.stability <= 1


def test_levels_are_told_by_the_one_whose_share_rises_most(model):
    (card,) = cards(model)
    moved = {effect.column: effect for effect in card.drives}
    up = moved["a"].change > 0
    level = moved.get("kind") or moved["boolean"]
    assert level.level in ({"high", "yes"} if up else {"low", "no"})
    assert (level.unit, 60 < level.change <= 100) == ("points", True)
    assert str(level).startswith(f"{level.column}: {level.level} +")


def test_examples_are_rows_at_the_ends_and_the_middle(model):
    (card,) = cards(model)
    low, middle, high = (float(row["a"]) for row in card.examples)
    assert min(low, high) < 38 < middle < 62 < max(low, high)


def test_a_card_reads_as_lines_and_as_json(model):
    (card,) = cards(model)
    said = lines(card)
    assert said[0].startswith("code_0: 100% of the code's variance; correlation with its match in")
    assert said[1].startswith("drives     ")
    assert "(monotone)" in said[1]
    assert [line[:7] for line in said[3:]] == ["at   5%", "at  50%", "at  95%"]
    assert json.loads(json.dumps(card.to_json(), allow_nan=False))["name"] == "code_0"


def test_a_dimension_that_never_moves_says_so_and_comes_last():
    model = fitted(Plain(3), steps=20)
    model.model_.network.bottleneck.to_code.weight.data[0, 1] = 0
    *_, still = cards(model)
    assert (still.name, still.moves, still.variance, still.stability) == ("code_1", False, 0, None)
    assert (still.drives, still.driven_by, still.examples) == ([], [], [])
    assert lines(still) == ["code_1: the same on every row, so it holds no information"]


def test_a_code_of_which_nothing_moves_is_told_dimension_by_dimension():
    model = fitted(Plain(2), steps=5)
    model.model_.network.bottleneck.to_code.weight.data[:] = 0
    assert [lines(card)[0].partition(",")[0] for card in cards(model)] == [
        "code_0: the same on every row", "code_1: the same on every row"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "bottleneck",
    [FSQ(2), TopK(12, k=3), L1(6, weight=1e-3), Variational(3)],
    ids=lambda part: part.kind,
)
def test_shares_sum_to_one_and_stability_lies_between_zero_and_one(bottleneck):
    found = cards(fitted(bottleneck, steps=40))
    assert sum(card.variance for card in found) == pytest.approx(1)
    weights = [card.variance if card.nats is None else card.nats for card in found if card.moves]
    assert weights == sorted(weights, reverse=True)
    moving = [card for card in found if card.moves]
    assert all(0 <= card.stability <= 1 for card in moving)
    assert any(card.drives for card in moving)
    if bottleneck.kind == "variational":
        assert sum(card.nats for card in found) == pytest.approx(1)


def test_two_remembered_rows_are_enough_and_one_net_has_no_stability():
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": ["u", "v"]})
    assert cards(fitted(Plain(1), frame, steps=5))[0].examples
    model = Autoencoder(Plain(1), training=TrainingConfig(5, members=1), random_state=0).fit(
        table()
    )
    assert cards(model)[0].stability is None


def test_rows_may_be_given_and_are_asked_for_where_none_are_remembered(model, tmp_path):
    model.save(str(tmp_path / "alone"))
    alone = Autoencoder.load(str(tmp_path / "alone"))
    with pytest.raises(SettingError, match=r"no reference rows.*give rows, cards\(model, rows\)"):
        cards(alone)
    assert cards(alone, table())[0].drives[0].column == cards(model)[0].drives[0].column
    with pytest.raises(DataError, match="at least 2 rows"):
        cards(alone, table()[:1])


def test_most_limits_the_cards_to_the_strongest():
    model = fitted(Plain(4), steps=20)
    assert cards(model, most=2) == cards(model)[:2]


def test_inspect_prints_the_cards_and_why_a_code_is_as_wide_as_it_is(tmp_path, capfd):
    made = Autoencoder(Plain("auto"), training=TrainingConfig(30, members=1), random_state=0)
    generator = Generator(made, random_state=0).fit(table())
    generator.save(str(tmp_path / "m"))
    assert run(["inspect", str(tmp_path / "m")]) == 0
    out = capfd.readouterr().out
    choice = generator.autoencoder_.model_.width_choice
    assert f"width     {choice.why}" in out
    assert f"1 {choice.nats[0]:.2f}, 2 {choice.nats[1]:.2f}" in out
    assert f"held-out error at widths 1 to {choice.start}" in out
    assert "prior     mixture, fitted to the codes of " in out
    assert run(["inspect", str(tmp_path / "m"), "--codes"]) == 0
    out = capfd.readouterr().out
    assert out.count("of the code's variance") + out.count("the same on every row") == choice.width
    assert run(["inspect", str(tmp_path / "m"), "--codes", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert set(told) == {"about", "sections", "codes"}
    assert {card["name"] for card in told["codes"]} == {f"code_{i}" for i in range(choice.width)}


def test_inspect_without_remembered_rows_says_what_to_do(tmp_path, capfd):
    fitted(Plain(1), steps=5).save(str(tmp_path / "m"))
    assert run(["inspect", str(tmp_path / "m"), "--codes"]) == 2
    assert "has no reference rows to read its codes from" in capfd.readouterr().err
