"""The interface of a bottleneck (encoder state -> code), and those without noise.

Their code is a function of the row: plain, ordered, contractive, l1, top_k.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional

from keyhole.core.layout import Shape
from keyhole.core.parts import Json, Part
from keyhole.core.records import Code
from keyhole.errors import SettingError
from keyhole.model.layers import Linear, State

AUTO = "auto"  # a width that the ordered-code curve chooses
MAX_WIDTH = 65_536  # code dimensions
Codes = Float[Tensor, "*lead code"]
Encode = Callable[[State], Float[Tensor, "*lead batch code"]]
PREFIXES = 8  # of each row in a training step of Ordered; all of them up to this width
STEP = 1e-2  # of a standardised feature, for the slope of Contractive
NEAREST_ROWS = 4  # of a batch, that revive an idle unit of TopK


@dataclass(eq=False, repr=False)
class Bottleneck(Part):
    """Encoder state -> Code. `width` is the number of code dimensions.

    None: half the features, at most 32; "auto": chosen by held-out likelihood before the fit.
    """

    family = "bottleneck"
    purpose: ClassVar[str] = ""  # its line in docs/bottlenecks.md
    formula: ClassVar[str] = ""
    source: ClassVar[str] = ""
    overcomplete: ClassVar[bool] = False  # True: may be wider than the row
    sparse: ClassVar[bool] = False  # True: most dimensions of a row's code are exactly zero
    nested: ClassVar[bool] = False  # True: every prefix of the code is a code
    least_width: ClassVar[int] = 1
    projects: ClassVar[bool] = False  # True: a row's code is `project(to_code(state))`
    stochastic: ClassVar[bool] = False  # True: rows have a posterior over codes, which has a cost
    recalls: ClassVar[bool] = False  # True: its cost depends on codes by averaged weights
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

    def recalled(self, code: Code, earlier: Code, values: Float[Tensor, "*lead batch"]) -> Code:
        """The code with its cost beside `earlier`, that of the averaged weights; see `recalls`.

        `values` is the number of values in each row.
        """
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
                f"width={width}: the {self.kind} bottleneck needs at least {self.least_width}"
            )
        layout = shape.layout
        whole = layout.numbers + layout.items + sum(slot.levels for slot in layout.slots)
        if width > max(whole, self.least_width) and not self.overcomplete:
            raise SettingError(
                f"width={width}: the row has only {whole} values (a level of a category is one), "
                f"so the code would not compress it; give at most {whole}, or a bottleneck with "
                "sparse codes (top_k, l1)"
            )
        return width


def with_width(bottleneck: Any, width: int | str) -> Any:
    """A bottleneck like this one, of another width."""
    return type(bottleneck)(**{**bottleneck.get_params(), "width": width})


def noise_like(x: Tensor, generator: Generator) -> Tensor:
    """Standard normal noise of a tensor's shape, drawn where the generator is."""
    return torch.randn(x.shape, generator=generator, device=generator.device).to(x)


class Plain(Bottleneck):
    """A deterministic code without a penalty: it is limited by its width alone."""

    kind = "plain"
    projects = True
    purpose = "the default: anomalies, gaps, embeddings"
    formula = "z = W h + b"
    source = "Hinton and Salakhutdinov 2006"


class Identity(Bottleneck):
    """The state itself, without cost; it has no `kind`, since nobody can choose it."""

    def bind(self, shape: Shape) -> Shape:
        """The same shape."""
        return shape

    def forward(self, state: State, generator: Generator | None = None) -> Code:
        """The state as the code."""
        return Code(z=state[None], mean=state, cost=state.new_zeros(1).expand_as(state))


class Ordered(Bottleneck):
    """Nested dropout: in training, rows are rebuilt from prefixes of their codes.

    With a linear net and Gaussian features its dimensions are the principal components, in order.
    """

    kind = "ordered"
    projects = True
    nested = True
    purpose = "one fit for every width; dimensions sorted by importance"
    formula = "E_b loss(z_1..z_b, 0, ...), b uniform from 1 to width"
    source = "Rippel et al. 2014, eq. 3; uniform lengths: Kusupati et al. 2022, eq. 1"

    def forward(self, state: State, generator: Generator | None = None) -> Code:
        """The whole code; in training, prefixes of it as samples."""
        code = super().forward(state)
        if not self.training or generator is None:
            return code
        return replace(code, z=code.z * self._prefixes(code.mean, generator))

    def _prefixes(self, mean: Tensor, generator: Generator) -> Tensor:
        """(sample, *lead, batch, code): 1 where a dimension is within the sample's prefix.

        Lengths fall one into each of `PREFIXES` even parts of the width.
        """
        wide = mean.shape[-1]
        parts = min(wide, PREFIXES)
        shape = (parts, *mean.shape[:-1], 1)
        start = torch.arange(parts).reshape(-1, *[1] * mean.dim())
        draw = torch.rand(shape, generator=generator, device=generator.device).cpu()
        length = ((start + draw) * wide / parts).floor() + 1
        return (torch.arange(wide) < length).to(mean)


