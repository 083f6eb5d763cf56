"""The head of lists of items: a softmax over all items of a catalogue."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from keyhole.core.layout import Shape
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.model.heads.base import Head, Observed
from keyhole.model.layers import Linear, Places, State

MAX_SOFTMAX = 50_000  # items of a catalogue; of more, training compares with some at a time
SAMPLED = 8_192  # items that those of the lists are compared with
BLOCK_ITEMS = 16_384  # whose logits are held at once, beyond `MAX_SOFTMAX`


@dataclass(frozen=True)
class ItemLikelihood:
    """A list is drawn item by item, with probabilities softmax(logits) over all items.

    `sampled` are the items that training compares with, 0-based; None: all.
    """

    state: Float[Tensor, "*lead batch wide"]
    layer: Linear
    sampled: Int64[Tensor, " item"] | None = None

    def log_prob(self, batch: Batch) -> Float[Tensor, "*out 1"]:
        """The sum of the log-probabilities of a list's items, in nats.

        Source: Liang et al. 2018, eq. 2 without its constant; sampled: Jean et al. 2015, eq. 9.
        """
        items: Tensor = batch.items  # pyright: ignore
        known = items > 0
        if self.sampled is not None:
            return self._sampled(items, known)
        if self.layer.bias.shape[-1] <= MAX_SOFTMAX:
            log_soft = torch.log_softmax(self.logits(), -1)  # (S, M, B, item)
            lead = np.broadcast_shapes(log_soft.shape[:-1], items.shape[:-1])
            places = (items - 1).clamp(min=0).expand(*lead, -1)
            own = log_soft.expand(*lead, -1).gather(-1, places)
            return torch.where(known, own, 0.0).sum(-1, keepdim=True)
        parts = [torch.logsumexp(part, -1) for part in self.logits_in_blocks()]
        total = torch.logsumexp(torch.stack(parts), 0)[..., None]
        own = self._own(items) - total
        return torch.where(known, own, 0.0).sum(-1, keepdim=True)

    def deviance(self, batch: Batch) -> Float[Tensor, "*out 1"]:
        """Nats beyond those of a prediction that knows the list but not its order."""
        count = (batch.items > 0).sum(-1, keepdim=True).clamp(min=1)  # pyright: ignore
        return -self.log_prob(batch) - count * torch.log(count.float())

    def logits(self) -> Float[Tensor, "*lead batch item"]:
        """The logits of all items."""
        return self.layer(self.state)

    def logits_in_blocks(self) -> list[Float[Tensor, "*lead batch some"]]:
        """The logits, some items at a time."""
        weight, bias = self.layer.weight, self.layer.bias
        pairs = zip(weight.split(BLOCK_ITEMS, 1), bias.split(BLOCK_ITEMS, 2), strict=True)
        return [torch.matmul(self.state, w.mT) + b for w, b in pairs]

    @property
    def mean(self) -> Batch:
        """The most probable item of each list."""
        best = self.logits().argmax(-1, keepdim=True) + 1
        numbers = torch.ones_like(best, dtype=torch.float32)
        return Batch(numbers, best[..., :0], numbers > 0, items=best)

    def interval(self, share: float) -> tuple[Tensor, Tensor]:
        """The length of a list is no question of this likelihood: 1, twice."""
        one = torch.ones_like(self.state[..., :1])
        return one, one

    def levels(self, feature: int) -> Float[Tensor, "*lead batch item"]:
        """The probabilities of the items."""
        return torch.softmax(self.logits(), -1)

    def sample(self, generator: torch.Generator) -> Batch:
        """One item of each list."""
        share = torch.softmax(self.logits(), -1)
        drawn = torch.multinomial(share.flatten(0, -2), 1, generator=generator) + 1
        drawn = drawn.unflatten(0, share.shape[:-1])
        numbers = torch.ones_like(drawn, dtype=torch.float32)
        return Batch(numbers, drawn[..., :0], numbers > 0, items=drawn)

    def _own(self, items: Tensor) -> Tensor:
        """The logits of a list's own items; of no item, those of the first."""
        place = (items - 1).clamp(min=0)
        weight, bias = self.layer.weight[0], self.layer.bias[0, 0]
        own = (weight[place] * self.state.unsqueeze(-2)).sum(-1)
        return own + bias[place]

    def _sampled(self, items: Tensor, known: Tensor) -> Tensor:
        """Each own item against the sampled ones, which stand for all others."""
        sampled: Tensor = self.sampled  # pyright: ignore
        weight, bias = self.layer.weight[0, sampled], self.layer.bias[0, 0, sampled]
        others = torch.logsumexp(torch.matmul(self.state, weight.T) + bias, -1, keepdim=True)
        others = others + math.log(self.layer.bias.shape[-1] / len(sampled))
        own = self._own(items)
        log_prob = own - torch.logaddexp(own, others)
        return torch.where(known, log_prob, 0.0).sum(-1, keepdim=True)


@dataclass(eq=False, repr=False)
class Multinomial(Head):
    """A logit for each item of the catalogue; of more than 50,000, training samples some."""

    kind = "multinomial"
    items = True

    def bind(self, shape: Shape) -> Shape:
        """Make the map from the state to logits."""
        count = shape.layout.items
        if not count:
            raise SettingError("multinomial: rows must be lists of items")
        if count > MAX_SOFTMAX and shape.members > 1:
            raise SettingError(
                f"a catalogue of {count:,} items is too large for an ensemble; give members=1"
            )
        self.to_logits = Linear(shape.wide, count, shape.members)
        return shape.widened(1)

    def forward(
        self, state: State, observed: Observed, features: Places | None = None
    ) -> ItemLikelihood:
        """The distribution of each list."""
        return ItemLikelihood(state, self.to_logits)

    def sampled(self, likelihood: ItemLikelihood, generator: torch.Generator) -> ItemLikelihood:
        """With the items that a step compares with, where the catalogue is large."""
        count = self.to_logits.bias.shape[-1]
        if count <= MAX_SOFTMAX:
            return likelihood
        places = torch.randint(count, (SAMPLED,), generator=generator, device=generator.device)
        return replace(likelihood, sampled=places.to(likelihood.state.device))
