"""The contractive bottleneck: codes that hardly move when the row does."""

from dataclasses import replace
from typing import Literal

from jaxtyping import Float
from torch import Generator, Tensor

from keyhole.bottlenecks.base import Bottleneck, Encode, noise_like
from keyhole.core.records import Code
from keyhole.errors import SettingError

STEP = 1e-2  # of a standardised cell


class Contractive(Bottleneck):
    """Charges the squared slope of each code dimension in the embedded row, over its variance.

    E (J u)^2 over normal u is the squared norm of a row of the Jacobian; J u is a difference of
    two encodings. Dividing by the variance keeps the net from shrinking the code instead.
    """

    kind = "contractive"
    purpose = "codes that ignore small changes of the row"
    formula = "weight ||dz_j / dx||^2 / var(z_j)"
    source = "Rifai et al. 2011, eq. 1"

    def __init__(self, width: int | Literal["auto"] | None = None, *, weight: float = 0.1) -> None:
        super().__init__()
        self.width = width
        self.weight = weight

    def check(self) -> None:
        """Raises: SettingError for a weight below zero."""
        if not 0 <= self.weight < float("inf"):
            raise SettingError(f"weight={self.weight!r}: it must be zero or above")

    def priced(
        self,
        code: Code,
        encode: Encode,
        embedded: Float[Tensor, "*lead batch cell"],
        generator: Generator,
    ) -> Code:
        """With each dimension's squared slope along a random direction."""
        moved = encode(embedded + STEP * noise_like(embedded, generator))
        slope = ((moved - code.mean) / STEP).square()
        variance = code.mean.var(-2, unbiased=False, keepdim=True) + 1e-6
        return replace(code, cost=self.weight * slope / variance)
