"""How far out the values of a row are among the rows of the core, each by itself."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from keyhole.core.layout import CLOCK, TREND, Layout, Slot
from keyhole.tasks.detect.core_values import CoreValues, axes_of_values

pytestmark = pytest.mark.usefixtures("every_shape")


def core_values(x, core=None):
    core = torch.ones(len(x), dtype=torch.bool) if core is None else core
    return CoreValues.of(x, core, torch.arange(x.shape[1]))


def by_hand(core, value):
    """The nats of a value that a row of the core has, or that lies beyond all of them."""
    low, high = (core <= value).sum(), (core >= value).sum()
    nats = -np.log(min(max(low, 0.5), max(high, 0.5)) / len(core))
    excess = max(core.min() - value, value - core.max(), 0)
    return nats + np.log1p(4 * excess / max(np.ptp(core), 1e-6))


def normal(rows, axes, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, axes))).float()


@given(st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=2), min_size=1, max_size=9))
def test_few_values_are_counted_one_by_one_and_summed_over_the_axes(rows):
    x = torch.tensor(rows).float()
    expected = [sum(by_hand(x[:, i].numpy(), row[i]) for i in (0, 1)) for row in rows]
    np.testing.assert_allclose(core_values(x).nats_of(x), expected, rtol=1e-5)


def test_a_value_beyond_the_core_costs_more_the_farther_it_is_in_ranges_of_the_core():
    x = torch.tensor([[0.0, 0.0], [1.0, 100.0], [2.0, 200.0]])
    nats = core_values(x).nats_of(torch.tensor([[3.0, 100.0], [7.0, 100.0], [1.0, 700.0]]))
    most = by_hand(np.array([0.0, 1.0, 2.0]), 2.0)
    usual = by_hand(np.array([0.0, 1.0, 2.0]), 1.0)
    assert nats[0] == pytest.approx(most + np.log1p(4 * 0.5) + usual + np.log(1.0))
    assert nats[1] > nats[0]
    assert nats[1] == pytest.approx(nats[2])  # as many ranges


def test_another_value_than_the_only_one_of_the_core_costs_most():
    x = torch.cat([normal(100, 1), torch.ones(100, 1)], 1)
    usual, far, other = core_values(x).nats_of(torch.tensor([[0.0, 1.0], [9.0, 1.0], [0.0, 2.0]]))
    assert other > far + 8 > usual + 8


def test_a_value_of_many_rows_outside_the_core_counts_by_its_distance_alone():
    x = torch.zeros(100, 2)
    x[60:, 0], x[90:, 1] = 1.0, 1.0
    often, rare = core_values(x, torch.arange(100) < 60).nats_of(torch.eye(2))
    assert often == pytest.approx(np.log1p(4))
    assert rare == pytest.approx(np.log1p(4e6))


def test_many_values_are_interpolated_closely():
    x, new = normal(5_000, 1), torch.linspace(-3, 3, 301)[:, None]
    nats, core = core_values(x).nats_of(new).numpy(), x[:, 0].numpy()
    exact = [by_hand(core, value) for value in new[:, 0].numpy()]
    np.testing.assert_allclose(nats[50:-50], exact[50:-50], atol=0.12)
    np.testing.assert_allclose(nats, exact, atol=0.4)
    assert np.argmin(nats) == pytest.approx(150, abs=10)


def test_a_row_of_the_core_is_not_counted_and_a_row_outside_it_changes_nothing():
    x = normal(40, 3)
    core = torch.arange(40) < 30
    values = core_values(x, core)
    own = values.nats_of(x, torch.arange(40))
    without = torch.stack([
        core_values(x[keep], core[keep]).nats_of(x[i : i + 1])[0]
        for i in range(40)
        for keep in [torch.arange(40) != i]
    ])  # fmt: skip
    torch.testing.assert_close(own[30:], values.nats_of(x[30:]))
    torch.testing.assert_close(own[30:], without[30:])
    inner = ((x > x[core].amin(0)) & (x < x[core].amax(0))).all(1) & core
    assert (own - without)[inner].mean() == pytest.approx(0, abs=0.05)
    torch.testing.assert_close(own[inner], without[inner], atol=0.4, rtol=0)
    assert (own[:30] > values.nats_of(x[:30])).all()
    assert torch.equal(values.nats_of(x, torch.full((40,), -1)), values.nats_of(x))


def test_a_gap_counts_as_its_column_typically_does():
    x, new = normal(500, 3), normal(200, 3, seed=1)
    values, gaps = core_values(x), new.clone()
    gaps[:, 1] = torch.nan
    typical = float(values.nats_of(x).mean()) / 3
    assert float((values.nats_of(gaps) - values.nats_of(new)).mean()) == pytest.approx(0, abs=0.3)
    empty = values.nats_of(torch.full((1, 3), torch.nan))
    assert float(empty[0]) == pytest.approx(3 * typical, abs=1e-4)


def test_a_row_has_the_same_nats_in_any_company():
    x, new = normal(500, 33), normal(100, 33, seed=1)
    values = core_values(x)
    together = values.nats_of(new)
    for size in (1, 3, 37):
        torch.testing.assert_close(
            torch.cat([values.nats_of(part) for part in new.split(size)]),
            together,
            rtol=1e-7,
            atol=0,
        )


@pytest.mark.parametrize("axes", [0, 1])
def test_one_row_and_no_axis_are_possible(axes):
    x = normal(1, axes)
    values = core_values(x)
    assert torch.isfinite(values.nats_of(x, torch.tensor([0]))).all()
    assert values.nats_of(normal(5, axes)).shape == (5,)
    assert values.nats_of(normal(0, axes)).shape == (0,)


def test_the_time_that_passes_has_no_values_by_itself():
    layout = Layout.of([
        Slot("size", "number", "student_t"),
        Slot("at", "datetime", "student_t", CLOCK),
        Slot("at", "datetime", "student_t", "day"),
        Slot("until", "datetime", "student_t", TREND),
        Slot("city", "category", "categorical", levels=3, shares=(0.6, 0.3, 0.1)),
    ])  # fmt: skip
    assert axes_of_values(layout, 7).tolist() == [0, 3, 4, 5, 6]
