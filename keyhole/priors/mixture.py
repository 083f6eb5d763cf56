"""A Gaussian mixture over codes."""

import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from keyhole.errors import SettingError
from keyhole.priors.base import Prior, covariance
from keyhole.priors.normal import normal_log_prob

TRIED = (1, 2, 3, 5, 8, 12, 20)  # components, compared on codes of rows held out
HELD_OUT = 0.2
MOST_COMPARED = 10_000
NONE = -30.0  # log-share of a component that is not used
RIDGE = 1e-3  # of codes scaled to unit variance


class Mixture(Prior):
    """Normals with covariances of their own; None: as many, of 1 to 20, as held-out codes ask for.

    Source: expectation-maximisation (scikit-learn's GaussianMixture); as a prior fitted after
    training, Ghosh et al. 2020, section 4.
    """

    kind = "mixture"

    def __init__(self, components: int | None = None) -> None:
        super().__init__()
        self.components = components

    def check(self) -> None:
        """Raises: SettingError for a mixture of nothing."""
        if self.components is not None and not 1 <= self.components <= 1_000:
            raise SettingError(f"components={self.components!r}: give from 1 to 1,000, or None")

    def _make(self, width: int, rows: int) -> None:
        self.check()
        count = min(self.components or TRIED[-1], rows)
        self.rows = rows
        self.register_buffer("log_share", torch.full((count,), NONE))
        self.register_buffer("means", torch.zeros(count, width))
        self.register_buffer("roots", torch.eye(width).repeat(count, 1, 1))

    def fit(self, codes: Float[Tensor, "row code"], generator: Generator) -> None:
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
        row = np.arange(len(white)) % self.rows
        held = row >= (1 - HELD_OUT) * self.rows
        rng = np.random.default_rng(seed)
        known, asked = (
            white[rng.permutation(np.flatnonzero(part))[:MOST_COMPARED]] for part in (~held, held)
        )
        best, found = -np.inf, 1
        for count in TRIED:
            if count > len(known) // 2 or not len(asked):
                break
            score = _fitted(known, count, seed).score(asked)
            if score > best:
                best, found = score, count
        return found

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
        parts = [
            log_share[i] + normal_log_prob(codes, mean, root)
            for i, (mean, root) in enumerate(
                zip(self.get_buffer("means"), self.get_buffer("roots"), strict=True)
            )
        ]
        return torch.logsumexp(torch.stack(parts), 0)


def _fitted(white: np.ndarray, count: int, seed: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(count, reg_covar=RIDGE, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a density that fits less well
        return mixture.fit(white)
