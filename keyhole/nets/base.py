"""The interface of a family of nets."""

from abc import abstractmethod

from keyhole.core.layout import Layout
from keyhole.core.part import Described, Part


class Net(Described):
    """A family: an encoder and the decoder that mirrors it, sized by the data unless told."""

    family = "net"

    @abstractmethod
    def encoder(self, layout: Layout) -> Part:
        """Embedded cells -> a state for the bottleneck."""

    @abstractmethod
    def decoder(self, layout: Layout) -> Part:
        """A code -> a state for the head."""
