"""The stem of pictures: pixels, and whether each was seen, side by side at its place."""

import torch
from jaxtyping import Float
from torch import Tensor

from keyhole.core.layout import Shape
from keyhole.core.part import Part
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.nets.stem import REACH


class Pixels(Part):
    """Standardised pixels, clipped, each place's channels followed by their «seen» flags."""

    def bind(self, shape: Shape) -> Shape:
        """Two numbers for each cell.

        Raises: SettingError where rows are no pictures.
        """
        if shape.layout.grid is None:
            raise SettingError(
                "this net is for pictures, and the rows are those of a table; use MLP, or give "
                "an array (n, height, width)"
            )
        slots = shape.layout.slots
        self.channels = shape.layout.grid[2]
        self.register_buffer("center", torch.tensor([s.center for s in slots]), False)
        self.register_buffer("scale", torch.tensor([s.scale for s in slots]), False)
        return shape.widened(2 * len(slots))

    def forward(self, batch: Batch) -> Float[Tensor, "member batch wide"]:
        """One vector a row and member; member axis 1 where all members see the same rows."""
        numbers, seen = batch.numbers, batch.seen.to(batch.numbers.dtype)
        if numbers.dim() == 2:
            numbers, seen = numbers[None], seen[None]
        center, scale = self.get_buffer("center"), self.get_buffer("scale")
        numbers = ((numbers - center) / scale).clamp(-REACH, REACH) * seen
        pair = [part.unflatten(-1, (-1, self.channels)) for part in (numbers, seen)]
        return torch.cat(pair, -1).flatten(-2)  # (member, B, h * w * 2 channels)
