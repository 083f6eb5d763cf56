"""Bottlenecks whose code is a function of the row: plain, ordered, contractive, l1, top_k."""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional

from keyhole.core.layout import Shape
from keyhole.core.records import Code
from keyhole.errors import SettingError
from keyhole.model.bottlenecks.base import Bottleneck, Encode, noise_like


class Plain(Bottleneck):
    """A deterministic code without a price: what it costs is only its width."""

    kind = "plain"
    purpose = "anomalies, gaps, embeddings: the default, and the one to beat"
    formula = "z = W h + b"
    source = "Hinton and Salakhutdinov 2006"

    def __init__(self, width: int | Literal["auto"] | None = None) -> None:
        super().__init__()
        self.width = width


class Identity(Bottleneck):
    """The state as it is, without cost; it has no `kind`, since nobody can choose it."""

    width = None

    def __init__(self) -> None:
        super().__init__()

    def bind(self, shape: Shape) -> Shape:
        """The same shape."""
        return shape

    def forward(
        self, state: Float[Tensor, "*lead batch wide"], generator: Generator | None = None
    ) -> Code:
        """The state in a code's place."""
        return Code(z=state[None], mean=state, cost=state.new_zeros(1).expand_as(state))


PREFIXES = 8  # of each row in a training step; all of them up to this width


class Ordered(Bottleneck):
    """Nested dropout: in training, rows are rebuilt from prefixes of their codes.

    With a linear net under Gaussian cells the dimensions are the principal components, in order.
    """

    kind = "ordered"
    nested = True
    purpose = "one fit for every width; codes sorted by what they tell"
    formula = "E_b loss(z_1..z_b, 0, ...), b uniform from 1 to width"
    source = "Rippel et al. 2014, eq. 3; uniform lengths: Kusupati et al. 2022, eq. 1"

    def __init__(self, width: int | Literal["auto"] | None = None) -> None:
        super().__init__()
        self.width = width

    def forward(
        self, state: Float[Tensor, "*lead batch wide"], generator: Generator | None = None
    ) -> Code:
        """The whole code; in training, prefixes of it as samples."""
        mean = self.to_code(state)
        z = mean[None]
        if self.training and generator is not None:
            z = z * self._kept(mean, generator)
        return Code(z=z, mean=mean, cost=torch.zeros_like(mean))

    def _kept(self, mean: Tensor, generator: Generator) -> Tensor:
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


STEP = 1e-2  # of a standardised cell


class Contractive(Bottleneck):
    """Charges the squared slope of each code dimension in the embedded row, over its variance.

    E (J u)^2 over normal u is the squared norm of a row of the Jacobian; J u is a difference of
    two encodings. Dividing by the variance keeps the net from shrinking the code instead.
    """

    kind = "contractive"
    purpose = "codes that ignore small changes of the row"
    formula = "weight ||dz_j / dx||^2 / var(z_j)"
    source = "Rifai et al. 2011, eq. 1"

    def __init__(self, width: int | Literal["auto"] | None = None, *, weight: float = 0.1) -> None:
        super().__init__()
        self.width = width
        self.weight = weight

    def check(self) -> None:
        """Raises: SettingError for a weight below zero."""
        if not 0 <= self.weight < float("inf"):
            raise SettingError(f"weight={self.weight!r}: it must be zero or above")

    def penalised(
        self,
        code: Code,
        encode: Encode,
        embedded: Float[Tensor, "*lead batch feature"],
        generator: Generator,
    ) -> Code:
        """With each dimension's squared slope along a random direction."""
        moved = encode(embedded + STEP * noise_like(embedded, generator))
        slope = ((moved - code.mean) / STEP).square()
        variance = code.mean.var(-2, unbiased=False, keepdim=True) + 1e-6
        return replace(code, cost=self.weight * slope / variance)


class L1(Bottleneck):
    """Non-negative units, each charged its mean size in multiples of its own root mean square.

    The plain L1 price is evaded by small codes and large decoder weights; the ratio is not.
    """

    kind = "l1"
    overcomplete = True
    purpose = "parts that are present or absent; soft sparsity"
    formula = "weight mean(z) / sqrt(mean(z^2)) for each unit, z = relu(W h + b)"
    source = "Hoyer 2004, eq. 4 (L1 over L2), over rows"

    def __init__(self, width: int | Literal["auto"] | None = None, *, weight: float = 0.1) -> None:
        super().__init__()
        self.width = width
        self.weight = weight

    def check(self) -> None:
        """Raises: SettingError for a weight below zero."""
        if not 0 <= self.weight < float("inf"):
            raise SettingError(f"weight={self.weight!r}: it must be zero or above")

    def project(self, z: Float[Tensor, "*lead code"]) -> Float[Tensor, "*lead code"]:
        """No unit below zero."""
        return functional.relu(z)

    def penalised(
        self, code: Code, encode: object, embedded: Tensor, generator: Generator
    ) -> Code:
        """With each unit's price."""
        size = code.mean.square().mean(-2, keepdim=True).add(1e-8).sqrt()
        return Code(code.z, code.mean, self.weight * code.mean / size)


CALLED = 4  # rows of a batch that call an idle unit


class TopK(Bottleneck):
    """Keep the `k` largest activations of each row; the rest are exactly zero.

    A unit that no row of a training batch chose is called by the rows that came nearest to it: the
    gap to what they chose is charged, times `revive`. A row's code depends on no other row.
    """

    kind = "top_k"
    overcomplete = True
    purpose = "dictionaries: few named parts a row, out of many"
    formula = "z = TopK(relu(W h + b)); idle units: revive relu(z_(k) - z_j) on their nearest rows"
    source = "Makhzani and Frey 2014, eq. 1; Gao et al. 2024, eq. 2"

    def __init__(
        self, width: int | Literal["auto"] | None = None, *, k: int = 8, revive: float = 0.3
    ) -> None:
        super().__init__()
        self.width = width
        self.k = k
        self.revive = revive

    def check(self) -> None:
        """Raises: SettingError for a k that keeps nothing, or a price below zero."""
        if self.k < 1 or self.k != int(self.k):
            raise SettingError(f"k={self.k!r}: keep from 1 unit up")
        if not 0 <= self.revive < float("inf"):
            raise SettingError(f"revive={self.revive!r}: it must be zero or above")

    def forward(
        self, state: Float[Tensor, "*lead batch wide"], generator: Generator | None = None
    ) -> Code:
        """The kept units of each row, the same with and without a generator."""
        full = self.to_code(state)
        z = self.project(full)
        return Code(z[None], z, torch.zeros_like(z), stats={"before": full})

    def project(self, z: Float[Tensor, "*lead code"]) -> Float[Tensor, "*lead code"]:
        """The `k` largest units that are above zero, the rest zero."""
        k = min(self.k, z.shape[-1])
        kept = z.topk(k, -1)
        return torch.zeros_like(z).scatter(-1, kept.indices, functional.relu(kept.values))

    def penalised(
        self, code: Code, encode: object, embedded: Tensor, generator: Generator
    ) -> Code:
        """With what idle units are charged on the rows that come nearest to them."""
        before, k = code.stats["before"], min(self.k, code.mean.shape[-1])
        needed = functional.relu(before.topk(k, -1).values[..., -1:]).detach()
        gap = functional.relu(needed - before) + 0.01  # beyond the row's last place, not up to it
        idle = (code.mean <= 0).all(-2, keepdim=True)
        near = gap <= gap.kthvalue(min(CALLED, gap.shape[-2]), -2, keepdim=True).values
        return Code(code.z, code.mean, self.revive * gap * (idle & near), stats=code.stats)
