"""The parts of an anomaly score: trimmed core, points, reference rows, calibration."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from keyhole.core import layout as points
from keyhole.core import robust
from keyhole.core.layout import Layout, Slot, coordinates, filled, gaps
from keyhole.core.records import Batch
from keyhole.core.robust import trimmed
from keyhole.modalities.rows import split
from keyhole.modalities.rows.split import ReferenceSet
from keyhole.tasks.detect import neighbours
from keyhole.tasks.detect.calibration import Calibration, Discoveries
from keyhole.tasks.detect.neighbours import ReferencePoints


def normal(rows, axes, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, axes)))


# The rows that agree most.


@pytest.fixture(params=["full", "by axis"])
def limit(request, monkeypatch):
    """Both ways to measure spread: a matrix, and, beyond the limit of axes, each axis alone."""
    monkeypatch.setattr(robust, "MAX_FULL", 2_048 if request.param == "full" else 1)
    return request.param


def test_a_core_is_found_among_rows_of_which_a_third_lies_far_away(limit):
    x = normal(1_000, 4) * torch.tensor([1.0, 2.0, 0.5, 3.0])
    x[:300] += 20
    found, plain = trimmed(x), trimmed(x, 1.0)
    assert found.spread.dim() == (2 if limit == "full" else 1)
    assert not found.core[:300].any()
    assert int(found.core.sum()) == 600
    assert found.center.abs().max() < 0.3
    assert plain.center.min() > 5
    apart, blurred = (
        one.distance(x[:300]).min() / one.distance(x[300:]).max() for one in (found, plain)
    )
    assert apart > 2
    assert blurred < 1.5


@pytest.mark.parametrize(("rows", "axes"), [(30, 40), (5, 64), (41, 40)])
def test_distances_of_fewer_rows_than_axes_are_those_of_their_covariance(rows, axes):
    x, core = normal(60, axes), torch.arange(60) < rows
    x[core] += x[core].mean(0)
    expected = robust._fit(x, core, robust.WHILE_CHOOSING).distance(x)
    torch.testing.assert_close(robust._distances(x, core), expected)
    torch.testing.assert_close(robust._distances_by_products(x, core), expected)


def test_the_spread_of_all_rows_is_that_of_their_covariance_and_of_a_ball_as_large():
    x = normal(500, 3) @ normal(3, 3, seed=1)
    found = trimmed(x, 1.0)
    assert found.core.all()
    square = np.cov(x.numpy().T)
    square += np.eye(3) * np.trace(square) / 3
    np.testing.assert_allclose(found.center, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(
        found.spread @ found.spread.T, np.linalg.inv(square), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("share", [0.6, 1.0])
@pytest.mark.parametrize(
    "x",
    [
        normal(2, 3),
        normal(5, 40),
        torch.ones(9, 3),
        torch.cat([normal(9, 2), torch.ones(9, 1)], 1),
    ],
    ids=["two rows", "more columns than rows", "all alike", "a constant column"],
)
def test_a_core_is_found_where_rows_are_few_or_alike(x, share, limit):
    found = trimmed(x, share)
    assert int(found.core.sum()) == max(2, round(share * len(x)))
    assert torch.isfinite(found.spread).all()
    assert torch.isfinite(found.distance(x)).all()


def test_a_gap_lies_at_the_center():
    x = normal(50, 2)
    x[:9, 0] = torch.nan
    found = trimmed(x, 1.0)
    assert torch.isfinite(found.center).all()
    assert (found.whitened(torch.full((1, 2), torch.nan)) == 0).all()


# Cells as points.

LEVELS = Layout.of(
    [
        Slot("x", "number", "student_t"),
        Slot("y", "number", "bernoulli", "atom"),
        Slot("y", "number", "student_t"),
        Slot("kind", "category", "categorical", levels=4, shares=(0.4, 0.3, 0.2, 0.1)),
    ]
)


def batch(numbers, codes, observed=None):
    numbers, codes = torch.tensor(numbers).float(), torch.tensor(codes).long()
    every = torch.ones(len(numbers), numbers.shape[1] + codes.shape[1]).bool()
    return Batch(numbers, codes, every if observed is None else torch.tensor(observed))


def test_a_gap_is_nan_and_a_cell_that_does_not_apply_is_none():
    rows = batch(
        [[1, 1, 0], [0, 0, 0], [2, 0, 3]], [[1], [2], [0]],
        [[True, True, False, True], [False, False, False, True], [True, True, True, False]],
    )  # fmt: skip
    assert gaps(rows, LEVELS).tolist() == [
        [False, False, False, False], [True, True, True, False], [False, False, False, True]
    ]  # fmt: skip
    x = coordinates(rows, LEVELS)
    assert x.isnan().sum(1).tolist() == [0, 3, x.shape[1] - 3]
    expected = batch([[7, 8, 9]] * 3, [[3]] * 3)
    whole = filled(rows, expected, LEVELS)
    assert whole.numbers.tolist() == [[1, 1, 0], [7, 8, 9], [2, 0, 3]]
    assert whole.codes.tolist() == [[1], [2], [3]]
    assert not coordinates(whole, LEVELS).isnan().any()


def test_levels_are_as_far_apart_as_two_standardised_numbers_also_one_never_met():
    x = coordinates(batch([[0, 0, 0]] * 4, [[1], [2], [4], [1]]), LEVELS)
    far = torch.cdist(x, x)
    assert far[0, 3] == 0
    root = torch.tensor(2.0).sqrt()
    for one, other in ((0, 1), (0, 2), (1, 2)):
        torch.testing.assert_close(far[one, other], root)


def wide_levels(levels, columns=1):
    slots = [
        Slot(f"c{i}", "category", "categorical", levels=levels, shares=(1 / levels,) * levels)
        for i in range(columns)
    ]
    return Layout.of(slots)


def test_more_levels_than_fifty_share_an_axis(monkeypatch):
    x = coordinates(batch([[]] * 4, [[50], [51], [52], [400]]), wide_levels(400))
    assert x.shape == (4, 51)
    far = torch.cdist(x, x)
    assert far[0, 1] > 1.4
    assert far[1, 2] == far[1, 3] == 0
    monkeypatch.setattr(points, "MAX_AXES", 60)
    x = coordinates(batch([[]] * 3, [[1] * 10, [2] * 10, [400] * 10]), wide_levels(400, 10))
    assert x.shape == (3, 60)
    assert (torch.cdist(x, x) + torch.eye(3) > 0.9).all()


def test_a_number_far_beyond_all_others_is_still_a_point():
    x = coordinates(batch([[1e30, 0, 0], [-1e30, 0, 0]], [[1], [1]]), LEVELS)
    assert x[:, 0].tolist() == [1e6, -1e6]


# The bank.


def by_hand(points, x, own=None):
    """The two distances, row by row in float64."""
    whitened = points.robust.whitened(x.double()).numpy()
    placed = whitened if points.whitens else points.robust.centered(x.double()).numpy()
    worth, answers = points.worth.double().sqrt().numpy(), []
    for i, (here, white) in enumerate(zip(placed, whitened, strict=True)):
        far = np.linalg.norm(points.points.double().numpy() - here, axis=1)
        core = np.linalg.norm(points.core_points.double().numpy() - white, axis=1)
        if own is not None:
            far[own[i]] = np.inf
            place = int(points.core_place[own[i]])
            core[place:][: place >= 0] = np.inf
        else:
            nearest = far.min()
            far[far.argmin()] = np.inf if nearest < 1e-3 else nearest
            core[core.argmin()] = np.inf if core.min() < 1e-3 else core.min()
        parts = min(neighbours.CORE_PARTS, len(core))
        core = core.reshape(parts, -1).min(1)
        core = core[np.isfinite(core)]
        trusted = np.maximum(far, worth).min()
        answers.append([trusted, core.mean() if len(core) else 0.0])
    return np.nan_to_num(np.array(answers).T, posinf=0.0)


@given(
    st.integers(1, 4).flatmap(
        lambda axes: st.lists(
            st.lists(st.integers(-8, 8), min_size=axes, max_size=axes), min_size=3, max_size=40
        )
    ),
    st.sampled_from([0.6, 1.0]),
    st.booleans(),
)
def test_distances_are_those_counted_by_hand(rows, share, whitens):
    x = torch.tensor(rows).float()
    points, new = ReferencePoints.of(x, trimmed(x, share), whitens=whitens), x[::2] + 0.5
    np.testing.assert_allclose(points.distances(new), by_hand(points, new), atol=4e-3)
    own = torch.arange(len(x))
    np.testing.assert_allclose(points.distances(x, own), by_hand(points, x, own), atol=4e-3)


def test_a_row_does_not_vouch_for_itself_however_far_out_it_lies():
    x = torch.cat([normal(300, 3), 300 * normal(40, 3, seed=1)]).float()
    points = ReferencePoints.of(x, trimmed(x, 0.6))
    trusted, core = points.distances(x)
    others = torch.cdist(x, x).fill_diagonal_(torch.inf).min(1).values
    assert (trusted >= others - 1e-3 * (1 + others)).all()
    assert trusted[300:].min() > 1
    assert core[300:].min() > core[:300].max()


def test_a_cluster_of_anomalies_vouches_for_none_of_its_own():
    x = torch.cat([normal(300, 3), 12 + 0.01 * normal(20, 3, seed=1)]).float()
    points = ReferencePoints.of(x, trimmed(x, 0.6))
    trusted, core = points.distances(x, torch.arange(len(x)))
    assert torch.cdist(x[300:], x[300:]).fill_diagonal_(9).min(1).values.max() < 0.1
    assert trusted[300:].min() > 3 * trusted[:300].median()
    assert core[300:].min() > 3 * core[:300].median()


def test_a_copy_among_the_rows_vouches_and_the_row_itself_left_out_by_place_does_not():
    x = torch.cat([normal(100, 3), torch.full((2, 3), 0.5)]).float()
    points = replace(ReferencePoints.of(x, trimmed(x, 0.6)), worth=torch.zeros(102))
    assert points.distances(x[100:101])[0] == 0  # of two copies one is the row, one vouches
    far = torch.cat([normal(100, 3), torch.full((1, 3), 9.0)]).float()
    alone = replace(ReferencePoints.of(far, trimmed(far, 0.6)), worth=torch.zeros(101))
    assert alone.distances(far[100:101])[0] > 3
    near = far[100:101] + 0.1  # no copy, so it would vouch
    assert alone.distances(near)[0] < 0.5
    assert alone.distances(near, torch.tensor([100]))[0] > 3


@pytest.mark.parametrize("size", [1, 3, 37])
def test_copies_far_out_have_the_same_distances_in_any_company(size):
    x = torch.cat([30 + normal(300, 33), 300 + normal(300, 33, seed=1)]).float()
    points = ReferencePoints.of(x, trimmed(x, 1.0))
    rows = torch.cat([x[::4], x[::5] + 1e-3 * normal(120, 33, seed=2).float()])
    together = points.distances(rows)
    apart = torch.cat([points.distances(part) for part in rows.split(size)], 1)
    torch.testing.assert_close(apart, together, rtol=1e-6, atol=1e-6)


def test_a_row_far_from_the_core_vouches_for_no_less_than_half_of_its_own_distance():
    x = torch.cat([normal(300, 3), torch.full((1, 3), 9.0)]).float()
    points = ReferencePoints.of(x, trimmed(x, 0.6))
    near = points.distances(x[300:301] + 0.1)
    usual = points.distances(x[:300], torch.arange(300)).median(1).values
    half = neighbours.LEAST_DISTRUST * near[1] / usual[1]
    assert near[0] / usual[0] == pytest.approx(half, rel=0.1)


def test_a_row_whose_values_are_far_out_vouches_for_less():
    x = torch.cat([normal(300, 3), torch.full((1, 3), 9.0)]).float()
    values = torch.cat([torch.ones(300), torch.full((1,), 40.0)])
    points = ReferencePoints.of(x, trimmed(x, 0.6), distrust=0.8, values=values)
    near = points.distances(x[300:301] + 0.1)
    usual = points.distances(x[:300], torch.arange(300)).median(1).values
    far_out = (near[1] / usual[1] + 40) / 2
    assert near[0] / usual[0] == pytest.approx(0.8 * far_out, rel=0.1)


def test_each_part_of_the_core_has_rows_of_its_whole():
    x = torch.arange(1_000).float()[:, None] / 1_000
    points = ReferencePoints.of(x, trimmed(x, 1.0))
    parts = points.core_points.view(neighbours.CORE_PARTS, -1)
    assert len(points.core_points) == neighbours.CORE_POINTS
    np.testing.assert_allclose(parts.mean(1), parts.mean(), atol=0.05)
    place = points.core_place[points.core_place >= 0]
    assert sorted(place.tolist()) == list(range(neighbours.CORE_POINTS))


def test_a_core_smaller_than_its_parts_is_asked_as_a_whole():
    x = normal(6, 2).float()
    points = ReferencePoints.of(x, trimmed(x, 0.6))
    assert len(points.core_points) == 4 < neighbours.CORE_PARTS
    new = torch.tensor([[3.0, 3.0]])
    far = torch.cdist(points.robust.whitened(new), points.core_points)
    torch.testing.assert_close(points.distances(new)[1], far.mean(1))
    two = ReferencePoints.of(x[:2], trimmed(x[:2], 1.0), whitens=True).distances(
        x[:2], torch.tensor([0, 1])
    )
    torch.testing.assert_close(two, two[0, 0].expand(2, 2))  # each has only the other


# What is remembered.


def iter_blocks(start, count):
    """Rows that hold their own place in a stream."""
    numbers = torch.arange(start, start + count)[:, None].float()
    return Batch(numbers, torch.zeros(count, 0).long(), torch.ones(count, 1).bool())


@pytest.mark.parametrize("size", [1, 7, 300])
def test_of_all_rows_met_each_is_as_likely_to_be_remembered(size, monkeypatch):
    monkeypatch.setattr(split, "MAX_REFERENCE_ROWS", 200)
    held = ReferenceSet(iter_blocks(0, 200), np.full(200, -1), 1, np.ones(200))
    for met in range(200, 1_200, size):
        more = min(size, 1_200 - met)
        held = held.with_rows(iter_blocks(met, more), np.ones(more), met)
        assert len(held) == 200
    places = held.batch.numbers[:, 0].numpy()
    assert len(set(places.tolist())) == 200
    parts = np.histogram(places, bins=4, range=(0, 1_200))[0]
    assert np.abs(parts - 50).max() < 3.5 * np.sqrt(50 * 3 / 4)


def test_rows_that_only_calibrated_stay_while_others_change_places(monkeypatch):
    monkeypatch.setattr(split, "MAX_REFERENCE_ROWS", 100)
    fold = np.where(np.arange(150) < 50, 0, -1)
    held = ReferenceSet(iter_blocks(0, 150), fold, 1, np.ones(150), ["a"] * 150)
    held = held.with_rows(iter_blocks(150, 900), np.full(900, 2.0), 150)
    assert len(held) == 150
    assert held.batch.numbers[:50, 0].tolist() == list(range(50))
    assert (held.fold[:50] == 0).all()
    assert (held.batch.numbers[:, 0] >= 150).sum() == pytest.approx(100 * 900 / 1_050, abs=1)
    new = held.batch.numbers[:, 0].numpy() >= 150
    assert (held.fold[new] == split.FRESH).all()
    assert held.judged.tolist() == np.flatnonzero(new | (held.fold == 0)).tolist()
    np.testing.assert_array_equal(held.factor, np.where(new, 2, 1))


def test_a_wide_table_remembers_fewer_rows_but_never_fewer_than_a_hundred():
    wide = [split.most_reference_rows(cells) for cells in (1, 838, 2_000, 10**6)]
    assert wide == [4_096, 4_096, 2_097, 100]


# From anomaly score to alarm.

SURPRISES = st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 9.0]), min_size=1, max_size=60)


@given(SURPRISES, st.lists(st.floats(width=32), max_size=20))
def test_a_p_value_is_never_zero_and_never_above_one(held_out, asked):
    p = Calibration.of(np.array(held_out)).p_value(np.array(asked, float))
    assert (np.isnan(p) == np.isnan(asked)).all()
    known = p[~np.isnan(p)]
    assert (known >= 1 / (len(held_out) + 1)).all()
    assert (known <= 1).all()


@given(SURPRISES, SURPRISES, st.floats(0.01, 0.99), st.integers(0, 60))
def test_discoveries_are_those_of_benjamini_and_hochberg(held_out, batch, share, cut):
    """The textbook's rule on the batch: the k least p-values, for the largest k within share."""
    calibration = Calibration.of(np.array(held_out))
    anomaly_score = np.array([*batch, np.nan])
    found = Discoveries(calibration, share)
    found.add(anomaly_score[:cut])  # in two blocks, in any place, with a row that is no test
    found.add(anomaly_score[cut:])
    p = calibration.p_value(anomaly_score)
    ranked = np.sort(p[~np.isnan(p)])
    within = ranked * len(ranked) <= share * np.arange(1, len(ranked) + 1) * (1 + 1e-12)
    wanted = p <= ranked[within].max() if within.any() else np.zeros(len(p), bool)
    alarms = anomaly_score > calibration.threshold(found.false_alarm_rate())
    np.testing.assert_array_equal(alarms, wanted)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_of_the_alarms_raised_together_the_promised_share_is_false_on_average(share):
    rng, false, right = np.random.default_rng(0), [], []
    for _ in range(60):
        found = Discoveries(Calibration.of(rng.normal(size=2_000)), share)
        anomaly_score = np.r_[rng.normal(size=900), rng.normal(4, 1, size=100)]
        found.add(anomaly_score)
        alarms = anomaly_score > found.calibration.threshold(found.false_alarm_rate())
        false.append(alarms[:900].sum() / max(alarms.sum(), 1))
        right.append(alarms[900:].mean())
    assert np.mean(false) == pytest.approx(0.9 * share, abs=4 * np.std(false) / np.sqrt(60))
    assert np.mean(right) > 0.8


def test_a_share_that_the_calibration_rows_cannot_support_raises_nothing_and_says_so():
    found = Discoveries(Calibration.of(np.arange(50.0)), 0.01)
    found.add(np.r_[np.zeros(98), 99.0, 99.0])
    assert found.false_alarm_rate() == 0
    assert found.calibration.threshold(0.0) == np.inf
    assert "with 50 calibration rows the lowest p-value is 0.02" in found.shortage()
