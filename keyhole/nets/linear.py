"""No layers: the code is a linear map of the cells, and they of it. With Gaussian cells, PCA."""

from jaxtyping import Float
from torch import Tensor

from keyhole.core.layout import Layout, Shape
from keyhole.core.part import Part
from keyhole.nets.base import Net


class LinearNet(Net):
    """The bottleneck's map inward and the head's map outward are the whole net.

    Its optimum under squared error spans the principal components (Baldi and Hornik 1989); it is
    the floor that a deeper net must beat.
    """

    kind = "linear"

    def __init__(self) -> None:
        super().__init__()

    def encoder(self, layout: Layout) -> Part:
        """Nothing before the bottleneck."""
        return Through()

    def decoder(self, layout: Layout) -> Part:
        """Nothing before the head."""
        return Through()


class Through(Part):
    """What comes in goes out."""

    def bind(self, shape: Shape) -> Shape:
        """The same shape."""
        return shape

    def forward(self, x: Float[Tensor, "*lead batch wide"]) -> Float[Tensor, "*lead batch wide"]:
        """The input."""
        return x
