"""Residual vector quantisation: a code is a sum of codewords, each of what the last left over."""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from keyhole.bottlenecks.base import Bottleneck
from keyhole.core.layout import Shape
from keyhole.core.linear import Linear
from keyhole.core.records import Code
from keyhole.errors import SettingError

BEAM = 64  # partial sums that are kept while the nearest sum of codewords is searched
MOST_COMPARED = 1 << 22  # distances at once


class ResidualVQ(Bottleneck):
    """`books` codebooks of `size` codewords; each quantises what the ones before left over.

    A codebook is a fixed random one through a learnt linear map, so that all codewords move
    together and none is left behind. `commitment` weighs how codes are held to their codewords.
    """

    kind = "residual_vq"
    purpose = "discrete codes of a chosen number of bits: books log2(size)"
    formula = "||sg[e] - c||^2 + commitment ||e - sg[c]||^2 a book, e = what is left over"
    source = (
        "van den Oord et al. 2017, eq. 3; residual: Zeghidour et al. 2021, algorithm 1; the map: "
        "Zhu et al. 2024, eq. 6"
    )

    def __init__(
        self,
        width: int | Literal["auto"] | None = None,
        *,
        books: int = 2,
        size: int = 64,
        commitment: float = 0.25,
    ) -> None:
        super().__init__()
        self.width = width
        self.books = books
        self.size = size
        self.commitment = commitment

    def check(self) -> None:
        """Raises: SettingError for books without words."""
        if not (1 <= self.books <= 64 and 2 <= self.size <= 65_536 and 0 <= self.commitment < 1e9):
            raise SettingError(
                f"books={self.books!r}, size={self.size!r}, commitment={self.commitment!r}: give "
                "from 1 to 64 books of 2 to 65,536 codewords, and a commitment of zero or above"
            )

    def bind(self, shape: Shape) -> Shape:
        """Make the map to the code, and the codebooks: each half as wide as the one before."""
        self.check()
        wide = self.width_for(shape)
        self.to_code = Linear(shape.wide, wide, shape.members)
        words = torch.randn(self.books, self.size, wide)
        words *= 0.5 ** torch.arange(self.books)[:, None, None]
        self.register_buffer("words", words)
        turn = torch.eye(wide).expand(self.books, shape.members, wide, wide)
        self.turn = nn.Parameter(turn.clone())
        return shape.widened(wide)

    def forward(
        self, state: Float[Tensor, "*lead batch wide"], generator: Generator | None = None
    ) -> Code:
        """The sum of codewords, the same with and without a generator."""
        free = self.to_code(state)
        z, price = self._quantised(free)
        z = free + (z - free).detach()
        return Code(z[None], z, torch.zeros_like(z), stats={"price": price})

    def priced(self, code: Code, encode: object, embedded: Tensor, generator: Generator) -> Code:
        """With what holds codes and codewords together."""
        return replace(code, cost=code.stats["price"])

    @torch.no_grad()
    def onto(self, z: Float[Tensor, "*lead code"]) -> Float[Tensor, "*lead code"]:
        """The nearest sum of codewords, of the first member.

        Found by a beam: book by book, as `forward` does, a code would not be its own nearest.
        """
        free = z.reshape(-1, z.shape[-1])
        parts = free.split(max(1, MOST_COMPARED // (BEAM * self.size)))
        return torch.cat([self._nearest(part) for part in parts]).reshape(z.shape)

    def _nearest(self, free: Float[Tensor, "row code"]) -> Float[Tensor, "row code"]:
        whole = torch.zeros_like(free)[:, None]  # (row, beam, code)
        for book in range(self.books):
            words = self.get_buffer("words")[book] @ self.turn[book, 0]  # (size, code)
            left = free[:, None] - whole
            far = torch.cdist(left, words, compute_mode="donot_use_mm_for_euclid_dist").flatten(1)
            best = far.topk(min(BEAM, far.shape[1]), largest=False).indices  # (row, beam)
            before = (best // self.size)[..., None].expand(-1, -1, words.shape[1])
            whole = whole.gather(1, before) + words[best % self.size]
        return whole[:, 0]

    def _quantised(self, free: Tensor) -> tuple[Tensor, Tensor]:
        """The quantised code, and its price of each dimension; both (member, batch, code)."""
        left, whole, price = free, torch.zeros_like(free), torch.zeros_like(free)
        for book in range(self.books):
            words = self.get_buffer("words")[book] @ self.turn[book]  # (member, size, code)
            with torch.no_grad():
                near = torch.cdist(left, words).argmin(-1)  # (member, batch)
            member = torch.arange(len(words), device=near.device)[:, None]
            chosen = words[member, near]
            price = price + (left.detach() - chosen).square()
            price = price + self.commitment * (left - chosen.detach()).square()
            whole, left = whole + chosen, left - chosen.detach()
        return whole, price
