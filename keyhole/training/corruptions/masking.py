"""Masked cells: a random share of each row is hidden and must be predicted from the rest.

It is what stops a net from learning to copy, and what lets it fill gaps.
Source: denoising autoencoders (Vincent et al. 2008), masked autoencoders (He et al. 2022).
"""

import torch
from torch import Generator

from keyhole.core.layout import Layout
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.training.corruptions.base import Corruption, Question


class Masking(Corruption):
    """Each row hides a share of its columns, drawn evenly from 0 to `most`.

    Hidden cells count in full; those in sight count `sight`, so that the code still serves them;
    and each by its slot's weight, so that columns count alike.
    """

    kind = "masking"
    hides = True

    def __init__(self, most: float = 0.5, *, sight: float = 0.1) -> None:
        self.most = most
        self.sight = sight

    def ask(self, batch: Batch, layout: Layout, generator: Generator) -> Question:
        """Hide columns, all cells of one together; an unseen cell never counts."""
        if not (0 <= self.most < 1 and self.sight >= 0 and self.most + self.sight > 0):
            raise SettingError(f"{self!r}: most is in [0, 1), sight at least 0, not both 0")
        rows = batch.seen.shape[:-1]
        share = torch.rand((*rows, 1), generator=generator) * self.most
        hidden = torch.rand((*rows, len(layout.columns)), generator=generator) < share
        if len(layout.columns) < len(layout):
            hidden = hidden[..., torch.from_numpy(layout.column_of_cell)]
        even = torch.tensor([slot.weight for slot in layout.slots])
        weight = torch.where(hidden, 1.0, self.sight) * even * batch.seen
        return Question(batch.hide(hidden), batch, weight)
