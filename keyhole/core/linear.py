"""The linear layer of every net here: `members` layers side by side in one stack of weights.

Four members cost 1.4 steps of one net this way, a loop over four nets costs 3.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from keyhole.core.layout import Shape


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


def to_cells(shape: Shape, cells: int) -> nn.Module:
    """What leads from a decoder's state to one number a cell: nothing, where the state is that."""
    if shape.site and shape.wide == cells:
        return nn.Identity()
    return Linear(shape.wide, cells, shape.members)
