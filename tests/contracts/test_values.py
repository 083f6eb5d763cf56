"""Values of columns: levels by value, whole numbers beyond a float's digits, moments apart."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from test_columns import learned, profile_of

from keyhole.modalities.tabular.guess import guess

SAME = {
    "truth": (pa.array([True, False]), pa.array(["True", "false"]), pa.array(["TRUE", "FALSE"])),
    "numbers": (pa.array([1, 0]), pa.array(["1", "0"]), pa.array(["1.0", "0.0"])),
    "words": (pa.array(["yes", "no"]), pa.array(["Y", "N"]), pa.array(["On", "OFF"])),
    "floats": (pa.array([1.0, 0.0]), pa.array([True, False]), pa.array([1, 0], pa.uint8())),
}


@pytest.mark.parametrize("kind", ["category", "boolean"])
@pytest.mark.parametrize("first", SAME)
@pytest.mark.parametrize("second", SAME)
def test_a_level_is_known_by_its_value_whatever_holds_it(kind, first, second):
    for trained in SAME[first]:
        column = learned(kind, trained.take(pa.array([0, 1] * 10)).dictionary_encode())
        known = column.encode(trained)[0]
        for given in SAME[second]:
            np.testing.assert_array_equal(column.encode(given)[0], known)


@pytest.mark.parametrize("kind", ["category", "boolean"])
def test_a_text_in_a_column_of_truth_values_is_a_level_never_met(kind):
    column = learned(kind, pa.array([True, False] * 10))
    cells, observed = column.encode(pa.array(["unknown", "true", None]))
    assert observed[:, 0].tolist() == [True, True, False]
    assert cells[0] not in column.encode(pa.array([True, False]))[0]


def test_a_code_with_a_leading_zero_is_not_the_number():
    column = learned("category", pa.array(["02139", "00501"] * 10))
    cells, _ = column.encode(pa.array(["2139", "02139"]))
    assert cells[0] != cells[1]


def test_texts_of_one_value_stay_apart_where_training_met_both():
    column = learned("category", pa.array(["1.1", "1.10", "1.2"] * 10))
    cells, _ = column.encode(pa.array(["1.1", "1.10", "1.2"]))
    assert len(np.unique(cells)) == 3


def test_levels_of_eighteen_digits_are_told_apart_and_come_back():
    ids = [10**17 + i for i in range(5)]
    column = learned("category", pa.array(ids * 8).dictionary_encode())
    decoded = column.decode(column.encode(pa.array(ids))[0])
    assert decoded.to_pylist() == ids


@pytest.mark.parametrize("values", [
    pa.array([dt.date(2024, 1, 1), dt.date(2025, 1, 1)]),
    pa.array([1, 1_500_000_001], pa.duration("ns")),
    pa.array([123_456_789, 5], pa.timestamp("ns")),
    pa.array([7, 8], pa.time64("ns")),
    pa.array([1.5, 2.5]).cast(pa.decimal128(5, 2)),
    pa.array([2**64 - 1, 5], pa.uint64()),
])  # fmt: skip
def test_levels_of_any_type_come_back_exactly(values):
    column = learned("category", values.take(pa.array([0, 1] * 10)).dictionary_encode())
    decoded = column.decode(column.encode(values)[0]).dictionary_decode()
    assert decoded.equals(values)


def test_levels_that_hardly_repeat_are_an_identifier():
    values = pa.array([f"c{i}" for i in range(2_000)]).dictionary_encode()
    found = guess(profile_of(values))
    assert found.kind == "ignored"
    assert "identifier" in found.reason


def test_whole_numbers_that_a_float_cannot_tell_apart_are_set_aside():
    rng = np.random.default_rng(0)
    found = guess(profile_of(pa.array(2**63 - 1 - rng.integers(0, 1_000, 200))))
    assert found.kind == "ignored"
    assert "float" in found.reason


def test_ids_beyond_a_floats_digits_that_rise_by_one_are_an_identifier():
    ids = np.arange(2**62, 2**62 + 100)
    assert "counts the rows" in guess(profile_of(pa.array(ids))).reason


@pytest.mark.parametrize("type", [pa.int64(), pa.duration("ns"), pa.uint64()])
def test_numbers_come_back_within_the_exact_range_of_training(type):
    values = np.random.default_rng(0).integers(2**62, 2**63 - 1, 100)
    column = learned("number", pa.array(values).cast(type))
    guessed = column.decode(np.array([[-50.0], [0.0], [50.0]])).cast(pa.int64()).to_numpy()
    assert values.min() <= guessed.min()
    assert guessed.max() <= values.max()


DAYS = [dt.date(2024, 1, 1) + dt.timedelta(days=i) for i in range(200)]


@pytest.mark.parametrize("sentinel", [dt.date(9999, 12, 31), dt.date(1900, 1, 1)])
@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize("share", [0.005, 0.05, 0.8])
def test_a_sentinel_date_does_not_stretch_the_range(sentinel, texts, share):
    rows = max(int(share * 200 / (1 - share)), 1)
    values = pa.array(DAYS + [sentinel] * rows)
    values = values.cast(pa.string()) if texts else values
    column = learned("datetime", values)
    assert column.met() == ["2024-01-01", "2024-07-18"]
    assert (column.point_mass is not None) == (share > 0.01)
    if column.point_mass is not None:  # it is a value of its own, and comes back
        cells, observed = column.encode(values[-1:])
        assert observed[0].tolist() == [True] + [False] * (len(column.slots()) - 1)
        assert column.text(column.decode(cells)) == [str(sentinel)]


def test_two_sentinels_at_both_ends_are_both_left_out_of_the_range():
    values = pa.array([*DAYS, *[dt.date(9999, 12, 31)] * 20, *[dt.date(1900, 1, 1)] * 3])
    assert learned("datetime", values).met() == ["2024-01-01", "2024-07-18"]


def test_dates_without_a_sentinel_keep_their_whole_range():
    values = pa.array([*DAYS, dt.date(2024, 12, 1), dt.date(2025, 3, 1)])
    assert learned("datetime", values).met() == ["2024-01-01", "2025-03-01"]


def test_timestamps_beyond_the_year_9999_are_read_and_written():
    values = pa.array([2**38 + i * 86_400 for i in range(50)], pa.timestamp("s"))
    column = learned("datetime", values)
    decoded = column.decode(column.encode(values)[0]).cast(pa.int64()).to_numpy()
    assert np.abs(decoded - (2**38 + np.arange(50) * 86_400)).max() <= 60
    assert column.text(values)[0].startswith("10680")
