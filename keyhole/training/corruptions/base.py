"""The interface of a corruption: from a batch, what is given, what is asked, what counts."""

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
    """`given` goes into the net; its likelihood is asked for `target`; cells count by `scored`."""

    given: Batch
    target: Batch
    scored: Float[Tensor, "*lead batch cell"]


class Corruption(Described):
    """A way to ask; every one is answered under the same likelihood."""

    family = "corruption"
    masks: ClassVar[bool] = False  # True: the net learns to guess cells that it is not given
    images: ClassVar[bool] = False  # True: rows must be images

    blind: ClassVar[bool] = False  # True: the net learns to guess a pixel from around it alone

    @property
    def noisier(self) -> float:
        """The standard deviation of the noise in what is given, in that of what there was."""
        return 1.0

    @abstractmethod
    def ask(self, batch: Batch, layout: Layout, generator: Generator) -> CorruptedBatch:
        """A question about these rows; randomness from the generator alone."""


def counted(asked: Bool[Tensor, "*lead batch cell"]) -> Float[Tensor, "*lead batch cell"]:
    """What each cell counts: those asked for, so much that every row counts as a whole one."""
    share = asked.float().mean(-1, keepdim=True)
    return asked / share.clamp(min=1e-12)
