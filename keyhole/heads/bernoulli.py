"""Bernoulli for flags, through a sigmoid."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from keyhole.core.layout import Shape, Slot
from keyhole.core.linear import Linear
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
        self.to_logit = Linear(shape.wide, len(slots), shape.members)
        share = torch.tensor([slot.center for slot in slots])
        bound = torch.tensor([slot.nats_unseen for slot in slots])
        self.register_buffer("bound", bound, persistent=False)
        with torch.no_grad():
            start = torch.logit(share).clamp(-0.99 * bound, 0.99 * bound)
            self.to_logit.bias.copy_(
                (bound * torch.atanh(start / bound)).expand_as(self.to_logit.bias)
            )

    def forward(
        self, state: Float[Tensor, "*lead batch wide"], seen: Bool[Tensor, "*row cell"] | None
    ) -> Cells:
        """The distribution of each flag."""
        bound = self.get_buffer("bound")
        return BernoulliCells(bound * torch.tanh(self.to_logit(state) / bound), bound)
