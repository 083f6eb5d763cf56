"""One strange cell in a row: an alarm, whatever its column's kind and however many columns."""

import numpy as np
import pandas as pd
import pytest
import torch

from keyhole import AnomalyDetector, Autoencoder, TrainingConfig
from keyhole.autoencoder.input_validation import blocks_of
from keyhole.core.layout import Layout, Slot
from keyhole.core.records import Batch
from keyhole.tasks.detect.single_values import Outliers, Tails

START = pd.Timestamp("2026-01-01")


def draw(rows, seed=0):
    """A column of each kind, none of which tells of another."""
    rng = np.random.default_rng(seed)
    amount = np.exp(rng.normal(size=rows))
    return pd.DataFrame(
        {
            "normal": rng.normal(size=rows),
            "share": rng.random(rows),
            "price": np.exp(rng.normal(size=rows)),
            "refund": np.where(rng.random(rows) < 0.7, 0.0, amount),
            "visits": rng.negative_binomial(2, 0.5, rows),
            "stars": rng.integers(1, 6, rows),
            "when": START + pd.to_timedelta(rng.integers(0, 180 * 86_400, rows), unit="s"),
            "city": rng.choice(["Oslo", "Rome", "Lima"], rows, p=[0.6, 0.3, 0.1]),
            "paid": rng.choice(["yes", "no"], rows, p=[0.2, 0.8]),
            "constant": np.full(rows, 3.0),
        }
    )


def detector(X, **settings):
    """A detector after a few steps: no question here is about the net."""
    return AnomalyDetector(
        Autoencoder(training=TrainingConfig(10), random_state=0), **settings
    ).fit(X)


@pytest.fixture(scope="module")
def mixed():
    """A detector of two thousand usual rows; not to be changed."""
    return detector(draw(2_000))


STRANGE = {
    "normal": 12.0,
    "share": 2.5,
    "price": 5_000.0,
    "refund": 5_000.0,
    "visits": 60,
    "stars": 12,
    "when": START + pd.Timedelta(days=400),
    "city": "Paris",
    "paid": "perhaps",
    "constant": 4.0,
}


@pytest.mark.parametrize("column", STRANGE)
def test_a_value_far_beyond_its_column_is_an_alarm_and_named_first(mixed, column):
    rows = draw(40, 7)
    rows[column] = rows[column].astype(object) if column in ("city", "paid") else rows[column]
    rows.loc[:19, column] = STRANGE[column]
    answer = mixed.answer(rows, explain_rows="all")
    assert answer.alarm[:20].all()
    assert answer.alarm[20:].sum() <= 2
    assert [answer.reasons[row][0].column for row in range(20)] == [column] * 20


def test_a_value_far_below_its_column_is_an_alarm(mixed):
    rows = draw(10, 8)
    rows["normal"] = -12.0
    assert mixed.answer(rows).alarm.all()


def test_the_farther_out_a_value_is_the_more_surprising_is_its_row(mixed):
    rows = draw(1, 9).loc[[0] * 6].reset_index(drop=True)
    rows["visits"] = [30, 60, 120, 1_000, 10_000, 1_000_000]
    anomaly_score = -mixed.score_samples(rows)
    assert (np.diff(anomaly_score) > 0).all()


def test_one_strange_cell_among_sixty_columns_is_an_alarm():
    rng = np.random.default_rng(0)
    names = [f"c{i}" for i in range(60)]
    X = pd.DataFrame(rng.negative_binomial(2, 0.5, (2_000, 60)), columns=names)
    new = pd.DataFrame(rng.negative_binomial(2, 0.5, (30, 60)), columns=names)
    new.loc[:, "c7"] = 40
    assert detector(X).answer(new, explain_rows="none").alarm.all()


def test_long_tails_do_not_hide_a_short_one_nor_use_up_the_promise():
    rng = np.random.default_rng(0)
    long, fresh = (rng.standard_t(2, size=(rows, 20)) for rows in (3_000, 3_000))
    X, new = (np.hstack([t, rng.normal(size=(len(t), 1))]) for t in (long, fresh))
    found = detector(X)
    assert (found.predict(new) < 0).mean() == pytest.approx(0.01, abs=0.008)
    new[:50, 20] = 8.0
    assert (found.predict(new[:50]) < 0).mean() > 0.9


@pytest.mark.parametrize("rows", [200, 3_000])
def test_false_alarms_of_clean_mixed_rows_are_as_many_as_promised(rows):
    found = [
        (
            detector(draw(rows, seed), false_alarm_rate=0.05).predict(draw(2_000, 100 + seed)) < 0
        ).mean()
        for seed in range(3)
    ]
    assert np.mean(found) == pytest.approx(0.05, abs=0.025)


def test_new_levels_are_no_alarm_where_a_third_of_rows_has_one():
    rng = np.random.default_rng(0)

    def tickets(rows):  # half of the rows have a level that hardly any other row has
        rare = [f"t{i}" for i in rng.integers(0, 10**6, rows)]
        ticket = np.where(rng.random(rows) < 0.5, rare, "none")
        return pd.DataFrame({"ticket": ticket, "x": rng.normal(size=rows)})

    found = detector(tickets(3_000), false_alarm_rate=0.05)
    new = tickets(2_000)
    assert (found.predict(new) < 0).mean() == pytest.approx(0.05, abs=0.03)


def test_gaps_make_no_cell_strange(mixed):
    rows = draw(300, 11)
    for i, column in enumerate(rows):
        rows[column] = rows[column].astype(object).where(np.arange(300) % 10 != i, None)
    (judged,) = mixed.scorer_.scored_blocks(blocks_of(mixed.autoencoder_, rows))
    asked = judged.raw_scores
    assert (asked.tails.numpy()[~asked.observed.numpy()] == 0).all()
    assert (mixed.predict(rows) < 0).mean() < 0.04


