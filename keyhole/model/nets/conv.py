"""Convolutional nets: the code of a whole image, and the image of a code."""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from keyhole.core.layout import Layout, Shape
from keyhole.core.parts import Part
from keyhole.errors import SettingError
from keyhole.model.layers import Conv as Convolution
from keyhole.model.layers import Linear, UpConv, to_images, to_states
from keyhole.model.nets.base import Net, Pixels
from keyhole.model.nets.mlp import ACTIVATIONS

SMALLEST = 7  # side at which an image is small enough to be taken as a whole
FEWEST, MOST = 16, 64  # channels of the first stage, and of any


class Conv(Net):
    """Convolutions that halve an image a stage, `channels` wide; the decoder doubles it again.

    Unless told, stages of 16, 32, 64, 64, ... channels until at most 7 pixels a side are left.
    With `skip`, each body passes its input on beside its last layer, as an MLP does: a linear map
    is within reach, and the convolutions learn what it misses.
    """

    kind = "conv"
    images = True

    def __init__(
        self, channels: list[int] | None = None, *, activation: str = "silu", skip: bool = True
    ) -> None:
        self.channels = channels
        self.activation = activation
        self.skip = skip

    def check(self) -> None:
        """Raises: SettingError for channels or an activation that there are not."""
        channels: Any = self.channels
        if channels is not None and not (
            isinstance(channels, list | tuple)
            and 1 <= len(channels) <= 10
            and all(isinstance(wide, int) and 1 <= wide <= 4_096 for wide in channels)
        ):
            raise SettingError(f"channels={channels!r:.60}: give one to ten, such as [32, 64]")
        if self.activation not in ACTIVATIONS:
            raise SettingError(f"activation={self.activation!r}: one of {sorted(ACTIVATIONS)}")

    def stem(self) -> Part:
        """Pixels with their «seen» flags."""
        return Pixels()

    def encoder(self, layout: Layout) -> Part:
        """The stages inward."""
        return ConvEncoder(self._stages(layout), self.activation, self.skip)

    def decoder(self, layout: Layout) -> Part:
        """The stages outward."""
        return ConvDecoder(self._stages(layout), self.activation, self.skip)

    def _stages(self, layout: Layout) -> list[int]:
        self.check()
        if self.channels is not None or layout.grid is None:
            return list(self.channels or [FEWEST])
        side, stages = max(layout.grid[:2]), [FEWEST]
        while -(-side // 2) > SMALLEST:
            side = -(-side // 2)
            stages.append(min(2 * stages[-1], MOST))
        return stages


def sites_of(shape: Shape, stages: int) -> list[tuple[int, int]]:
    """The (height, width) of the image and after each stage."""
    height, width, _ = shape.layout.grid or (1, 1, 1)
    sites = [(height, width)]
    for _ in range(stages):
        sites.append((-(-sites[-1][0] // 2), -(-sites[-1][1] // 2)))
    return sites


class ConvEncoder(Part):
    """Strided convolutions; the flat image of the last, beside the input where that is asked."""

    def __init__(self, stages: list[int], activation: str, skip: bool) -> None:
        super().__init__()
        self.stages = stages
        self.activation = activation
        self.skip = skip

    def bind(self, shape: Shape) -> Shape:
        """Make the stages."""
        self.members, self.sites = shape.members, sites_of(shape, len(self.stages))
        pixels = self.sites[0][0] * self.sites[0][1]
        self.layers = nn.ModuleList(
            Convolution(wide, after, shape.members, stride=2)
            for wide, after in pairwise([shape.wide // pixels, *self.stages])
        )
        self.activate = ACTIVATIONS[self.activation]()
        height, width = self.sites[-1]
        wide = height * width * self.stages[-1]
        return shape.widened(wide + shape.wide if self.skip else wide)

    def forward(self, x: Float[Tensor, "*lead batch wide"]) -> Float[Tensor, "*out batch state"]:
        """The state of each image."""
        h = to_images(x, self.sites[0], self.members)
        for layer in self.layers:
            h = self.activate(layer(h))  # (M, image, channel, height / 2, width / 2)
        h = to_states(h, (*x.shape[:-3], x.shape[-2]))
        return torch.cat([x.expand(*h.shape[:-1], -1), h], -1) if self.skip else h


class ConvDecoder(Part):
    """Transposed convolutions from a code to one number a cell, on an image of their own."""

    def __init__(self, stages: list[int], activation: str, skip: bool) -> None:
        super().__init__()
        self.stages = stages
        self.activation = activation
        self.skip = skip

    def bind(self, shape: Shape) -> Shape:
        """Make the stages."""
        self.members, self.sites = shape.members, sites_of(shape, len(self.stages))[::-1]
        height, width = self.sites[0]
        features, channels = len(shape.layout), shape.layout.grid[2] if shape.layout.grid else 1
        self.first = Linear(shape.wide, height * width * self.stages[-1], shape.members)
        self.layers = nn.ModuleList(
            UpConv(wide, after, shape.members)
            for wide, after in pairwise([*self.stages[::-1], channels])
        )
        self.activate = ACTIVATIONS[self.activation]()
        self.usual = nn.Parameter(torch.zeros(shape.members, 1, features))
        if self.skip:
            self.beside = Linear(shape.wide, features, shape.members)
        return Shape(shape.layout, features, shape.members, self.sites[-1])

    def forward(
        self, z: Float[Tensor, "*lead batch code"]
    ) -> Float[Tensor, "*lead batch feature"]:
        """One number for each cell."""
        h = to_images(self.first(z), self.sites[0], self.members)
        for layer, site in zip(self.layers, self.sites[1:], strict=True):
            h = layer(self.activate(h), site)  # (M, image, channel, 2 height, 2 width)
        h = to_states(h, (*z.shape[:-3], z.shape[-2])) + self.usual
        return h + self.beside(z) if self.skip else h
