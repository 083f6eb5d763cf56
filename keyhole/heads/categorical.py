"""Categorical for levels, through a softmax; rare levels share one logit."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from keyhole.core.layout import Shape, Slot
from keyhole.core.linear import Linear
from keyhole.heads.base import CellHead, Cells

MOST_LOGITS = 1_000  # levels with a logit of their own, per column


@dataclass(frozen=True)
class Column:
    """One column's place among the logits, and how levels without one of their own share it.

    `own[code - 1]` is the code's logit; `log_within` its log-share of that logit; `log_share` its
    log-share of all training rows, mixed in with weight exp(-nats) so that nothing is impossible.
    """

    start: int
    wide: int
    own: Int64[Tensor, " level"]
    log_within: Float[Tensor, " level"]
    log_share: Float[Tensor, " level"]
    nats: float


@dataclass(frozen=True)
class CategoricalCells:
    """Each column's levels with probabilities softmax(logits)."""

    logits: Float[Tensor, "*lead batch logit"]
    columns: list[Column]

    def log_prob(self, target: Int64[Tensor, "*lead batch cell"]) -> Float[Tensor, "*out cell"]:
        """The log-probability of each code; at code 0 (hidden) it means nothing."""
        lead = torch.broadcast_shapes(self.logits.shape[:-1], target.shape[:-1])
        found = []
        for i, column in enumerate(self.columns):
            level = (target[..., i] - 1).clamp(min=0)
            logits = self.logits[..., column.start : column.start + column.wide]
            log_soft = torch.log_softmax(logits, -1)
            own = column.own[level].expand(lead).unsqueeze(-1)
            mine = log_soft.expand(*lead, column.wide).gather(-1, own).squeeze(-1)
            mine = mine + column.log_within[level] + math.log1p(-math.exp(-column.nats))
            found.append(torch.logaddexp(mine, column.log_share[level] - column.nats))
        return torch.stack(found, -1)

    def deviance(self, target: Int64[Tensor, "*lead batch cell"]) -> Float[Tensor, "*out cell"]:
        """All of its nats: who expects a level rightly pays none."""
        return -self.log_prob(target)

    @property
    def mean(self) -> Tensor:
        """The most probable code among the known levels that have a logit of their own."""
        found = []
        for column in self.columns:
            logits = self.logits[..., column.start : column.start + max(column.wide - 1, 1)]
            found.append(logits.argmax(-1) + 1)
        return torch.stack(found, -1)

    def interval(self, share: float) -> tuple[Tensor, Tensor]:
        """The most probable code, twice: levels have no order."""
        return self.mean, self.mean

    def levels(self, place: int) -> Float[Tensor, "*lead batch level"]:
        """The probabilities of a column's levels; the last is that of all without their own."""
        column = self.columns[place]
        logits = self.logits[..., column.start : column.start + column.wide]
        return torch.softmax(logits, -1)

    def sample(self, generator: torch.Generator) -> Tensor:
        """A level drawn by its probability."""
        found = []
        for column in self.columns:
            logits = self.logits[..., column.start : column.start + column.wide]
            prob = torch.softmax(logits, -1)[..., column.own] * column.log_within.exp()
            drawn = torch.multinomial(prob.flatten(0, -2), 1, generator=generator)
            found.append(drawn.reshape(prob.shape[:-1]) + 1)
        return torch.stack(found, -1)


class Categorical(CellHead):
    """Logits from the state; a column's last logit is that of all levels without their own."""

    kind = "categorical"

    def bind_slots(self, shape: Shape, slots: list[Slot]) -> None:
        """Logits start at the levels' log-shares."""
        starts, wide = [], 0
        self.columns: list[tuple[int, int, float]] = []
        for i, slot in enumerate(slots):
            share = torch.tensor(slot.shares)
            own = torch.arange(slot.levels).clamp(max=MOST_LOGITS)
            logits = torch.zeros(min(slot.levels, MOST_LOGITS + 1)).index_add(0, own, share)
            self.register_buffer(f"own_{i}", own, persistent=False)
            self.register_buffer(f"log_share_{i}", torch.log(share), persistent=False)
            within = torch.log(share) - torch.log(logits)[own]
            self.register_buffer(f"log_within_{i}", within, persistent=False)
            self.columns.append((wide, len(logits), slot.nats_unseen))
            starts.append(torch.log(logits))
            wide += len(logits)
        self.to_logits = Linear(shape.wide, wide, shape.members)
        with torch.no_grad():
            self.to_logits.bias.copy_(torch.cat(starts).expand_as(self.to_logits.bias))

    def forward(
        self, state: Float[Tensor, "*lead batch wide"], seen: Bool[Tensor, "*row cell"] | None
    ) -> Cells:
        """The distribution of each code cell."""
        columns = [
            Column(
                start, wide, self.get_buffer(f"own_{i}"), self.get_buffer(f"log_within_{i}"),
                self.get_buffer(f"log_share_{i}"), nats,
            )
            for i, (start, wide, nats) in enumerate(self.columns)
        ]  # fmt: skip
        return CategoricalCells(self.to_logits(state), columns)
