"""The interface of a family of nets."""

from abc import abstractmethod
from typing import ClassVar

from keyhole.core.layout import Layout
from keyhole.core.part import Described, Part
from keyhole.nets.stem import Stem


class Net(Described):
    """A family: an encoder and the decoder that mirrors it, sized by the data unless told."""

    family = "net"
    pictures: ClassVar[bool] = False  # True: rows must be pictures, with a grid
    skips: ClassVar[bool] = False  # True: the decoder sees more than a code, so there is none

    def stem(self) -> Part:
        """Cells -> one vector a row."""
        return Stem()

    @abstractmethod
    def encoder(self, layout: Layout) -> Part:
        """Embedded cells -> a state for the bottleneck."""

    @abstractmethod
    def decoder(self, layout: Layout) -> Part:
        """A code -> a state for the head."""
