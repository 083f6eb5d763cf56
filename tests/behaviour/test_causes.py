"""Causes that can be believed: what fits is no cause, and nine in ten values lie as expected."""

import numpy as np
import pandas as pd
import pytest

from keyhole import AnomalyDetector, Autoencoder, TrainingConfig
from keyhole.autoencoder.input_validation import open_rows
from keyhole.modalities.expected import UNKNOWN, Prediction, expected_levels
from keyhole.modalities.tabular.columns.number import Number
from keyhole.tasks.detect.answer import Reason, in_words
from keyhole.tasks.detect.calibration import beyond_chance
from keyhole.tasks.detect.expect import predict


def orders(rows, seed=0):
    """Income follows age, currency follows country, visits and day are free."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 60, rows).round()
    country = rng.choice(["FR", "DE", "US", "GB"], rows)
    money = {"FR": "EUR", "DE": "EUR", "US": "USD", "GB": "GBP"}
    return pd.DataFrame(
        {
            "age": age,
            "income": (1_000 * age + 1_500 * rng.normal(size=rows)).round(2),
            "visits": rng.poisson(20, rows),
            "country": country,
            "currency": pd.Series(country).map(money),
            "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 180, rows), "D"),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def detector():
    """Takes seconds: the net has to learn what goes together."""
    model = Autoencoder(training=TrainingConfig(600), random_state=0)
    return AnomalyDetector(model, false_alarm_rate=0.02).fit(orders(2_500))


def test_nine_in_ten_values_of_new_rows_lie_in_what_is_expected(detector):
    rows = orders(1_000, 1)
    scorer = detector.scorer_
    judged = scorer.score_block(next(open_rows(detector.autoencoder_, rows).blocks(1_000)))
    places, columns = np.arange(1_000), scorer.table.layout.columns
    for name in ("age", "income", "visits", "day"):
        asked = np.full(1_000, columns.index(name))
        hidden = np.arange(len(columns)) == asked[:, None]
        at = predict(scorer, judged, places, asked, hidden, np.zeros(1_000))
        if name == "day":  # any day is as likely as any other: no span of time is expected
            assert at.stands_out.mean() < 0.05
        else:
            assert 0.85 <= 1 - at.stands_out.mean() <= 0.95, name


def test_a_combination_is_named_with_its_partner_and_what_would_have_fitted(detector):
    rows = orders(40, 2)
    rows.loc[3, ["country", "currency"]] = ["FR", "USD"]
    cell = detector.answer(rows, explain_rows="all").reasons[3][0]
    pair = {cell.column, cell.partners[0].split(" = ")[0]}
    assert pair == {"country", "currency"}
    assert cell.value in {"FR", "USD"}
    assert ("EUR" if cell.column == "currency" else "US") in cell.expected
    assert str(cell).startswith(f"{cell.column} = {cell.value} with {cell.partners[0]}, expected")


def test_a_value_beyond_all_of_its_column_is_a_cause_by_itself(detector):
    rows = orders(40, 2)
    rows.loc[3, "visits"] = 90
    cell = detector.answer(rows, explain_rows="all").reasons[3][0]
    assert (cell.column, cell.value, cell.partners) == ("visits", "90", ())
    low, high = map(int, cell.expected.removesuffix(" (90 %)").split(" to "))
    assert 10 <= low < 20 < high <= 32


def test_a_value_that_fits_is_never_said_to_be_a_cause(detector):
    answer = detector.answer(orders(400, 3), explain_rows="all")
    for cells in answer.reasons.values():
        for cell in cells:
            assert bool(cell.expected) == cell.stands_out
            bare = cell.expected.partition(" (")[0]
            assert cell.value != bare
            if " to " in bare and cell.column in {"age", "income", "visits"}:
                low, high = (float(end.replace(",", "")) for end in bare.split(" to "))
                assert not low <= float(cell.value.replace(",", "")) <= high, str(cell)


def test_a_row_in_which_no_value_stands_out_says_so():
    cells = [
        Reason("a", "1", "", 0.4, stands_out=False),
        Reason("b", "x", "", 0.2, stands_out=False),
    ]
    assert in_words(cells) == (
        "the combination of all values is unusual; no single value stands out (most: a = 1, b = x)"
    )
    assert in_words(cells, alarm=False) == "no single value stands out (most: a = 1, b = x)"
    assert in_words([]) == ""


def number(least, most):
    return Number(
        "x",
        center=0.0,
        scale=1.0,
        transformed=False,
        point_mass=None,
        range=[least, most],
        type="double",
    )


def test_an_expected_range_is_not_clipped_to_the_largest_value_met():
    column = number(-50.0, 114.6)
    low, high = np.array([[110.0], [130.0]]), np.array([[140.0], [150.0]])
    said = column.expected(np.array([[112.0], [112.0]]), Prediction(low, low, high))
    assert said.texts == ["110 to 140 (90 %)", UNKNOWN]
    assert said.fits.tolist() == [True, False]
    assert said.known.tolist() == [True, False]


def test_a_column_without_negative_numbers_is_expected_to_have_none():
    low, high = np.array([[-3.0]]), np.array([[5.0]])
    said = number(0.0, 9.0).expected(np.array([[7.0]]), Prediction(low, low, high))
    assert said.texts == ["0 to 5 (90 %)"]
    assert not said.fits[0]


def test_levels_are_expected_until_they_hold_nine_tenths_together():
    share = np.array([[0.96, 0.02, 0.01, 0.01], [0.5, 0.3, 0.15, 0.05]])
    said = expected_levels(share, np.array([1, 2]), ["EUR", "USD", "GBP", "another level"])
    assert said.texts == ["EUR (96 %)", "EUR, USD or GBP (95 %)"]
    assert said.fits.tolist() == [False, True]
    many = expected_levels(np.full((1, 20), 0.05), np.array([20]), [f"l{i}" for i in range(20)])
    assert many.texts == ["l0, l1, l2 or 15 others (90 %)"]
    assert not many.fits[0]  # never met


@pytest.mark.parametrize(
    ("alarms", "rows", "said"),
    [
        (187, 20_000, "187 alarms in 20,000 rows; about 200 would be expected by chance if every "
                      "row were normal (1 %), so this is no more than chance, unless the training "
                      "rows had anomalies too"),
        (387, 20_000, "387 alarms in 20,000 rows; about 200 would be expected by chance if every "
                      "row were normal (1 %), so about 187 of them are probably anomalies"),
        (1, 1, "1 alarm in 1 row; about 0.01 would be expected by chance if every row were normal "
               "(1 %), so this one is probably an anomaly"),
        (0, 0, "0 alarms in 0 rows"),
    ],
)  # fmt: skip
def test_alarms_are_said_beside_those_that_chance_would_raise(alarms, rows, said):
    assert beyond_chance(alarms, rows, 0.01, 20_000) == said


def test_a_rate_at_which_no_row_can_alarm_is_not_compared_with_chance():
    text = beyond_chance(0, 80, 0.01, 80, threshold=float("inf"))
    assert text.startswith("0 alarms in 80 rows; no row can alarm at this rate")
