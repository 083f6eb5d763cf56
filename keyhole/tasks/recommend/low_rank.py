"""A linear autoencoder of low rank, solved: for catalogues too large for a weight of each pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from keyhole.data.interactions import Lists
from keyhole.errors import SettingError
from keyhole.tasks.recommend.base import RankingModel, Scores, evened
from keyhole.tasks.recommend.linear import Gram, popular_weights, weighted_sums

ITERATIONS: Any = 6  # of the randomised decomposition: the spectrum of lists falls slowly


@dataclass(eq=False, repr=False)
class LowRank(RankingModel):
    """As `SolvedLinear`, with the `factors` strongest directions of the lists alone.

    The code of a list is the sum of its items' vectors, and an item's score their product; its
    own item does not vouch for itself. Source: the shape is that of ELSA (Vančura et al. 2022,
    eq. 4), solved by a truncated decomposition (Halko et al. 2011) instead of descent.
    """

    kind = "low_rank"
    title = "low-rank linear autoencoder"

    factors: int = 256
    strength: float = 30.0
    item_power: float = 0.5
    popular_power: float = 0.0

    def check(self) -> None:
        """Raises: SettingError for numbers that are not above zero."""
        if self.factors < 1 or not self.strength > 0:
            raise SettingError(f"{self!r}: factors and strength must be above zero")

    @classmethod
    def bytes_for(cls, users: int, items: int, pairs: int) -> int:
        """Vectors of users and items, twice, and the lists."""
        return 3 * 4 * 256 * (users + items) + 64 * pairs

    def fit(self, history: Lists, seed: int = 0) -> Self:
        """Find the directions, and how much each counts."""
        from sklearn.utils.extmath import randomized_svd

        self.check()
        gram = Gram.scaled(history, self.item_power)
        count = min(self.factors, *history.shape)
        _, values, directions = randomized_svd(
            sparse.csr_matrix(gram.z.astype(np.float32)), count, n_iter=ITERATIONS,
            random_state=seed,
        )  # fmt: skip
        share = np.square(values.astype(np.float64))
        share /= share + self.strength
        vectors = directions.T * np.sqrt(share)  # (item, factor)
        explained = np.square(vectors).sum(1).clip(max=share.max())  # beyond lies rounding
        popular, root = popular_weights(history, self.popular_power), np.sqrt(gram.d)
        self.vectors = torch.from_numpy(vectors).float()
        self.root = torch.from_numpy(root).float()
        self.scale = torch.from_numpy(popular * root / (1 - explained)).float()
        self.own = torch.from_numpy(popular * explained / (1 - explained)).float()
        return self

    def codes(self, history: Lists) -> Tensor:
        """The code of each list, (user, factor)."""
        lists = evened(history)
        return torch.from_numpy(weighted_sums(lists, self.vectors, 1 / self.root.numpy()))

    def scores(self, history: Lists) -> Scores:
        """The products of codes and items' vectors."""
        scores = (self.codes(history) @ self.vectors.T).mul_(self.scale)
        out = scores[: history.shape[0]].numpy()
        user = np.repeat(np.arange(history.shape[0]), np.diff(history.indptr))
        out[user, history.indices] -= self.own.numpy()[history.indices]
        return out

    def tensors(self) -> dict[str, Tensor]:
        """The items' vectors, and what their scores are scaled by."""
        return {name: getattr(self, name) for name in ("vectors", "root", "scale", "own")}

    def shapes(self, users: int, items: int) -> dict[str, tuple[int, ...]]:
        """As many factors as there are."""
        one = (items,)
        return {"vectors": (items, -1), "root": one, "scale": one, "own": one}

    def restored(self, tensors: dict[str, Tensor], history: Lists) -> Self:
        """With these vectors."""
        for name, tensor in tensors.items():
            setattr(self, name, tensor)
        return self
