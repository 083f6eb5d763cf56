"""Linear and convolution layers that hold all ensemble members in one stack of weights.

Four members cost 1.4 steps of one net this way; a loop over four nets costs 3. Between modules a
state is flat, (*lead, batch, width), as it is for tables; between two convolutions images are
(member, image, channel, height, width). Each member has a convolution of its own: as groups of
one convolution, five members cost ten (measured, 28x28).
"""

import math

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
