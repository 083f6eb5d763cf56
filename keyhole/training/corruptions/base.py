"""The interface of a corruption: from a batch, what is given, what is asked, what counts."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Generator, Tensor

from keyhole.core.layout import Layout
from keyhole.core.part import Described
from keyhole.core.records import Batch


@dataclass(frozen=True)
class Question:
    """`given` goes into the net; its likelihood is asked for `target`; cells count by `scored`."""

    given: Batch
    target: Batch
    scored: Float[Tensor, "*lead batch cell"]


class Corruption(Described):
    """A way to ask; every one is answered under the same likelihood."""

    family = "corruption"
    hides: ClassVar[bool] = False  # True: the net learns to guess cells that it is not given

    @abstractmethod
    def ask(self, batch: Batch, layout: Layout, generator: Generator) -> Question:
        """A question about these rows; randomness from the generator alone."""
