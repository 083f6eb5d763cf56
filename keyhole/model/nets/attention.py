"""Attention among patches: the transformer that nets of images and nets of series share."""

from typing import Protocol

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from keyhole.errors import SettingError
from keyhole.model.layers import Linear, Tokens, constant, each

MAX_WAVELENGTH = 10_000.0  # wavelength over 2 pi, in patches


class Transformer(Protocol):
    """The sizes of a net: tokens `wide`, `layers` of attention with `heads`, sides of a patch."""

    wide: int
    layers: int
    heads: int
    patch: int | None


def check_sizes(net: Transformer) -> None:
    """Raises: SettingError for invalid sizes."""
    sizes = (net.wide, net.layers, net.heads, 1 if net.patch is None else net.patch)
    if min(sizes) < 1 or net.wide > 4_096 or net.layers > 64:
        raise SettingError(f"{net!r}: all sizes must be at least 1")
    if net.wide % net.heads or net.wide % 4:
        raise SettingError(f"{net!r}: wide must be a multiple of heads and of 4")


def waves(size: int, wide: int) -> Float[Tensor, "size wide"]:
    """One vector for each index: sines, then cosines, of `wide` // 2 wavelengths.

    Source: Vaswani et al. 2017, section 3.5.
    """
    half = wide // 2
    rate = MAX_WAVELENGTH ** -(np.arange(half) / max(half, 1))
    angle = np.arange(size)[:, None] * rate
    return constant(np.concatenate([np.sin(angle), np.cos(angle)], 1))


class AttentionBlock(nn.Module):
    """Attention among a row's tokens, then two layers for each; both are added to the input."""

    def __init__(self, wide: int, heads: int, members: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = Linear(wide, 3 * wide, members)
        self.output = Linear(wide, wide, members)
        self.first, self.second = Linear(wide, 2 * wide, members), Linear(2 * wide, wide, members)

    def forward(self, x: Tokens) -> Tokens:
        """The tokens, having read each other."""
        parts = each(self.query_key_value, functional.layer_norm(x, x.shape[-1:])).chunk(3, -1)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(-3, -2).flatten(0, -4) for part in parts
        )  # (all rows, heads, token, wide / heads)
        read = functional.scaled_dot_product_attention(query, key, value)
        read = read.transpose(-3, -2).flatten(-2).reshape(x.shape)
        x = x + each(self.output, read)
        h = functional.gelu(each(self.first, functional.layer_norm(x, x.shape[-1:])))
        return x + each(self.second, h)


class Blocks(nn.ModuleList):
    """The attention blocks of an encoder or a decoder, and a normalisation after them."""

    def __init__(self, net: Transformer, members: int) -> None:
        super().__init__(AttentionBlock(net.wide, net.heads, members) for _ in range(net.layers))

    def forward(self, x: Tokens) -> Tokens:
        """The tokens, having read each other several times."""
        for block in self:
            x = block(x)
        return functional.layer_norm(x, x.shape[-1:])
