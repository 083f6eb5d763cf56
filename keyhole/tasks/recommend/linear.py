"""Linear autoencoders of lists, solved: each item's score is a weighted sum of a list's items.

The weights minimise the sum over users of |x_u - x_u B|^2, plus strength times the sum of
d_i B_ij^2, with a zero diagonal: no item may vouch for itself. With C = (X'X + strength D)^-1 they
are B = I - C / diag(C). Source: EASE (Steck 2019, eq. 8), where D is the identity; a penalty that
grows with an item's count is that of dropout (EDLAE: Steck 2020, eq. 6).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor

from keyhole.data.interactions import Lists
from keyhole.errors import SettingError
from keyhole.tasks.recommend.base import RankingModel, Scores, evened

BLOCK_LISTS = 4_096  # users whose part of a product is made at once


@dataclass(frozen=True)
class Gram:
    """Z Z' or Z' Z, the smaller one, with Z = X D^-1/2; `by_user`: the first one.

    The mean of `d`, the diagonal of D, is 1. With eigenvalues one factorisation serves every
    strength; without, each takes a Cholesky factorisation, which is ten times faster than those.
    """

    z: Lists
    d: Float[np.ndarray, " item"]
    by_user: bool
    matrix: Tensor | None = None
    eigen: tuple[Tensor, Tensor] | None = None

    @classmethod
    def scaled(cls, history: Lists, item_power: float) -> Gram:
        """Z alone, with D that grows as (number of users)^item_power."""
        d = popular_weights(history, -item_power)
        d /= d.mean()
        data = 1 / np.sqrt(d)[history.indices]
        z = sparse.csr_array((data, history.indices, history.indptr), history.shape)
        return cls(z, d, history.shape[0] < history.shape[1])

    @classmethod
    def of(cls, history: Lists, item_power: float = 0.0) -> Gram:
        """Z and the matrix."""
        gram = cls.scaled(history, item_power)
        z = gram.z if gram.by_user else sparse.csr_array(gram.z.T)
        return replace(gram, matrix=torch.from_numpy(_product(z)))

    def factorised(self) -> Gram:
        """With eigenvalues and eigenvectors instead of the matrix."""
        matrix: Any = self.matrix
        return replace(self, matrix=None, eigen=torch.linalg.eigh(matrix))

    def inverse(self, strength: float) -> Float[Tensor, "side side"]:
        """(matrix + strength I)^-1."""
        if self.eigen is not None:
            values, vectors = self.eigen
            return (vectors / (values.clamp(min=0) + strength)) @ vectors.T
        shifted: Tensor = self.matrix.clone()  # pyright: ignore
        shifted.diagonal().add_(strength)
        return torch.cholesky_inverse(torch.linalg.cholesky(shifted))


def _product(z: Lists) -> Float[np.ndarray, "row row"]:
    """Z Z', some rows at a time: a sparse product of sparse matrices may take far more memory."""
    out = np.empty((z.shape[0], z.shape[0]))
    transposed = sparse.csr_array(z.T)
    for first in range(0, len(out), BLOCK_LISTS):
        part = slice(first, first + BLOCK_LISTS)
        out[part] = (z[part] @ transposed).toarray()
    return out


