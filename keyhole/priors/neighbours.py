"""Neighbours: remembered codes, each with a normal as wide as its neighbours are near."""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from keyhole.errors import SettingError
from keyhole.priors.base import Prior

CHUNK = 1_024


class Neighbours(Prior):
    """A kernel density over at most `most` codes, each as wide as its k-th neighbour is far.

    Follows any shape, keeps training codes, and stays close to them. Source: the adaptive kernel
    of Breiman et al. 1977, eq. 1.
    """

    kind = "neighbours"
    least_rows = 3

    def __init__(self, k: int = 5, *, width: float = 0.5, most: int = 5_000) -> None:
        super().__init__()
        self.k = k
        self.width = width
        self.most = most

    def check(self) -> None:
        """Raises: SettingError for a kernel of no width or no code."""
        if not (self.k >= 1 and self.width > 0 and self.most >= 3):
            raise SettingError(
                f"k={self.k!r}, width={self.width!r}, most={self.most!r}: give a neighbour from 1 "
                "up, a width above zero, and at least 3 codes"
            )

    def _make(self, width: int, rows: int) -> None:
        self.check()
        held = min(rows, self.most)
        self.register_buffer("codes", torch.zeros(held, width))
        self.register_buffer("reach", torch.ones(held))

    def fit(self, codes: Float[Tensor, "row code"], generator: Generator) -> None:
        """Keep some codes, and how far the k-th neighbour of each is."""
        held = self.get_buffer("codes")
        chosen = torch.randperm(len(codes), generator=generator)[: len(held)]
        held.copy_(codes[chosen])
        k, reach = min(self.k, len(held) - 1), self.get_buffer("reach")
        for start in range(0, len(held), CHUNK):
            far = torch.cdist(held[start : start + CHUNK], held)
            reach[start : start + CHUNK] = far.kthvalue(k + 1, 1).values
        least = reach[reach > 0].min() if bool((reach > 0).any()) else torch.tensor(1e-3)
        # A distance in k dimensions is sqrt(k) standard deviations of one.
        reach.clamp_(min=float(least)).mul_(self.width / math.sqrt(held.shape[1]))

    def sample(self, n: int, generator: Generator) -> Float[Tensor, "n code"]:
        """A remembered code, moved within its reach."""
        held, reach = self.get_buffer("codes"), self.get_buffer("reach")
        which = torch.randint(len(held), (n,), generator=generator)
        noise = torch.randn(n, held.shape[1], generator=generator)
        return held[which] + reach[which, None] * noise

    def log_prob(self, codes: Float[Tensor, "row code"]) -> Float[Tensor, " row"]:
        """The log of the kernels' mean."""
        held, reach = self.get_buffer("codes"), self.get_buffer("reach")
        wide = held.shape[1]
        norm = wide * torch.log(reach) + 0.5 * wide * math.log(2 * math.pi) + math.log(len(held))
        found = []
        for start in range(0, len(codes), CHUNK):
            far = torch.cdist(codes[start : start + CHUNK], held) / reach
            found.append(torch.logsumexp(-0.5 * far.square() - norm, 1))
        return torch.cat(found) if found else torch.zeros(0)
