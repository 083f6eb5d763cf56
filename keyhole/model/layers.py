"""Linear and convolution layers that hold all ensemble members in one stack of weights.

Four members cost 1.4 steps of one net this way; a loop over four nets costs 3. Between modules a
state is flat, (*lead, batch, width), as it is for tables; between two convolutions images are
(member, image, channel, height, width). Each member has a convolution of its own: as groups of
one convolution, five members cost ten (measured, 28x28).
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from keyhole.core.layout import Shape

State = Float[Tensor, "*lead batch wide"]  # of the same rows in all members, or of each member's


class Linear(nn.Module):
    """`members` affine maps; the input's last axes are (member or 1, batch, wide_in)."""

    def __init__(self, wide_in: int, wide_out: int, members: int = 1) -> None:
        super().__init__()
        reach = 1 / math.sqrt(max(wide_in, 1))  # uniform, as torch's own linear layer starts
        self.weight = nn.Parameter(torch.empty(members, wide_out, wide_in).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.empty(members, 1, wide_out).uniform_(-reach, reach))

    def forward(self, x: Float[Tensor, "*lead batch wide_in"]) -> Float[Tensor, "*out wide_out"]:
        """Each member's map of its rows; rows without a member axis of their own go to all."""
        if self.weight.shape[0] == 1:
            return functional.linear(x, self.weight[0], self.bias[0, 0])
        return torch.matmul(x, self.weight.mT) + self.bias


def to_features(shape: Shape, features: int) -> nn.Module:
    """The map from a decoder's state to one number a feature; none where the state is that."""
    if shape.site and shape.wide == features:
        return nn.Identity()
    return Linear(shape.wide, features, shape.members)


class Convolution(nn.Module):
    """A 3x3 convolution for each member; a stride of 2 halves the sides, rounded up."""

    def __init__(self, wide_in: int, wide_out: int, members: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        reach = 1 / math.sqrt(9 * wide_in)
        shape = (members, wide_out, wide_in, 3, 3)
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.zeros(members, wide_out))

    def forward(
        self, x: Float[Tensor, "member image wide_in h w"]
    ) -> Float[Tensor, "member image wide_out a b"]:
        """Each member's map of its own images."""
        return _each(functional.conv2d, x, self.weight, self.bias, self.stride)


class UpConvolution(nn.Module):
    """A transposed 4x4 convolution that doubles the sides; cut to the size that is wanted."""

    def __init__(self, wide_in: int, wide_out: int, members: int = 1) -> None:
        super().__init__()
        reach = 1 / math.sqrt(4 * wide_in)  # a fourth of the sixteen weights meets each pixel
        shape = (members, wide_in, wide_out, 4, 4)
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.zeros(members, wide_out))

    def forward(
        self, x: Float[Tensor, "member image wide_in h w"], size: tuple[int, int]
    ) -> Float[Tensor, "member image wide_out a b"]:
        """Each member's map of its own images, of this height and width."""
        images = _each(functional.conv_transpose2d, x, self.weight, self.bias, 2)
        return images[..., : size[0], : size[1]]


def _each(
    convolve: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor, stride: int
) -> Tensor:
    """Each member's images convolved with its own weights, padded by one pixel."""
    if x.shape[0] == 1:
        return convolve(x[0], weight[0], bias[0], stride, 1)[None]
    members = zip(x, weight, bias, strict=True)
    return torch.stack([convolve(*parts, stride, 1) for parts in members])


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
def move_average(average: nn.Module, module: nn.Module, share: float) -> None:
    """Move each parameter of the average by this share of its way to the module's."""
    for mean, parameter in zip(average.parameters(), module.parameters()):
        mean.lerp_(parameter, share)
