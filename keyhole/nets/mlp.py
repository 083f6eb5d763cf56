"""Multilayer perceptrons: the nets of tables."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from keyhole.core.layout import Layout, Shape
from keyhole.core.part import Part
from keyhole.errors import SettingError
from keyhole.nets.base import Net
from keyhole.core.linear import Linear

ACTIVATIONS = {"silu": nn.SiLU, "gelu": nn.GELU, "relu": nn.ReLU, "tanh": nn.Tanh}


class MLP(Net):
    """Fully connected layers, `hidden` wide from the cells inward; the decoder runs them backward.

    Unless told, one layer of twice as many units as cells, 16 to 128 of them (at most 64 up to
    64 cells). Each body passes its input on beside its last layer, so a linear map is always
    within reach and the layers learn what it misses.
    """

    kind = "mlp"

    def __init__(self, hidden: list[int] | None = None, *, activation: str = "silu") -> None:
        self.hidden = hidden
        self.activation = activation

    def encoder(self, layout: Layout) -> Part:
        """The layers inward."""
        return Body(self._widths(layout), self.activation)

    def decoder(self, layout: Layout) -> Part:
        """The layers outward."""
        return Body(self._widths(layout)[::-1], self.activation)

    def _widths(self, layout: Layout) -> list[int]:
        hidden = self.hidden
        if hidden is None:
            return [min(max(16, 2 * len(layout)), 64 if len(layout) <= 64 else 128)]
        hidden = [hidden] if isinstance(hidden, int) else list(hidden)
        if not all(isinstance(wide, int) and 1 <= wide <= 65_536 for wide in hidden):
            raise SettingError(
                f"hidden={hidden!r}: give widths from 1 to 65,536, such as [64, 32]"
            )
        return hidden


class Body(Part):
    """Linear layers of these widths, each normalised and squashed; the input is passed on beside."""

    def __init__(self, widths: list[int], activation: str) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise SettingError(f"activation={activation!r}: choose from {sorted(ACTIVATIONS)}")
        self.widths = widths
        self.activation = activation

    def bind(self, shape: Shape) -> Shape:
        """Make the layers."""
        wide_in = shape.wide
        self.layers = nn.ModuleList()
        for wide in self.widths:
            self.layers.append(Linear(shape.wide, wide, shape.members))
            shape = shape.widened(wide)
        self.squash = ACTIVATIONS[self.activation]()
        return shape.widened(shape.wide + wide_in)

    def forward(self, x: Float[Tensor, "*lead batch wide"]) -> Float[Tensor, "*out batch state"]:
        """The input and the last layer's activations, side by side."""
        h = x
        for layer in self.layers:
            h = layer(h)
            h = self.squash(nn.functional.layer_norm(h, h.shape[-1:]))
        return torch.cat([x.expand(*h.shape[:-1], -1), h], -1)  # (*lead, B, wide_in + wide)
