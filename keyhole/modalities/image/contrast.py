"""Mean and contrast of images, and where they stand for distances: patches in units of contrast.

Mean and contrast are two axes of their own, not a factor on all others.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from keyhole.core.layout import FARTHEST, Layout, gaps
from keyhole.core.records import Batch

LEAST_CONTRAST = 0.05  # of the usual one: a blank image is not all noise


def contrast(batch: Batch) -> Float[Tensor, "*lead row"]:
    """The standard deviation of each image's observed pixels, as encoded: 1 is usual."""
    return mean_and_contrast(batch)[1]


def mean_and_contrast(batch: Batch) -> tuple[Tensor, Tensor]:
    """The mean and the contrast of each image's observed pixels, as encoded."""
    observed = batch.observed.to(batch.numbers)
    numbers = batch.numbers.clamp(-FARTHEST, FARTHEST) * observed
    count = observed.sum(-1).clamp(min=1)
    mean = numbers.sum(-1) / count
    square = ((numbers - mean[..., None]) * observed).square().sum(-1) / count
    return mean, square.sqrt().clamp(min=LEAST_CONTRAST)


def patch_coordinates(batch: Batch, layout: Layout, channels: int) -> Float[Tensor, "row axis"]:
    """Each channel's mean of each patch in the image's contrast; the image's mean; log contrast.

    NaN where no pixel of a patch was observed.
    """
    mean, contrast = mean_and_contrast(batch)
    away = (batch.numbers.clamp(-FARTHEST, FARTHEST) - mean[:, None]) / contrast[:, None]
    place = torch.from_numpy(layout.column_of_feature).to(away.device) * channels
    place = place + torch.arange(len(layout), device=away.device) % channels
    observed, wide = batch.observed.to(away), len(layout.columns) * channels
    total = away.new_zeros(len(away), wide).index_add_(1, place, away * observed)
    count = away.new_zeros(len(away), wide).index_add_(1, place, observed)
    light = torch.stack([mean, contrast.log()], 1)
    light = light.masked_fill(gaps(batch, layout).all(1, keepdim=True), torch.nan)
    return torch.cat([torch.where(count > 0, total / count, torch.nan), light], 1)