@dataclass(eq=False, repr=False, kw_only=True)
class Contractive(Bottleneck):
    """Charges the squared slope of each code dimension in the embedded row, over its variance.

    E (J u)^2 over normal u is the squared norm of a row of the Jacobian; J u is a difference of
    two encodings. Dividing by the variance keeps the net from shrinking the code instead.
    """

    kind = "contractive"
    projects = True
    purpose = "codes that hardly change when the row changes a little"
    formula = "weight ||dz_j / dx||^2 / var(z_j)"
    source = "Rifai et al. 2011, eq. 1"
    weights = ("weight",)

    weight: float = 0.1

    def penalised(self, code: Code, encode: Encode, embedded: State, generator: Generator) -> Code:
        """With each dimension's squared slope along a random direction."""
        moved = encode(embedded + STEP * noise_like(embedded, generator))
        slope = ((moved - code.mean) / STEP).square()
        variance = code.mean.var(-2, unbiased=False, keepdim=True) + 1e-6
        return replace(code, cost=self.weight * slope / variance)


@dataclass(eq=False, repr=False, kw_only=True)
class L1(Bottleneck):
    """Non-negative units, each charged its mean size in multiples of its own root mean square.

    Small codes and large decoder weights evade the plain L1 penalty, but not the ratio.
    """

    kind = "l1"
    projects = True
    overcomplete = True
    sparse = True
    purpose = "sparse codes: parts that are present or absent"
    formula = "weight mean(z) / sqrt(mean(z^2)) for each unit, z = relu(W h + b)"
    source = "Hoyer 2004, eq. 4 (L1 over L2), over rows"
    weights = ("weight",)

    weight: float = 0.1

    def project(self, z: Codes) -> Codes:
        """No unit below zero."""
        return functional.relu(z)

    def penalised(self, code: Code, encode: object, embedded: State, generator: Generator) -> Code:
        """With each unit's penalty."""
        size = code.mean.square().mean(-2, keepdim=True).add(1e-8).sqrt()
        return replace(code, cost=self.weight * code.mean / size)


@dataclass(eq=False, repr=False, kw_only=True)
class TopK(Bottleneck):
    """Keep the `k` largest activations of each row; the rest are exactly zero.

    A unit that no row of a training batch chose is revived by the rows that came nearest to it:
    the gap to what they chose is charged, times `revive`. A row's code depends on no other row.
    """

    kind = "top_k"
    projects = True
    overcomplete = True
    sparse = True
    purpose = "dictionaries: each row uses few units out of many"
    formula = "z = TopK(relu(W h + b)); idle units: revive relu(z_(k) - z_j) on their nearest rows"
    source = "Makhzani and Frey 2014, eq. 1; Gao et al. 2024, eq. 2"
    weights = ("revive",)

    k: int = 8
    revive: float = 0.3

    def check(self) -> None:
        """Raises: SettingError for an invalid k or weight."""
        if self.k < 1 or self.k != int(self.k):
            raise SettingError(f"k={self.k!r}: expected a whole number of at least 1")
        super().check()

    def forward(self, state: State, generator: Generator | None = None) -> Code:
        """The largest units of each row, the same with and without a generator."""
        full = self.to_code(state)
        z = self.project(full)
        return Code(z[None], z, torch.zeros_like(z), stats={"before": full})

    def project(self, z: Codes) -> Codes:
        """The `k` largest units that are above zero, the rest zero."""
        largest = z.topk(min(self.k, z.shape[-1]), -1)
        return torch.zeros_like(z).scatter(-1, largest.indices, functional.relu(largest.values))

    def penalised(self, code: Code, encode: object, embedded: State, generator: Generator) -> Code:
        """With what idle units are charged on the rows that come nearest to them."""
        before, k = code.stats["before"], min(self.k, code.mean.shape[-1])
        needed = functional.relu(before.topk(k, -1).values[..., -1:]).detach()
        gap = functional.relu(needed - before) + 0.01  # beyond the row's last unit, not up to it
        idle = (code.mean <= 0).all(-2, keepdim=True)
        rows = min(NEAREST_ROWS, gap.shape[-2])
        near = gap <= gap.kthvalue(rows, -2, keepdim=True).values
        return replace(code, cost=self.revive * gap * (idle & near))
