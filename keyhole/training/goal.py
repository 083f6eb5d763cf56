"""What a training run minimises: a loss that is a pure function of seed and step."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from keyhole.core.environment import hash_of
from keyhole.core.layout import Layout
from keyhole.core.records import Batch
from keyhole.modalities.prepared import Feed
from keyhole.model.priors.base import StepLoss
from keyhole.training.corruptions.base import CorruptedBatch, Corruption
from keyhole.training.objective import objective


class Goal(ABC):
    """What a run minimises: the loss of each step, and that of held-out data.

    `rows` is the number of training rows, `batch` of those of a step; `warms_up`: a part of the
    loss rises at first, so no step of that time is the best.
    """

    rows: int
    batch: int
    held_out_rows: int = 0
    warms_up: bool = False

    @abstractmethod
    def loss(self, network: nn.Module, step: int, penalty: float) -> Float[Tensor, " member"]:
        """The loss of a step; `penalty` is the share of the code's cost that counts there."""

    @abstractmethod
    def held_out(self, network: nn.Module) -> Float[Tensor, ""]:
        """The loss on held-out data, under the same noise at every evaluation."""

    def cause(self, network: nn.Module, step: int) -> str:
        """What to look at after the loss of a step was not a number, for the end of a sentence."""
        return ""


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

    def __post_init__(self) -> None:
        self.rows = self.feed.rows
        self.held_out_rows = self.stopping.observed.shape[-2]
        self.steps_a_pool = max(1, 2 * self.rows // max(self.feed.pools, 1) // self.batch)
        # The same masked values at every evaluation, so that evaluations can be compared.
        noise = torch.Generator().manual_seed(hash_of(self.seed, -1))
        self.corrupted = self.corruption.corrupt(self.stopping, self.layout, noise)

    def loss(self, network: nn.Module, step: int, penalty: float) -> Float[Tensor, " member"]:
        """Nats per row of each member; members are independent."""
        corrupted, generator = self._corrupted(network, step)
        return objective(network, corrupted, generator, penalty)  # pyright: ignore

    def held_out(self, network: nn.Module) -> Float[Tensor, ""]:
        """Nats per row with the full cost of the code, so that evaluations can be compared."""
        noise = torch.Generator().manual_seed(hash_of(self.seed, -2))
        return objective(network, self.held_out_on(network), noise).mean()  # pyright: ignore

    def held_out_on(self, network: nn.Module) -> CorruptedBatch:
        """The corrupted held-out rows, where the network is."""
        return _moved(self.corrupted, network)

    def cause(self, network: nn.Module, step: int) -> str:
        """The column that costs most in the batch of this step."""
        corrupted, _ = self._corrupted(network, step)
        log_prob = network(corrupted.input).likelihood.log_prob(corrupted.target)
        nats = torch.where(corrupted.loss_weight > 0, -log_prob, 0.0).nan_to_num(nan=torch.inf)
        worst = self.layout.slots[int(nats.amax((0, 1, 2)).argmax())]
        return f"column {worst.column!r} costs most in that batch: look at it, or "

    def _corrupted(self, network: nn.Module, step: int) -> tuple[CorruptedBatch, torch.Generator]:
        batch, generator = self.feed.batch(step, self.batch, self.steps_a_pool)
        return _moved(self.corruption.corrupt(batch, self.layout, generator), network), generator


@dataclass
class OwnLoss(Goal):
    """A loss that a network brings along, as a prior over codes does."""

    step_loss: StepLoss
    rows: int = 0
    batch: int = 0

    def loss(self, network: nn.Module, step: int, penalty: float) -> Float[Tensor, " member"]:
        """The loss of a step, as one member's."""
        return self.step_loss(network, step)[None]

    def held_out(self, network: nn.Module) -> Float[Tensor, ""]:
        """The loss of what is held out, which stands before the first step."""
        return self.step_loss(network, -1)


def _moved(corrupted: CorruptedBatch, network: nn.Module) -> CorruptedBatch:
    """The batch where the network is."""
    device = next(network.parameters()).device
    if device.type == "cpu":
        return corrupted
    return CorruptedBatch(
        corrupted.input.to(device), corrupted.target.to(device), corrupted.loss_weight.to(device)
    )
