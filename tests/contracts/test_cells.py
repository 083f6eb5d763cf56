"""Every head of cells against scipy's distributions: written out here, so tested there."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from keyhole.core.layout import Layout, Shape, Slot
from keyhole.core.parts import build, kinds
from keyhole.modalities.tabular.columns.base import bins
from keyhole.model.heads import FeatureHead

import keyhole.model.heads.discrete as categorical  # isort: skip

WIDE, BATCH = 5, 7
SHARES = (0.5, 0.3, 0.15, 0.05)
HEAPED = np.where(np.arange(600) % 4, np.random.default_rng(0).normal(size=600).round(2), 0.5)
FEWER = np.random.default_rng(1).integers(-2, 3, 400).astype(float)
SLOTS = {
    "student_t": [Slot("a", "number", "student_t"), Slot("b", "number", "student_t", scale=3.0)],
    "gaussian": [Slot("a", "number", "student_t"), Slot("b", "number", "student_t", scale=3.0)],
    "logistic": [
        Slot("a", "pixel", "student_t", step=0.5, ends=(-2.0, 2.0)),
        Slot("b", "number", "student_t", scale=3.0),
    ],
    "poisson_gaussian": [
        Slot("a", "pixel", "student_t", ends=(-2.0, 2.0)),
        Slot("b", "number", "student_t", scale=3.0),
    ],
    "binned": [
        Slot(name, "number", "student_t", bins=tuple(map(tuple, bins(values))))
        for name, values in (("a", HEAPED), ("b", FEWER))
    ],
    "bernoulli": [
        Slot("a", "boolean", "bernoulli", center=c, nats_unobserved=5.0) for c in (0.1, 0.6)
    ],
    "counts": [Slot("a", "count", "counts", center=c, nats_unobserved=5.0) for c in (0.5, 3.0)],
    "categorical": [
        Slot("a", "category", "categorical", levels=4, nats_unobserved=5.0, shares=SHARES),
        Slot("b", "category", "categorical", levels=2, nats_unobserved=4.0, shares=(0.9, 0.1)),
    ],
}
KINDS = pytest.mark.parametrize("kind", sorted(kinds("cells")))
MEMBERS = pytest.mark.parametrize("members", [1, 3])


def bound(kind, members=1):
    """A head of two cells, bound, its weights drawn; and a state for it."""
    torch.manual_seed(0)
    head = kinds("cells")[kind]()
    slots = SLOTS[kind]
    head.bind_slots(Shape(Layout.of(slots), WIDE, members), slots)
    return head, torch.randn(1, members, BATCH, WIDE)


def features_of(kind, members=1):
    head, state = bound(kind, members)
    with torch.no_grad():
        return head(state, torch.ones(BATCH, 2, dtype=torch.bool))


def targets(kind):
    """Cells as they stand in a batch: (batch, cell)."""
    rng = np.random.default_rng(1)
    if kind == "categorical":
        return torch.from_numpy(rng.integers(1, 3, (BATCH, 2)))
    made = {
        "bernoulli": rng.integers(0, 2, (BATCH, 2)),
        "counts": np.log1p(rng.integers(0, 30, (BATCH, 2))),
        "logistic": rng.integers(-4, 5, (BATCH, 2)) / 2,
    }
    return torch.from_numpy(made.get(kind, rng.normal(size=(BATCH, 2)))).float()


def test_every_head_has_slots_to_be_tried_on():
    assert set(kinds("cells")) == set(SLOTS), "add slots of the new head to SLOTS"


@KINDS
@MEMBERS
def test_log_prob_mean_interval_and_sample_have_a_value_for_every_cell(kind, members):
    cells, shape = features_of(kind, members), (1, members, BATCH, 2)
    generator = torch.Generator().manual_seed(0)
    assert cells.log_prob(targets(kind)).shape == shape
    assert cells.mean.shape == cells.sample(generator).shape == shape
    low, high = cells.interval(0.9)
    assert low.shape == high.shape == shape
    assert (low <= high).all()
    assert torch.isfinite(cells.log_prob(targets(kind))).all()


@KINDS
@MEMBERS
@pytest.mark.parametrize("places", [[1], [0], [0, 1]])
def test_some_features_alone_are_distributed_as_among_all(kind, members, places):
    head, state = bound(kind, members)
    observed, target = torch.arange(BATCH * 2).reshape(BATCH, 2) % 3 > 0, targets(kind)
    with torch.no_grad():
        some = head.some(state, observed, torch.tensor(places))
        whole = head(state, observed)
    own = target[:, places]
    torch.testing.assert_close(some.log_prob(own), whole.log_prob(target)[..., places])
    torch.testing.assert_close(some.deviance(own), whole.deviance(target)[..., places])
    torch.testing.assert_close(some.mean, whole.mean[..., places])


@KINDS
@MEMBERS
def test_a_gradient_reaches_every_parameter(kind, members):
    head, state = bound(kind, members)
    observed = torch.arange(BATCH * 2).reshape(BATCH, 2) % 2 == 0
    head(state, observed).log_prob(targets(kind)).sum().backward()
    for name, weight in head.named_parameters():
        assert weight.grad is not None, name
        assert (weight.grad.flatten(1).abs().sum(1) > 0).all(), name


@KINDS
def test_a_gradient_stays_finite_far_from_the_data(kind):
    head, state = bound(kind)
    target = targets(kind)
    far = (
        target * 1e20
        if kind in {"student_t", "gaussian", "binned", "logistic", "poisson_gaussian"}
        else target
    )
    head(state.mul(1e3).requires_grad_(), None).log_prob(far).sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in head.parameters())


@KINDS
def test_samples_have_the_distribution_that_log_prob_says(kind):
    cells, generator = features_of(kind), torch.Generator().manual_seed(0)
    drawn = torch.stack([cells.sample(generator)[0, 0] for _ in range(4000)]).double()
    if kind == "categorical":
        for code in (1, 2):
            share = (drawn == code).double().mean(0)
            said = cells.log_prob(torch.full((BATCH, 2), code)).exp()[0, 0].double()
            torch.testing.assert_close(share, said, atol=0.04, rtol=0)
        return
    low, high = (end[0, 0] for end in cells.interval(0.8))
    if kind == "bernoulli":
        torch.testing.assert_close(drawn.mean(0), cells.mean[0, 0].double(), atol=0.04, rtol=0)
        return
    inside = ((drawn >= low - 1e-6) & (drawn <= high + 1e-6)).double().mean(0)
    assert (inside >= 0.77).all()  # counts and bins jump, so their interval may hold more
    assert kind in {"counts", "binned", "logistic"} or (inside <= 0.83).all()


def test_logistic_is_scipys_mass_between_half_steps_with_open_ends():
    cells = features_of("logistic")
    levels = np.arange(-4, 5) / 2
    location, scale = cells.location[0, 0, 0, 0].item(), cells.scale[0, 0, 0].item()
    edges = [-np.inf, *(levels[1:] - 0.25), np.inf]
    wanted = np.diff(stats.logistic.cdf(edges, location, scale))
    found = [
        cells.log_prob(torch.full((BATCH, 2), v))[0, 0, 0, 0].exp().item() for v in levels.tolist()
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert sum(found) == pytest.approx(1, abs=1e-5)
    target = targets("logistic")
    free = stats.logistic.logpdf(target[:, 1], cells.location[0, 0, :, 1], cells.scale[0, 0, 1])
    np.testing.assert_allclose(cells.log_prob(target)[0, 0, :, 1], free, rtol=1e-4, atol=1e-5)


def test_logistic_stays_a_number_far_out_and_a_level_costs_nothing_where_it_is_expected():
    cells = features_of("logistic")
    far = cells.log_prob(torch.full((BATCH, 2), 1.5) + 1e4)
    assert torch.isfinite(far).all()
    assert cells.deviance(cells.mean[0, 0])[0, 0, :, 1].abs().max() < 1e-5
    assert (cells.deviance(targets("logistic")) >= 0).all()


def test_poisson_gaussian_is_scipys_with_a_variance_that_grows_with_light():
    cells, target = features_of("poisson_gaussian"), targets("poisson_gaussian")
    location = cells.location[0, 0]
    zero, spread = torch.tensor([-2.0, 0.0]), torch.tensor([1.0, 3.0])
    variance = 0.1 * spread * (location - zero).clamp(min=0) + (1.01 * spread).square()
    wanted = stats.norm.logpdf(target, location, variance.sqrt())
    np.testing.assert_allclose(cells.log_prob(target)[0, 0], wanted, rtol=1e-5, atol=1e-6)


def test_student_t_is_scipys():
    cells, target = features_of("student_t"), targets("student_t")
    wanted = stats.t.logpdf(target, cells.nu, cells.location[0, 0], cells.scale[0])
    np.testing.assert_allclose(cells.log_prob(target)[0, 0], wanted, rtol=1e-5, atol=1e-6)
    scale, location = cells.scale[0, 0, 0].item(), cells.location[0, 0, 0, 0].item()
    for end, share in zip(cells.interval(0.9), (0.05, 0.95)):
        wanted = stats.t.ppf(share, cells.nu, location, scale)
        assert end[0, 0, 0, 0].item() == pytest.approx(wanted, rel=1e-5)


def test_student_t_integrates_to_one():
    cells = features_of("student_t")

    def density(x):
        target = torch.full((BATCH, 2), x, dtype=torch.float32)
        return cells.log_prob(target)[0, 0, 0, 1].exp().item()

    total, _ = integrate.quad(density, -500, 500, limit=200, points=[0.0])
    assert total == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("scale", ["shared", "column", 0.5])
def test_gaussian_is_scipys(scale):
    slots = SLOTS["gaussian"]
    head = kinds("cells")["gaussian"](scale)
    head.bind_slots(Shape(Layout.of(slots), WIDE, 1), slots)
    with torch.no_grad():
        cells = head(torch.randn(1, 1, BATCH, WIDE), None)
    target, wide = targets("gaussian"), cells.scale.expand(1, 1, BATCH, 2)[0, 0]
    wanted = stats.norm.logpdf(target, cells.location[0, 0], wide)
    np.testing.assert_allclose(cells.log_prob(target)[0, 0], wanted, rtol=1e-5, atol=1e-6)
    for end, share in zip(cells.interval(0.9), (0.05, 0.95)):
        wanted = stats.norm.ppf(share, cells.location[0, 0], wide)
        np.testing.assert_allclose(end[0, 0], wanted, rtol=1e-4, atol=1e-5)
    drawn = torch.stack([cells.sample(torch.Generator().manual_seed(s)) for s in range(2_000)])
    torch.testing.assert_close(drawn.std(0)[0, 0], wide, rtol=0.08, atol=0)


def test_a_shared_gaussian_scale_is_one_in_units_of_each_columns_spread():
    head, state = bound("gaussian")
    cells = head(state, None)
    torch.testing.assert_close(cells.scale[..., 1] / cells.scale[..., 0], torch.full((1, 1), 3.0))


def test_a_fixed_gaussian_scale_is_in_the_columns_own_units():
    slots = [Slot("a", "number", "student_t", unit=20.0), Slot("b", "number", "student_t")]
    head = kinds("cells")["gaussian"](2.0)
    head.bind_slots(Shape(Layout.of(slots), WIDE, 1), slots)
    torch.testing.assert_close(
        head(torch.zeros(1, 1, 1, WIDE), None).scale, torch.tensor([0.1, 2])
    )
    assert not [name for name, _ in head.named_parameters() if "scale" in name]


def test_bins_integrate_to_one_with_what_is_beyond_them():
    cells = features_of("binned")
    for cell in (0, 1):
        edges = cells.bins.edges[cell]
        edges = edges[torch.isfinite(edges)]
        middle = ((edges[1:] + edges[:-1]) / 2)[:, None].expand(-1, 2)
        soft = type(cells)(cells.logits[:, :, :1], cells.bins)
        inside = (soft.log_prob(middle)[0, 0, :, cell].exp() * edges.diff()).sum()
        low, high = float(edges[0]), float(edges[-1])
        beyond = stats.cauchy.cdf(low, scale=3.0) + stats.cauchy.sf(high, scale=3.0)
        assert float(inside) + 1e-4 * beyond == pytest.approx(1.0, abs=2e-5)
        far = torch.tensor([[low - 1.0] * 2, [high + 1.0] * 2])
        wanted = np.log(1e-4) + stats.cauchy.logpdf(far[:, cell], scale=3.0)
        np.testing.assert_allclose(soft.log_prob(far)[0, 0, :, cell], wanted, rtol=1e-5)


def test_draws_of_bins_fall_into_each_as_often_as_its_logit_says_and_heaps_are_exact():
    cells, generator = features_of("binned"), torch.Generator().manual_seed(0)
    drawn = torch.stack([cells.sample(generator)[0, 0, 0] for _ in range(4_000)])
    heaps = torch.arange(-2.0, 3.0)
    share = (drawn[:, 1:] == heaps).float().mean(0)
    assert float(share.sum()) == 1.0  # no draw between whole numbers
    soft = torch.softmax(cells.logits[0, 0, 0, 1, :5], 0)
    torch.testing.assert_close(share, soft, atol=0.03, rtol=0)
    assert float((drawn[:, 0] == 0.5).float().mean()) > 0.05


def test_the_mean_of_bins_is_that_of_their_draws_and_the_interval_holds_them():
    cells, generator = features_of("binned"), torch.Generator().manual_seed(0)
    drawn = torch.stack([cells.sample(generator)[0, 0] for _ in range(4_000)])
    torch.testing.assert_close(drawn.mean(0), cells.mean[0, 0], atol=0.08, rtol=0)
    low, high = (end[0, 0] for end in cells.interval(0.9))
    share = ((drawn >= low) & (drawn <= high)).float().mean(0)
    assert (share >= 0.88).all()
    assert ((drawn < low).float().mean(0) <= 0.06).all()
    assert ((drawn > high).float().mean(0) <= 0.06).all()


def test_bins_deviate_by_the_nats_below_their_highest_density():
    cells, target = features_of("binned"), targets("binned")
    edges = cells.bins.edges
    middle = ((edges[:, 1:] + edges[:, :-1]) / 2).T  # of padded bins, not a number
    middle = torch.where(torch.isfinite(middle), middle, edges[:, :1].T)
    soft = type(cells)(cells.logits[:, :, :1], cells.bins)
    peak = soft.log_prob(middle)[0, 0].amax(0)
    deviance = soft.deviance(target)[0, 0]
    torch.testing.assert_close(deviance, peak - soft.log_prob(target)[0, 0], rtol=0, atol=1e-3)
    assert float(soft.deviance(middle)[0, 0].amin()) == pytest.approx(0.0, abs=1e-3)


def test_bernoulli_is_scipys_and_sums_to_one():
    cells, target = features_of("bernoulli"), targets("bernoulli")
    wanted = stats.bernoulli.logpmf(target, cells.mean[0, 0])
    np.testing.assert_allclose(cells.log_prob(target)[0, 0], wanted, rtol=1e-5, atol=1e-6)
    both = [cells.log_prob(torch.full((BATCH, 2), value)).exp() for value in (0.0, 1.0)]
    torch.testing.assert_close(both[0] + both[1], torch.ones(1, 1, BATCH, 2))


def test_a_flags_third_value_costs_as_much_as_one_never_seen():
    cells = features_of("bernoulli")
    assert (cells.log_prob(torch.full((BATCH, 2), 2.0)) == -5.0).all()


def test_counts_are_scipys_negative_binomial_and_sum_to_one():
    cells, target = features_of("counts"), targets("counts")
    mean, size = cells.log_mean[0, 0].double().exp().numpy(), cells.size[0].double().numpy()
    counts = np.round(np.expm1(target.double().numpy()))
    wanted = stats.nbinom.logpmf(counts, size, size / (size + mean))
    np.testing.assert_allclose(cells.log_prob(target)[0, 0], wanted, rtol=1e-4, atol=1e-4)
    every = torch.log1p(torch.arange(0.0, 20_000.0))[:, None].expand(-1, 2)
    narrow = type(cells)(cells.log_mean[:, :, :1], cells.size, cells.nats_unobserved)
    total = narrow.log_prob(every).double().exp().sum(-2)
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-3, rtol=0)


def test_a_count_below_zero_costs_as_much_as_one_never_seen():
    assert (features_of("counts").log_prob(torch.full((BATCH, 2), -0.7)) == -5.0).all()


def level(code):
    """This level of the first column, in every row."""
    return torch.tensor([code, 1]).expand(BATCH, 2)


def test_levels_sum_to_one_and_follow_the_softmax_of_their_logits():
    cells = features_of("categorical")
    prob = torch.stack([cells.log_prob(level(code)).exp()[..., 0] for code in range(1, 5)])
    torch.testing.assert_close(prob.sum(0), torch.ones(1, 1, BATCH))
    soft = torch.softmax(cells.logits[..., :4], -1).movedim(-1, 0)
    mixed = (1 - np.exp(-5.0)) * soft + np.exp(-5.0) * torch.tensor(SHARES)[:, None, None, None]
    torch.testing.assert_close(prob, mixed, rtol=1e-4, atol=1e-6)


def test_levels_beyond_the_logits_share_one_and_still_sum_to_one(monkeypatch):
    monkeypatch.setattr(categorical, "MAX_LOGITS", 2)
    cells = features_of("categorical")
    prob = [cells.log_prob(level(code)).exp()[0, 0, :, 0] for code in range(1, 5)]
    torch.testing.assert_close(torch.stack(prob).sum(0), torch.ones(BATCH))
    torch.testing.assert_close(prob[2] / prob[3], torch.full((BATCH,), 3.0))  # as .15 to .05


@KINDS
@MEMBERS
def test_deviance_is_a_number_for_every_cell_and_never_below_zero(kind, members):
    cells, target = features_of(kind, members), targets(kind)
    deviance = cells.deviance(target)
    assert deviance.shape == (1, members, BATCH, 2)
    assert torch.isfinite(deviance).all()
    assert (deviance >= 0).all()
    assert (deviance > 0.01).any()


@pytest.mark.parametrize("kind", sorted(set(kinds("cells")) - {"binned"}))
def test_deviance_grows_by_what_the_log_probability_falls(kind):
    """Between two expectations of one target the perfect one cancels out."""
    head, state = bound(kind)
    target = targets(kind)
    with torch.no_grad():
        one, other = head(state, None), head(2 * state, None)
        fall = one.log_prob(target) - other.log_prob(target)
        rise = other.deviance(target) - one.deviance(target)
    torch.testing.assert_close(rise, fall, rtol=1e-3, atol=1e-4)


def test_a_number_or_count_that_is_expected_exactly_deviates_by_nothing():
    for kind in ("student_t", "gaussian"):
        cells = features_of(kind)
        assert (cells.deviance(cells.location) == 0).all()
    cells = features_of("counts")
    perfect = cells.deviance(torch.log1p(cells.log_mean.exp()))
    torch.testing.assert_close(perfect, torch.zeros_like(perfect), atol=1e-4, rtol=0)


def test_levels_and_flags_deviate_by_all_their_nats():
    for kind in ("bernoulli", "categorical"):
        cells, target = features_of(kind), targets(kind)
        torch.testing.assert_close(cells.deviance(target), -cells.log_prob(target))


def test_deviance_is_scipys_log_probability_at_the_best_expectation_less_that_at_ours():
    cells, target = features_of("student_t"), targets("student_t")
    nu, location, scale = cells.nu, cells.location[0, 0], cells.scale[0]
    wanted = stats.t.logpdf(0, nu, 0, scale) - stats.t.logpdf(target, nu, location, scale)
    np.testing.assert_allclose(cells.deviance(target)[0, 0], wanted, rtol=1e-4, atol=1e-5)
    cells, target = features_of("counts"), targets("counts")
    mean, size = cells.log_mean[0, 0].double().exp().numpy(), cells.size[0].double().numpy()
    counts = np.round(np.expm1(target.double().numpy()))
    best, ours = (stats.nbinom.logpmf(counts, size, size / (size + m)) for m in (counts, mean))
    np.testing.assert_allclose(cells.deviance(target)[0, 0], best - ours, rtol=1e-3, atol=1e-4)


def test_a_value_that_no_training_row_could_have_deviates_by_as_much_as_one_never_seen():
    for kind, never in (("bernoulli", 2.0), ("counts", -0.7)):
        assert (features_of(kind).deviance(torch.full((BATCH, 2), never)) == 5.0).all()


@pytest.mark.parametrize("kind", ["student_t", "gaussian", "binned"])
def test_a_number_too_large_to_square_has_a_finite_deviance(kind):
    far = torch.full((BATCH, 2), 1e30)
    deviance = features_of(kind).deviance(far)
    assert torch.isfinite(deviance).all()
    assert (deviance > 50).all()


@KINDS
def test_a_cell_head_starts_from_the_typical_values_of_its_slots(kind):
    head, _ = bound(kind)
    with torch.no_grad():
        cells = head(torch.zeros(1, 1, BATCH, WIDE), None)
        if kind == "categorical":
            assert (cells.mean == 1).all()
        elif kind == "binned":
            soft = torch.softmax(cells.logits[0, 0, 0, 1, :5], 0)  # of five heaps
            share = torch.tensor([held[4] for held in SLOTS[kind][1].bins])
            torch.testing.assert_close(soft, share, atol=1e-6, rtol=0)
        elif kind not in {"student_t", "gaussian"}:
            centers = torch.tensor([slot.center for slot in SLOTS[kind]])
            slack = 1e-4 if kind == "bernoulli" else 0.5  # of a unit of spread: weights are drawn
            torch.testing.assert_close(cells.mean[0, 0, 0], centers, atol=slack, rtol=0)


@KINDS
def test_a_recipe_builds_the_same_head(kind):
    head = kinds("cells")[kind]()
    again = build("cells", head.recipe())
    assert isinstance(again, FeatureHead)
    assert again.recipe() == head.recipe()
