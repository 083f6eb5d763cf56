"""The interface of a prior, a density over codes, and those in closed form.

These are a normal, a Gaussian mixture, and a kernel density of neighbours.
"""

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from keyhole.core.parts import Part
from keyhole.errors import SettingError

# The loss of a network at a step, a pure function of both; step -1 asks for held-out data.
StepLoss = Callable[[nn.Module, int], Tensor]
# Trains a network in place by such a loss, with a number of steps and a learning rate.
Trainer = Callable[[nn.Module, StepLoss, int, float], None]
LOG_2PI = math.log(2 * math.pi)
TRIED = (1, 2, 3, 5, 8, 12, 20)  # components, compared on codes of rows held out
HELD_OUT = 0.2
MAX_COMPARED = 10_000  # codes of each part, whose neighbours are searched
UNUSED = -30.0  # log-share of a component that is not used
RIDGE = 1e-3  # of codes scaled to unit variance
CHUNK = 1_024  # rows whose distances are held at once


class Prior(Part):
    """A density over codes, for any bottleneck.

    Bound to a width and to the number of codes it will be fitted to (`bind_codes`), then fitted.
    Codes are those of one member, with noise where the bottleneck has it.
    """

    family = "prior"
    least_rows: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__init__()

    def bind_codes(self, width: int, rows: int) -> None:
        """Make room for what is learned from these codes. Raises: SettingError if too few."""
        if rows < self.least_rows:
            cure = "use the mixture or the normal prior" if rows > 2 else "give more rows"
            raise SettingError(
                f"a {self.kind} prior needs at least {self.least_rows:,} rows, but there are "
                f"{rows:,}; {cure}"
            )
        self._make(width, rows)

    @abstractmethod
    def _make(self, width: int, rows: int) -> None:
        """Register the tensors that `fit` fills."""

    @abstractmethod
    def fit(self, codes: Float[Tensor, "row code"], generator: Generator, train: Trainer) -> None:
        """Learn the density of these codes; a prior that is a network uses `train`."""

    @abstractmethod
    def sample(self, n: int, generator: Generator) -> Float[Tensor, "n code"]:
        """New codes."""

    @abstractmethod
    def log_prob(self, codes: Float[Tensor, "row code"]) -> Float[Tensor, " row"]:
        """The log-density of codes in nats."""


