"""The corruption of lists of items: some are dropped on the way in."""

from dataclasses import dataclass, replace

import torch
from torch import Generator

from keyhole.core.layout import Layout
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.training.corruptions.base import CorruptedBatch, Corruption


@dataclass(eq=False, repr=False)
class ItemDropout(Corruption):
    """Each item of a list is dropped with probability `share`; the target is the whole list.

    Source: Liang et al. 2018, section 2.3 (Mult-DAE), and dropout of the input of Mult-VAE.
    """

    kind = "item_dropout"
    items = True
    masks = True

    share: float = 0.5

    def check(self) -> None:
        """Raises: SettingError for an invalid share."""
        if not 0 <= self.share < 1:
            raise SettingError(f"share={self.share!r}: give at least 0 and below 1")

    def corrupt(self, batch: Batch, layout: Layout, generator: Generator) -> CorruptedBatch:
        """The lists with some items, and the whole ones as targets."""
        self.check()
        items = batch.items
        if items is None:
            raise SettingError("item_dropout is for lists of items, but these rows are not lists")
        stays = torch.rand(items.shape, generator=generator) >= self.share
        weight = batch.observed.to(batch.numbers.dtype)
        return CorruptedBatch(replace(batch, items=items * stays), batch, weight)
