"""The interface of a bottleneck: an encoder's state becomes a code."""

from abc import abstractmethod

from jaxtyping import Float
from torch import Generator, Tensor

from keyhole.core.layout import Shape
from keyhole.core.part import Part
from keyhole.core.records import Code
from keyhole.errors import SettingError


class Bottleneck(Part):
    """Encoder state -> Code. `width` is the number of code dimensions; None: set by the data."""

    family = "bottleneck"

    width: int | None

    @abstractmethod
    def forward(
        self, state: Float[Tensor, "*lead batch wide"], generator: Generator | None = None
    ) -> Code:
        """The code of each row; with a generator, samples of it where the bottleneck has noise."""

    def width_for(self, shape: Shape) -> int:
        """The width asked for, or half the cells, at most 32.

        Half the cells led on the 22 ADBench tables; see docs/benchmarks.md. Raises: SettingError.
        """
        if self.width is None:
            return max(1, min(len(shape.layout) // 2, 32))
        if not isinstance(self.width, int) or not 1 <= self.width <= 65_536:
            raise SettingError(f"width={self.width!r}: a code has from 1 to 65,536 dimensions")
        return self.width
