"""What each bottleneck promises of its codes, in numbers."""

import math
import warnings
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate
from torch.distributions import Normal, kl_divergence

from keyhole.autoencoder.estimator import Autoencoder
from keyhole.autoencoder.input_validation import open_rows
from keyhole.core.layout import Layout, Shape, Slot
from keyhole.core.parts import kinds
from keyhole.core.records import Code
from keyhole.errors import KeyholeWarning, SettingError
from keyhole.modalities import Schema
from keyhole.model.bottlenecks import (
    FSQ,
    L1,
    MMD,
    Composite,
    Contractive,
    Hyperspherical,
    Ordered,
    Plain,
    ResidualVQ,
    TopK,
    Variational,
)
from keyhole.model.heads import Mixed
from keyhole.model.nets import LinearNet
from keyhole.training import TrainingConfig
from keyhole.training.corruptions import NoCorruption
from keyhole.training.objective import objective

WIDE, ROWS = 12, 50
LAYOUT = Layout.of([Slot(f"c{i}", "number", "student_t") for i in range(10)])


def bound(part, members=1):
    """The part, bound to twelve numbers a row, its weights drawn."""
    torch.manual_seed(0)
    part.bind(Shape(LAYOUT, WIDE, members))
    return part.eval().requires_grad_(False)


