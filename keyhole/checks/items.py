"""KH017 and KH018: does a net of lists of items know more than what is popular?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from keyhole.checks.evidence import Finding, TrainInfo, check, gather
from keyhole.core.progress import History
from keyhole.modalities.base import Modality
from keyhole.modalities.interactions.interactions import ListsToJudge
from keyhole.model.network import Network

MIN_CODE_NATS = 0.05  # of a code dimension that is used


@dataclass(frozen=True)
class ItemEvidence:
    """Nats for each left-out item of held-out lists, lower = better, and by popularity alone.

    `width` is that of the code, `used` how many of its dimensions hold information.
    """

    lists: int
    items: int
    width: int
    used: int
    nats_an_item: float
    popular_nats: float

    def verdict(self, findings: list[Finding]) -> str:
        """One line on how far to trust the net."""
        if findings:
            return "look again: " + "; ".join(finding.title for finding in findings)
        gain = self.popular_nats - self.nats_an_item
        ratio = np.exp(gain)
        return f"learned: left-out items are {ratio:.1f} times as probable as under popularity"

    def to_json(self) -> dict[str, object]:
        """The figures that a manifest keeps."""
        return asdict(self)


@gather.register
@torch.no_grad()
def _(
    heldout: ListsToJudge, modality: Modality, network: Network, history: History, info: TrainInfo
) -> ItemEvidence:
    """The evidence from lists that the network did not train on."""
    device = next(network.parameters()).device
    visible, left_out = heldout.parted()
    target: Any = heldout.lists.items
    passed = network(visible.to(device))
    alone = torch.where(left_out, target, 0)
    log_prob = passed.likelihood.log_prob(
        type(visible)(visible.numbers, visible.codes, visible.observed, items=alone).to(device)
    )
    count = max(int(left_out.sum()), 1)
    share = (heldout.counts + 1) / (heldout.counts + 1).sum()
    popular = -np.log(share)[target[left_out].numpy() - 1].sum() / count
    nats: Any = passed.code.stats.get("nats")
    used = network.width if nats is None else int((nats.mean((0, 1)) > MIN_CODE_NATS).sum())
    return ItemEvidence(
        lists=info.rows,
        items=len(heldout.counts),
        width=network.width,
        used=used,
        nats_an_item=float(-log_prob[0].mean(0).sum()) / count,
        popular_nats=float(popular),
    )


@check("KH017", "no better than popularity", ItemEvidence)
def no_better_than_popularity(evidence: ItemEvidence) -> str | None:
    """A net that has learned nothing of single users."""
    if evidence.nats_an_item < evidence.popular_nats:
        return None
    return (
        f"the error of a left-out item is {evidence.nats_an_item:.2f}, and "
        f"{evidence.popular_nats:.2f} with popularity alone: give more users or more steps, or "
        "let net='auto' choose"
    )


@check("KH018", "the code of lists has collapsed", ItemEvidence)
def collapsed_lists(evidence: ItemEvidence) -> str | None:
    """A code that tells users apart by nothing."""
    if evidence.used > 0:
        return None
    return "no code dimension holds information: use a smaller beta"
