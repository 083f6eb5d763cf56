"""The interface of a corruption, and those of any rows: none, masking, swapping, noise.

Masking keeps a net from learning to copy, and lets it fill gaps. Source: denoising autoencoders
(Vincent et al. 2008), masked autoencoders (He et al. 2022). No corruption suits a variational
bound, whose noise is in the code.
"""

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from keyhole.core.layout import Layout
from keyhole.core.parts import Described
from keyhole.core.records import Batch
from keyhole.errors import SettingError


@dataclass(frozen=True)
class CorruptedBatch:
    """The net sees `input`; its loss is that of `target`, each feature by its `loss_weight`."""

    input: Batch
    target: Batch
    loss_weight: Float[Tensor, "*lead batch feature"]


class Corruption(Described):
    """A way to corrupt a batch for training; the likelihood of the target is the same for all."""

    family = "corruption"
    masks: ClassVar[bool] = False  # True: the net learns to predict masked features
    images: ClassVar[bool] = False  # True: rows must be images
    items: ClassVar[bool] = False  # True: rows must be lists of items
    blind: ClassVar[bool] = False  # True: the net predicts a pixel from its surroundings alone

    @property
    def noisier(self) -> float:
        """The standard deviation of the input's noise, in units of that of the batch."""
        return 1.0

    @abstractmethod
    def corrupt(self, batch: Batch, layout: Layout, generator: Generator) -> CorruptedBatch:
        """These rows, corrupted; randomness from the generator alone. Raises: SettingError."""


def counted(predicted: Bool[Tensor, "*lead batch feature"]) -> Tensor:
    """The loss weights of features: 0 for those not predicted; each row sums to its features."""
    share = predicted.float().mean(-1, keepdim=True)
    return predicted / share.clamp(min=1e-12)


class NoCorruption(Corruption):
    """Plain reconstruction: nats of the observed values, all with weight 1."""

    kind = "none"

    def corrupt(self, batch: Batch, layout: Layout, generator: Generator) -> CorruptedBatch:
        """The rows, unchanged."""
        return CorruptedBatch(batch, batch, batch.observed.to(batch.numbers.dtype))


@dataclass(eq=False, repr=False)
class Masking(Corruption):
    """Each row masks a share of its columns, drawn evenly from 0 to `most`.

    Masked features count in full; visible ones count `visible`, so that the code still serves
    them; and each by its slot's weight, so that columns count alike.
    """

    kind = "masking"
    masks = True

    most: float = 0.5
    _: KW_ONLY
    visible: float = 0.1

    def corrupt(self, batch: Batch, layout: Layout, generator: Generator) -> CorruptedBatch:
        """Mask columns, all features of one together; a gap never counts."""
        if not (0 <= self.most < 1 and self.visible >= 0 and self.most + self.visible > 0):
            raise SettingError(
                f"{self!r}: most must be in [0, 1), visible at least 0, and not both 0"
            )
        rows = batch.observed.shape[:-1]
        share = torch.rand((*rows, 1), generator=generator) * self.most
        masked = torch.rand((*rows, len(layout.columns)), generator=generator) < share
        if len(layout.columns) < len(layout):
            masked = masked[..., torch.from_numpy(layout.column_of_feature)]
        weight = torch.where(masked, 1.0, self.visible)
        if (layout.weights != 1).any():
            weight *= torch.from_numpy(layout.weights)
        if not bool(batch.observed.all()):
            weight *= batch.observed
        return CorruptedBatch(batch.hide(masked), batch, weight)


@dataclass(eq=False, repr=False)
class Swapping(Corruption):
    """Each column is taken from another row of the batch with probability `share`.

    Swapped values count in full, others `visible`. Source: "swap noise" of tabular denoising
    autoencoders (Jahrer 2017, first place of the Porto Seguro competition).
    """

    kind = "swapping"

    share: float = 0.15
    _: KW_ONLY
    visible: float = 0.3

    def check(self) -> None:
        """Raises: SettingError for an invalid share."""
        if not 0 <= self.share < 1 or not self.visible >= 0 or not self.share + self.visible > 0:
            raise SettingError(
                f"{self!r}: share must be in [0, 1), visible at least 0, and not both 0"
            )

    def corrupt(self, batch: Batch, layout: Layout, generator: Generator) -> CorruptedBatch:
        """Rows with visible values of other rows; a gap stays a gap."""
        self.check()
        *lead, rows, _ = batch.observed.shape
        order = torch.randperm(rows, generator=generator)
        draws = torch.rand((*lead, rows, len(layout.columns)), generator=generator)
        swapped = (draws < self.share)[..., torch.from_numpy(layout.column_of_feature)]
        swapped &= batch.observed & batch.observed[..., order, :]
        weight = torch.where(swapped, 1.0, self.visible) * batch.observed
        return CorruptedBatch(batch.exchanged(order, swapped), batch, weight)


@dataclass(eq=False, repr=False)
class Noise(Corruption):
    """Normal noise of `scale` times each continuous feature's spread; the target has none.

    Source: Vincent et al. 2010, section 3.3. `swapping` is for levels, flags and counts.
    """

    kind = "noise"

    scale: float = 0.3

    def check(self) -> None:
        """Raises: SettingError for a scale below zero."""
        if not self.scale >= 0:
            raise SettingError(f"scale={self.scale!r}: it must be zero or above")

    @property
    def noisier(self) -> float:
        """The noise that is added."""
        return self.scale

    def corrupt(self, batch: Batch, layout: Layout, generator: Generator) -> CorruptedBatch:
        """Noisy numbers; every observed value counts with weight 1."""
        self.check()
        slots = layout.slots[: layout.numbers]  # an image of any size has none: its unit is 1
        reach = torch.tensor([s.scale * (s.head == "student_t") for s in slots] or [1.0])
        noise = torch.randn(batch.numbers.shape, generator=generator) * (self.scale * reach)
        observed = batch.observed[..., : batch.numbers.shape[-1]]
        given = Batch(batch.numbers + noise * observed, batch.codes, batch.observed, batch.weight)
        return CorruptedBatch(given, batch, batch.observed.to(batch.numbers.dtype))
