"""Sparse codes by choice: the k largest units of each row, the rest exactly zero."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional

from keyhole.bottlenecks.base import Bottleneck
from keyhole.core.records import Code
from keyhole.errors import SettingError

CALLED = 4  # rows of a batch that call an idle unit


class TopK(Bottleneck):
    """Keep the `k` largest activations of each row; the rest are exactly zero.

    A unit that no row of a training batch chose is called by the rows that came nearest to it: the
    gap to what they chose is charged, times `revive`. A row's code depends on no other row.
    """

    kind = "top_k"
    overcomplete = True
    purpose = "dictionaries: few named parts a row, out of many"
    formula = "z = TopK(relu(W h + b)); idle units: revive relu(z_(k) - z_j) on their nearest rows"
    source = "Makhzani and Frey 2014, eq. 1; Gao et al. 2024, eq. 2"

    def __init__(
        self, width: int | Literal["auto"] | None = None, *, k: int = 8, revive: float = 0.3
    ) -> None:
        super().__init__()
        self.width = width
        self.k = k
        self.revive = revive

    def check(self) -> None:
        """Raises: SettingError for a k that keeps nothing, or a price below zero."""
        if self.k < 1 or self.k != int(self.k):
            raise SettingError(f"k={self.k!r}: keep from 1 unit up")
        if not 0 <= self.revive < float("inf"):
            raise SettingError(f"revive={self.revive!r}: it must be zero or above")

    def forward(
        self, state: Float[Tensor, "*lead batch wide"], generator: Generator | None = None
    ) -> Code:
        """The kept units of each row, the same with and without a generator."""
        full = self.to_code(state)
        z = self.onto(full)
        return Code(z[None], z, torch.zeros_like(z), stats={"before": full})

    def onto(self, z: Float[Tensor, "*lead code"]) -> Float[Tensor, "*lead code"]:
        """The `k` largest units that are above zero, the rest zero."""
        k = min(self.k, z.shape[-1])
        kept = z.topk(k, -1)
        return torch.zeros_like(z).scatter(-1, kept.indices, functional.relu(kept.values))

    def priced(self, code: Code, encode: object, embedded: Tensor, generator: Generator) -> Code:
        """With what idle units are charged on the rows that come nearest to them."""
        before, k = code.stats["before"], min(self.k, code.mean.shape[-1])
        needed = functional.relu(before.topk(k, -1).values[..., -1:]).detach()
        gap = functional.relu(needed - before) + 0.01  # beyond the row's last place, not up to it
        idle = (code.mean <= 0).all(-2, keepdim=True)
        near = gap <= gap.kthvalue(min(CALLED, gap.shape[-2]), -2, keepdim=True).values
        return Code(code.z, code.mean, self.revive * gap * (idle & near), stats=code.stats)
