"""Anomaly maps: nats of every pixel, in multiples of its mean on normal rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.modalities import Maps, Modality
from keyhole.modalities.rows.split import ReferenceSet
from keyhole.model.network import Network

if TYPE_CHECKING:
    from keyhole.tasks.detect.scorer import Scorer

LEAST_USUAL = 0.1  # of the mean over places: a pixel that was black in all images is not all noise
PASS_ROWS = 1_024


@torch.no_grad()
def map_nats(
    modality: Modality, maps: Maps, network: Network, batch: Batch
) -> Float[Tensor, "member row place"]:
    """Nats of each place beyond a perfect prediction from what is around it; NaN for a gap."""
    device = next(network.parameters()).device
    parts = []
    for first in range(0, max(len(batch), 1), PASS_ROWS):
        rows = batch.take(slice(first, first + PASS_ROWS)).to(device)
        total = torch.zeros((), device=device)
        for mask in maps.masks:
            masked = mask.to(device)
            deviance = network(rows.hide(masked)).likelihood.deviance(rows)[0]
            total = total + torch.where(masked & rows.observed, deviance, 0.0)
        parts.append(maps.nats(modality.scale_deviance(total, rows), rows).cpu())
    return torch.cat(parts, 1)


def typical_nats_of_places(
    modality: Modality, maps: Maps, network: Network, reference: ReferenceSet
) -> Float[np.ndarray, " place"]:
    """The mean nats of each place over rows that calibrate, by nets that never saw them."""
    judged = reference.take(reference.judged)
    nats = map_nats(modality, maps, network, judged.batch)
    if reference.folds > 1:
        fold = torch.from_numpy(judged.fold)
        own_nats = nats[fold.clamp(min=0), torch.arange(len(fold))]
        nats = torch.where((fold >= 0)[:, None], own_nats, nats.mean(0))[None]
    mean_nats = nats.mean(0).nanmean(0).nan_to_num(nan=0.0).double()
    return mean_nats.clamp(min=max(LEAST_USUAL * float(mean_nats.mean()), 1e-6)).numpy()


def anomaly_map_of(scorer: Scorer, batch: Batch) -> np.ndarray:
    """(row, height, width) of encoded rows: the anomaly maps of images."""
    maps: Any = scorer.table.maps
    network = scorer.anomaly_score.network
    nats = map_nats(scorer.table, maps, network, batch).mean(0).numpy()
    return maps.shaped(nats / scorer.usual)


def check_maps(scorer: Scorer) -> None:
    """Raises: SettingError for the detector of rows without anomaly maps."""
    if scorer.table.maps is None or scorer.usual is None:
        reason = scorer.table.supports("anomaly_map")
        raise SettingError(reason or "this model has no anomaly maps")
