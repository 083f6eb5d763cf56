"""Measures of ranked lists against cases worked by hand, and the splits that they judge on."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, random_array

from keyhole.errors import DataError, SettingError
from keyhole.tasks.recommend.metrics import (
    RankingMetrics,
    intervals,
    paired_difference,
    ranking_metrics,
    tail_items,
)
from keyhole.tasks.recommend.splits import fold_in, held_out_users, last_out

# Of 100 interactions items 0 and 1 hold 80, so they are the head and the others the tail.
POPULARITY = np.array([50, 30, 10, 6, 4])
LOG3 = math.log2(3)
RATES = ("recall", "ndcg", "map", "mrr", "tail_recall")
NAMES = (*RATES, "novelty")


def matrix(rows, items=5):
    """Users with these items."""
    dense = np.zeros((len(rows), items), np.int64)
    for user, row in enumerate(rows):
        dense[user, row] = 1
    return csr_array(dense)


def judged(top, held_out, ks=(3,), popularity=POPULARITY):
    top = np.array(top, np.int64).reshape(len(held_out), -1)
    return ranking_metrics(top, matrix(held_out, len(popularity)), popularity, ks)


def of_one(name, top, held_out, k=3):
    """A measure of one user's list."""
    return judged([top], [held_out], (k,)).per_user[f"{name}@{k}"][0]


# The list 2, 0, 4 for a user who wants 0, 1, 3 and 4: hits at ranks 2 and 3.
LISTED, WANTED = [2, 0, 4], [0, 1, 3, 4]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("recall", 2 / 3),  # 2 hits of min(3, 4)
        # ranks 2 and 3 count 1 / log2(3) and 1 / log2(4); three in front 1 + 1 / log2(3) + 1 / 2
        ("ndcg", (1 / LOG3 + 0.5) / (1 + 1 / LOG3 + 0.5)),
        ("map", (1 / 2 + 2 / 3) / 3),  # 1 of 2 right at the first hit, 2 of 3 at the second
        ("mrr", 1 / 2),
        ("tail_recall", 1 / 2),  # of 3 and 4, which are wanted and in the tail, 4 is listed
        ("novelty", -(math.log2(0.1) + math.log2(0.5) + math.log2(0.04)) / 3),
    ],
)
def test_each_measure_has_the_value_worked_by_hand(name, value):
    assert of_one(name, LISTED, WANTED) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("recall", 1 / 2),  # 1 hit of min(2, 4)
        ("ndcg", (1 / LOG3) / (1 + 1 / LOG3)),
        ("map", (1 / 2) / 2),
        ("mrr", 1 / 2),
        ("tail_recall", 0.0),
        ("novelty", -(math.log2(0.1) + math.log2(0.5)) / 2),
    ],
)
def test_a_measure_looks_at_the_first_k_items_only(name, value):
    assert of_one(name, LISTED, WANTED, k=2) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("recall", 1.0),  # the one wanted item, at rank 3
        ("ndcg", 0.5),  # 1 / log2(4), where it would count 1 in front
        ("map", 1 / 3),
        ("mrr", 1 / 3),
        ("tail_recall", 1.0),
    ],
)
def test_fewer_wanted_items_than_places_set_what_is_ideal(name, value):
    assert of_one(name, LISTED, [4]) == pytest.approx(value, rel=1e-12)


def test_the_tail_is_what_the_most_popular_items_with_80_percent_leave():
    assert tail_items(POPULARITY).tolist() == [False, False, True, True, True]
    # 50 + 29 fall short of 80 by one, so the third most popular item is in the head, too
    assert tail_items(np.array([50, 29, 10, 11])).tolist() == [False, False, True, False]
    assert tail_items(np.array([1, 1, 1, 1, 1])).tolist() == [False] * 4 + [True]
    assert tail_items(np.zeros(2, int)).tolist() == [True, True]


def test_a_user_who_wants_no_tail_item_has_no_tail_recall():
    assert math.isnan(of_one("tail_recall", LISTED, [0, 1]))
    assert of_one("recall", LISTED, [0, 1]) == 0.5


