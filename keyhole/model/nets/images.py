"""Nets of images: convolutions, and a small transformer over patches (a masked autoencoder)."""

import math
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from keyhole.core.layout import Layout, Shape
from keyhole.core.parts import Part
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.model.layers import Convolution, Linear, State, each, to_images, to_states
from keyhole.model.nets.attention import Blocks, check_sizes, waves
from keyhole.model.nets.base import (
    ACTIVATIONS,
    Net,
    check_stages,
    clipped,
    halvings,
    stages_for,
)


class Pixels(Part):
    """Standardised pixels, clipped; each pixel's channels, then whether each was observed."""

    def bind(self, shape: Shape) -> Shape:
        """Two numbers for each feature. Raises: SettingError for rows that are no images."""
        if shape.layout.grid is None:
            raise SettingError(
                "this net is for images, but the rows are a table; use MLP, or give an array "
                "(n, height, width)"
            )
        slots = shape.layout.slots
        self.channels = shape.layout.grid[2]
        self.register_buffer("center", torch.tensor([s.center for s in slots]), False)
        self.register_buffer("scale", torch.tensor([s.scale for s in slots]), False)
        return shape.widened(2 * len(slots))

    def forward(self, batch: Batch) -> Float[Tensor, "member batch wide"]:
        """One vector a row and member; member axis 1 where all members see the same rows."""
        numbers, observed = batch.numbers, batch.observed.to(batch.numbers.dtype)
        if numbers.dim() == 2:
            numbers, observed = numbers[None], observed[None]
        numbers = clipped(numbers, observed, self.get_buffer("center"), self.get_buffer("scale"))
        pair = [part.unflatten(-1, (-1, self.channels)) for part in (numbers, observed)]
        return torch.cat(pair, -1).flatten(-2)  # (member, B, h * w * 2 channels)


@dataclass(eq=False, repr=False)
class Conv(Net):
    """Convolutions that halve an image a stage, `channels` wide; the decoder doubles it again.

    By default, stages of 16, 32, 64, 64, ... channels until at most 7 pixels a side are left.
    `skip` is that of an MLP: the convolutions learn what a linear map misses.
    """

    kind = "conv"
    images = True

    channels: list[int] | None = None
    _: KW_ONLY
    activation: str = "silu"
    skip: bool = True

    def check(self) -> None:
        """Raises: SettingError for invalid channels or an unknown activation."""
        check_stages(self.channels, self.activation)

    def stem(self) -> Part:
        """Pixels, and whether each was observed."""
        return Pixels()

    def encoder(self, layout: Layout) -> Part:
        """Encoder stages."""
        return ConvEncoder(self, self._stages(layout))

    def decoder(self, layout: Layout) -> Part:
        """Decoder stages."""
        return ConvDecoder(self, self._stages(layout))

    def _stages(self, layout: Layout) -> list[int]:
        self.check()
        return list(self.channels or stages_for(max((layout.grid or (1, 1))[:2])))


def sites_of(shape: Shape, stages: int) -> list[tuple[int, int]]:
    """The (height, width) of the image and after each stage."""
    height, width, _ = shape.layout.grid or (1, 1, 1)
    return list(zip(halvings(height, stages), halvings(width, stages), strict=True))


