"""What a training run minimises: a loss that is a pure function of seed and step.

The loss of autoencoders is nats per row, summed over features, averaged over the batch, nowhere
else.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from keyhole.core.environment import hash_of
from keyhole.core.layout import Layout
from keyhole.core.records import Batch, Pass
from keyhole.modalities.prepared import Feed
from keyhole.model.network import Network
from keyhole.model.priors.base import StepLoss
from keyhole.training.corruptions.base import CorruptedBatch, Corruption


class Goal(ABC):
    """What a run minimises: the loss of each step, and that of held-out data.

    `rows` is the number of training rows, each of which shares values with the `shared` rows
    after it, `batch` that of a step; `warms_up`: a part of the loss rises at first, so no step of
    that time is the best.
    """

    rows: int
    shared: int = 0
    batch: int
    held_out_rows: int = 0
    warms_up: bool = False

    @abstractmethod
    def loss(
        self, network: nn.Module, step: int, penalty: float, averaged: nn.Module
    ) -> Float[Tensor, " member"]:
        """The loss of a step; `penalty` is the share of the code's cost that counts there.

        `averaged` is the network with the running average of its weights.
        """

    @abstractmethod
    def held_out(self, network: nn.Module) -> Float[Tensor, ""]:
        """The loss on held-out data, under the same noise at every evaluation."""

    def cause(self, network: nn.Module, step: int) -> str:
        """What to look at if the loss of a step is not a number, to complete a sentence."""
        return ""


def objective(
    network: Network,
    corrupted: CorruptedBatch,
    generator: Generator | None = None,
    penalty: float = 1.0,
    averaged: Network | None = None,
) -> Float[Tensor, " member"]:
    """Each member's loss in nats per row: that of the counted features, and that of the code.

    `penalty` weighs the code's cost while a run warms up. Several samples with a `log_ratio` make
    the importance-weighted bound (Burda et al. 2016, eq. 8), one the evidence bound; samples
    without it (prefixes of ordered codes) are averaged. A bottleneck that recalls compares its
    code with that of the whole rows by the `averaged` weights, where they are given.
    """
    passed = network(corrupted.input, generator)
    nats, code = sample_nats(passed, corrupted), passed.code
    if network.bottleneck.recalls and averaged is not None:
        with torch.no_grad():
            earlier = averaged.encode(corrupted.target)
        code = network.bottleneck.recalled(code, earlier, corrupted.target.counts())
    if code.log_ratio is not None and len(nats) > 1:
        bound = torch.logsumexp(penalty * code.log_ratio - nats, 0) - math.log(len(nats))
        return weighted_mean(-bound, corrupted.target)
    return weighted_mean(nats.mean(0) + penalty * code.cost.sum(-1), corrupted.target)


def sample_nats(passed: Pass, corrupted: CorruptedBatch) -> Float[Tensor, "sample member batch"]:
    """The negative log-likelihood of each row's counted features under each code sample.

    A feature of weight 0 adds nothing even if its log-probability is not a number.
    """
    log_prob = passed.likelihood.log_prob(corrupted.target)  # (S, M, B, feature)
    weight = corrupted.loss_weight
    if weight.numel() and bool((weight.amin() == 1) & (weight.amax() == 1)):
        return -log_prob.sum(-1)  # saves two passes over every sample
    return torch.where(weight > 0, -log_prob * weight, 0.0).sum(-1)


def weighted_mean(nats: Float[Tensor, "member batch"], batch: Batch) -> Float[Tensor, " member"]:
    """The mean over rows, by their weights where they have any."""
    if batch.weight is None:
        return nats.mean(-1)
    return (nats * batch.weight).sum(-1) / batch.weight.sum(-1).clamp(min=1e-12)


@dataclass
class Reconstruction(Goal):
    """The one loss of autoencoders: rebuild the rows of a feed from corrupted ones."""

    feed: Feed
    stopping: Batch  # held-out rows with a member axis
    corruption: Corruption
    layout: Layout
    batch: int
    seed: int
    warms_up: bool
    shared: int = 0

    def __post_init__(self) -> None:
        self.rows = self.feed.rows
        self.held_out_rows = self.stopping.observed.shape[-2]
        self.steps_a_pool = max(1, 2 * self.rows // max(self.feed.pools, 1) // self.batch)
        # The same masked values at every evaluation, so that evaluations can be compared.
        noise = Generator().manual_seed(hash_of(self.seed, -1))
        self.corrupted = self.corruption.corrupt(self.stopping, self.layout, noise)

    def loss(
        self, network: nn.Module, step: int, penalty: float, averaged: nn.Module
    ) -> Float[Tensor, " member"]:
        """Nats per row of each member; members are independent."""
        corrupted, generator = self._corrupted(network, step)
        networks: Any = network, averaged
        return objective(networks[0], corrupted, generator, penalty, networks[1])

    def held_out(self, network: nn.Module) -> Float[Tensor, ""]:
        """Nats per row with the full cost of the code, so that evaluations can be compared."""
        noise = Generator().manual_seed(hash_of(self.seed, -2))
        return objective(network, self.held_out_on(network), noise).mean()  # pyright: ignore

    def held_out_on(self, network: nn.Module) -> CorruptedBatch:
        """The corrupted held-out rows on the network's device."""
        return _moved(self.corrupted, network)

    def cause(self, network: nn.Module, step: int) -> str:
        """The column that costs most in the batch of this step."""
        corrupted, _ = self._corrupted(network, step)
        log_prob = network(corrupted.input).likelihood.log_prob(corrupted.target)
        nats = torch.where(corrupted.loss_weight > 0, -log_prob, 0.0).nan_to_num(nan=torch.inf)
        worst = self.layout.slots[int(nats.amax((0, 1, 2)).argmax())]
        return f"column {worst.column!r} has the largest error in that batch: check it, or "

    def _corrupted(self, network: nn.Module, step: int) -> tuple[CorruptedBatch, Generator]:
        batch, generator = self.feed.batch(step, self.batch, self.steps_a_pool)
        return _moved(self.corruption.corrupt(batch, self.layout, generator), network), generator


@dataclass
class OwnLoss(Goal):
    """A loss that a network brings along, as a prior over codes does."""

    step_loss: StepLoss
    rows: int = 0
    batch: int = 0

    def loss(
        self, network: nn.Module, step: int, penalty: float, averaged: nn.Module
    ) -> Float[Tensor, " member"]:
        """The loss of a step, as one member's."""
        return self.step_loss(network, step)[None]

    def held_out(self, network: nn.Module) -> Float[Tensor, ""]:
        """The loss of held-out data, which is step -1."""
        return self.step_loss(network, -1)


def _moved(corrupted: CorruptedBatch, network: nn.Module) -> CorruptedBatch:
    """The batch on the network's device."""
    device = next(network.parameters()).device
    target, weight = corrupted.target.to(device), corrupted.loss_weight.to(device)
    return CorruptedBatch(corrupted.input.to(device), target, weight)
