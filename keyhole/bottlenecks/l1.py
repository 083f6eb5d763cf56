"""Sparse codes by an L1 price: many units, few of them at work in a row."""

from typing import Literal

from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional

from keyhole.bottlenecks.base import Bottleneck
from keyhole.core.records import Code
from keyhole.errors import SettingError


class L1(Bottleneck):
    """Non-negative units, each charged its mean size in multiples of its own root mean square.

    The plain L1 price is evaded by small codes and large decoder weights; the ratio is not.
    """

    kind = "l1"
    overcomplete = True
    purpose = "parts that are present or absent; soft sparsity"
    formula = "weight mean(z) / sqrt(mean(z^2)) for each unit, z = relu(W h + b)"
    source = "Hoyer 2004, eq. 4 (L1 over L2), over rows"

    def __init__(self, width: int | Literal["auto"] | None = None, *, weight: float = 0.1) -> None:
        super().__init__()
        self.width = width
        self.weight = weight

    def check(self) -> None:
        """Raises: SettingError for a weight below zero."""
        if not 0 <= self.weight < float("inf"):
            raise SettingError(f"weight={self.weight!r}: it must be zero or above")

    def onto(self, z: Float[Tensor, "*lead code"]) -> Float[Tensor, "*lead code"]:
        """No unit below zero."""
        return functional.relu(z)

    def priced(self, code: Code, encode: object, embedded: Tensor, generator: Generator) -> Code:
        """With each unit's price."""
        size = code.mean.square().mean(-2, keepdim=True).add(1e-8).sqrt()
        return Code(code.z, code.mean, self.weight * code.mean / size)
