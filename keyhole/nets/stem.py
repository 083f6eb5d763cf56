"""The stem: a batch of cells becomes one vector a row, gaps included as a state of their own."""

import math
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor, nn

from keyhole.core.layout import Shape
from keyhole.core.part import Part
from keyhole.core.records import Batch

REACH = 5.0  # standardised numbers are clipped here: a net cannot extrapolate what it never sees
WIDEST_EMBEDDING = 16


class Stem(Part):
    """Standardised numbers, whether each was seen, and an embedding of each code.

    Only the net's input is clipped; the likelihood scores the number as it is.
    """

    def bind(self, shape: Shape) -> Shape:
        """Make the embedding table: one for all code cells, each with a row for «hidden»."""
        slots, wide = shape.layout.slots, shape.layout.numbers
        self.register_buffer("center", torch.tensor([s.center for s in slots[:wide]]), False)
        self.register_buffer("scale", torch.tensor([s.scale for s in slots[:wide]]), False)
        levels = [slot.levels + 1 for slot in slots[wide:]]
        starts = [0, *accumulate(levels)][: len(levels)]
        self.register_buffer("starts", torch.tensor(starts, dtype=torch.int64), False)
        self.total, self.members = sum(levels), shape.members
        # The rule of thumb 1.6 levels^.56 (fast.ai), for the column with most levels.
        self.wide = min(WIDEST_EMBEDDING, math.ceil(1.6 * max(levels) ** 0.56)) if levels else 0
        if levels:
            table = torch.empty(self.members * self.total, self.wide).normal_(std=0.5)
            self.table = nn.Parameter(table)
        return shape.widened(2 * wide + len(levels) * self.wide)

    def forward(self, batch: Batch) -> Float[Tensor, "member batch wide"]:
        """One vector a row and member; member axis 1 where all members see the same rows."""
        if batch.numbers.dim() == 2:
            batch = Batch(batch.numbers[None], batch.codes[None], batch.seen[None])
        wide = batch.numbers.shape[-1]
        seen = batch.seen[..., :wide].to(batch.numbers.dtype)
        center, scale = self.get_buffer("center"), self.get_buffer("scale")
        numbers = ((batch.numbers - center) / scale).clamp(-REACH, REACH) * seen
        parts = [numbers, seen]
        if self.wide:
            embedded = self._embed(batch.codes)  # (member, batch, code * wide)
            parts = [*(part.expand(*embedded.shape[:-1], -1) for part in parts), embedded]
        return torch.cat(parts, -1)

    def _embed(self, codes: Tensor) -> Tensor:
        member = torch.arange(self.members, device=codes.device)[:, None, None] * self.total
        place = codes + self.get_buffer("starts") + member  # (member, batch, code)
        return nn.functional.embedding(place, self.table).flatten(-2)
