"""Linear and convolution layers that hold all ensemble members in one stack of weights.

Four members cost 1.4 steps of one net this way; a loop over four nets costs 3. Between modules a
state is flat, (*lead, batch, width), as it is for tables; between two convolutions images are
(member, image, channel, height, width). Each member has a convolution of its own: as groups of
one convolution, five members cost ten (measured, 28x28). Over time a convolution is one matrix
product on windows of steps: half the time of torch's own, as groups or as a loop over members
(measured, three members, 256 rows of 32 steps, one thread).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from keyhole.core.layout import Shape

State = Float[Tensor, "*lead batch wide"]  # of the same rows in all members, or of each member's
Places = Int64[Tensor, " place"]
Tokens = Float[Tensor, "*lead batch token wide"]


class Linear(nn.Module):
    """`members` affine maps; the input's last axes are (member or 1, batch, wide_in).

    An input of several `steps`, one behind the other, goes through the same weights step by step;
    only the bias is each step's own.
    """

    def __init__(self, wide_in: int, wide_out: int, members: int = 1, steps: int = 1) -> None:
        super().__init__()
        self.steps = steps
        shape = (members, wide_out // steps, wide_in // steps)
        reach = 1 / math.sqrt(max(shape[-1], 1))  # uniform, as torch's own linear layer starts
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.empty(members, 1, wide_out).uniform_(-reach, reach))

    def forward(self, x: Float[Tensor, "*lead batch wide_in"]) -> Float[Tensor, "*out wide_out"]:
        """Each member's map of its rows; rows without a member axis of their own go to all."""
        if self.steps > 1:
            tokens = (x.shape[-2], self.steps)
            x = x.unflatten(-1, (self.steps, -1)).flatten(-3, -2)  # (*lead, B * step, wide)
            return torch.matmul(x, self.weight.mT).unflatten(-2, tokens).flatten(-2) + self.bias
        if self.weight.shape[0] == 1:
            return functional.linear(x, self.weight[0], self.bias[0, 0])
        return torch.matmul(x, self.weight.mT) + self.bias


def some_outputs(layer: nn.Module, x: State, places: Places) -> Tensor:
    """What a linear layer, or none (an identity), returns at these places alone."""
    layer_of_all = linear(layer)
    if layer_of_all is None:
        return layer(x).index_select(-1, places)
    weight = layer_of_all.weight.index_select(1, places)
    return torch.matmul(x, weight.mT) + layer_of_all.bias.index_select(2, places)


def linear(layer: nn.Module) -> Linear | None:
    """The layer if it is linear, without steps; else None."""
    return layer if isinstance(layer, Linear) and layer.steps == 1 else None


def constant(values: Any) -> Tensor:
    """Numbers as a tensor of the default types, on the default device."""
    return torch.tensor(np.asarray(values).tolist())


@torch.no_grad()
def set_bias(layer: Linear, values: Float[np.ndarray, " wide_out"]) -> None:
    """Start the bias of each member at these values."""
    layer.bias.copy_(constant(values).expand_as(layer.bias))


def each(layer: Linear, x: Tokens) -> Tensor:
    """A linear layer on every token, each member's on its own."""
    tokens = x.shape[-3:-1]
    return layer(x.flatten(-3, -2)).unflatten(-2, tokens)


def to_numbers(shape: Shape, wide: int) -> Linear:
    """The map from a decoder's state to `wide` numbers; where it has steps, step by step."""
    return Linear(shape.wide, wide, shape.members, max(shape.steps, 1))


def to_features(shape: Shape, features: int) -> nn.Module:
    """The map from a decoder's state to one number a feature; none where the state is that."""
    if (shape.site or shape.steps) and shape.wide == features:
        return nn.Identity()
    return to_numbers(shape, features)


class Convolution(nn.Module):
    """A convolution for each member that halves the sides (3x3, rounded up) or doubles them.

    The one that doubles them (`up`) is transposed, 4x4, and cut to the size that is wanted.
    """

    def __init__(self, wide_in: int, wide_out: int, members: int, *, up: bool = False) -> None:
        super().__init__()
        self.convolve = functional.conv_transpose2d if up else functional.conv2d
        shape = (wide_in, wide_out, 4, 4) if up else (wide_out, wide_in, 3, 3)
        weights = 4 if up else 9  # that meet each pixel
        reach = 1 / math.sqrt(weights * wide_in)
        self.weight = nn.Parameter(torch.empty(members, *shape).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.zeros(members, wide_out))

    def forward(
        self, x: Float[Tensor, "member image wide_in h w"], size: tuple[int, int]
    ) -> Float[Tensor, "member image wide_out a b"]:
        """Each member's map of its own images, of this height and width."""
        members = zip(x, self.weight, self.bias, strict=True)
        images = [self.convolve(*parts, stride=2, padding=1) for parts in members]
        stack = images[0][None] if len(images) == 1 else torch.stack(images)
        return stack[..., : size[0], : size[1]]


class TimeConvolution(nn.Module):
    """A convolution over time for each member that halves the steps (3 taps, rounded up) or
    doubles them.

    The one that doubles them (`up`) is transposed, 4 taps, and cut to the number that is wanted.
    """

    def __init__(self, wide_in: int, wide_out: int, members: int, *, up: bool = False) -> None:
        super().__init__()
        self.up = up
        wides = (wide_in, 4 * wide_out) if up else (3 * wide_in, wide_out)
        self.map = Linear(*wides, members)

    def forward(
        self, x: Float[Tensor, "*lead batch step wide_in"], steps: int
    ) -> Float[Tensor, "*out batch after wide_out"]:
        """Each member's map of its own rows, to this number of steps."""
        if self.up:
            first, last = each(self.map, x).chunk(2, -1)  # (*out, B, step, 2 wide)
            pairs = functional.pad(first, (0, 0, 0, 1))
            pairs[..., 1:, :] += last
            return pairs.unflatten(-1, (2, -1)).flatten(-3, -2)[..., 1 : steps + 1, :]
        windows = functional.pad(x, (0, 0, 1, 2 * steps - x.shape[-2])).unfold(-2, 3, 2)
        return each(self.map, windows.transpose(-1, -2).flatten(-2))  # (*out, B, step / 2, wide)


def to_images(
    x: State, site: tuple[int, int], members: int
) -> Float[Tensor, "member image channel h w"]:
    """Flat states, pixel after pixel, as images; those of all samples behind each other."""
    x = x.expand(*x.shape[:-3], members, *x.shape[-2:])
    x = x.unflatten(-1, (*site, -1)).movedim(-1, -3)  # (*sample, M, B, C, h, w)
    return x.movedim(-5, 0).flatten(1, -4)  # (M, sample * B, C, h, w)


def to_states(x: Float[Tensor, "member image channel h w"], lead: tuple[int, ...]) -> State:
    """The way back; `lead` is the (*sample, batch) of the states."""
    x = x.movedim(-3, -1).flatten(-3)  # (M, sample * B, h * w * C)
    return x.unflatten(1, lead).movedim(0, -3)  # (*sample, M, B, h * w * C)


@torch.no_grad()
def move_averages(averages: Sequence[Tensor], weights: Sequence[Tensor], share: float) -> None:
    """Move each average by this share of its way to its weight."""
    for average, weight in zip(averages, weights, strict=True):
        average.lerp_(weight, share)
