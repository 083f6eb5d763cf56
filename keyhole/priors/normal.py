"""One normal distribution: the mean and covariance of the codes."""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from keyhole.priors.base import Prior, covariance

LOG_2PI = math.log(2 * math.pi)


class Normal(Prior):
    """The likeliest normal: right where codes were held to one, else a floor to beat."""

    kind = "normal"

    def __init__(self) -> None:
        super().__init__()

    def _make(self, width: int, rows: int) -> None:
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("root", torch.eye(width))

    def fit(self, codes: Float[Tensor, "row code"], generator: Generator) -> None:
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
