"""Bottlenecks with discrete codes: finite scalar and residual vector quantisation."""

import math
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from keyhole.core.layout import Shape
from keyhole.core.records import Code
from keyhole.errors import SettingError
from keyhole.model.bottlenecks.base import Bottleneck, Codes
from keyhole.model.layers import Linear, State

MAX_JOINT_CODES = 4_096  # whose use is counted together; beyond, each dimension's alone
SHARPNESS = 4.0  # of the soft count, in steps between values
BEAM = 64  # partial sums that are kept while the nearest sum of codewords is searched
MAX_DISTANCES = 1 << 22  # distances at once


@dataclass(eq=False, repr=False, kw_only=True)
class FSQ(Bottleneck):
    """Each dimension is squashed and rounded to one of `levels` values (one a dimension, or all).

    `usage` charges the entropy that a batch's codes lack: every code shall be used. Always in
    float32: bfloat16 loses codes.
    """

    kind = "fsq"
    purpose = "discrete codes: compression, tokens, counting"
    formula = "z = (floor(L sigmoid(W h + b)) + 1/2) 2 / L - 1, straight through"
    source = "Mentzer et al. 2024, eq. 1; usage: Yu et al. 2024, eq. 5"
    weights = ("usage",)

    levels: int | list[int] = 5
    usage: float = 1.0

    def check(self) -> None:
        """Raises: SettingError for an invalid number of values or weight."""
        for levels in self.levels if isinstance(self.levels, list) else [self.levels]:
            if isinstance(levels, bool) or not isinstance(levels, int) or not 2 <= levels <= 1_024:
                raise SettingError(f"levels={self.levels!r:.40}: expected from 2 to 1,024 values")
        super().check()
        width: Any = self.width
        if isinstance(self.levels, list) and width not in (None, len(self.levels)):
            raise SettingError(
                f"width={width!r}: levels={self.levels!r} has {len(self.levels)} entries; "
                "leave width out"
            )

    def bind(self, shape: Shape) -> Shape:
        """Make the map to the code."""
        self.check()
        levels = self.levels
        counts = levels if isinstance(levels, list) else [levels] * self.width_for(shape)
        self.to_code = Linear(shape.wide, len(counts), shape.members)
        self.register_buffer("counts", torch.tensor(counts, dtype=torch.float32), False)
        return shape.widened(len(counts))

    def forward(self, state: State, generator: Generator | None = None) -> Code:
        """The rounded code, the same with and without a generator."""
        with torch.autocast(state.device.type, enabled=False):
            free = 2 * torch.sigmoid(self.to_code(state.float())) - 1
            z = free + (self.project(free) - free).detach()
        return Code(z[None], z, torch.zeros_like(z), stats={"free": free})

    def project(self, z: Codes) -> Codes:
        """The nearest values."""
        counts = self.get_buffer("counts")
        place = torch.floor((z + 1) / 2 * counts).clamp(min=0).minimum(counts - 1)
        return (place + 0.5) * 2 / counts - 1

    def penalised(self, code: Code, encode: object, embedded: State, generator: Generator) -> Code:
        """With the entropy that the batch's codes lack, in even shares to rows' dimensions."""
        soft = [self._soft(code.stats["free"], j) for j in range(code.mean.shape[-1])]
        if math.prod(s.shape[-1] for s in soft) <= MAX_JOINT_CODES:
            soft = [reduce(lambda x, y: (x[..., :, None] * y[..., None, :]).flatten(-2), soft)]
        lacking = torch.stack([_lacking(s) for s in soft]).sum(0)  # (*lead)
        cost = self.usage * lacking[..., None, None] / code.mean.shape[-1]
        return replace(code, cost=cost.expand_as(code.mean))

    def _soft(self, free: Tensor, j: int) -> Tensor:
        """How much each row is at each value of a dimension: (*lead, batch, value)."""
        count = int(self.get_buffer("counts")[j])
        values = (torch.arange(count, device=free.device) + 0.5) * 2 / count - 1
        steps = (free[..., j, None] - values) * (count / 2)
        return torch.softmax(-SHARPNESS * steps.square(), -1)


def _lacking(soft: Tensor) -> Tensor:
    """log(values) minus the entropy of their mean use, of each member."""
    use = soft.mean(-2).clamp(min=1e-9)  # at zero, the entropy has no slope
    return math.log(use.shape[-1]) + torch.xlogy(use, use).sum(-1)


