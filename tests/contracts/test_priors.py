"""Every prior over codes: a density that integrates to one, and that its samples follow."""

import re
from functools import cache

import numpy as np
import pytest
import torch

from keyhole.core.parts import kinds
from keyhole.errors import SettingError
from keyhole.model.priors import Diffusion, Mixture, Neighbours, Normal
from keyhole.training import train_by

ROWS = 400
KINDS = pytest.mark.parametrize("kind", sorted(kinds("prior")))


def made(kind):
    """A prior of this kind; a small one where fitting takes seconds."""
    return Diffusion(hidden=32, rounds=300) if kind == "diffusion" else kinds("prior")[kind]()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clusters(rows, seed):
    """Two round clusters, four apart in the first of two dimensions."""
    noise = seeded(seed)
    side = torch.randint(2, (rows, 1), generator=noise) * 4.0 - 2.0
    return 0.5 * torch.randn(rows, 2, generator=noise) + side * torch.tensor([[1.0, 0.5]])


@cache
def fitted(kind):
    """A prior fitted to clusters; once a kind, as a diffusion takes a second."""
    prior = made(kind)
    prior.bind_codes(2, ROWS)
    prior.fit(clusters(ROWS, 1), seeded(), train_by)
    return prior.eval()


@KINDS
@pytest.mark.parametrize("n", [1, 50])
def test_a_prior_draws_as_many_codes_as_it_is_asked_for_and_the_same_for_a_seed(kind, n):
    prior = fitted(kind)
    drawn = prior.sample(n, seeded(3))
    assert drawn.shape == (n, 2)
    assert torch.isfinite(drawn).all()
    assert torch.equal(prior.sample(n, seeded(3)), drawn)
    assert not torch.equal(prior.sample(n, seeded(4)), drawn)


@cache
def on_a_grid(kind):
    """The log-density at even places (wider apart where it takes seconds), and their area."""
    side = torch.linspace(-6, 6, 61 if kind == "diffusion" else 121)
    found = fitted(kind).log_prob(torch.cartesian_prod(side, side))
    assert found.shape == (len(side) ** 2,)
    return found.detach().double(), float(side[1] - side[0]) ** 2


@KINDS
def test_log_prob_integrates_to_one(kind):
    log_prob, area = on_a_grid(kind)
    total = float(log_prob.exp().sum()) * area
    assert total == pytest.approx(1.0, abs=0.05 if kind == "diffusion" else 0.01)


@KINDS
def test_draws_lie_where_the_density_says(kind):
    """The mean of log p over draws is minus its entropy, by the same density on a grid."""
    log_prob, area = on_a_grid(kind)
    entropy = -float((log_prob.exp() * log_prob).sum()) * area
    drawn = fitted(kind).sample(1_000, seeded(5))
    said = -float(fitted(kind).log_prob(drawn).detach().mean())
    assert said == pytest.approx(entropy, abs=0.15)


@pytest.mark.parametrize("kind", sorted(set(kinds("prior")) - {"normal"}))
def test_two_clusters_are_likelier_than_under_one_normal(kind):
    held_out = clusters(200, 2)
    gained = fitted(kind).log_prob(held_out).mean() - fitted("normal").log_prob(held_out).mean()
    assert float(gained) > 0.3


@KINDS
def test_a_state_that_is_kept_draws_the_same_again(kind):
    again = made(kind)
    again.bind_codes(2, ROWS)
    again.load_state_dict(fitted(kind).state_dict())
    assert torch.equal(again.sample(20, seeded()), fitted(kind).sample(20, seeded()))
    held_out = clusters(20, 2)
    assert torch.equal(again.log_prob(held_out), fitted(kind).log_prob(held_out))


@KINDS
def test_too_few_rows_are_refused_with_what_to_do(kind):
    prior = made(kind)
    least = 200 if kind == "diffusion" else prior.least_rows
    assert prior.least_rows == least
    cure = "use the mixture or the normal" if least > 3 else "give more rows"
    with pytest.raises(SettingError, match=rf"at least {least} rows.*{cure}"):
        prior.bind_codes(2, least - 1)
    prior.bind_codes(2, least)


@KINDS
def test_equal_codes_still_make_a_density(kind):
    prior = made(kind)
    prior.bind_codes(2, 200)
    prior.fit(torch.ones(200, 2), seeded(), train_by)
    drawn = prior.sample(50, seeded())
    torch.testing.assert_close(drawn, torch.ones(50, 2), atol=0.05, rtol=0)


@KINDS
def test_one_dimension_is_enough(kind):
    prior = made(kind)
    prior.bind_codes(1, 200)
    prior.fit(torch.randn(200, 1, generator=seeded()), seeded(), train_by)
    grid = torch.linspace(-8, 8, 201)[:, None]
    total = float(prior.eval().log_prob(grid).detach().double().exp().sum()) * 0.08
    assert total == pytest.approx(1.0, abs=0.05 if kind == "diffusion" else 0.01)


def test_the_normal_prior_is_the_mean_and_covariance_of_the_codes():
    codes = torch.randn(500, 3, generator=seeded()) @ torch.randn(3, 3, generator=seeded(1)) + 5
    prior = Normal()
    prior.bind_codes(3, 500)
    prior.fit(codes, seeded(), train_by)
    spread = torch.from_numpy(np.cov(codes.numpy(), rowvar=False)).float()
    wanted = torch.distributions.MultivariateNormal(codes.mean(0), spread).log_prob(codes)
    torch.testing.assert_close(prior.log_prob(codes), wanted, rtol=1e-3, atol=1e-3)


def test_a_mixture_finds_the_clusters_and_their_shares():
    prior = Mixture(2)
    prior.bind_codes(2, ROWS)
    prior.fit(clusters(ROWS, 1), seeded(), train_by)
    share = torch.softmax(prior.log_share, 0)
    used = share > 0.01
    torch.testing.assert_close(share[used], torch.full((2,), 0.5), atol=0.1, rtol=0)
    middles = prior.means[used].sort(0).values
    torch.testing.assert_close(middles[1], torch.tensor([2.0, 1.0]), atol=0.15, rtol=0)


def test_neighbours_draw_near_the_codes_that_they_keep():
    prior = fitted("neighbours")
    far = torch.cdist(prior.sample(500, seeded()), clusters(ROWS, 1)).amin(1)
    assert float(far.median()) < 0.1


@pytest.mark.parametrize(
    ("prior", "said"),
    [
        (Mixture(0), "components=0"),
        (Neighbours(0), "k=0"),
        (Neighbours(width=0.0), "width=0.0"),
        (Diffusion(steps=1), "steps=1"),
        (Diffusion(steps=51), "from 2 to 50 steps"),
        (Diffusion(rounds=0), "rounds=0"),
        (Diffusion(hidden=0), "hidden=0"),
    ],
)
def test_an_argument_without_sense_is_refused(prior, said):
    with pytest.raises(SettingError, match=re.escape(said)):
        prior.bind_codes(2, 1_000)
