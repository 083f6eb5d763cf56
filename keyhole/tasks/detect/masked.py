"""How badly masked columns are predicted: the groups of columns go through the net together."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from keyhole.core.environment import rows_of_pass
from keyhole.core.layout import column_nats, row_nats
from keyhole.core.records import EVEN_ROWS, Batch, even_places
from keyhole.modalities import Modality
from keyhole.model.masked import MaskedPasses
from keyhole.model.network import Network

GROUPS = 6  # of columns masked together: however many there are


@torch.no_grad()
def masked_deviance(
    modality: Modality, network: Network, batch: Batch
) -> tuple[Float[Tensor, "member row column"], Bool[Tensor, "row column"]]:
    """Nats of each column beyond a perfect prediction, by each net, and where it was observed.

    A column is masked with the others of its group and predicted from the rest.
    """
    groups = [torch.from_numpy(group) for group in modality.mask_groups(GROUPS)]
    passes = MaskedPasses.of(network, groups)
    deviance = _of_copies(network, batch, groups) if passes is None else passes.deviance(batch)
    members = modality.scale_deviance(deviance, batch)  # (M, B, feature)
    observed = batch.observed.repeat(len(members), 1)
    nats, known = column_nats(-members.flatten(0, 1), observed, modality.layout)
    return nats.unflatten(0, members.shape[:2]), known[: len(batch)]


def typical_deviance(
    deviance: Float[Tensor, "member row column"], observed: Bool[Tensor, "row column"]
) -> Float[np.ndarray, " column"]:
    """Each column's mean deviance where it was observed."""
    nats = torch.where(observed, deviance.mean(0), 0.0).double().sum(0)
    return (nats / observed.sum(0).clamp(min=1)).numpy()


def row_lengths(
    deviance: Float[Tensor, "member row column"],
    observed: Bool[Tensor, "row column"],
    typical: Float[np.ndarray, " column"],
) -> Float[Tensor, "member row"]:
    """The root of each row's deviance by each net: a length, as distances are."""
    typical_nats = torch.from_numpy(typical).to(deviance)
    rows = [row_nats(net, observed, typical_nats).clamp(min=0).sqrt() for net in deviance]
    return torch.stack(rows)


def by_own_net(nats: Tensor, fold: Int64[np.ndarray, " row"], others: Tensor) -> Tensor:
    """Nats (member, row, ...) by the net that has not seen the row; those of no fold by others."""
    own, row = torch.from_numpy(fold), torch.arange(len(fold))
    return torch.where((own >= 0)[:, None], nats[own.clamp(min=0), row], others)


def _of_copies(
    network: Network, batch: Batch, groups: list[Tensor]
) -> Float[Tensor, "member row feature"]:
    """The deviance of each feature where its group is masked, by copies of the rows."""
    rows_at_once = rows_of_pass(len(groups) * batch.observed.shape[1])
    rows_at_once = max(rows_at_once // EVEN_ROWS, 1) * EVEN_ROWS
    parts = [
        _group_deviance(network, batch.take(slice(first, first + rows_at_once)), groups)
        for first in range(0, max(len(batch), 1), rows_at_once)
    ]
    return torch.cat(parts, 1)


def _group_deviance(
    network: Network, batch: Batch, groups: list[Tensor]
) -> Float[Tensor, "member row feature"]:
    """The deviance of each feature where its group is masked: all groups in one pass.

    Each group's features alone are decoded, except of so few rows that padding would cost more.
    """
    device, rows = batch.observed.device, len(batch)
    masks = torch.zeros((len(groups), batch.observed.shape[1]), dtype=torch.bool, device=device)
    for mask, group in zip(masks, groups, strict=True):
        mask[group] = True
    copies = batch.take(torch.arange(rows, device=device).repeat(len(groups)))
    hidden = copies.hide(masks.repeat_interleave(rows, 0)).even()
    z = network.encode(hidden).z  # (1, M, group * B, code)
    if 0 < len(copies) <= EVEN_ROWS:
        deviance = network.decode(z, hidden.observed).deviance(copies.even())[0]
        of_groups = deviance[:, : len(copies)].unflatten(1, (len(groups), rows))
        return torch.where(masks[:, None], of_groups, 0.0).sum(1)
    nats = batch.numbers.new_zeros(network.shape.members, rows, masks.shape[1])
    places = even_places(rows).to(device)
    target = batch.take(places)
    for i, group in enumerate(groups):
        own, features = places + i * rows, group.to(device)
        given = hidden.observed.index_select(0, own)
        likelihood = network.decode(z.index_select(-2, own), given, features)
        nats[..., features] = likelihood.deviance(target)[0, :, :rows]
    return nats
