"""Where a patch stands: sines and cosines of its row and of its column."""

import torch
from jaxtyping import Float
from torch import Tensor

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
