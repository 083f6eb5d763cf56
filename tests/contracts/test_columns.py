"""Every column kind: learned from a profile, encoded, decoded, kept as JSON."""

import datetime as dt
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keyhole.model.heads  # noqa: F401  (registers the heads that slots name)
from keyhole.core.parts import build, kinds
from keyhole.data import cast, levels
from keyhole.errors import DataError
from keyhole.modalities.expected import Prediction
from keyhole.modalities.profile import Profile
from keyhole.modalities.tabular.columns import Column

DAY = dt.datetime(2024, 1, 1)
# What each kind is made for; a kind that is not listed here is tried on numbers.
NATURAL = {
    "ignored": pa.array([f"id{i}" for i in range(40)]),
    "category": pa.array([*"abcabca"] * 5),
    "count": pa.array([0, 1, 1, 2, 7] * 8),
    "boolean": pa.array([True, False, False] * 12),
    "datetime": pa.array([DAY + dt.timedelta(hours=7 * i) for i in range(40)]),
    "number": pa.array(np.random.default_rng(0).normal(5, 2, 40)),
}
KINDS = pytest.mark.parametrize("kind", sorted(kinds("column")))


def profile_of(values, name="x"):
    profile = Profile(name)
    profile.add(values)
    profile.sample = cast.plain(values)
    if cast.is_text(profile.sample.type):
        profile.style = cast.datetime_style(profile.sample.drop_null())
    return profile


def learned(kind, values):
    return kinds("column")[kind].learn(profile_of(values))


def natural(kind):
    return NATURAL.get(kind, NATURAL["number"])


def checked_encode(column, values):
    """The cells, after what is promised of every kind's cells was checked."""
    cells, observed = column.encode(values)
    assert cells.shape == observed.shape == (len(values), len(column.slots()))
    assert observed.dtype == bool
    coded = any(slot.coded for slot in column.slots())
    assert cells.dtype == (np.int64 if coded else np.float32)
    assert np.isfinite(cells).all()
    if coded:
        assert (cells[observed] >= 1).all()
        assert cells.max(initial=0) <= column.slots()[0].levels
    return cells, observed


def assert_close(found, wanted):
    found, wanted = found.to_pylist(), wanted.to_pylist()
    if wanted and isinstance(wanted[0], float):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    elif wanted and isinstance(wanted[0], dt.datetime):
        assert all(abs(a - b) <= dt.timedelta(seconds=60) for a, b in zip(found, wanted))
    else:
        assert found == wanted


@KINDS
def test_decoding_undoes_encoding_on_the_kinds_own_data(kind):
    values = natural(kind)
    column = learned(kind, values)
    cells, observed = checked_encode(column, values)
    decoded = column.decode(cells)
    assert len(decoded) == len(values)
    if column.slots():
        assert observed.all()
        assert decoded.type == values.type
        assert_close(decoded, values)


@KINDS
@pytest.mark.parametrize("rows", [0, 1])
def test_a_column_encodes_no_rows_and_one_row(kind, rows):
    values = natural(kind)
    column = learned(kind, values)
    cells, _ = checked_encode(column, values[:rows])
    assert len(column.decode(cells)) == len(column.text(values[:rows])) == rows


@KINDS
def test_a_gap_is_unseen_in_all_cells_of_its_column(kind):
    values = pa.array([None, *natural(kind).to_pylist()], natural(kind).type)
    cells, observed = checked_encode(learned(kind, values), values)
    assert not observed[0].any()
    assert (cells[0] == 0).all() or not any(s.coded for s in learned(kind, values).slots())
    assert observed[1:].any(1).all() or not observed.shape[1]


@KINDS
def test_a_constant_column_is_learnt_and_comes_back(kind):
    values = natural(kind)[:1].take(pa.array([0] * 30))
    column = learned(kind, values)
    cells, _ = checked_encode(column, values)
    for slot in column.slots():
        assert np.isfinite([slot.center, slot.scale, slot.nats_unobserved]).all()
        assert slot.scale > 0 or slot.head == "bernoulli"
    if column.slots():
        assert_close(column.decode(cells), values)


@KINDS
def test_a_recipe_survives_json_and_builds_an_equal_column(kind):
    column = learned(kind, natural(kind))
    recipe = json.loads(json.dumps(column.recipe(), allow_nan=False))
    again = build("column", recipe)
    assert again.recipe() == column.recipe()
    for a, b in zip(again.encode(natural(kind)), column.encode(natural(kind))):
        np.testing.assert_array_equal(a, b)


@KINDS
def test_a_slot_belongs_to_its_column_and_names_a_head_that_exists(kind):
    for slot in learned(kind, natural(kind)).slots():
        assert (slot.column, slot.kind) == ("x", kind)
        assert slot.head in kinds("cells")


