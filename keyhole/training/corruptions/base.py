"""The interface of a corruption: what of a batch is the input, the target, and their weights."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Generator, Tensor

from keyhole.core.layout import Layout
from keyhole.core.parts import Described
from keyhole.core.records import Batch


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

    blind: ClassVar[bool] = (
        False  # True: the net learns to predict a pixel from its surroundings alone
    )

    @property
    def noisier(self) -> float:
        """The standard deviation of the input's noise, in units of that of the batch."""
        return 1.0

    @abstractmethod
    def corrupt(self, batch: Batch, layout: Layout, generator: Generator) -> CorruptedBatch:
        """These rows corrupted; randomness from the generator alone."""


def counted(
    predicted: Bool[Tensor, "*lead batch feature"],
) -> Float[Tensor, "*lead batch feature"]:
    """The loss weights of features: 0 for those not predicted; each row sums to its features."""
    share = predicted.float().mean(-1, keepdim=True)
    return predicted / share.clamp(min=1e-12)