@dataclass(eq=False, repr=False, kw_only=True)
class ResidualVQ(Bottleneck):
    """`books` codebooks of `size` codewords; each quantises what the ones before left over.

    A codebook is a fixed random one through a learned linear map, so that all codewords move
    together and none is left behind. `commitment` weighs how codes are held to their codewords.
    """

    kind = "residual_vq"
    purpose = "discrete codes with a chosen number of bits: books * log2(size)"
    formula = "each book: ||sg[e] - c||^2 + commitment ||e - sg[c]||^2, e = the residual so far"
    source = (
        "van den Oord et al. 2017, eq. 3; residual: Zeghidour et al. 2021, algorithm 1; "
        "linear map: Zhu et al. 2024, eq. 6"
    )

    books: int = 2
    size: int = 64
    commitment: float = 0.25

    def check(self) -> None:
        """Raises: SettingError for an invalid number of books or codewords."""
        if not (1 <= self.books <= 64 and 2 <= self.size <= 65_536 and 0 <= self.commitment < 1e9):
            raise SettingError(
                f"books={self.books!r}, size={self.size!r}, commitment={self.commitment!r}: give "
                "from 1 to 64 books of 2 to 65,536 codewords, and a commitment of zero or above"
            )

    def bind(self, shape: Shape) -> Shape:
        """Make the map to the code, and the codebooks: each half as wide as the one before."""
        shape = super().bind(shape)
        words = torch.randn(self.books, self.size, shape.wide)
        words *= 0.5 ** torch.arange(self.books)[:, None, None]
        self.register_buffer("words", words)
        turn = torch.eye(shape.wide).repeat(self.books, shape.members, 1, 1)
        self.turn = nn.Parameter(turn)
        return shape

    def forward(self, state: State, generator: Generator | None = None) -> Code:
        """The sum of codewords, the same with and without a generator."""
        free = self.to_code(state)
        z, penalty = self._quantised(free)
        z = free + (z - free).detach()
        return Code(z[None], z, torch.zeros_like(z), stats={"penalty": penalty})

    def penalised(self, code: Code, encode: object, embedded: State, generator: Generator) -> Code:
        """With what holds codes and codewords together."""
        return replace(code, cost=code.stats["penalty"])

    @torch.no_grad()
    def project(self, z: Codes) -> Codes:
        """The nearest sum of codewords, of the first member.

        Found by a beam: book by book, as `forward` does, a code would not be its own nearest.
        """
        free = z.reshape(-1, z.shape[-1])
        parts = free.split(max(1, MAX_DISTANCES // (BEAM * self.size)))
        return torch.cat([self._nearest(part) for part in parts]).reshape(z.shape)

    def _nearest(self, free: Float[Tensor, "row code"]) -> Float[Tensor, "row code"]:
        sums = torch.zeros_like(free)[:, None]  # (row, beam, code)
        for book in range(self.books):
            words = self.get_buffer("words")[book] @ self.turn[book, 0]  # (size, code)
            left = free[:, None] - sums
            far = torch.cdist(left, words, compute_mode="donot_use_mm_for_euclid_dist").flatten(1)
            best = far.topk(min(BEAM, far.shape[1]), largest=False).indices  # (row, beam)
            before = (best // self.size)[..., None].expand(-1, -1, words.shape[1])
            sums = sums.gather(1, before) + words[best % self.size]
        return sums[:, 0]

    def _quantised(self, free: Tensor) -> tuple[Tensor, Tensor]:
        """The quantised code, and each dimension's penalty; both (member, batch, code)."""
        left, whole, penalty = free, torch.zeros_like(free), torch.zeros_like(free)
        for book in range(self.books):
            words = self.get_buffer("words")[book] @ self.turn[book]  # (member, size, code)
            with torch.no_grad():
                near = torch.cdist(left, words).argmin(-1)  # (member, batch)
            member = torch.arange(len(words), device=near.device)[:, None]
            chosen = words[member, near]
            penalty = penalty + (left.detach() - chosen).square()
            penalty = penalty + self.commitment * (left - chosen.detach()).square()
            whole, left = whole + chosen, left - chosen.detach()
        return whole, penalty
