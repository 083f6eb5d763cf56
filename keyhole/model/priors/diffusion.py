"""A small diffusion model over codes: noise is removed in a few deterministic steps."""

import math
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from keyhole.core.environment import hash_of
from keyhole.errors import SettingError
from keyhole.model.layers import Linear
from keyhole.model.priors.base import Prior, Trainer, covariance

SIGMA_DATA, MIN_SIGMA, MAX_SIGMA, RHO = 0.5, 0.002, 80.0, 7.0
LOG_SIGMA, LOG_SIGMA_SD = -1.2, 1.2  # of the noise levels met in training
BATCH = 512
LEARNING_RATE = 2e-3
MAX_HELD_OUT = 4_096  # codes
EVALUATION_DRAWS = 8  # noise levels a held-out code is judged at
DENSITY_STEPS = 100  # to noise; with 25 the density of two clusters sums to 1.2, so to 1.01
WAVES = 16  # sines and cosines that tell the net the noise level


@dataclass(eq=False, repr=False)
class Diffusion(Prior):
    """A denoiser of codes, trained at all noise levels; `steps` of Heun's method sample it.

    Preconditioning, noise levels, loss weights and sampler: Karras et al. 2022, table 1 and
    algorithm 1; over the codes of a table: Zhang et al. 2024 (TabSyn). Codes are whitened first.
    """

    kind = "diffusion"
    least_rows = 200

    hidden: int = 256
    _: KW_ONLY
    layers: int = 3
    steps: int = 25
    rounds: int | None = None

    def check(self) -> None:
        """Raises: SettingError for invalid steps or sizes."""
        if not 2 <= self.steps <= 50:
            raise SettingError(
                f"steps={self.steps!r}: expected from 2 to 50 steps of Heun's method"
            )
        if not (1 <= self.hidden <= 8_192 and 1 <= self.layers <= 64):
            raise SettingError(
                f"hidden={self.hidden!r}, layers={self.layers!r}: both must be at least 1"
            )
        if self.rounds is not None and self.rounds < 1:
            raise SettingError(
                f"rounds={self.rounds!r}: expected at least 1 training step, or None"
            )

    def _make(self, width: int, rows: int) -> None:
        self.check()
        self.rows = rows
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("root", torch.eye(width))
        self.denoiser = NoiseNet(width, self.hidden, self.layers)

    def fit(self, codes: Float[Tensor, "row code"], generator: Generator, train: Trainer) -> None:
        """Train the denoiser; a tenth of the codes, at most 4,096, decides which weights stay."""
        mean, root = covariance(codes)
        self.get_buffer("mean").copy_(mean)
        self.get_buffer("root").copy_(root)
        white = self._white(codes)[torch.randperm(len(codes), generator=generator)]
        held_out = min(len(white) // 10, MAX_HELD_OUT)
        seed = int(torch.randint(2**31 - 1, (1,), generator=generator))

        def loss(net: nn.Module, step: int) -> Tensor:
            noise = Generator().manual_seed(hash_of(seed, step))
            if step < 0:
                return _loss(net, white[:held_out].repeat(EVALUATION_DRAWS, 1), noise)
            rows = torch.randint(held_out, len(white), (min(BATCH, len(white)),), generator=noise)
            return _loss(net, white[rows], noise)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.denoiser = NoiseNet(len(mean), self.hidden, self.layers)
        steps = self.rounds or int(min(max(1_000, 2 * self.rows), 6_000))
        train(self.denoiser, loss, steps, LEARNING_RATE)

    @torch.no_grad()
    def sample(self, n: int, generator: Generator) -> Float[Tensor, "n code"]:
        """Noise, brought to codes by `steps` of Heun's method."""
        mean, root = self.get_buffer("mean"), self.get_buffer("root")
        levels = _levels(self.steps)
        x = levels[0] * torch.randn(n, len(mean), generator=generator)
        for now, after in pairwise(levels):
            slope = (x - self.denoiser(x, now)) / now
            moved = x + (after - now) * slope
            if after > 0:
                second = (moved - self.denoiser(moved, after)) / after
                moved = x + (after - now) * (slope + second) / 2
            x = moved
        return mean + (x / SIGMA_DATA) @ root.T

    def log_prob(self, codes: Float[Tensor, "row code"]) -> Float[Tensor, " row"]:
        """The log-density, by the change of volume along the deterministic path to noise.

        Source: Song et al. 2021, eq. 39, with the exact trace.
        """
        x, root = self._white(codes), self.get_buffer("root")
        wide, levels = x.shape[1], _levels(DENSITY_STEPS).flip(0)[1:]  # from the least noise up
        change = torch.zeros(len(x))

        def slope(one: Tensor, level: Tensor) -> Tensor:
            return (one - self.denoiser(one[None], level)[0]) / level

        def both(x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
            jacobian = torch.func.vmap(torch.func.jacrev(slope), (0, None))(x, level)
            slopes = torch.func.vmap(slope, (0, None))(x, level)
            return slopes.detach(), jacobian.diagonal(dim1=1, dim2=2).sum(1).detach()

        for now, after in pairwise(levels):
            first, trace = both(x, now)
            second, second_trace = both(x + (after - now) * first, after)
            x = x + (after - now) * (first + second) / 2
            change = change + (after - now) * (trace + second_trace) / 2
        last = float(levels[-1])
        noise = -0.5 * (x / last).square().sum(1) - wide * math.log(last * math.sqrt(2 * math.pi))
        scale = torch.log(root.diagonal()).sum() - wide * math.log(SIGMA_DATA)
        return noise + change - scale

    def _white(self, codes: Tensor) -> Tensor:
        centred = (codes - self.get_buffer("mean")).T
        white = torch.linalg.solve_triangular(self.get_buffer("root"), centred, upper=False)
        return SIGMA_DATA * white.T


class NoiseNet(nn.Module):
    """The clean code that a noisy one was, given the noise level: residual layers of one width."""

    def __init__(self, width: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.input, self.level = Linear(width, hidden), Linear(2 * WAVES, hidden)
        self.layers = nn.ModuleList(Linear(hidden, hidden) for _ in range(layers))
        self.output = Linear(hidden, width)
        waves = torch.exp(torch.linspace(0, math.log(100.0), WAVES))
        self.register_buffer("waves", waves, persistent=False)

    def forward(
        self, x: Float[Tensor, "row code"], sigma: Float[Tensor, "*level"]
    ) -> Float[Tensor, "row code"]:
        """Skip, output and input scales by the noise level: Karras et al. 2022, table 1."""
        sigma = sigma.reshape(-1, 1)
        total = sigma.square() + SIGMA_DATA**2
        turned = torch.log(sigma) / 4 * self.get_buffer("waves")
        level = self.level(torch.cat([turned.sin(), turned.cos()], -1))
        h = self.input(x / total.sqrt()) + level
        for layer in self.layers:
            h = h + layer(nn.functional.silu(h))
        output = self.output(nn.functional.silu(h))
        return SIGMA_DATA**2 / total * x + sigma * SIGMA_DATA / total.sqrt() * output


def _levels(steps: int) -> Tensor:
    """The noise levels from most to none: Karras et al. 2022, eq. 5."""
    most, least = MAX_SIGMA ** (1 / RHO), MIN_SIGMA ** (1 / RHO)
    place = torch.linspace(0, 1, steps)
    return torch.cat([(most + place * (least - most)) ** RHO, torch.zeros(1)])


def _loss(net: nn.Module, clean: Tensor, generator: Generator) -> Tensor:
    """The weighted squared error at random noise levels: Karras et al. 2022, eq. 2 and table 1."""
    noise = torch.randn(len(clean), 1, generator=generator)
    sigma = torch.exp(LOG_SIGMA + LOG_SIGMA_SD * noise)
    noisy = clean + sigma * torch.randn(clean.shape, generator=generator)
    weight = (sigma.square() + SIGMA_DATA**2) / (sigma * SIGMA_DATA).square()
    return (weight * (net(noisy, sigma[:, 0]) - clean).square()).sum(1).mean()
