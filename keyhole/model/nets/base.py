"""The interface of a family of nets, and the stems that embed a batch of features or pixels."""

import math
from abc import abstractmethod
from itertools import accumulate
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from keyhole.core.layout import Layout, Shape
from keyhole.core.parts import Described, Part
from keyhole.core.records import Batch
from keyhole.errors import SettingError


class Net(Described):
    """A family: an encoder and the decoder that mirrors it, sized by the data unless told."""

    family = "net"
    images: ClassVar[bool] = False  # True: rows must be images, with a grid
    skips: ClassVar[bool] = False  # True: the decoder sees more than a code, so there is none

    def stem(self) -> Part:
        """Cells -> one vector a row."""
        return Stem()

    @abstractmethod
    def encoder(self, layout: Layout) -> Part:
        """Embedded cells -> a state for the bottleneck."""

    @abstractmethod
    def decoder(self, layout: Layout) -> Part:
        """A code -> a state for the head."""


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
            batch = Batch(batch.numbers[None], batch.codes[None], batch.observed[None])
        wide = batch.numbers.shape[-1]
        observed = batch.observed[..., :wide].to(batch.numbers.dtype)
        center, scale = self.get_buffer("center"), self.get_buffer("scale")
        numbers = ((batch.numbers - center) / scale).clamp(-REACH, REACH) * observed
        parts = [numbers, observed]
        if self.wide:
            embedded = self._embed(batch.codes)  # (member, batch, code * wide)
            parts = [*(part.expand(*embedded.shape[:-1], -1) for part in parts), embedded]
        return torch.cat(parts, -1)

    def _embed(self, codes: Tensor) -> Tensor:
        member = torch.arange(self.members, device=codes.device)[:, None, None] * self.total
        place = codes + self.get_buffer("starts") + member  # (member, batch, code)
        return nn.functional.embedding(place, self.table).flatten(-2)


class Pixels(Part):
    """Standardised pixels, clipped, each place's channels followed by their «seen» flags."""

    def bind(self, shape: Shape) -> Shape:
        """Two numbers for each cell.

        Raises: SettingError where rows are no images.
        """
        if shape.layout.grid is None:
            raise SettingError(
                "this net is for images, and the rows are those of a table; use MLP, or give "
                "an array (n, height, width)"
            )
        slots = shape.layout.slots
        self.channels = shape.layout.grid[2]
        self.register_buffer("center", torch.tensor([s.center for s in slots]), False)
        self.register_buffer("scale", torch.tensor([s.scale for s in slots]), False)
        return shape.widened(2 * len(slots))

    def forward(self, batch: Batch) -> Float[Tensor, "member batch wide"]:
        """One vector a row and member; member axis 1 where all members see the same rows."""
        numbers, observed = batch.numbers, batch.observed.to(batch.numbers.dtype)
        if numbers.dim() == 2:
            numbers, observed = numbers[None], observed[None]
        center, scale = self.get_buffer("center"), self.get_buffer("scale")
        numbers = ((numbers - center) / scale).clamp(-REACH, REACH) * observed
        pair = [part.unflatten(-1, (-1, self.channels)) for part in (numbers, observed)]
        return torch.cat(pair, -1).flatten(-2)  # (member, B, h * w * 2 channels)
