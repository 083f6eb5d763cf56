"""Bins of a histogram: whatever the values are, they hold each of them, and heaps stand alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.modalities.tabular.columns.base import MAX_BINS, bins, repeated

FREE = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=300)
FEW = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=300)
VALUES = st.one_of(FREE, FEW).map(np.array)


@given(VALUES)
def test_every_value_is_between_the_edges_of_just_one_bin(values):
    lower, upper = np.array(bins(values))[:, :2].T
    inside = (values[:, None] > lower) & (values[:, None] <= upper)
    assert (inside.sum(1) == 1).all()


@given(VALUES)
def test_shares_sum_to_one_and_are_those_of_the_values(values):
    lower, upper, _, _, share = np.array(bins(values)).T
    inside = (values[:, None] > lower) & (values[:, None] <= upper)
    assert share.sum() == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(inside.mean(0), share, atol=1e-6)
    assert (share > 0).all()


@given(VALUES)
def test_edges_ascend_without_a_hole_and_hold_what_was_met(values):
    found = np.array(bins(values))
    lower, upper, least, most, _ = found.T
    assert (upper > lower).all()
    assert (lower[1:] == upper[:-1]).all()
    assert ((lower <= least) & (least <= most) & (most <= upper)).all()
    assert np.isin(found[:, 2:4], values.astype(np.float32)).all()
    assert 1 <= len(found) <= 2 * MAX_BINS + 1


@given(FREE.map(np.array), st.integers(-100, 100).map(float))
def test_a_heap_stands_alone(values, heap):
    both = np.concatenate([values, np.full(len(values) + 40, heap)])
    _, _, least, most, share = np.array(bins(both)).T
    at = (least <= heap) & (heap <= most)
    assert at.sum() == 1
    assert least[at] == most[at] == heap
    assert share[at][0] == pytest.approx((both == heap).mean(), abs=1e-6)


def test_bins_of_free_values_hold_about_equal_shares():
    share = np.array(bins(np.random.default_rng(0).normal(size=6_400)))[:, 4]
    assert len(share) == MAX_BINS
    np.testing.assert_allclose(share, 1 / MAX_BINS, rtol=0.02)


def test_no_values_at_all_make_one_bin_around_zero():
    ((lower, upper, least, most, share),) = bins(np.array([]))
    assert lower < least == most == 0.0 < upper
    assert share == 1.0


def test_values_count_as_repeated_from_two_of_each_on():
    assert repeated(np.array([1.0, 1.0, 2.0, 2.0]))
    assert not repeated(np.array([1.0, 1.0, 2.0]))