@dataclass(eq=False, repr=False)
class SolvedLinear(RankingModel):
    """A weight from each item to each other one, solved; see the module.

    With n users of an item, `item_power` lets its penalty grow as n^item_power; an item of a list
    counts n^-input_power, and a score is divided by n^popular_power. Where users are fewer than
    items, a matrix of users is inverted, and no matrix of items by items is made: the lists
    themselves serve (Woodbury).
    """

    kind = "linear"
    title = "linear autoencoder"

    strength: float = 100.0
    item_power: float = 0.0
    input_power: float = 0.0
    popular_power: float = 0.0

    def check(self) -> None:
        """Raises: SettingError for a strength that is not above zero."""
        if not self.strength > 0:
            raise SettingError(f"strength={self.strength!r}: it must be above zero")

    @classmethod
    def bytes_for(cls, users: int, items: int, pairs: int) -> int:
        """Three matrices of the smaller side in float64, and the weights."""
        side = min(users, items)
        return 3 * 8 * side**2 + 4 * side**2 + 64 * pairs

    def fit(self, history: Lists, seed: int = 0) -> Self:
        """Solve for the weights."""
        self.check()
        return self.solved(history, Gram.of(history, self.item_power))

    def solved(self, history: Lists, gram: Gram) -> Self:
        """Solve for the weights from a matrix that was made before."""
        inverse, root = gram.inverse(self.strength), np.sqrt(gram.d)
        if gram.by_user:  # C = D^-1/2 (I - Z' (ZZ' + strength I)^-1 Z) D^-1/2 / strength
            explained = _explained(gram.z, inverse)
            self.weights = inverse.float().contiguous()  # a factorisation leaves columns
            factors = root / (1 - explained), explained / (1 - explained)
        else:  # C = D^-1/2 (Z'Z + strength I)^-1 D^-1/2
            inverse = inverse.div_(torch.from_numpy(root)[:, None])
            inverse.div_(-inverse.diagonal().clone()).fill_diagonal_(0.0)
            self.weights = inverse.float().contiguous()  # a factorisation leaves columns
            factors = np.ones(len(root)), np.zeros(len(root))
        self.factor, self.own = (torch.from_numpy(part).float() for part in factors)
        return self._with_lists(history, gram)

    def reweighted(self, input_power: float, popular_power: float, history: Lists) -> Self:
        """The same weights with other powers; `history` is what it was fitted to."""
        powers = {"input_power": input_power, "popular_power": popular_power}
        model = type(self)(**{**self.get_params(), **powers})
        model.weights, model.factor, model.own = self.weights, self.factor, self.own
        return model._with_lists(history, Gram.scaled(history, self.item_power))

    def _with_lists(self, history: Lists, gram: Gram) -> Self:
        """With what scores take of the lists that it was fitted to."""
        self.popular = popular_weights(history, self.popular_power).astype(np.float32)
        self.inputs = popular_weights(history, self.input_power).astype(np.float32)
        self.by_item = sparse.csr_array(gram.z.T).astype(np.float32) if gram.by_user else None
        self.root = np.sqrt(gram.d).astype(np.float32)
        return self

    def scores(self, history: Lists) -> Scores:
        """The weighted sums of the lists' items."""
        if self.by_item is None:
            return weighted_sums(history, self.weights, self.inputs) * self.popular
        lists, users = evened(history), history.shape[0]
        data = (self.inputs / self.root)[lists.indices]
        scaled = sparse.csr_array((data, lists.indices, lists.indptr), lists.shape)
        shared: Any = scaled @ self.by_item  # (list, training user)
        shared = (torch.from_numpy(shared.toarray()) @ self.weights).numpy()
        out = (self.by_item @ shared.T).T[:users] * self.factor.numpy()
        user = np.repeat(np.arange(users), np.diff(history.indptr))
        out[user, history.indices] -= (self.own.numpy() * self.inputs)[history.indices]
        return out * self.popular

    def tensors(self) -> dict[str, Tensor]:
        """The weights, of users or of items, and what scores are multiplied by."""
        return {name: getattr(self, name) for name in ("weights", "factor", "own")}

    def shapes(self, users: int, items: int) -> dict[str, tuple[int, ...]]:
        """Of the smaller side."""
        side = min(users, items)
        return {"weights": (side, side), "factor": (items,), "own": (items,)}

    def restored(self, tensors: dict[str, Tensor], history: Lists) -> Self:
        """With these weights."""
        for name, tensor in tensors.items():
            setattr(self, name, tensor)
        return self._with_lists(history, Gram.scaled(history, self.item_power))


def popular_weights(history: Lists, power: float) -> Float[np.ndarray, " item"]:
    """What items' scores are multiplied by: (number of users)^-power."""
    counts = np.bincount(history.indices, minlength=history.shape[1]).clip(1)
    return counts.astype(np.float64) ** -power


def _explained(z: Lists, inverse: Tensor) -> Float[np.ndarray, " item"]:
    """The diagonal of Z' inverse Z."""
    by_item, matrix = sparse.csr_array(z.T), inverse.numpy()
    out = np.empty(z.shape[1])
    for first in range(0, len(out), BLOCK_LISTS):
        part = by_item[first : first + BLOCK_LISTS]
        out[first : first + BLOCK_LISTS] = part.multiply(part @ matrix).sum(1)
    return out


def weighted_sums(
    history: Lists, vectors: Tensor, inputs: Float[np.ndarray, " item"]
) -> Float[np.ndarray, "user axis"]:
    """The sum of the items' vectors of each list, each item by its weight."""
    items = torch.from_numpy(history.indices.astype(np.int64))
    starts = torch.from_numpy(history.indptr[:-1].astype(np.int64))
    return torch.nn.functional.embedding_bag(
        items, vectors, starts, mode="sum", per_sample_weights=torch.from_numpy(inputs)[items]
    ).numpy()