def covariance(codes: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of codes, and the lower Cholesky root of their covariance, a little widened."""
    mean = codes.mean(0)
    centred = (codes - mean).double()
    spread = centred.T @ centred / max(len(codes) - 1, 1)
    width = len(mean)
    ridge = 1e-6 * spread.diagonal().mean().clamp(min=1e-6)
    root = torch.linalg.cholesky(spread + ridge * torch.eye(width, dtype=spread.dtype))
    return mean, root.to(codes.dtype)


class Normal(Prior):
    """The likeliest normal: right where codes were trained to be normal, else a baseline."""

    kind = "normal"

    def _make(self, width: int, rows: int) -> None:
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("root", torch.eye(width))

    def fit(self, codes: Float[Tensor, "row code"], generator: Generator, train: Trainer) -> None:
        """Mean and covariance."""
        mean, root = covariance(codes)
        self.get_buffer("mean").copy_(mean)
        self.get_buffer("root").copy_(root)

    def sample(self, n: int, generator: Generator) -> Float[Tensor, "n code"]:
        """Normal draws, correlated as codes are."""
        mean, root = self.get_buffer("mean"), self.get_buffer("root")
        return mean + torch.randn(n, len(mean), generator=generator) @ root.T

    def log_prob(self, codes: Float[Tensor, "row code"]) -> Float[Tensor, " row"]:
        """The normal log-density."""
        return normal_log_prob(codes, self.get_buffer("mean"), self.get_buffer("root"))


def normal_log_prob(codes: Tensor, mean: Tensor, root: Tensor) -> Float[Tensor, " row"]:
    """The log-density of codes under N(mean, root root^T)."""
    white = torch.linalg.solve_triangular(root, (codes - mean).T, upper=False)
    scale = torch.log(root.diagonal()).sum() + 0.5 * len(mean) * LOG_2PI
    return -0.5 * white.square().sum(0) - scale


@dataclass(eq=False, repr=False)
class Mixture(Prior):
    """Normals with covariances of their own; None: as many, of 1 to 20, as held-out codes ask for.

    Source: expectation-maximisation (scikit-learn's GaussianMixture); as a prior fitted after
    training, Ghosh et al. 2020, section 4.
    """

    kind = "mixture"

    components: int | None = None

    def check(self) -> None:
        """Raises: SettingError for an invalid number of components."""
        if self.components is not None and not 1 <= self.components <= 1_000:
            raise SettingError(f"components={self.components!r}: give from 1 to 1,000, or None")

    def _make(self, width: int, rows: int) -> None:
        self.check()
        count = min(self.components or TRIED[-1], rows)
        self.rows = rows
        self.register_buffer("log_share", torch.full((count,), UNUSED))
        self.register_buffer("means", torch.zeros(count, width))
        self.register_buffer("roots", torch.eye(width).repeat(count, 1, 1))

    def fit(self, codes: Float[Tensor, "row code"], generator: Generator, train: Trainer) -> None:
        """Expectation-maximisation on codes turned to unit covariance."""
        mean, root = covariance(codes)
        white = torch.linalg.solve_triangular(root, (codes - mean).T, upper=False).T.double()
        seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
        count = self.components or self._count(white.numpy(), seed)
        mixture = _fitted(white.numpy(), min(count, len(self.get_buffer("means"))), seed)
        means, spreads, shares = (
            torch.from_numpy(np.asarray(x)).float()
            for x in (mixture.means_, mixture.covariances_, mixture.weights_)
        )
        used = slice(0, len(means))
        self.get_buffer("log_share")[used] = torch.log(shares.clamp(min=1e-12))
        self.get_buffer("means")[used] = means @ root.T + mean
        self.get_buffer("roots")[used] = root @ torch.linalg.cholesky(spreads)

    def _count(self, white: np.ndarray, seed: int) -> int:
        """The number of components under which codes of held-out rows are likeliest.

        Codes come as whole rounds over the rows, so that all draws of a row are held out together.
        """
        held_out = np.arange(len(white)) % self.rows >= (1 - HELD_OUT) * self.rows
        rng = np.random.default_rng(seed)
        train, test = (
            white[rng.permutation(np.flatnonzero(part))[:MAX_COMPARED]]
            for part in (~held_out, held_out)
        )
        tried = [count for count in TRIED if count <= len(train) // 2 and len(test)]
        scores = {count: _fitted(train, count, seed).score(test) for count in tried}
        return max(scores, key=lambda count: scores[count], default=1)

    def sample(self, n: int, generator: Generator) -> Float[Tensor, "n code"]:
        """A component by its share, and a draw from it."""
        share = torch.softmax(self.get_buffer("log_share"), 0)
        which = torch.multinomial(share, n, replacement=True, generator=generator)
        means, roots = self.get_buffer("means"), self.get_buffer("roots")
        noise = torch.randn(n, means.shape[1], generator=generator)
        return means[which] + (roots[which] @ noise[:, :, None])[:, :, 0]

    def log_prob(self, codes: Float[Tensor, "row code"]) -> Float[Tensor, " row"]:
        """The log-density of the mixture."""
        log_share = torch.log_softmax(self.get_buffer("log_share"), 0)
        components = zip(
            log_share, self.get_buffer("means"), self.get_buffer("roots"), strict=True
        )
        parts = [share + normal_log_prob(codes, mean, root) for share, mean, root in components]
        return torch.logsumexp(torch.stack(parts), 0)


def _fitted(white: np.ndarray, count: int, seed: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(count, reg_covar=RIDGE, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a density that fits less well
        return mixture.fit(white)


@dataclass(eq=False, repr=False)
class Neighbours(Prior):
    """A kernel density over at most `most` codes, each as wide as its k-th neighbour is far.

    Follows any shape, keeps training codes, and stays close to them. Source: the adaptive kernel
    of Breiman et al. 1977, eq. 1.
    """

    kind = "neighbours"
    least_rows = 3

    k: int = 5
    _: KW_ONLY
    width: float = 0.5
    most: int = 5_000

    def check(self) -> None:
        """Raises: SettingError for an invalid kernel."""
        if not (self.k >= 1 and self.width > 0 and self.most >= 3):
            raise SettingError(
                f"k={self.k!r}, width={self.width!r}, most={self.most!r}: expected k of at "
                "least 1, a width above zero, and most of at least 3"
            )

    def _make(self, width: int, rows: int) -> None:
        self.check()
        count = min(rows, self.most)
        self.register_buffer("codes", torch.zeros(count, width))
        self.register_buffer("reach", torch.ones(count))

    def fit(self, codes: Float[Tensor, "row code"], generator: Generator, train: Trainer) -> None:
        """Keep some codes, and how far the k-th neighbour of each is."""
        centres, reach = self.get_buffer("codes"), self.get_buffer("reach")
        chosen = torch.randperm(len(codes), generator=generator)[: len(centres)]
        centres.copy_(codes[chosen])
        k = min(self.k, len(centres) - 1)
        for start in range(0, len(centres), CHUNK):
            distances = torch.cdist(centres[start : start + CHUNK], centres)
            reach[start : start + CHUNK] = distances.kthvalue(k + 1, 1).values
        least = float(reach[reach > 0].min()) if bool((reach > 0).any()) else 1e-3
        # A distance in k dimensions is sqrt(k) standard deviations of one.
        reach.clamp_(min=least).mul_(self.width / math.sqrt(centres.shape[1]))

    def sample(self, n: int, generator: Generator) -> Float[Tensor, "n code"]:
        """A training code, moved within its reach."""
        centres, reach = self.get_buffer("codes"), self.get_buffer("reach")
        chosen = torch.randint(len(centres), (n,), generator=generator)
        noise = torch.randn(n, centres.shape[1], generator=generator)
        return centres[chosen] + reach[chosen, None] * noise

    def log_prob(self, codes: Float[Tensor, "row code"]) -> Float[Tensor, " row"]:
        """The log of the kernels' mean."""
        centres, reach = self.get_buffer("codes"), self.get_buffer("reach")
        width = centres.shape[1]
        norm = width * torch.log(reach) + 0.5 * width * LOG_2PI + math.log(len(centres))
        parts = [
            torch.logsumexp(-0.5 * (torch.cdist(chunk, centres) / reach).square() - norm, 1)
            for chunk in codes.split(CHUNK)
        ]
        return torch.cat(parts)
