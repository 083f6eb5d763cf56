"""Images by patches: what anomaly maps are made of, contrast, and axes of distances."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from keyhole.core.layout import FARTHEST, Layout, gaps
from keyhole.core.records import Batch
from keyhole.data.image_rows import ImageSpec, resized
from keyhole.modalities.base import Deviance

GROUPS = 8  # of patches masked together


@dataclass(frozen=True)
class PixelMaps:
    """Anomaly maps of images of this shape, whose patches have this side."""

    form: ImageSpec
    patch: int

    @property
    def places(self) -> int:
        """How many pixels an image has."""
        return self.form.grid[0] * self.form.grid[1]

    @cached_property
    def masks(self) -> list[Tensor]:
        """The features masked together: of patches in place, then of patches half-way off."""
        height, width, channels = self.form.grid
        masks = []
        for off in (0, self.patch // 2):
            down, across = ((np.arange(size) + off) // self.patch for size in (height, width))
            group = (3 * down[:, None] + across) % GROUPS
            group_of = torch.from_numpy(np.repeat(group.ravel(), channels))
            groups = (group_of == group for group in range(GROUPS))
            masks += [mask for mask in groups if bool(mask.any())]
        return masks

    def nats(self, deviance: Deviance, batch: Batch) -> Float[Tensor, "member row pixel"]:
        """Nats of each pixel, summed over channels, averaged over the two ways to cut patches.

        NaN where no channel was observed.
        """
        channels = self.form.grid[2]
        nats = deviance.unflatten(-1, (-1, channels)).sum(-1) / 2
        blind = ~batch.observed.unflatten(-1, (-1, channels)).any(-1)
        return nats.masked_fill(blind, torch.nan)

    def shaped(self, ratios: Float[np.ndarray, "row pixel"]) -> np.ndarray:
        """(image, height, width) at the size that images came in."""
        maps = ratios.reshape(-1, *self.form.grid[:2])
        if not self.form.resized:
            return maps
        return resized(np.nan_to_num(maps, nan=1.0)[..., None], self.form.original)[..., 0]


MIN_CONTRAST = 0.05  # of the usual one: a blank image is not all noise


def mean_and_contrast(batch: Batch) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each image's observed pixels, as encoded: 1 is usual."""
    observed = batch.observed.to(batch.numbers)
    numbers = batch.numbers.clamp(-FARTHEST, FARTHEST) * observed
    count = observed.sum(-1).clamp(min=1)
    mean = numbers.sum(-1) / count
    square = ((numbers - mean[..., None]) * observed).square().sum(-1) / count
    return mean, square.sqrt().clamp(min=MIN_CONTRAST)


def patch_coordinates(batch: Batch, layout: Layout, channels: int) -> Float[Tensor, "row axis"]:
    """Each channel's mean of each patch in the image's contrast; the image's mean; log contrast.

    NaN where no pixel of a patch was observed.
    """
    mean, contrast = mean_and_contrast(batch)
    away = (batch.numbers.clamp(-FARTHEST, FARTHEST) - mean[:, None]) / contrast[:, None]
    axis = torch.from_numpy(layout.column_of_feature).to(away.device) * channels
    axis = axis + torch.arange(len(layout), device=away.device) % channels
    observed, axes = batch.observed.to(away), len(layout.columns) * channels
    total = away.new_zeros(len(away), axes).index_add_(1, axis, away * observed)
    count = away.new_zeros(len(away), axes).index_add_(1, axis, observed)
    light = torch.stack([mean, contrast.log()], 1)
    light = light.masked_fill(gaps(batch, layout).all(1, keepdim=True), torch.nan)
    return torch.cat([torch.where(count > 0, total / count, torch.nan), light], 1)