def test_a_strange_row_alone_and_among_others_scores_the_same(mixed, tmp_path):
    rows = draw(300, 12)
    rows.loc[3, "visits"] = 70
    rows.loc[5, "price"] = 9_000.0
    together = mixed.score_samples(rows)
    alone = np.concatenate([mixed.score_samples(rows.iloc[[i]]) for i in range(8)])
    np.testing.assert_allclose(alone, together[:8], rtol=0, atol=1e-5)
    mixed.save(str(tmp_path / "m"))
    kept = AnomalyDetector.load(str(tmp_path / "m"))
    np.testing.assert_array_equal(kept.score_samples(rows), together)


def test_a_few_bad_training_rows_do_not_stretch_the_tail():
    X = draw(3_000)
    X.loc[:5, "visits"] = 40
    new = draw(20, 13)
    new["visits"] = 100
    assert detector(X).answer(new, explain_rows="none").alarm.all()


def test_rows_after_those_of_a_log_are_no_alarms_and_a_year_far_off_is():
    def log(rows, start, days, seed):
        rng = np.random.default_rng(seed)
        at = pd.Timestamp(start) + pd.to_timedelta(
            np.sort(rng.integers(0, days * 86_400, rows)), "s"
        )
        return pd.DataFrame({"at": at, "a": rng.normal(size=rows), "b": rng.normal(size=rows)})

    found = detector(log(2_000, "2026-01-01", 90, 0), false_alarm_rate=0.02)
    assert found.autoencoder_.model_.modality.reasons["at"].endswith("later ones are expected")
    later = log(1_000, "2026-04-01", 60, 1)
    assert found.answer(later, explain_rows="none").alarm.mean() < 0.05
    causes = found.answer(later, explain_rows="all").reasons.values()
    assert not any(cell.column == "at" and cell.stands_out for row in causes for cell in row)
    later.loc[5, "at"] = pd.Timestamp("2206-04-05")
    answer = found.answer(later)
    assert answer.alarm[5]
    assert answer.reasons[5][0].column == "at"


def test_counts_far_beyond_the_others_alarm_though_training_held_some(mixed):
    train = draw(4_000)
    bad = np.random.default_rng(1).choice(4_000, 12, replace=False)
    train.loc[bad, "visits"] = np.random.default_rng(2).integers(25, 60, 12)  # usual: up to 14
    found = detector(train, false_alarm_rate=0.01)
    new = draw(40, 13)
    new["visits"] = np.arange(40) + 30
    assert found.answer(new, explain_rows="none").alarm.all()
    assert found.answer(draw(2_000, 14), explain_rows="none").alarm.mean() < 0.02


# The tails themselves.


@pytest.mark.parametrize(
    ("sample", "value", "exact"),
    [
        (lambda rng: rng.exponential(size=50_000), 8.0, 8.0),
        (lambda rng: rng.normal(size=50_000), 4.0, 10.36),
        (lambda rng: rng.pareto(3, size=50_000) + 1, 15.0, 8.12),
        (lambda rng: rng.geometric(0.5, size=50_000) * 1.0, 12.0, 8.32),  # of values beyond 12
    ],
)
def test_a_tail_says_how_rare_a_value_is(sample, value, exact):
    x = sample(np.random.default_rng(0))[:, None]
    tail = Tails.fit(x, np.array([50_000.0]), np.array([False]))
    assert tail.cost(np.array([[value]]))[0, 0] == pytest.approx(exact, rel=0.12)


def test_beyond_a_range_that_ends_the_nats_rise_fast():
    x = np.random.default_rng(0).random((5_000, 1))
    tail = Tails.fit(x, np.array([5_000.0]), np.array([False]))
    inside, beyond = tail.cost(np.array([[0.999], [1.05]]))[:, 0]
    assert inside < 8
    assert beyond > 12


@pytest.mark.parametrize("rows", [0, 1, 3, 20])
def test_few_rows_make_no_tail_that_cries_out(rows):
    slots = [Slot("a", "number", "student_t"), Slot("b", "category", "categorical", levels=3)]
    layout = Layout.of(slots)

    def batch(n):
        numbers = torch.randn(n, 1, generator=torch.Generator().manual_seed(n))
        return Batch(numbers, torch.ones(n, 1, dtype=torch.int64), torch.ones(n, 2).bool())

    found = Outliers.of(batch(rows), layout).rarity(batch(50))
    assert found.cells.shape == (50, 2)
    assert torch.isfinite(found.row).all()
    assert float(found.row.max()) < 5.5


def test_flags_that_no_row_had_are_as_usual_in_new_rows_as_they_are_among_reference_rows():
    """Of many rare flags each row has some that no other row has: they say nothing."""
    flags, rows = 500, 400
    layout = Layout.of([Slot(f"f{i}", "flag", "bernoulli") for i in range(flags)])

    def batch(seed):
        rng = np.random.default_rng(seed)
        numbers = torch.from_numpy(rng.random((rows, flags)) < 1 / rows).float()
        return Batch(numbers, torch.zeros(rows, 0, dtype=torch.int64), numbers >= 0)

    reference, new = batch(0), batch(1)
    outliers = Outliers.of(reference, layout)
    never_had = (new.numbers.sum(0) > 0) & (reference.numbers.sum(0) == 0)
    assert never_had.sum() > 50
    among_reference = outliers.rarity(reference, torch.arange(rows)).row
    of_new = outliers.rarity(new).row
    assert float(of_new.max()) < 2
    shares = [float((nats > 0).double().mean()) for nats in (of_new, among_reference)]
    assert shares[0] == pytest.approx(shares[1], abs=0.1)
