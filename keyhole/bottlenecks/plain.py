"""The plain bottleneck: a linear map to a narrow code, and nothing else."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from keyhole.bottlenecks.base import Bottleneck
from keyhole.core.layout import Shape
from keyhole.core.linear import Linear
from keyhole.core.records import Code


class Plain(Bottleneck):
    """A deterministic code without a price: what it costs is only its width."""

    kind = "plain"
    purpose = "anomalies, gaps, embeddings: the default, and the one to beat"
    formula = "z = W h + b"
    source = "Hinton and Salakhutdinov 2006"

    def __init__(self, width: int | Literal["auto"] | None = None) -> None:
        super().__init__()
        self.width = width

    def bind(self, shape: Shape) -> Shape:
        """Make the map to the code."""
        wide = self.width_for(shape)
        self.to_code = Linear(shape.wide, wide, shape.members)
        return shape.widened(wide)

    def forward(
        self, state: Float[Tensor, "*lead batch wide"], generator: Generator | None = None
    ) -> Code:
        """The code, the same with and without a generator."""
        mean = self.to_code(state)
        return Code(z=mean[None], mean=mean, cost=torch.zeros_like(mean))
