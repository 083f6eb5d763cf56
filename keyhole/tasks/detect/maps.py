"""How anomalous the places of a row are, such as the pixels of an image."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from keyhole.core.records import Batch
from keyhole.modalities import Maps, Modality
from keyhole.modalities.rows.split import ReferenceSet
from keyhole.model.network import Network
from keyhole.tasks.detect.masked import by_own_net

MIN_USUAL = 0.1  # of the mean over places: a pixel that was black in all images is not all noise
MAP_PASS_ROWS = 1_024  # each is masked once for every mask of the map


@torch.no_grad()
def map_nats(
    modality: Modality, maps: Maps, network: Network, batch: Batch
) -> Float[Tensor, "member row place"]:
    """Nats of each place beyond a perfect prediction from what is around it; NaN for a gap."""
    device = next(network.parameters()).device
    parts = []
    for first in range(0, max(len(batch), 1), MAP_PASS_ROWS):
        rows = batch.take(slice(first, first + MAP_PASS_ROWS)).to(device)
        total = torch.zeros((), device=device)
        for mask in maps.masks:
            masked = mask.to(device)
            deviance = network(rows.hide(masked)).likelihood.deviance(rows)[0]
            total = total + torch.where(masked & rows.observed, deviance, 0.0)
        parts.append(maps.nats(modality.scale_deviance(total, rows), rows).cpu())
    return torch.cat(parts, 1)


def typical_nats_of_places(
    modality: Modality, network: Network, reference: ReferenceSet
) -> Float[np.ndarray, " place"] | None:
    """The mean nats of each place over rows that calibrate, by nets that never saw them.

    None for rows without anomaly maps.
    """
    if modality.maps is None:
        return None
    judged = reference.take(reference.judged)
    nats = map_nats(modality, modality.maps, network, judged.batch)
    if reference.folds > 1:
        nats = by_own_net(nats, judged.fold, nats.mean(0))[None]
    mean_nats = nats.mean(0).nanmean(0).nan_to_num(nan=0.0).double()
    return mean_nats.clamp(min=max(MIN_USUAL * float(mean_nats.mean()), 1e-6)).numpy()
