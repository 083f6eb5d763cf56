"""White noise through a filter: noise that neighbours share."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def filtered(
    noise: Float[Tensor, "image height width channel"], filter: list[list[float]]
) -> Float[Tensor, "image height width channel"]:
    """White noise through a filter, channel by channel; it wraps around at the edges."""
    count, height, width, channels = noise.shape
    weight = noise.new_tensor(filter)
    weight = weight / weight.square().sum().sqrt().clamp(min=1e-12)  # the deviation stays 1
    reach, planes = len(filter) // 2, noise.permute(0, 3, 1, 2).reshape(-1, 1, height, width)
    for axis in (2, 3):  # a small image is wrapped several times
        size = planes.shape[axis]
        indices = torch.arange(-reach, size + reach, device=noise.device) % size
        planes = planes.index_select(axis, indices)
    planes = functional.conv2d(planes, weight[None, None])
    return planes.reshape(count, channels, height, width).permute(0, 2, 3, 1)


def correlated(
    noise: Float[np.ndarray, "height width channel"], filter: list[list[float]]
) -> Float[np.ndarray, "height width channel"]:
    """One image of white noise through a filter."""
    return filtered(torch.from_numpy(noise)[None], filter)[0].numpy()
