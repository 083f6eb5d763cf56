"""Bernoulli for flags, through a sigmoid."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from keyhole.core.layout import Shape, Slot
from keyhole.core.linear import Linear, to_cells
from keyhole.heads.base import CellHead, Cells


@dataclass(frozen=True)
class BernoulliCells:
    """A flag is 1 with probability sigmoid(logit); any other value costs `nats_unseen`."""

    logit: Float[Tensor, "*lead batch cell"]
    nats_unseen: Float[Tensor, " cell"]

    def log_prob(self, target: Tensor) -> Float[Tensor, "*lead batch cell"]:
        """Log sigmoid(logit) at 1, log sigmoid(-logit) at 0."""
        log_prob = torch.addcmul(functional.logsigmoid(-self.logit), target, self.logit)
        unseen = target > 1  # of the rows alone, so few that to ask first is cheaper
        return torch.where(unseen, -self.nats_unseen, log_prob) if bool(unseen.any()) else log_prob

    def deviance(self, target: Tensor) -> Float[Tensor, "*lead batch cell"]:
        """All of its nats: who expects a flag rightly pays none."""
        return -self.log_prob(target)

    @property
    def mean(self) -> Tensor:
        """The probability of 1."""
        return torch.sigmoid(self.logit)

    def interval(self, share: float) -> tuple[Tensor, Tensor]:
        """The probability, twice: a flag has no range."""
        return self.mean, self.mean

    def sample(self, generator: torch.Generator) -> Tensor:
        """0 or 1."""
        return torch.bernoulli(self.mean, generator=generator)


class Bernoulli(CellHead):
    """A logit from the state, bounded so that no value is thought rarer than one row in all."""

    kind = "bernoulli"

    def bind_slots(self, shape: Shape, slots: list[Slot]) -> None:
        """Logits start at the flags' shares."""
        self.to_logit = to_cells(shape, len(slots))
        share = torch.tensor([slot.center for slot in slots])
        bound = torch.tensor([slot.nats_unseen for slot in slots])
        self.register_buffer("bound", bound, persistent=False)
        start = torch.logit(share).clamp(-0.99 * bound, 0.99 * bound)
        start = bound * torch.atanh(start / bound)
        own = isinstance(self.to_logit, Linear)
        self.register_buffer("start", torch.zeros_like(start) if own else start, persistent=False)
        if isinstance(self.to_logit, Linear):
            with torch.no_grad():
                self.to_logit.bias.copy_(start.expand_as(self.to_logit.bias))

    def forward(
        self, state: Float[Tensor, "*lead batch wide"], seen: Bool[Tensor, "*row cell"] | None
    ) -> Cells:
        """The distribution of each flag."""
        bound = self.get_buffer("bound")
        logit = self.to_logit(state) + self.get_buffer("start")
        return BernoulliCells(bound * torch.tanh(logit / bound), bound)