def test_a_list_may_be_shorter_and_even_empty():
    figures = judged([[0, -1, -1], [-1, -1, -1]], [[0, 1], [0, 2]])
    # of 0 and 1 the short list has 0; its only item's novelty is log2(2) bits
    assert figures.per_user["recall@3"].tolist() == [0.5, 0.0]
    assert figures.per_user["ndcg@3"] == pytest.approx([1 / (1 + 1 / LOG3), 0.0])
    assert figures.per_user["mrr@3"].tolist() == [1.0, 0.0]
    assert figures.per_user["novelty@3"] == pytest.approx([1.0, np.nan], nan_ok=True)
    none = judged([[], []], [[0, 1], [0, 2]])  # lists without any place
    assert none.per_user["recall@3"].tolist() == [0.0, 0.0]
    assert none.coverage == {"coverage@3": 0.0}


def test_users_without_held_out_items_are_left_out():
    figures = judged([[0, 1, 2], [3, 4, 2]], [[0], []])
    assert all(np.isnan(values[1]) for values in figures.per_user.values())
    assert figures.means()["recall@3"] == 1.0
    assert figures.coverage["coverage@3"] == 3 / 5  # items 3 and 4 are in no judged list


def test_coverage_counts_items_that_are_in_any_list():
    figures = judged([[0, 1, 2], [0, 2, -1]], [[0], [0]], ks=(1, 3))
    assert figures.coverage == {"coverage@1": 1 / 5, "coverage@3": 3 / 5}


def test_an_item_that_training_never_met_counts_as_met_once():
    figures = judged([[2]], [[0]], ks=(1,), popularity=np.array([4, 4, 0]))
    assert figures.per_user["novelty@1"][0] == pytest.approx(3.0)  # 1 of 8


def test_a_k_above_the_catalogue_is_as_the_whole_catalogue():
    longer = judged([[4, 3, 2, 1, 0]], [[0, 4]], ks=(100,))
    whole = judged([[4, 3, 2, 1, 0]], [[0, 4]], ks=(5,))
    for name in NAMES:
        assert longer.per_user[f"{name}@100"] == pytest.approx(whole.per_user[f"{name}@5"])


def test_no_user_and_no_item_are_no_error():
    figures = ranking_metrics(np.empty((0, 3), np.int64), csr_array((0, 5)), POPULARITY, (3,))
    assert {len(values) for values in figures.per_user.values()} == {0}
    assert math.isnan(figures.means()["recall@3"])
    assert math.isnan(intervals(figures)["recall@3"].mean)
    bare = ranking_metrics(np.full((1, 3), -1), csr_array((1, 0)), np.empty(0, int), (3,))
    assert math.isnan(bare.per_user["ndcg@3"][0])
    assert bare.coverage == {"coverage@3": 0.0}


def test_input_that_does_not_match_is_refused_with_what_to_do():
    top, held_out = np.zeros((2, 3), np.int64), matrix([[0], [1]])
    with pytest.raises(SettingError, match="ks"):
        ranking_metrics(top, held_out, POPULARITY, (0, 5))
    with pytest.raises(DataError, match=r"shape \(2, 5\), expected \(2, 4\)"):
        ranking_metrics(top, held_out, POPULARITY[:4])
    with pytest.raises(DataError, match="outside -1 to 4"):
        ranking_metrics(top + 5, held_out, POPULARITY)


def test_stored_zeros_and_repeats_are_no_further_held_out_items():
    parts = (np.array([1, 1, 0]), np.array([4, 4, 0]), np.array([0, 3]))
    held_out = csr_array(parts, shape=(1, 5))
    figures = ranking_metrics(np.array([[4, 0]]), held_out, POPULARITY, (2,))
    assert figures.per_user["recall@2"][0] == 1.0
    assert figures.per_user["map@2"][0] == 1.0
    assert held_out.nnz == 3  # what was passed in is as it was


def made(seed, users=30, items=12, places=8):
    """Random lists and held-out items; some users have neither."""
    rng = np.random.default_rng(seed)
    top = np.argsort(rng.random((users, items)), 1)[:, :places]
    lengths = rng.integers(places + 1, size=(users, 1))
    top = np.where(np.arange(top.shape[1]) < lengths, top, -1).astype(np.int64)
    held_out = csr_array(rng.random((users, items)) < rng.random((users, 1)) - 0.2)
    return top, held_out, rng.integers(20, size=items)


SEEDS = st.integers(0, 10**6)
FEW = settings(max_examples=25, deadline=None)


@FEW
@given(SEEDS, st.integers(1, 15))
def test_rates_and_coverage_are_between_0_and_1(seed, k):
    figures = ranking_metrics(*made(seed), ks=(k,))
    for name in RATES:
        values = figures.per_user[f"{name}@{k}"]
        values = values[~np.isnan(values)]
        assert np.all((values >= 0) & (values <= 1 + 1e-12))
    assert 0 <= figures.coverage[f"coverage@{k}"] <= 1
    assert np.nanmin(np.append(figures.per_user[f"novelty@{k}"], 0)) >= 0


