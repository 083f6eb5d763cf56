"""The interface of a bottleneck: an encoder's state becomes a code."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from keyhole.core.layout import Shape
from keyhole.core.parts import Json, Part
from keyhole.core.records import Code
from keyhole.errors import SettingError
from keyhole.model.layers import Linear, State

AUTO = "auto"  # a width that the ordered-code curve chooses
MAX_WIDTH = 65_536
Codes = Float[Tensor, "*lead code"]
Encode = Callable[[State], Float[Tensor, "*lead batch code"]]


@dataclass(eq=False, repr=False)
class Bottleneck(Part):
    """Encoder state -> Code. `width` is the number of code dimensions.

    None: half the features, at most 32; "auto": chosen by held-out likelihood before the fit.
    """

    family = "bottleneck"
    purpose: ClassVar[str] = ""  # the line that docs/bottlenecks.md says of it
    formula: ClassVar[str] = ""
    source: ClassVar[str] = ""
    overcomplete: ClassVar[bool] = False  # True: may be wider than the row
    nested: ClassVar[bool] = False  # True: every prefix of the code is a code
    least_width: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False  # True: rows have a posterior over codes, which has a cost
    weights: ClassVar[tuple[str, ...]] = ()  # arguments that are finite and at least 0
    # Recipes of parts that are used where none is given.
    recommended_parts: ClassVar[dict[str, dict[str, Json]]] = {}

    width: int | Literal["auto"] | None = None

    def __post_init__(self) -> None:
        super().__init__()

    def check(self) -> None:
        """Raises: SettingError for an invalid argument."""
        for name in self.weights:
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise SettingError(f"{name}={value!r}: it must be zero or above")

    def bind(self, shape: Shape) -> Shape:
        """Check the arguments, and make the one linear map to the code that most kinds have."""
        self.check()
        wide = self.width_for(shape)
        self.to_code = Linear(shape.wide, wide, shape.members)
        return shape.widened(wide)

    def forward(self, state: State, generator: Generator | None = None) -> Code:
        """The code of each row; with a generator, samples of it where the bottleneck has noise.

        Here: the linear map, projected to a code of this kind; without noise or cost.
        """
        mean = self.project(self.to_code(state))
        return Code(z=mean[None], mean=mean, cost=torch.zeros_like(mean))

    def penalised(self, code: Code, encode: Encode, embedded: State, generator: Generator) -> Code:
        """The code with costs that only training adds; `encode` maps embedded rows to codes."""
        return code

    def project(self, z: Codes) -> Codes:
        """The nearest code that this bottleneck can make: what a prior's draw is brought to."""
        return z

    def width_for(self, shape: Shape) -> int:
        """The width asked for, or half the features, at most 32.

        Half the features led on the 22 ADBench tables; see docs/benchmarks.md.
        Raises: SettingError.
        """
        width: Any = self.width
        if width is None or width == AUTO:  # "auto" is settled before a network is made
            return max(self.least_width, min(len(shape.layout) // 2, 32))
        if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= MAX_WIDTH:
            raise SettingError(
                f"width={width!r:.40}: a code has from 1 to {MAX_WIDTH:,} dimensions, or 'auto'"
            )
        if width < self.least_width:
            raise SettingError(
                f"width={width}: the {self.kind} bottleneck has at least {self.least_width}"
            )
        whole = shape.layout.numbers + sum(slot.levels for slot in shape.layout.slots)
        if width > max(whole, self.least_width) and not self.overcomplete:
            raise SettingError(
                f"width={width}: the row has {whole} cells, each level of a category counted, so "
                f"nothing would be squeezed; give at most {whole}, or a bottleneck with sparse "
                "codes (top_k, l1)"
            )
        return width


def with_width(bottleneck: Any, width: int | str) -> Any:
    """A bottleneck like this one, of another width."""
    return type(bottleneck)(**{**bottleneck.get_params(), "width": width})


def noise_like(x: Tensor, generator: Generator) -> Tensor:
    """Standard normal noise of a tensor's shape, drawn where the generator is."""
    return torch.randn(x.shape, generator=generator, device=generator.device).to(x)