def states(rows=ROWS, members=1):
    return torch.randn(members, rows, WIDE, generator=seeded(1))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def factors(rows=600, wide=6, rank=2, noise=0.3, scale=1.0):
    """A table of numbers that come from a few normal factors."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(wide, rank)))[0].T * np.arange(rank + 1, 1, -1)[:, None]
    values = rng.normal(size=(rows, rank)) @ turn + noise * rng.normal(size=(rows, wide))
    return pd.DataFrame(scale * values, columns=[f"c{i}" for i in range(wide)])


# composite


def test_the_price_of_a_composite_code_is_its_log_ratio_to_the_mixture_for_each_value():
    part = bound(Composite(4, gamma=0.1))
    code, earlier = part(states(), seeded()), part(states() + 0.3)
    values = torch.arange(1.0, ROWS + 1)[None]
    z, own = code.z[0], Normal(code.mean, code.stats["log_sd"].exp())
    density = (
        0.15 * Normal(0.0, 1.0).log_prob(z).exp()
        + 0.75 * Normal(earlier.mean, earlier.stats["log_sd"].exp()).log_prob(z).exp()
        + 0.1 * Normal(0.0, math.exp(5.0)).log_prob(z).exp()
    )
    wanted = 0.1 * values[..., None] * (own.log_prob(z) - density.log())
    cost = part.recalled(code, earlier, values).cost
    torch.testing.assert_close(cost, wanted, rtol=1e-3, atol=1e-4)
    assert (cost < 0.1 * values[..., None] * -math.log(0.75)).float().mean() > 0.5


def test_a_composite_code_that_stays_where_it_was_costs_less_than_one_that_moves():
    part = bound(Composite(4))
    code, values = part(states(), seeded()), torch.ones(1, ROWS)
    stays = part.recalled(code, part(states()), values).cost.sum(-1)
    moves = part.recalled(code, part(states() + 5.0), values).cost.sum(-1)
    assert float(stays.mean()) < float(moves.mean())
    assert float(stays.max()) <= 4 * part.gamma * -math.log(0.75) + 1e-6


def test_a_composite_code_is_compared_with_the_averaged_weights_given_the_whole_row():
    model = Autoencoder(Composite(2), training=TrainingConfig(20, members=1), random_state=0).fit(
        factors()
    )
    network, source = model.model_.network, open_rows(model, factors())
    batch = model.model_.modality.encode(source.group(0))
    averaged = deepcopy(network)
    with torch.no_grad():
        averaged.bottleneck.to_mean.bias.add_(3.0)
    masked = replace(
        NoCorruption().corrupt(batch, network.shape.layout, seeded()),
        input=batch.hide(torch.rand(batch.observed.shape, generator=seeded()) < 0.5),
    )
    with torch.no_grad():
        losses = [objective(network, masked, seeded(), 1.0, other) for other in (None, averaged)]
        nats = -network(masked.input, seeded()).likelihood.log_prob(masked.target).sum(-1).mean()
        code = network.bottleneck(network.encoder(network.stem(masked.input)), seeded())
        earlier = averaged.encode(batch)
        cost = network.bottleneck.recalled(code, earlier, batch.counts()).cost.sum(-1).mean()
    assert float(losses[1]) == pytest.approx(float(nats + cost), rel=1e-4)
    assert float(losses[0]) == pytest.approx(float(nats), rel=1e-4)


# variational


def test_the_price_of_a_variational_code_is_its_divergence_from_the_normal():
    code = bound(Variational(4))(states())
    wanted = kl_divergence(Normal(code.mean, code.stats["log_sd"].exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(code.cost, wanted, rtol=1e-4, atol=1e-5)
    halved = bound(Variational(4, beta=0.5))(states())
    torch.testing.assert_close(halved.cost, wanted / 2, rtol=1e-4, atol=1e-5)


def test_the_log_ratio_of_a_draw_is_that_of_the_prior_to_the_posterior():
    part = bound(Variational(4, samples=3))
    code = part(states(), seeded())
    posterior = Normal(code.mean, code.stats["log_sd"].exp())
    wanted = (Normal(0.0, 1.0).log_prob(code.z) - posterior.log_prob(code.z)).sum(-1)
    torch.testing.assert_close(code.log_ratio, wanted, rtol=1e-3, atol=1e-3)
    assert code.z.shape[0] == 3


def test_without_a_generator_a_variational_code_is_its_mean():
    code = bound(Variational(4))(states())
    assert torch.equal(code.z[0], code.mean)


def test_free_bits_charge_no_dimension_below_them_and_others_in_full():
    part = bound(Variational(4, free_bits=5.0))
    state = states().requires_grad_()
    code = part(state)
    free = code.stats["nats"].mean(-2) < 5.0
    assert free.any()
    charged = code.cost.mean(-2)
    assert (charged[free] == 5.0).all()
    torch.testing.assert_close(charged[~free], code.stats["nats"].mean(-2)[~free])
    bound(Variational(4, free_bits=1e6))(state).cost.sum().backward()
    assert (state.grad == 0).all()


def test_a_rate_holds_the_nats_of_a_code_near_it():
    model = Autoencoder(
        Variational(2, rate=3.0), training=TrainingConfig(400, members=1), random_state=0
    )
    model.fit(factors())
    assert sum(model.model_.evidence["code_nats"]) == pytest.approx(3.0, abs=0.4)


def test_more_draws_bring_the_bound_closer_to_the_likelihood():
    model = Autoencoder(
        Variational(2), training=TrainingConfig(100, members=1), random_state=0
    ).fit(factors())
    network, source = model.model_.network, open_rows(model, factors())
    batch = model.model_.modality.encode(source.group(0))
    corrupted = NoCorruption().corrupt(batch, network.shape.layout, seeded())
    nats = {}
    for samples in (1, 2, 50):
        network.bottleneck.samples = samples
        with torch.no_grad():
            found = [objective(network, corrupted, seeded(s)).item() for s in range(5)]
        nats[samples] = np.mean(found)
    assert nats[50] < nats[2] < nats[1]
    marginal = -model.log_likelihood(factors(), samples=500).mean()
    assert marginal == pytest.approx(nats[50], abs=0.1)
    assert marginal < nats[2]


def test_the_price_of_a_code_rises_while_a_run_warms_up():
    training = TrainingConfig()
    prices = [training.penalty_at(step, 1_000) for step in (0, 99, 199, 200, 999)]
    assert prices[0] == pytest.approx(1 / 201)
    assert prices[1] == pytest.approx(100 / 201)
    assert prices == sorted(prices)
    assert prices[-2:] == [1.0, 1.0]


def test_the_objective_weighs_what_a_code_costs_by_the_price():
    model = Autoencoder(Variational(2), training=TrainingConfig(2, members=1), random_state=0).fit(
        factors()
    )
    batch = model.model_.modality.encode(open_rows(model, factors()).group(0))
    corrupted = NoCorruption().corrupt(batch, model.model_.network.shape.layout, seeded())
    with torch.no_grad():
        none, half, full = (
            objective(model.model_.network, corrupted, seeded(), penalty).item()
            for penalty in (0, 0.5, 1)
        )
        cost = model.model_.network(batch).code.cost.sum(-1).mean().item()
    assert full - none == pytest.approx(cost, rel=1e-3)
    assert half - none == pytest.approx(cost / 2, rel=1e-3)


# hyperspherical


def test_hyperspherical_codes_and_their_draws_have_unit_length():
    code = bound(Hyperspherical(4))(states(), seeded())
    for z in (code.mean, code.z[0]):
        torch.testing.assert_close(z.norm(dim=-1), torch.ones(1, ROWS), rtol=0, atol=1e-4)


@pytest.mark.parametrize("bias", [-20.0, 0.0, 5.0, 500.0, 1e6])
@pytest.mark.parametrize("width", [2, 3, 9])
def test_the_divergence_of_a_direction_from_all_directions_is_never_below_zero(width, bias):
    part = bound(Hyperspherical(width))
    with torch.no_grad():
        part.to_spread.bias.fill_(bias)
    code = part(states(), seeded())
    assert torch.isfinite(code.cost).all()
    assert (code.cost.sum(-1) >= -1e-4).all()
    assert torch.isfinite(code.log_ratio).all()


@pytest.mark.parametrize("bias", [0.0, 4.0, 30.0])
def test_the_price_of_a_direction_is_the_numerically_integrated_divergence(bias):
    part = bound(Hyperspherical(3))
    with torch.no_grad():
        part.to_spread.weight.zero_()
        part.to_spread.bias.fill_(bias)
    kappa = math.log1p(math.exp(bias)) + 1.0
    norm, _ = integrate.quad(lambda t: 2 * math.pi * (1 + t) ** kappa, -1, 1)

    def at(t):
        q = (1 + t) ** kappa / norm
        return 2 * math.pi * q * math.log(max(q, 1e-300) * 4 * math.pi)

    wanted, _ = integrate.quad(at, -1, 1)
    found = part(states()).cost.sum(-1)
    torch.testing.assert_close(found, torch.full((1, ROWS), wanted), rtol=1e-4, atol=1e-4)


def test_draws_around_a_direction_cost_on_average_what_the_price_says():
    with torch.no_grad():
        code = bound(Hyperspherical(3))(states(1).expand(1, 20_000, -1), seeded())
    said = float(code.cost[0, 0].sum())
    assert float(-code.log_ratio.mean()) == pytest.approx(said, abs=0.02)


# sparse codes


def test_top_k_keeps_exactly_k_units_of_a_row():
    part = bound(TopK(9, k=3))
    with torch.no_grad():
        part.to_code.bias.fill_(10.0)  # so that no unit is below zero
    code = part(states()).mean
    assert ((code != 0).sum(-1) == 3).all()
    full = part.to_code(states())
    torch.testing.assert_close(code.amax(-1), full.amax(-1))


def test_a_top_k_code_is_the_same_alone_and_in_a_batch():
    part = bound(TopK(40, k=4))
    whole = part(states()).mean
    for row in range(5):
        alone = part(states()[:, row : row + 1]).mean
        torch.testing.assert_close(alone[0, 0], whole[0, row], rtol=0, atol=1e-6)


@pytest.mark.parametrize("part", [TopK(9, k=3), L1(9)])
def test_a_draw_for_a_sparse_code_is_brought_to_no_unit_below_zero(part):
    found = bound(part).project(torch.randn(100, 9, generator=seeded()))
    assert (found >= 0).all()
    assert (found > 0).any()


def test_an_idle_unit_is_charged_on_the_rows_nearest_to_it():
    part = bound(TopK(9, k=3, revive=0.5))
    with torch.no_grad():
        part.to_code.bias[..., 0] = -50.0
    code = part.penalised(part(states()), None, states(), seeded())
    charged = (code.cost > 0).sum((0, 1))
    assert charged[0] == 4
    assert (charged[(code.mean > 0).any(1)[0]] == 0).all()


def test_the_price_of_l1_does_not_fall_when_codes_are_made_small():
    part = bound(L1(9, weight=0.2))
    code = part(states())
    full = part.penalised(code, None, states(), seeded()).cost.sum()
    small = part.penalised(
        replace(code, mean=0.1 * code.mean), None, states(), seeded()
    ).cost.sum()
    assert float(small / full) == pytest.approx(1.0, rel=1e-2)


def test_sparse_codes_may_be_wider_than_a_row_and_others_may_not():
    for part in (TopK(40), L1(40)):
        assert bound(part)(states()).mean.shape[-1] == 40
    with pytest.raises(SettingError, match=r"width=40: the row has only 10 values.*sparse"):
        bound(Plain(40))


# discrete codes


@pytest.mark.parametrize("levels", [2, 5, [3, 4, 8]])
def test_fsq_codes_are_on_the_grid(levels):
    part = bound(FSQ(None if isinstance(levels, list) else 3, levels=levels))
    code = part(3 * states(500)).mean[0]
    for j, count in enumerate(levels if isinstance(levels, list) else [levels] * 3):
        grid = (torch.arange(count) + 0.5) * 2 / count - 1
        far = (code[:, j, None] - grid).abs().amin(1)
        assert float(far.max()) < 1e-6
        assert len(code[:, j].mul(1_000).round().unique()) == count


def test_fsq_computes_in_float32_under_autocast():
    part = bound(FSQ(3, levels=100))
    plain = part(states()).mean
    with torch.autocast("cpu", dtype=torch.bfloat16):
        code = part(states())
        half = part(states().bfloat16())
    assert code.mean.dtype == half.mean.dtype == torch.float32
    assert torch.equal(code.mean, plain)


def test_fsq_charges_codes_that_are_all_alike_the_entropy_they_lack():
    part = bound(FSQ(2, levels=4))
    values = torch.tensor([-0.75, -0.25, 0.25, 0.75])
    for free, wanted in (
        (torch.full((16, 2), 0.75), math.log(16)),
        (torch.cartesian_prod(values, values), 0.0),
    ):
        z = free[None]
        code = Code(z[None], z, torch.zeros_like(z), stats={"free": z})
        charged = part.penalised(code, None, states(), seeded()).cost.sum(-1)
        # The count is soft, so that it has a slope: a little of each code is at its neighbours.
        torch.testing.assert_close(charged, torch.full((1, 16), wanted), rtol=0, atol=0.25)


@pytest.mark.parametrize("width", [2, 6])
def test_onto_of_residual_vq_is_idempotent_and_leads_to_the_nearest_sum(width):
    part = bound(ResidualVQ(width, books=2, size=8))
    z = torch.randn(200, width, generator=seeded())
    found = part.project(z)
    torch.testing.assert_close(part.project(found), found, rtol=0, atol=1e-6)
    sums = (part.words[0][:, None] + part.words[1][None]).reshape(-1, width)
    nearest = torch.cdist(z, sums).amin(1)
    torch.testing.assert_close((z - found).norm(dim=1), nearest, rtol=0, atol=1e-4)


def test_residual_vq_codes_are_sums_of_its_codewords():
    part = bound(ResidualVQ(3, books=2, size=4))
    code = part(states(500)).mean[0]
    sums = (part.words[0][:, None] + part.words[1][None]).reshape(-1, 3)
    assert float(torch.cdist(code, sums).amin(1).max()) < 1e-3
    assert len(code.mul(1_000).round().unique(dim=0)) <= 16


# ordered, contractive, mmd


def test_ordered_codes_of_a_linear_net_are_the_principal_components_in_order():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    values = rng.normal(size=(4_000, 6)) * np.sqrt([8.0, 4.0, 2.0, 0.3, 0.2, 0.1]) @ turn.T
    model = Autoencoder(
        Ordered(3),
        net=LinearNet(),
        head=Mixed(continuous="gaussian"),
        corruption=NoCorruption(),
        schema=Schema(kinds="alike"),  # one scale, so that directions keep their variances
        training=TrainingConfig(
            900, members=1, learning_rate=1e-2
        ),  # 3 s: components settle one by one
        random_state=0,
    ).fit(values)
    cells = model.model_.modality.encode(open_rows(model, values).group(0)).numbers.numpy()
    vectors = np.linalg.eigh(np.cov(cells, rowvar=False))[1]
    weight = model.model_.network.head.features["gaussian"].to_location.weight[0].detach().numpy()
    for j in range(3):
        column = weight[:, j] / np.linalg.norm(weight[:, j])
        angle = np.degrees(np.arccos(min(abs(column @ vectors[:, -1 - j]), 1.0)))
        assert angle < 5, (j, angle)


def test_a_contractive_code_moves_less_when_the_row_does():
    slopes = {}
    for weight in (0.0, 3.0):
        part = Contractive(2, weight=weight)
        model = Autoencoder(part, training=TrainingConfig(150, members=1), random_state=0).fit(
            factors()
        )
        batch = model.model_.modality.encode(open_rows(model, factors()).group(0))
        network = model.model_.network
        with torch.no_grad():
            embedded = network.stem(batch)
            code = network.bottleneck(network.encoder(embedded))
            network.bottleneck.weight = 1.0
            found = [
                network.bottleneck.penalised(
                    code, network._encode, embedded, seeded(s)
                ).cost.mean()
                for s in range(10)
            ]
        slopes[weight] = float(torch.stack(found).mean())
    assert slopes[3.0] < 0.8 * slopes[0.0]


def test_the_price_of_a_contractive_code_does_not_fall_when_it_is_made_small():
    part, costs = bound(Contractive(3, weight=1.0)), []
    for size in (1.0, 0.1):

        def encode(embedded, size=size):
            return size * embedded[..., :3]

        mean = encode(states(500))
        code = Code(mean[None], mean, torch.zeros_like(mean))
        costs.append(float(part.penalised(code, encode, states(500), seeded()).cost.mean()))
    assert costs[0] == pytest.approx(1.0, rel=0.15)  # slope one, variance one
    assert costs[1] == pytest.approx(costs[0], rel=0.01)


@pytest.mark.parametrize(("shift", "least", "most"), [(0.0, -0.02, 0.02), (3.0, 0.2, 2.0)])
def test_the_price_of_mmd_is_nothing_for_normal_codes_and_large_for_shifted_ones(
    shift, least, most
):
    part = bound(MMD(2, weight=1.0))
    z = torch.randn(1, 1_000, 2, generator=seeded(3)) + shift
    code = part.penalised(Code(z[None], z, torch.zeros_like(z)), None, states(), seeded())
    assert least < float(code.cost.sum(-1).mean()) < most


# settings


@pytest.mark.parametrize("kind", sorted(kinds("bottleneck")))
@pytest.mark.parametrize("width", [0, -1, 2.5, True, "wide", 100_000])
def test_a_width_that_is_none_is_refused(kind, width):
    with pytest.raises(SettingError, match="a code has from 1 to 65,536 dimensions, or 'auto'"):
        bound(kinds("bottleneck")[kind](width))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (Variational(beta=-1.0), "beta=-1.0: it must be zero or above"),
        (Variational(beta=math.inf), "beta=inf"),
        (Variational(free_bits=-0.1), "free_bits=-0.1"),
        (Variational(rate=0.0), "rate=0.0: expected nats per row"),
        (Variational(samples=0), "samples=0: give a whole number from 1 to"),
        (Variational(samples=5, beta=0.5), "samples=5: the importance-weighted bound does not"),
        (Variational(samples=5, free_bits=0.1), "samples=5"),
        (Hyperspherical(1), "width=1: the hyperspherical bottleneck needs at least 2"),
        (Hyperspherical(beta=-1.0), "beta=-1.0"),
        (TopK(k=0), "k=0: expected a whole number"),
        (TopK(revive=-1.0), "revive=-1.0"),
        (L1(weight=-1.0), "weight=-1.0"),
        (MMD(weight=-1.0), "weight=-1.0"),
        (Contractive(weight=-1.0), "weight=-1.0"),
        (FSQ(levels=1), "levels=1: expected from 2 to 1,024 values"),
        (FSQ(3, levels=[4, 4]), "width=3: levels="),
        (FSQ(usage=-1.0), "usage=-1.0"),
        (ResidualVQ(books=0), "books=0"),
        (ResidualVQ(size=1), "size=1"),
    ],
)
def test_an_argument_without_sense_is_refused_before_a_step_is_made(part, said):
    with pytest.raises(SettingError, match=said.replace("[", r"\[")):
        Autoencoder(part, training=TrainingConfig(1)).fit(factors(60))


# collapse


def test_a_fixed_scale_that_drowns_the_data_is_told_before_training_and_found_after():
    head, told = Mixed(continuous="gaussian", scale=1.0), []
    model = Autoencoder(
        Variational(3), head=head, training=TrainingConfig(80, members=1), random_state=0
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.fit(factors(scale=0.05), on_evaluate=lambda event: told.append(len(said)))
    assert told[0] == 1  # at the first evaluation, before any step
    assert issubclass(said[0].category, KeyholeWarning)
    assert str(said[0].message).startswith("KH008 the code will collapse: 0 of 6 directions")
    assert "KH008" in {finding.code for finding in model.findings_}
    assert sum(model.model_.evidence["code_nats"]) < 0.1


@pytest.mark.parametrize("scale", ["shared", "column", 0.01])
def test_a_scale_that_fits_the_data_is_not_warned_of(scale):
    head = Mixed(continuous="gaussian", scale=scale)
    model = Autoencoder(
        Variational(3), head=head, training=TrainingConfig(120, members=1), random_state=0
    )
    model.fit(factors(scale=0.05))  # warnings are errors
    assert "KH008" not in {finding.code for finding in model.findings_}
    assert sum(model.model_.evidence["code_nats"]) > 1.0


def test_one_number_beside_levels_is_no_reason_to_warn_of_collapse():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=60), "city": rng.choice(["a", "b"], 60)})
    Autoencoder(Variational(1), training=TrainingConfig(2, members=1), random_state=0).fit(frame)
