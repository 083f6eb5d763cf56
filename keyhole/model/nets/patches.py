"""A small transformer over the patches of an image: a masked autoencoder."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from keyhole.core.layout import Layout, Shape
from keyhole.core.parts import Part
from keyhole.errors import SettingError
from keyhole.model.layers import Linear
from keyhole.model.nets.base import Net, Pixels

LONGEST = 10_000.0  # wavelength over 2 pi, in patches


def positions(height: int, width: int, wide: int) -> Float[Tensor, "place wide"]:
    """One vector for each place of a grid: a half of it tells the row, the other the column.

    Source: Vaswani et al. 2017, section 3.5, in two dimensions as in He et al. 2022.
    """
    fourth = wide // 4
    rate = LONGEST ** -(torch.arange(fourth) / max(fourth, 1))
    waves = []
    for size in (height, width):
        angle = torch.arange(size)[:, None] * rate
        waves.append(torch.cat([angle.sin(), angle.cos()], 1))  # (size, wide / 2)
    down = waves[0][:, None].expand(height, width, -1)
    across = waves[1][None].expand(height, width, -1)
    both = torch.cat([down, across], -1).flatten(0, 1)
    return torch.nn.functional.pad(both, (0, wide - both.shape[1]))


class Patches(Net):
    """Square patches attend to each other; a patch of which a pixel is hidden is one mask token.

    The code comes from the mean token; the decoder places it at every patch and attends again.
    `patch` is a patch's side in pixels, that of the images' own patches unless told.

    Source: He et al. 2022, with the mask token in the encoder, so that its cost does not depend
    on what is hidden.
    """

    kind = "patches"
    images = True

    def __init__(
        self, wide: int = 64, *, layers: int = 2, heads: int = 4, patch: int | None = None
    ) -> None:
        self.wide = wide
        self.layers = layers
        self.heads = heads
        self.patch = patch

    def check(self) -> None:
        """Raises: SettingError for sizes that do not go together."""
        sizes = (self.wide, self.layers, self.heads, 1 if self.patch is None else self.patch)
        if min(sizes) < 1 or self.wide > 4_096 or self.layers > 64:
            raise SettingError(f"{self!r}: all sizes are from 1 up")
        if self.wide % self.heads or self.wide % 4:
            raise SettingError(f"{self!r}: wide is a multiple of heads and of 4")

    def stem(self) -> Part:
        """Pixels with their «seen» flags."""
        return Pixels()

    def encoder(self, layout: Layout) -> Part:
        """Patches to the mean token."""
        self.check()
        return PatchEncoder(self.patch or layout.patch, self.wide, self.layers, self.heads)

    def decoder(self, layout: Layout) -> Part:
        """A code to patches."""
        self.check()
        return PatchDecoder(self.patch or layout.patch, self.wide, self.layers, self.heads)


class AttentionBlock(nn.Module):
    """Attention among an image's tokens, and two layers for each; both beside their input."""

    def __init__(self, wide: int, heads: int, members: int) -> None:
        super().__init__()
        self.heads = heads
        self.ask = Linear(wide, 3 * wide, members)
        self.answer = Linear(wide, wide, members)
        self.first, self.second = (Linear(*pair, members) for pair in
                                   ((wide, 2 * wide), (2 * wide, wide)))  # fmt: skip

    def forward(
        self, x: Float[Tensor, "*lead batch token wide"]
    ) -> Float[Tensor, "*lead batch token wide"]:
        """The tokens, having read each other."""
        asked = each(self.ask, functional.layer_norm(x, x.shape[-1:]))
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(-3, -2).flatten(0, -4)
            for part in asked.chunk(3, -1)
        )  # (all images, heads, token, wide / heads)
        read = functional.scaled_dot_product_attention(query, key, value)
        read = read.transpose(-3, -2).flatten(-2).reshape(x.shape)
        x = x + each(self.answer, read)
        h = functional.gelu(each(self.first, functional.layer_norm(x, x.shape[-1:])))
        return x + each(self.second, h)


def each(layer: Linear, x: Float[Tensor, "*lead batch token wide"]) -> Tensor:
    """A linear layer on every token, each member's on its own."""
    tokens = x.shape[-3:-1]
    return layer(x.flatten(-3, -2)).unflatten(-2, tokens)


