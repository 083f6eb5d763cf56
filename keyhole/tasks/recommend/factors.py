"""Matrix factorisation: a linear decoder whose encoder is solved exactly for each list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor

from keyhole.data.interactions import Lists
from keyhole.errors import SettingError
from keyhole.tasks.recommend.base import RankingModel, Scores, evened

START = 0.01  # standard deviation of the first vectors
BLOCK_NUMBERS = 1 << 21  # of the systems that are solved at once

Vectors = Float[np.ndarray, "row factor"]
Codes = Float[np.ndarray, "list factor"]


@dataclass(eq=False, repr=False)
class WeightedFactors(RankingModel):
    """Items have vectors; a list's code is the one that rebuilds it best, `weight` to 1.

    The squared error of an item of the list counts `weight`, that of any other 1. Vectors of
    users and items are solved in turn, `rounds` times. Source: Hu, Koren and Volinsky 2008, eq. 3
    to 5; the system of each list has as many unknowns as the list has items (Woodbury).
    """

    kind = "factors"
    title = "matrix factorisation"

    factors: int = 128
    weight: float = 20.0
    strength: float = 10.0
    rounds: int = 5

    def check(self) -> None:
        """Raises: SettingError for numbers that are too small."""
        if min(self.factors, self.rounds) < 1 or not self.weight > 1 or not self.strength > 0:
            raise SettingError(f"{self!r}: factors and rounds must be at least 1, weight "
                               "above 1, strength above 0")  # fmt: skip

    @classmethod
    def bytes_for(cls, users: int, items: int, pairs: int) -> int:
        """Vectors of users and items, three times, and the lists twice."""
        return 3 * 4 * 128 * (users + items) + 128 * pairs

    def fit(self, history: Lists, seed: int = 0) -> Self:
        """Solve for vectors of users and of items in turn."""
        self.check()
        rng = np.random.default_rng(seed)
        by_item = sparse.csr_array(history.T)
        shape = history.shape[1], min(self.factors, *history.shape)
        vectors = START * rng.standard_normal(shape, dtype=np.float32)
        for _ in range(self.rounds):
            vectors = self._solved(by_item, self._solved(history, vectors))
        self.vectors = torch.from_numpy(vectors)
        return self

    def _solved(self, lists: Lists, vectors: Vectors) -> Codes:
        """The code of each list that rebuilds it best from these vectors.

        With S the vectors of a list's items and P = (V'V + strength I)^-1 the code is
        weight P S' (I + (weight - 1) S P S')^-1 1.
        """
        width = vectors.shape[1]
        gram = vectors.T.astype(np.float64) @ vectors + self.strength * np.eye(width)
        projected = (vectors @ np.linalg.inv(gram)).astype(np.float32)  # S P of all items
        codes = np.zeros((lists.shape[0], width), np.float32)
        lengths = np.diff(lists.indptr)
        for length in np.unique(lengths[lengths > 0]).tolist():
            rows = np.flatnonzero(lengths == length)
            step = max(BLOCK_NUMBERS // (length * (width + length)), 1)
            for first in range(0, len(rows), step):
                some = rows[first : first + step]
                items = lists.indices[lists.indptr[some][:, None] + np.arange(length)]
                codes[some] = self._codes(projected[items], vectors[items])
        return codes

    def _codes(self, projected: np.ndarray, vectors: np.ndarray) -> Codes:
        """Of lists of one length: the projected and the plain vectors of their items."""
        length = vectors.shape[1]
        if length <= vectors.shape[2]:
            system = (self.weight - 1) * (projected @ vectors.transpose(0, 2, 1))
            system[:, np.arange(length), np.arange(length)] += 1
            right = np.full((len(system), length, 1), self.weight, np.float32)
            return (projected * np.linalg.solve(system, right)).sum(1)
        # Longer lists than vectors: (I + (weight - 1) P S'S) code = weight P S' 1
        width = vectors.shape[2]
        system = (self.weight - 1) * (projected.transpose(0, 2, 1) @ vectors)
        system[:, np.arange(width), np.arange(width)] += 1
        right = self.weight * projected.sum(1)[..., None]
        return np.linalg.solve(system, right)[..., 0]

    def codes(self, history: Lists) -> Codes:
        """The code of each list, one list at a time: no code depends on the lists beside it."""
        vectors: Any = self.vectors.numpy()
        return self._solved(history, vectors)

    def scores(self, history: Lists) -> Scores:
        """The expected value of each item."""
        # NumPy's product of small matrices sums in an order that depends on the number of rows.
        codes = torch.from_numpy(self.codes(evened(history)))
        return (codes @ self.vectors.T)[: history.shape[0]].numpy()

    def tensors(self) -> dict[str, Tensor]:
        """The items' vectors."""
        return {"vectors": self.vectors}

    def shapes(self, users: int, items: int) -> dict[str, tuple[int, ...]]:
        """As many factors as there are."""
        return {"vectors": (items, -1)}

    def restored(self, tensors: dict[str, Tensor], history: Lists) -> Self:
        """With these vectors."""
        self.vectors = tensors["vectors"]
        return self