@FEW
@given(SEEDS, st.integers(1, 15))
def test_a_list_with_all_wanted_items_in_front_scores_1(seed, k):
    _, held_out, popularity = made(seed)
    wanted = held_out.toarray()
    tail_first = wanted * (1.0 + tail_items(popularity))  # or else the head takes their places
    top = np.argsort(-tail_first, axis=1, kind="stable")
    figures = ranking_metrics(top, held_out, popularity, (k,))
    for name in RATES:
        values = figures.per_user[f"{name}@{k}"]
        values = values[~np.isnan(values)]
        assert values == pytest.approx(np.ones(len(values)))


@FEW
@given(SEEDS)
def test_the_order_of_users_changes_nothing(seed):
    top, held_out, popularity = made(seed)
    order = np.random.default_rng(seed).permutation(len(top))
    figures = ranking_metrics(top, held_out, popularity, (3, 8))
    permuted = ranking_metrics(top[order], held_out[order], popularity, (3, 8))
    assert permuted.coverage == figures.coverage
    for name, values in figures.per_user.items():
        assert np.array_equal(permuted.per_user[name], values[order], equal_nan=True)


def test_many_users_are_judged_at_once():
    """20,000 lists of 100; also across the borders of blocks. Bar: 100,000 in a few seconds."""
    rng = np.random.default_rng(0)
    users, items = 20_000, 3_000
    top = (rng.integers(items, size=(users, 1)) + 7 * np.arange(100)) % items
    found = top[:, 9]  # each user wants the item at rank 10, and no other
    held_out = csr_array((np.ones(users), found, np.arange(users + 1)), (users, items))
    began = time.process_time()
    figures = ranking_metrics(top, held_out, np.ones(items, int))
    assert time.process_time() - began < 4
    assert np.all(figures.per_user["mrr@20"] == 0.1)
    assert figures.per_user["ndcg@100"] == pytest.approx(1 / math.log2(11))


def of_values(*values):
    return RankingMetrics({"recall@3": np.array(values, float)}, {})


def test_an_interval_of_a_bootstrap_is_that_of_the_normal_where_users_are_many():
    values = np.random.default_rng(0).random(900)
    interval = intervals(of_values(*values))["recall@3"]
    half = 1.96 * values.std() / 30
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=half / 5)
    assert interval.high == pytest.approx(values.mean() + half, abs=half / 5)
    narrower = intervals(of_values(*values), share=0.5)["recall@3"]
    assert narrower.high - narrower.low == pytest.approx(2 * half * 0.6745 / 1.96, rel=0.2)


def test_an_interval_depends_on_the_seed_only_and_leaves_out_users_without_a_value():
    values = of_values(*np.arange(20), np.nan)
    assert intervals(values, seed=1) == intervals(values, seed=1)
    assert intervals(values, seed=1) != intervals(values, seed=2)
    assert intervals(values)["recall@3"].mean == 9.5


def test_blocks_of_resamples_are_not_seen_in_an_interval(monkeypatch):
    whole = intervals(of_values(*np.arange(40)), resamples=50)
    monkeypatch.setattr("keyhole.tasks.recommend.metrics.BLOCK_DRAWS", 300)
    assert intervals(of_values(*np.arange(40)), resamples=50) == whole


def test_one_user_has_an_interval_of_one_point():
    interval = intervals(of_values(0.25))["recall@3"]
    assert (interval.mean, interval.low, interval.high) == (0.25, 0.25, 0.25)


def test_a_paired_difference_is_over_users_with_both_values():
    # differences 1, 2, 3: mean 2, standard deviation 1
    difference = paired_difference(np.array([1.0, 2, 3, np.nan]), np.array([0.0, 0, 0, 9]))
    assert difference.mean == 2
    assert difference.standard_error == pytest.approx(1 / math.sqrt(3))
    alone = paired_difference(np.array([1.0]), np.array([0.5]))
    assert alone.mean == 0.5
    assert math.isnan(alone.standard_error)
    assert math.isnan(paired_difference(np.empty(0), np.empty(0)).mean)


def history(seed=0, users=40, items=30):
    """Users with 0 to 14 items; the values are not only ones."""
    rng = np.random.default_rng(seed)
    chosen = rng.random((users, items)) < rng.random((users, 1)) / 2
    chosen[:2] = False
    chosen[1, 3] = True
    return csr_array(chosen * rng.integers(1, 5, (users, items)))


