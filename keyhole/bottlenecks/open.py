"""No bottleneck: what a net with skip connections passes on, which is more than a code."""

from jaxtyping import Float
from torch import Generator, Tensor

from keyhole.bottlenecks.base import Bottleneck
from keyhole.core.layout import Shape
from keyhole.core.records import Code


class Open(Bottleneck):
    """The state as it is, without cost; it has no `kind`, since nobody can choose it."""

    def __init__(self) -> None:
        super().__init__()

    def bind(self, shape: Shape) -> Shape:
        """The same shape."""
        return shape

    def forward(
        self, state: Float[Tensor, "*lead batch wide"], generator: Generator | None = None
    ) -> Code:
        """The state in a code's place."""
        return Code(z=state[None], mean=state, cost=state.new_zeros(1).expand_as(state))