class ConvEncoder(Part):
    """Strided convolutions; the flat image of the last, after the input where it is appended."""

    def __init__(self, net: Conv, stages: list[int]) -> None:
        super().__init__()
        self.net, self.stages = net, stages

    def bind(self, shape: Shape) -> Shape:
        """Make the stages."""
        self.members, self.sites = shape.members, sites_of(shape, len(self.stages))
        pixels = self.sites[0][0] * self.sites[0][1]
        self.layers = nn.ModuleList(
            Convolution(wide, after, shape.members)
            for wide, after in pairwise([shape.wide // pixels, *self.stages])
        )
        self.activate = ACTIVATIONS[self.net.activation]()
        height, width = self.sites[-1]
        wide = height * width * self.stages[-1]
        return shape.widened(wide + shape.wide if self.net.skip else wide)

    def forward(self, x: State) -> Float[Tensor, "*out batch state"]:
        """The state of each image."""
        h = to_images(x, self.sites[0], self.members)
        for layer, site in zip(self.layers, self.sites[1:], strict=True):
            h = self.activate(layer(h, site))  # (M, image, channel, height / 2, width / 2)
        h = to_states(h, (*x.shape[:-3], x.shape[-2]))
        return torch.cat([x.expand(*h.shape[:-1], -1), h], -1) if self.net.skip else h


class ConvDecoder(Part):
    """Transposed convolutions from a code to one number a feature, on an image of their own."""

    def __init__(self, net: Conv, stages: list[int]) -> None:
        super().__init__()
        self.net, self.stages = net, stages

    def bind(self, shape: Shape) -> Shape:
        """Make the stages."""
        self.members, self.sites = shape.members, sites_of(shape, len(self.stages))[::-1]
        height, width = self.sites[0]
        features, channels = len(shape.layout), shape.layout.grid[2] if shape.layout.grid else 1
        self.first = Linear(shape.wide, height * width * self.stages[-1], shape.members)
        self.layers = nn.ModuleList(
            Convolution(wide, after, shape.members, up=True)
            for wide, after in pairwise([*self.stages[::-1], channels])
        )
        self.activate = ACTIVATIONS[self.net.activation]()
        self.bias = nn.Parameter(torch.zeros(shape.members, 1, features))
        if self.net.skip:
            self.linear = Linear(shape.wide, features, shape.members)
        return Shape(shape.layout, features, shape.members, self.sites[-1])

    def forward(self, z: State) -> Float[Tensor, "*out batch feature"]:
        """One number for each feature."""
        h = to_images(self.first(z), self.sites[0], self.members)
        for layer, site in zip(self.layers, self.sites[1:], strict=True):
            h = layer(self.activate(h), site)  # (M, image, channel, 2 height, 2 width)
        h = to_states(h, (*z.shape[:-3], z.shape[-2])) + self.bias
        return h + self.linear(z) if self.net.skip else h


@dataclass(eq=False, repr=False)
class Patches(Net):
    """A masked autoencoder: square patches attend to each other; a patch that lacks a pixel is a
    mask token.

    The code comes from the mean token; the decoder places it at every patch and attends again.
    `patch` is a patch's side in pixels, by default that of the images' own patches.

    Source: He et al. 2022, with the mask token in the encoder, so that its cost does not depend
    on what is masked.
    """

    kind = "patches"
    images = True

    wide: int = 64
    _: KW_ONLY
    layers: int = 2
    heads: int = 4
    patch: int | None = None

    def check(self) -> None:
        """Raises: SettingError for invalid sizes."""
        check_sizes(self)

    def stem(self) -> Part:
        """Pixels, and whether each was observed."""
        return Pixels()

    def encoder(self, layout: Layout) -> Part:
        """Patches to the mean token."""
        self.check()
        return PatchEncoder(self)

    def decoder(self, layout: Layout) -> Part:
        """A code to patches."""
        self.check()
        return PatchDecoder(self)


class Cut:
    """How an image is cut into square patches; a size that is no multiple is padded."""

    def __init__(self, layout: Layout, patch: int | None) -> None:
        self.height, self.width, _ = layout.grid or (1, 1, 1)
        self.patch = patch or layout.patch
        self.down = math.ceil(self.height / self.patch)
        self.across = math.ceil(self.width / self.patch)

    def apart(self, x: Float[Tensor, "*lead wide"], filled: float = 0.0) -> Tensor:
        """(*lead, patch, its numbers); padding holds `filled`."""
        x = x.unflatten(-1, (self.height, self.width, -1))
        right = self.across * self.patch - self.width
        bottom = self.down * self.patch - self.height
        x = functional.pad(x, (0, 0, 0, right, 0, bottom), value=filled)
        x = x.unflatten(-2, (self.across, self.patch)).unflatten(-4, (self.down, self.patch))
        return x.transpose(-4, -3).flatten(-3).flatten(-3, -2)  # (*lead, down * across, numbers)

    def together(self, x: Float[Tensor, "*lead token wide"]) -> Tensor:
        """The way back: (*lead, height * width * channel)."""
        x = x.unflatten(-1, (self.patch, self.patch, -1)).unflatten(-4, (self.down, self.across))
        x = x.transpose(-4, -3).flatten(-5, -4).flatten(-3, -2)  # (*lead, high, long, channel)
        return x[..., : self.height, : self.width, :].flatten(-3)


def positions(cut: Cut, wide: int) -> Float[Tensor, "patch wide"]:
    """One vector for each patch: a half of it encodes its row, the other its column.

    Source: Vaswani et al. 2017, section 3.5, in two dimensions as in He et al. 2022.
    """
    down = waves(cut.down, wide // 2)[:, None].expand(-1, cut.across, -1)
    across = waves(cut.across, wide // 2)[None].expand(cut.down, -1, -1)
    both = torch.cat([down, across], -1).flatten(0, 1)
    return functional.pad(both, (0, wide - both.shape[1]))


class PatchEncoder(Part):
    """Patches as tokens, blocks, and their mean."""

    def __init__(self, net: Patches) -> None:
        super().__init__()
        self.net = net

    def bind(self, shape: Shape) -> Shape:
        """Make the blocks."""
        self.members, self.cut = shape.members, Cut(shape.layout, self.net.patch)
        channels = shape.wide // (self.cut.height * self.cut.width)
        self.embed = Linear(self.cut.patch**2 * channels, self.net.wide, shape.members)
        mask_token = torch.normal(0.0, 0.02, (shape.members, 1, 1, self.net.wide))
        self.mask_token = nn.Parameter(mask_token)
        self.register_buffer("positions", positions(self.cut, self.net.wide), persistent=False)
        self.blocks = Blocks(self.net, shape.members)
        return shape.widened(self.net.wide)

    def forward(self, x: State) -> Float[Tensor, "*out batch state"]:
        """The mean token of each image."""
        x = x.expand(*x.shape[:-3], self.members, *x.shape[-2:])
        patches = self.cut.apart(x)  # (*lead, B, token, pixel * 2 channels)
        observed = self.cut.apart(x, filled=1.0).unflatten(-1, (self.cut.patch**2, 2, -1))[
            ..., 1, :
        ]
        whole = (observed > 0.5).all(-1).all(-1)[..., None]
        tokens = torch.where(whole, each(self.embed, patches), self.mask_token)
        tokens = tokens + self.get_buffer("positions")
        return self.blocks(tokens).mean(-2)


class PatchDecoder(Part):
    """A code at every patch's place, blocks, and their pixels."""

    def __init__(self, net: Patches) -> None:
        super().__init__()
        self.net = net

    def bind(self, shape: Shape) -> Shape:
        """Make the blocks."""
        self.cut, features = Cut(shape.layout, self.net.patch), len(shape.layout)
        channels = features // (self.cut.height * self.cut.width)
        self.embed = Linear(shape.wide, self.net.wide, shape.members)
        self.register_buffer("positions", positions(self.cut, self.net.wide), persistent=False)
        self.blocks = Blocks(self.net, shape.members)
        self.pixels = Linear(self.net.wide, self.cut.patch**2 * channels, shape.members)
        self.bias = nn.Parameter(torch.zeros(shape.members, 1, features))
        self.linear = Linear(shape.wide, features, shape.members)
        return Shape(shape.layout, features, shape.members, (self.cut.height, self.cut.width))

    def forward(self, z: State) -> Float[Tensor, "*out batch feature"]:
        """One number for each feature."""
        tokens = self.embed(z)[..., None, :] + self.get_buffer("positions")
        pixels = each(self.pixels, self.blocks(tokens))
        return self.cut.together(pixels) + self.bias + self.linear(z)