def same(a, b):
    return (a - b).count_nonzero() == 0


@FEW
@given(SEEDS, st.sampled_from([0.5, 0.8, 0.9]))
def test_a_cut_is_disjoint_and_whole_and_holds_out_what_it_should(seed, share):
    whole = history(seed)
    first, second = fold_in(whole, seed, share)
    assert same(first + second, whole)
    assert first.multiply(second).count_nonzero() == 0
    counts = np.diff(whole.indptr)
    expected = np.maximum(np.floor((1 - share) * counts + 1e-9), 1) * (counts >= 2)
    assert np.diff(second.indptr).tolist() == expected.tolist()


def test_equal_seeds_cut_equally_and_others_do_not():
    whole = history()
    assert same(fold_in(whole, 1)[1], fold_in(whole, 1)[1])
    assert not same(fold_in(whole, 1)[1], fold_in(whole, 2)[1])


def test_a_users_cut_does_not_depend_on_other_users():
    whole = history()
    fewer = whole.copy()
    fewer.data[: whole.indptr[10]] = 0
    assert same(fold_in(fewer, 0)[1][10:], fold_in(whole, 0)[1][10:])


def test_each_item_is_held_out_equally_often():
    whole = csr_array(np.ones((4_000, 5), int))
    shares = fold_in(whole, 0)[1].mean(0)
    assert shares == pytest.approx(np.full(5, 0.2), abs=0.03)


def test_held_out_users_are_a_share_of_those_who_can_be_judged():
    whole = history(users=200)
    qualified = np.diff(whole.indptr) >= 2
    held_out = held_out_users(whole, 0, 0.1)
    assert held_out.sum() == round(0.1 * qualified.sum())
    assert not held_out[~qualified].any()
    assert np.array_equal(held_out, held_out_users(whole, 0, 0.1))
    assert not np.array_equal(held_out, held_out_users(whole, 1, 0.1))


def test_of_two_users_one_is_held_out_and_of_one_none():
    pair = csr_array(np.ones((2, 3), int))
    assert held_out_users(pair, 0, 0.01).sum() == 1
    assert held_out_users(pair, 0, 0.99).sum() == 1
    assert held_out_users(pair[:1], 0, 0.5).sum() == 0
    assert held_out_users(pair[:0], 0, 0.5).shape == (0,)


def test_no_user_is_cut_into_two_empty_parts():
    first, second = fold_in(csr_array((0, 4), dtype=int), 0)
    assert first.shape == second.shape == (0, 4)
    first, second = last_out(csr_array((2, 4), dtype=int), np.empty(0))
    assert first.shape == second.shape == (2, 4)


@pytest.mark.parametrize("share", [0, 1, -0.5, 2, math.nan])
def test_a_share_that_is_no_share_is_refused(share):
    with pytest.raises(SettingError, match="share"):
        fold_in(history(), 0, share)
    with pytest.raises(SettingError, match="share"):
        held_out_users(history(), 0, share)


def test_the_last_item_by_time_is_held_out():
    whole = matrix([[0, 2, 4], [1], [0, 1, 2], []])
    # The first user's latest item is 2. The second has one item. Of the third's equal times, 1
    # and 2 are the latest, and 2 the last of them in position.
    times = np.array([3, 9, 1, 5, 0, 7, 7])
    first, second = last_out(whole, times)
    assert second.toarray().nonzero()[1].tolist() == [2, 2]
    assert np.diff(second.indptr).tolist() == [1, 0, 1, 0]
    assert same(first + second, whole)
    dates = np.datetime64("2026-01-01") + times
    assert same(last_out(whole, dates)[1], second)


def test_times_that_do_not_belong_to_the_interactions_are_refused():
    whole = matrix([[0, 2]])
    with pytest.raises(DataError, match="times of 2 interactions, got 3"):
        last_out(whole, np.arange(3))
    with pytest.raises(DataError, match="a time is missing"):
        last_out(whole, np.array([0, np.nan]))
    repeated = csr_array((np.ones(2), np.array([1, 1]), np.array([0, 2])), shape=(1, 5))
    with pytest.raises(DataError, match="stored twice"):
        last_out(repeated, np.arange(2))


def test_a_split_of_a_sparse_history_takes_no_dense_memory():
    whole = csr_array(random_array((20_000, 100_000), density=2e-4, rng=0))
    first, second = fold_in(whole, 0)
    assert first.nnz + second.nnz == whole.nnz
