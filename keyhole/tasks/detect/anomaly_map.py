"""Where in an image is what is anomalous? Nats of every pixel, in multiples of its usual."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from keyhole.core.coordinates import contrast
from keyhole.core.layout import Layout
from keyhole.core.records import Batch
from keyhole.modalities.rows.reference import ReferenceSet
from keyhole.model.network import Network

GROUPS = 8  # of patches hidden together
LEAST_USUAL = 0.1  # of the mean over pixels: one that was black in all images is not all noise
PASS_ROWS = 1_024


def masks(layout: Layout) -> list[Tensor]:
    """The cells hidden together, one (2 * groups, cell) for patches in place and half-way off."""
    height, width, channels = layout.grid or (1, 1, 1)
    found, side = [], layout.patch
    for off in (0, side // 2):
        down, across = ((np.arange(size) + off) // side for size in (height, width))
        place = (3 * down[:, None] + across) % GROUPS
        cells = torch.from_numpy(np.repeat(place.ravel(), channels))
        found += [cells == group for group in range(GROUPS) if bool((cells == group).any())]
    return found


@torch.no_grad()
def pixel_nats(network: Network, batch: Batch) -> Float[Tensor, "member row pixel"]:
    """Nats of each pixel beyond a perfect guess from what is around its patch.

    Summed over channels, averaged over two ways to cut patches, and as if the image had the
    usual contrast. NaN where no channel was observed.
    """
    layout = network.shape.layout
    channels = (layout.grid or (1, 1, 1))[2]
    device = next(network.parameters()).device
    parts = []
    for first in range(0, max(len(batch), 1), PASS_ROWS):
        here = batch.take(slice(first, first + PASS_ROWS)).to(device)
        total = torch.zeros((), device=device)
        for hidden in masks(layout):
            found = network(here.hide(hidden.to(device))).likelihood.deviance(here)[0]
            total = total + torch.where(hidden.to(device) & here.observed, found, 0.0)
        if layout.slots[0].head != "bernoulli":
            total = total / contrast(here).square()[:, None]
        nats = total.unflatten(-1, (-1, channels)).sum(-1) / 2  # (M, B, pixel)
        blind = ~here.observed.unflatten(-1, (-1, channels)).any(-1)
        parts.append(nats.masked_fill(blind, torch.nan).cpu())
    return torch.cat(parts, 1)


def usual_nats(network: Network, reference: ReferenceSet) -> Float[np.ndarray, " pixel"]:
    """The mean nats of each pixel over images that calibrate, by nets that never saw them."""
    judged = reference.take(reference.judged)
    nats = pixel_nats(network, judged.batch)
    if reference.folds > 1:
        fold = torch.from_numpy(judged.fold)
        mine = nats[fold.clamp(min=0), torch.arange(len(fold))]
        nats = torch.where((fold >= 0)[:, None], mine, nats.mean(0))[None]
    usual = nats.mean(0).nanmean(0).nan_to_num(nan=0.0).double()
    return usual.clamp(min=max(LEAST_USUAL * float(usual.mean()), 1e-6)).numpy()
