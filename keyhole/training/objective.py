"""The only loss: nats per row, summed over cells, averaged over the batch, nowhere else."""

import torch
from jaxtyping import Float
from torch import Tensor

from keyhole.core.records import Batch, Pass
from keyhole.network import Network
from keyhole.training.corruptions.base import Question


def objective(network: Network, question: Question) -> Float[Tensor, " member"]:
    """Each member's loss in nats per row: what the scored cells cost, and what the code costs."""
    passed = network(question.given)
    nats = row_nats(passed, question) + passed.code.cost.sum(-1)
    return weighted_mean(nats, question.target)


def row_nats(passed: Pass, question: Question) -> Float[Tensor, "member batch"]:
    """The scored cells' negative log-likelihood of each row, averaged over code samples.

    An unscored cell counts zero even where its log-probability is not a number.
    """
    log_prob = passed.likelihood.log_prob(question.target)  # (S, M, B, cell)
    counted = torch.where(question.scored > 0, -log_prob * question.scored, 0.0)
    return counted.sum(-1).mean(0)


def weighted_mean(nats: Float[Tensor, "member batch"], batch: Batch) -> Float[Tensor, " member"]:
    """The mean over rows, by their weights where they have any."""
    if batch.weight is None:
        return nats.mean(-1)
    return (nats * batch.weight).sum(-1) / batch.weight.sum(-1).clamp(min=1e-12)
