"""A sparse code by matching pursuit: few atoms of a dictionary, weighed by least squares."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from keyhole.core.layout import Shape
from keyhole.core.parts import Json
from keyhole.core.records import Code
from keyhole.errors import SettingError
from keyhole.model.bottlenecks.base import Bottleneck, Codes
from keyhole.model.layers import State

MAX_ATOMS = 8_192  # their inner products, width squared, stay in memory
RIDGE = 1e-3  # of the squared length of an atom: two equal ones can be chosen together


@dataclass(eq=False, repr=False, kw_only=True)
class Pursuit(Bottleneck):
    """The `k` atoms of a learned dictionary that rebuild the state best, chosen in `rounds`.

    Each round chooses the atoms closest to what those before leave over, and weighs all of them
    by least squares; so codes of rows that were never trained on are nearly as good. The
    dictionary is trained by what it leaves over, the decoder by the rows.
    """

    kind = "pursuit"
    overcomplete = True
    sparse = True
    purpose = "sparse codes of embeddings: search for nearest neighbours in less memory"
    formula = (
        "min ||h - c - D' z||^2 over z with k nonzero weights; loss of D: the residual / its mean"
    )
    source = "Pati et al. 1993; several atoms in each round: Donoho et al. 2012"
    recommended_parts: ClassVar[dict[str, dict[str, Json]]] = {
        "net": {"kind": "linear"},
        "head": {"kind": "mixed", "continuous": "gaussian"},
        "corruption": {"kind": "none"},
    }

    k: int = 16
    rounds: int = 3

    def check(self) -> None:
        """Raises: SettingError for an invalid k, width or number of rounds."""
        if self.k < 1 or self.k != int(self.k):
            raise SettingError(f"k={self.k!r}: expected a whole number of at least 1")
        if self.rounds < 1 or self.rounds != int(self.rounds):
            raise SettingError(f"rounds={self.rounds!r}: expected a whole number of at least 1")
        super().check()

    def bind(self, shape: Shape) -> Shape:
        """Make the dictionary and the center of states. Raises: SettingError."""
        self.check()
        width = self.width_for(shape)
        if width > MAX_ATOMS:
            raise SettingError(f"width={width}: pursuit has at most {MAX_ATOMS:,} atoms")
        # About unit length, so that a step turns an atom as far at any learning rate.
        draws = torch.randn(shape.members, width, shape.wide)
        self.atoms = nn.Parameter(functional.normalize(draws, dim=-1))
        # A state begins with its stem in linear nets: numbers, then 1 for each observed one.
        center, numbers = torch.zeros(shape.members, 1, shape.wide), shape.layout.numbers
        center[..., numbers : 2 * numbers] = 1.0
        self.center = nn.Parameter(center)
        return shape.widened(width)

    def forward(self, state: State, generator: Generator | None = None) -> Code:
        """The code of each row, the same with and without a generator."""
        atoms = functional.normalize(self.atoms, dim=-1)
        centered = state - self.center  # (M, B, wide)
        z = _pursue(centered, atoms, min(self.k, atoms.shape[-2]), self.rounds)
        stats = {"left": centered - z @ atoms} if self.training else {}
        return Code(z[None], z, torch.zeros_like(z), stats=stats)

    def project(self, z: Codes) -> Codes:
        """The `k` weights that are largest in size, the rest zero."""
        places = z.abs().topk(min(self.k, z.shape[-1]), -1).indices
        return torch.zeros_like(z).scatter(-1, places, z.gather(-1, places))

    def penalised(self, code: Code, encode: Any, embedded: State, generator: Generator) -> Code:
        """With what the dictionary leaves over, in units of its mean: as a Gaussian's nats."""
        square = code.stats["left"].square()
        mean = square.mean((-2, -1), keepdim=True).detach().clamp(min=1e-8)
        nats = (square / (2 * mean)).sum(-1, keepdim=True)
        return replace(code, cost=(nats / code.mean.shape[-1]).expand_as(code.mean))


def _pursue(state: Tensor, atoms: Tensor, k: int, rounds: int) -> Tensor:
    """The weights (*lead, batch, atom) of `k` unit-length atoms (*lead, atom, wide)."""
    products = atoms @ atoms.mT  # (M, atom, atom)
    overlap = state @ atoms.mT  # (M, B, atom)
    steps = min(rounds, k)
    chosen, z = overlap.new_zeros(*overlap.shape[:-1], 0).long(), torch.zeros_like(overlap)
    for step in range(steps):
        with torch.no_grad():
            left = (overlap - z @ products).abs().scatter(-1, chosen, -1.0)
            more = k * (step + 1) // steps - chosen.shape[-1]
            chosen = torch.cat([chosen, left.topk(more, -1).indices], -1)
        # Only the last weights reach the code, so only they have a gradient.
        with torch.set_grad_enabled(torch.is_grad_enabled() and step == steps - 1):
            z = torch.zeros_like(overlap).scatter(-1, chosen, _weights(products, overlap, chosen))
    return z


def _weights(products: Tensor, overlap: Tensor, chosen: Tensor) -> Tensor:
    """The least-squares weights (M, B, k) of the chosen atoms."""
    member = torch.arange(products.shape[0], device=chosen.device)[:, None, None, None]
    gram = products[member, chosen[..., :, None], chosen[..., None, :]]  # (M, B, k, k)
    gram = gram + RIDGE * torch.eye(chosen.shape[-1], device=gram.device, dtype=gram.dtype)
    wanted = overlap.gather(-1, chosen)[..., None]
    return torch.cholesky_solve(wanted, torch.linalg.cholesky(gram))[..., 0]
