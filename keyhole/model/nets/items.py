"""The net of lists of items: an embedding bag, layers, and a mirror decoder.

Source: Liang et al. 2018, section 2 (Mult-VAE and Mult-DAE: 600 units, tanh, unit-length input).
"""

import math
from dataclasses import KW_ONLY, dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from keyhole.core.layout import Layout, Shape
from keyhole.core.parts import Part
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.model.nets.base import ACTIVATIONS, MLP, Layers, Net


@dataclass(eq=False, repr=False)
class ItemBag(Net):
    """Items of a list -> the sum of their vectors, `hidden[0]` wide, then layers as an MLP's.

    The list has unit length, so a long one counts as much as a short one. No vector of all items
    is ever made on the way in.
    """

    kind = "item_bag"
    items = True

    hidden: list[int] | None = None
    _: KW_ONLY
    activation: str = "tanh"

    def stem(self) -> Part:
        """The sum of the items' vectors, activated."""
        return ItemStem(self._widths()[0], self.activation)

    def encoder(self, layout: Layout) -> Part:
        """The layers after the first."""
        return Layers(MLP(activation=self.activation, skip=False), self._widths()[1:])

    def decoder(self, layout: Layout) -> Part:
        """All layers, mirrored."""
        return Layers(MLP(activation=self.activation, skip=False), self._widths()[::-1])

    def _widths(self) -> list[int]:
        hidden = self.hidden or [600]
        if not all(isinstance(wide, int) and 1 <= wide <= 65_536 for wide in hidden):
            raise SettingError(f"hidden={hidden!r}: give widths from 1 to 65,536, such as [600]")
        return list(hidden)


class ItemStem(Part):
    """A vector for each item and ensemble member; the first one is of no item."""

    def __init__(self, wide: int, activation: str) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise SettingError(f"activation={activation!r}: choose from {sorted(ACTIVATIONS)}")
        self.wide, self.activation = wide, activation

    def bind(self, shape: Shape) -> Shape:
        """Make the vectors, and the bias of their sum."""
        self.members, self.rows = shape.members, shape.layout.items + 1
        table = torch.normal(0.0, 1 / math.sqrt(self.wide), (self.members * self.rows, self.wide))
        self.table = nn.Parameter(table)
        self.bias = nn.Parameter(torch.zeros(self.members, 1, self.wide))
        self.activate = ACTIVATIONS[self.activation]()
        return shape.widened(self.wide)

    def forward(self, batch: Batch) -> Float[Tensor, "member batch wide"]:
        """One vector a row and member."""
        items = batch.items
        if items is None:
            raise SettingError("this net is for lists of items, but these rows are not lists")
        items = items.expand(self.members, *items.shape[-2:])  # (M, B, place)
        known = items > 0
        length = known.sum(-1, keepdim=True).clamp(min=1).to(self.table.dtype)
        weights = known / length.sqrt()
        start = torch.arange(self.members, device=items.device)[:, None, None] * self.rows
        bags = nn.functional.embedding_bag(
            (items + start).flatten(0, 1), self.table, mode="sum",
            per_sample_weights=weights.flatten(0, 1),
        )  # (M * B, wide)  # fmt: skip
        return self.activate(bags.unflatten(0, (self.members, -1)) + self.bias)
