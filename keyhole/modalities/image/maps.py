"""What anomaly maps of images are made of: masks of patches, nats of pixels, sizes."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from keyhole.core.records import Batch
from keyhole.data.image_rows import ImageSpec, resized

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
            place = (3 * down[:, None] + across) % GROUPS
            group_of = torch.from_numpy(np.repeat(place.ravel(), channels))
            groups = (group_of == group for group in range(GROUPS))
            masks += [mask for mask in groups if bool(mask.any())]
        return masks

    def nats(
        self, deviance: Float[Tensor, "member row feature"], batch: Batch
    ) -> Float[Tensor, "member row pixel"]:
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
