"""Ordered codes: every prefix is a code, so one fit serves every smaller width."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from keyhole.bottlenecks.base import Bottleneck
from keyhole.core.records import Code

PREFIXES = 8  # of each row in a training step; all of them up to this width


class Ordered(Bottleneck):
    """Nested dropout: in training, rows are rebuilt from prefixes of their codes.

    With a linear net under Gaussian cells the dimensions are the principal components, in order.
    """

    kind = "ordered"
    nested = True
    purpose = "one fit for every width; codes sorted by what they tell"
    formula = "E_b loss(z_1..z_b, 0, ...), b uniform from 1 to width"
    source = "Rippel et al. 2014, eq. 3; uniform lengths: Kusupati et al. 2022, eq. 1"

    def __init__(self, width: int | Literal["auto"] | None = None) -> None:
        super().__init__()
        self.width = width

    def forward(
        self, state: Float[Tensor, "*lead batch wide"], generator: Generator | None = None
    ) -> Code:
        """The whole code; in training, prefixes of it as samples."""
        mean = self.to_code(state)
        z = mean[None]
        if self.training and generator is not None:
            z = z * self._kept(mean, generator)
        return Code(z=z, mean=mean, cost=torch.zeros_like(mean))

    def _kept(self, mean: Tensor, generator: Generator) -> Tensor:
        """(sample, *lead, batch, code): 1 where a dimension is within the sample's prefix.

        Lengths fall one into each of `PREFIXES` even parts of the width.
        """
        wide = mean.shape[-1]
        parts = min(wide, PREFIXES)
        shape = (parts, *mean.shape[:-1], 1)
        start = torch.arange(parts).reshape(-1, *[1] * mean.dim())
        draw = torch.rand(shape, generator=generator, device=generator.device).cpu()
        length = ((start + draw) * wide / parts).floor() + 1
        return (torch.arange(wide) < length).to(mean)