class PatchEncoder(Part):
    """Patches as tokens, blocks, and their mean."""

    def __init__(self, patch: int, wide: int, layers: int, heads: int) -> None:
        super().__init__()
        self.patch = patch
        self.wide = wide
        self.layers = layers
        self.heads = heads

    def bind(self, shape: Shape) -> Shape:
        """Make the blocks."""
        self.members, self.cut = shape.members, Cut.of(shape.layout, self.patch)
        channels = shape.wide // (self.cut.height * self.cut.width)
        self.embed = Linear(self.patch**2 * channels, self.wide, shape.members)
        self.hidden = nn.Parameter(torch.randn(shape.members, 1, 1, self.wide) * 0.02)
        at = positions(self.cut.down, self.cut.across, self.wide)
        self.register_buffer("positions", at, persistent=False)
        self.blocks = nn.ModuleList(
            AttentionBlock(self.wide, self.heads, shape.members) for _ in range(self.layers)
        )
        return shape.widened(self.wide)

    def forward(self, x: Float[Tensor, "*lead batch wide"]) -> Float[Tensor, "*out batch state"]:
        """The mean token of each image."""
        x = x.expand(*x.shape[:-3], self.members, *x.shape[-2:])
        patches = self.cut.apart(x)  # (*lead, B, token, pixel * 2 channels)
        observed = self.cut.apart(x, filled=1.0).unflatten(-1, (self.patch**2, 2, -1))[..., 1, :]
        whole = (observed > 0.5).all(-1).all(-1)[..., None]
        tokens = torch.where(whole, each(self.embed, patches), self.hidden)
        tokens = tokens + self.get_buffer("positions")
        for block in self.blocks:
            tokens = block(tokens)
        return functional.layer_norm(tokens, tokens.shape[-1:]).mean(-2)


class PatchDecoder(Part):
    """A code at every patch's place, blocks, and their pixels."""

    def __init__(self, patch: int, wide: int, layers: int, heads: int) -> None:
        super().__init__()
        self.patch = patch
        self.wide = wide
        self.layers = layers
        self.heads = heads

    def bind(self, shape: Shape) -> Shape:
        """Make the blocks."""
        self.cut = Cut.of(shape.layout, self.patch)
        features = len(shape.layout)
        channels = features // (self.cut.height * self.cut.width)
        self.embed = Linear(shape.wide, self.wide, shape.members)
        at = positions(self.cut.down, self.cut.across, self.wide)
        self.register_buffer("positions", at, persistent=False)
        self.blocks = nn.ModuleList(
            AttentionBlock(self.wide, self.heads, shape.members) for _ in range(self.layers)
        )
        self.pixels = Linear(self.wide, self.patch**2 * channels, shape.members)
        self.usual = nn.Parameter(torch.zeros(shape.members, 1, features))
        self.beside = Linear(shape.wide, features, shape.members)
        site = (self.cut.height, self.cut.width)
        return Shape(shape.layout, features, shape.members, site)

    def forward(
        self, z: Float[Tensor, "*lead batch code"]
    ) -> Float[Tensor, "*lead batch feature"]:
        """One number for each cell."""
        tokens = self.embed(z)[..., None, :] + self.get_buffer("positions")
        for block in self.blocks:
            tokens = block(tokens)
        pixels = each(self.pixels, functional.layer_norm(tokens, tokens.shape[-1:]))
        return self.cut.together(pixels) + self.usual + self.beside(z)


class Cut:
    """How an image is cut into square patches; a size that is no multiple is padded."""

    def __init__(self, height: int, width: int, patch: int) -> None:
        self.height, self.width, self.patch = height, width, patch
        self.down, self.across = math.ceil(height / patch), math.ceil(width / patch)

    @classmethod
    def of(cls, layout: Layout, patch: int) -> "Cut":
        """That of a layout's images."""
        height, width, _ = layout.grid or (1, 1, 1)
        return cls(height, width, patch)

    def apart(self, x: Float[Tensor, "*lead wide"], filled: float = 0.0) -> Tensor:
        """(*lead, patch, its numbers); what is padded holds `filled`."""
        x = x.unflatten(-1, (self.height, self.width, -1))
        low, right = (n * self.patch - s for n, s in
                      ((self.down, self.height), (self.across, self.width)))  # fmt: skip
        x = functional.pad(x, (0, 0, 0, right, 0, low), value=filled)
        x = x.unflatten(-2, (self.across, self.patch)).unflatten(-4, (self.down, self.patch))
        return x.transpose(-4, -3).flatten(-3).flatten(-3, -2)  # (*lead, down * across, numbers)

    def together(self, x: Float[Tensor, "*lead token wide"]) -> Tensor:
        """The way back: (*lead, height * width * channel)."""
        x = x.unflatten(-1, (self.patch, self.patch, -1)).unflatten(-4, (self.down, self.across))
        x = x.transpose(-4, -3).flatten(-5, -4).flatten(-3, -2)  # (*lead, high, long, channel)
        return x[..., : self.height, : self.width, :].flatten(-3)
