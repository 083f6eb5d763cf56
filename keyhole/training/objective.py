"""The only loss: nats per row, summed over cells, averaged over the batch, nowhere else."""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from keyhole.core.records import Batch, Pass
from keyhole.model.network import Network
from keyhole.training.corruptions.base import CorruptedBatch


def objective(
    network: Network,
    corrupted: CorruptedBatch,
    generator: Generator | None = None,
    penalty: float = 1.0,
) -> Float[Tensor, " member"]:
    """Each member's loss in nats per row: what the scored cells cost, and what the code costs.

    `price` weighs the code's cost while a run warms up. Several samples with a `log_ratio` make
    the importance-weighted bound (Burda et al. 2016, eq. 8), one the evidence bound; samples
    without it (prefixes of ordered codes) are averaged.
    """
    passed = network(corrupted.input, generator)
    nats, code = sample_nats(passed, corrupted), passed.code
    if code.log_ratio is not None and len(nats) > 1:
        bound = torch.logsumexp(penalty * code.log_ratio - nats, 0) - math.log(len(nats))
        return weighted_mean(-bound, corrupted.target)
    return weighted_mean(nats.mean(0) + penalty * code.cost.sum(-1), corrupted.target)


def sample_nats(passed: Pass, corrupted: CorruptedBatch) -> Float[Tensor, "sample member batch"]:
    """The scored cells' negative log-likelihood of each row under each code sample.

    An unscored cell counts zero even where its log-probability is not a number.
    """
    log_prob = passed.likelihood.log_prob(corrupted.target)  # (S, M, B, feature)
    if bool((corrupted.loss_weight == 1).all()):  # spares two passes over every sample's cells
        return -log_prob.sum(-1)
    counted = torch.where(corrupted.loss_weight > 0, -log_prob * corrupted.loss_weight, 0.0)
    return counted.sum(-1)


def weighted_mean(nats: Float[Tensor, "member batch"], batch: Batch) -> Float[Tensor, " member"]:
    """The mean over rows, by their weights where they have any."""
    if batch.weight is None:
        return nats.mean(-1)
    return (nats * batch.weight).sum(-1) / batch.weight.sum(-1).clamp(min=1e-12)