@KINDS
def test_what_was_expected_is_one_text_for_each_row(kind):
    column = learned(kind, natural(kind))
    if column.slots():
        cells, _ = column.encode(natural(kind))
        said = column.expected(cells, Prediction(cells, cells, cells, np.ones((len(cells), 1))))
        assert len(said.texts) == len(said.fits) == len(said.known) == len(cells)
        assert all(isinstance(text, str) and text for text in said.texts)


def test_every_kind_is_a_column():
    assert all(issubclass(kind, Column) for kind in kinds("column").values())


@pytest.mark.parametrize("kind", ["category", "boolean"])
def test_an_unseen_level_is_seen_but_no_known_level(kind):
    values = pa.array(["a", "b"] * 20)
    column = learned(kind, values)
    cells, observed = column.encode(pa.array(["a", "b", "new", ""]))
    assert observed.all()
    assert cells[2] == cells[3]
    assert cells[2] not in cells[:2]


@pytest.mark.parametrize("kind", ["number", "count", "datetime"])
def test_a_text_in_a_column_without_texts_is_refused_with_row_and_value(kind):
    column = learned(kind, natural(kind))
    with pytest.raises(
        DataError, match=r"column 'x', data row 103: expected a (number|date or time), got 'abc'"
    ):
        column.encode(pa.array([None, None, "abc"]), start=100)


def test_flags_of_zeros_and_ones_read_the_same_from_text_and_from_numbers():
    column = learned("boolean", pa.array(["0", "1", "1"] * 9))
    for values in (["0", "1"], ["0.0", "1.0"], [0, 1], [0.0, 1.0]):
        assert column.encode(pa.array(values))[0][:, 0].tolist() == [0, 1]
    assert column.decode(np.array([[0.1], [0.9]])).to_pylist() == [0, 1]


@pytest.mark.parametrize("pair", [(0.0, 1.0), (-1.0, 7.0), (0.5, 1.0), (3.0, 3e9), (2.0, None)])
@pytest.mark.parametrize("as_text", [False, True])
def test_flags_are_the_same_from_floats_as_from_levels(pair, as_text):
    levels_of_pair = [level for level in pair if level is not None] * 20
    column = learned("boolean", pa.array([str(x) if as_text else x for x in levels_of_pair]))
    values = pa.array([*pair, 0.0, -0.0, 1.0, 0.25, 7.0, None, float("nan")], pa.float64())
    features, observed = column.encode(values)
    index = levels.indices(values, column._texts)
    assert observed[:, 0].tolist() == (index >= 0).tolist()
    assert features[:, 0].tolist() == index.clip(0).tolist()


def test_levels_typed_as_such_come_back_as_levels():
    values = pa.array([3, 1, 3, 2] * 10).dictionary_encode()
    column = learned("category", values)
    decoded = column.decode(column.encode(values)[0])
    assert pa.types.is_dictionary(decoded.type)
    assert decoded.to_pylist() == values.to_pylist()


numbers = st.floats(-1e30, 1e30).filter(lambda x: x == 0 or abs(x) >= 1e-30)


@given(st.lists(numbers, min_size=2, max_size=40))
def test_numbers_of_any_magnitude_come_back_to_a_part_in_a_million_of_their_spread(values):
    column = learned("number", pa.array(values, pa.float64()))
    cells, _ = checked_encode(column, pa.array(values, pa.float64()))
    reach = max(column.scale, np.ptp(values))
    np.testing.assert_allclose(column.decode(cells), values, rtol=1e-5, atol=1e-5 * reach)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=40))
def test_large_integers_keep_their_type_and_nearly_their_value(values):
    array = pa.array(values, pa.int64())
    column = learned("number", array)
    decoded = column.decode(checked_encode(column, array)[0])
    assert decoded.type == pa.int64()
    atol = 1e-5 * max(column.scale, float(max(values)) - float(min(values))) + 1024
    assert all(abs(a - b) <= atol + 1e-6 * abs(b) for a, b in zip(decoded.to_pylist(), values))


@given(st.lists(st.one_of(st.none(), st.text(max_size=8)), min_size=1, max_size=40))
def test_texts_come_back_as_they_were(values):
    array = pa.array(values, pa.string())
    column = learned("category", array)
    cells, observed = checked_encode(column, array)
    assert observed[:, 0].tolist() == [value is not None for value in values]
    assert column.decode(cells).to_pylist() == values


@given(st.lists(st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)), min_size=2))
def test_moments_come_back_within_a_part_in_a_million_of_their_span(values):
    array = pa.array(values, pa.timestamp("us"))
    column = learned("datetime", array)
    decoded = column.decode(checked_encode(column, array)[0]).to_pylist()
    slack = 1e-5 * max((max(values) - min(values)).total_seconds(), column.trend_s[1]) + 1
    assert all(abs((a - b).total_seconds()) <= slack for a, b in zip(decoded, values))


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=40))
def test_counts_come_back_exactly_while_a_float32_can_tell(values):
    column = learned("count", pa.array(values))
    cells, _ = checked_encode(column, pa.array(values))
    np.testing.assert_allclose(column.decode(cells).to_numpy(), values, rtol=1e-5, atol=0.5)
