"""Swapped cells: some columns of a row hold another row's value, and nothing says which."""

import torch
from torch import Generator

from keyhole.core.layout import Layout
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.training.corruptions.base import Corruption, Question


class Swapping(Corruption):
    """Each column is taken from another row of the batch with chance `share`; all kinds of cells.

    Cells that were swapped count in full, others `kept`. Source: «swap noise» of tabular denoising
    autoencoders (Jahrer 2017, first place of the Porto Seguro competition).
    """

    kind = "swapping"

    def __init__(self, share: float = 0.15, *, kept: float = 0.3) -> None:
        self.share = share
        self.kept = kept

    def check(self) -> None:
        """Raises: SettingError for a share that is none."""
        if not 0 <= self.share < 1 or not self.kept >= 0 or not self.share + self.kept > 0:
            raise SettingError(
                f"{self!r}: share is in [0, 1), kept at least 0, and not both are 0"
            )

    def ask(self, batch: Batch, layout: Layout, generator: Generator) -> Question:
        """Rows with foreign cells in sight; a gap stays a gap."""
        self.check()
        rows = batch.seen.shape[-2]
        order = torch.randperm(rows, generator=generator)
        swapped = torch.rand((*batch.seen.shape[:-1], len(layout.columns)), generator=generator)
        swapped = (swapped < self.share)[..., torch.from_numpy(layout.column_of_cell)]
        other = batch.seen[..., order, :]
        swapped &= batch.seen & other
        wide = layout.numbers
        numbers = torch.where(swapped[..., :wide], batch.numbers[..., order, :], batch.numbers)
        codes = torch.where(swapped[..., wide:], batch.codes[..., order, :], batch.codes)
        weight = torch.where(swapped, 1.0, self.kept) * batch.seen
        return Question(Batch(numbers, codes, batch.seen, batch.weight), batch, weight)
