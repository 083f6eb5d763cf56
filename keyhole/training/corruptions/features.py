"""Corruptions of any rows: none, masking, swapping, noise.

Masking stops a net from learning to copy, and lets it fill gaps. Source: denoising autoencoders
(Vincent et al. 2008), masked autoencoders (He et al. 2022). No corruption suits a variational
bound, whose noise is in the code.
"""

import torch
from torch import Generator

from keyhole.core.layout import Layout
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.training.corruptions.base import CorruptedBatch, Corruption


class NoCorruption(Corruption):
    """The plain reconstruction: nats of the visible features, all weights 1."""

    kind = "none"

    def corrupt(self, batch: Batch, layout: Layout, generator: Generator) -> CorruptedBatch:
        """The rows as they are."""
        return CorruptedBatch(batch, batch, batch.observed.to(batch.numbers.dtype))


class Masking(Corruption):
    """Each row hides a share of its columns, drawn evenly from 0 to `most`.

    Hidden cells count in full; those in sight count `sight`, so that the code still serves them;
    and each by its slot's weight, so that columns count alike.
    """

    kind = "masking"
    masks = True

    def __init__(self, most: float = 0.5, *, visible: float = 0.1) -> None:
        self.most = most
        self.visible = visible

    def corrupt(self, batch: Batch, layout: Layout, generator: Generator) -> CorruptedBatch:
        """Hide columns, all cells of one together; an unseen cell never counts."""
        if not (0 <= self.most < 1 and self.visible >= 0 and self.most + self.visible > 0):
            raise SettingError(f"{self!r}: most must be in [0, 1), visible at least 0, not both 0")
        rows = batch.observed.shape[:-1]
        share = torch.rand((*rows, 1), generator=generator) * self.most
        hidden = torch.rand((*rows, len(layout.columns)), generator=generator) < share
        if len(layout.columns) < len(layout):
            hidden = hidden[..., torch.from_numpy(layout.column_of_feature)]
        even = torch.tensor([slot.weight for slot in layout.slots])
        weight = torch.where(hidden, 1.0, self.visible) * even * batch.observed
        return CorruptedBatch(batch.hide(hidden), batch, weight)


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
        """Raises: SettingError for an invalid share."""
        if not 0 <= self.share < 1 or not self.kept >= 0 or not self.share + self.kept > 0:
            raise SettingError(
                f"{self!r}: share is in [0, 1), kept at least 0, and not both are 0"
            )

    def corrupt(self, batch: Batch, layout: Layout, generator: Generator) -> CorruptedBatch:
        """Rows with visible values of other rows; a gap stays a gap."""
        self.check()
        rows = batch.observed.shape[-2]
        order = torch.randperm(rows, generator=generator)
        swapped = torch.rand(
            (*batch.observed.shape[:-1], len(layout.columns)), generator=generator
        )
        swapped = (swapped < self.share)[..., torch.from_numpy(layout.column_of_feature)]
        other = batch.observed[..., order, :]
        swapped &= batch.observed & other
        wide = layout.numbers
        numbers = torch.where(swapped[..., :wide], batch.numbers[..., order, :], batch.numbers)
        codes = torch.where(swapped[..., wide:], batch.codes[..., order, :], batch.codes)
        weight = torch.where(swapped, 1.0, self.kept) * batch.observed
        return CorruptedBatch(Batch(numbers, codes, batch.observed, batch.weight), batch, weight)


class Noise(Corruption):
    """Normal noise of `scale` times each continuous cell's spread; the clean row is asked for.

    Source: Vincent et al. 2010, section 3.3. Levels, flags and counts stay as they are: for those
    there is `swapping`.
    """

    kind = "noise"

    def __init__(self, scale: float = 0.3) -> None:
        self.scale = scale

    def check(self) -> None:
        """Raises: SettingError for a scale below zero."""
        if not self.scale >= 0:
            raise SettingError(f"scale={self.scale!r}: it must be zero or above")

    @property
    def noisier(self) -> float:
        """The noise that is put on."""
        return self.scale

    def corrupt(self, batch: Batch, layout: Layout, generator: Generator) -> CorruptedBatch:
        """Noisy numbers in sight, every seen cell scored, none weighed."""
        self.check()
        slots = layout.slots[: layout.numbers]  # an image of any size has none: its unit is 1
        reach = torch.tensor([s.scale * (s.head == "student_t") for s in slots] or [1.0])
        noise = torch.randn(batch.numbers.shape, generator=generator) * (self.scale * reach)
        observed = batch.observed[..., : batch.numbers.shape[-1]]
        given = Batch(batch.numbers + noise * observed, batch.codes, batch.observed, batch.weight)
        return CorruptedBatch(given, batch, batch.observed.to(batch.numbers.dtype))
