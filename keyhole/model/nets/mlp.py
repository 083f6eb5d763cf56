"""Multilayer perceptrons, and the linear net (PCA, with Gaussian features)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from keyhole.core.layout import Layout, Shape
from keyhole.core.parts import Part
from keyhole.errors import SettingError
from keyhole.model.layers import Linear
from keyhole.model.nets.base import Net

ACTIVATIONS = {
    "silu": nn.SiLU, "gelu": nn.GELU, "relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU, "mish": nn.Mish, "softplus": nn.Softplus,
}  # fmt: skip


class MLP(Net):
    """Fully connected layers, `hidden` wide from the cells inward; the decoder runs them backward.

    Unless told, one layer of 64 units, 128 above 64 cells. With `skip`, each body passes its input
    on beside its last layer, so a linear map is always within reach and the layers learn what it
    misses; without, it is the textbook's net.
    """

    kind = "mlp"

    def __init__(
        self, hidden: list[int] | None = None, *, activation: str = "silu", skip: bool = True
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.skip = skip

    def encoder(self, layout: Layout) -> Part:
        """The layers inward."""
        return Body(self._widths(layout), self.activation, self.skip)

    def decoder(self, layout: Layout) -> Part:
        """The layers outward."""
        return Body(self._widths(layout)[::-1], self.activation, self.skip)

    def _widths(self, layout: Layout) -> list[int]:
        hidden: Any = self.hidden  # one width is taken for a list of one
        if hidden is None:
            return [64 if len(layout) <= 64 else 128]
        hidden = list(hidden) if isinstance(hidden, list | tuple) else [hidden]
        if not all(isinstance(wide, int) and 1 <= wide <= 65_536 for wide in hidden):
            raise SettingError(
                f"hidden={hidden!r}: give widths from 1 to 65,536, such as [64, 32]"
            )
        return hidden


class Body(Part):
    """Linear layers of these widths, each squashed; with `skip`, the input is passed on beside."""

    def __init__(self, widths: list[int], activation: str, skip: bool) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise SettingError(f"activation={activation!r}: choose from {sorted(ACTIVATIONS)}")
        self.widths = widths
        self.activation = activation
        self.skip = skip

    def bind(self, shape: Shape) -> Shape:
        """Make the layers."""
        wide_in = shape.wide
        self.layers = nn.ModuleList()
        for wide in self.widths:
            self.layers.append(Linear(shape.wide, wide, shape.members))
            shape = shape.widened(wide)
        self.activate = ACTIVATIONS[self.activation]()
        return shape.widened(shape.wide + wide_in) if self.skip else shape

    def forward(self, x: Float[Tensor, "*lead batch wide"]) -> Float[Tensor, "*out batch state"]:
        """The last layer's activations, beside the input where it is passed on."""
        h = x
        for layer in self.layers:
            h = self.activate(layer(h))
        if not self.skip:
            return h
        return torch.cat([x.expand(*h.shape[:-1], -1), h], -1)  # (*lead, B, wide_in + wide)


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
        return IdentityLayers()

    def decoder(self, layout: Layout) -> Part:
        """Nothing before the head."""
        return IdentityLayers()


class IdentityLayers(Part):
    """What comes in goes out."""

    def bind(self, shape: Shape) -> Shape:
        """The same shape."""
        return shape

    def forward(self, x: Float[Tensor, "*lead batch wide"]) -> Float[Tensor, "*lead batch wide"]:
        """The input."""
        return x
