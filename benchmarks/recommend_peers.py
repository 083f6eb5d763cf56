"""Recommenders to compare with: popularity, neighbours of items, EASE, and iALS by `implicit`.

A method prepares what all its settings share, then fits one setting. A fitted method scores all
items for users by the items that they have.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy.linalg import lapack
from scipy.sparse import csr_array, csr_matrix

BLOCK_ITEMS = 1_024
EVERY = 10**9  # neighbours: as many as there are

Scorer = Callable[[csr_array], np.ndarray]
"""Scores (user, item) from interactions (user, item); higher is better."""
Fit = Callable[..., Scorer]


Place = tuple[int, ...]
"""Of a setting in its grid: the index of each value."""


@dataclass(frozen=True)
class Method:
    """How to fit, the values of its settings in order, and the setting a search starts from."""

    prepare: Callable[[csr_array, int], Fit]
    grid: dict[str, tuple]
    start: Place = ()


@dataclass(frozen=True)
class Tuned:
    """The best setting, how many were tried, and which of its values end their grid."""

    setting: dict[str, Any]
    place: Place
    tried: int
    on_edge: list[str]


def tuned(
    fit: Fit, grid: dict[str, tuple], start: Place, judge: Callable[[Scorer], float]
) -> Tuned:
    """The setting with the highest judgement: no step along any one value of it is better.

    Climbs along one value after the other, for as long as any step improves.
    """
    names, axes = list(grid), list(grid.values())
    judgements: dict[Place, float] = {}

    def setting_at(place: Place) -> dict[str, Any]:
        return {name: axis[i] for name, axis, i in zip(names, axes, place)}

    def judgement_at(place: Place) -> float:
        if not all(0 <= i < len(axis) for i, axis in zip(place, axes)):
            return -np.inf
        if place not in judgements:
            judgements[place] = judge(fit(**setting_at(place)))
        return judgements[place]

    place, before = start, None
    while place != before:
        before = place
        for axis, step in product(range(len(axes)), (1, -1)):
            while judgement_at(moved := moved_by(place, axis, step)) > judgement_at(place):
                place = moved
    edges = [n for n, axis, i in zip(names, axes, place) if i in {0, len(axis) - 1}]
    return Tuned(setting_at(place), place, len(judgements), edges)


def moved_by(place: Place, axis: int, step: int) -> Place:
    return (*place[:axis], place[axis] + step, *place[axis + 1 :])


def popularity(train: csr_array, seed: int) -> Fit:
    """The same scores for everyone: how many users took an item."""
    counts = np.asarray(train.sum(0), float)
    return lambda: lambda fold_in: np.tile(counts, (fold_in.shape[0], 1))


def item_knn(train: csr_array, seed: int) -> Fit:
    """Sums of cosine similarities to a user's items, over each item's nearest neighbours.

    Source: Sarwar et al. 2001; `shrink` as in Dacrema et al. 2019.
    """
    together = csr_array(train.T @ train).tocoo()
    norms = np.sqrt(together.diagonal())
    rows, columns = together.coords
    other = rows != columns
    rows, columns, common = rows[other], columns[other], together.data[other]
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(norms)))])

    def fit(neighbours: int, shrink: float) -> Scorer:
        similarity = common / (norms[rows] * norms[columns] + shrink)
        order = np.lexsort((-similarity, rows))
        near = order[np.arange(len(order)) - starts[rows[order]] < neighbours]
        weights = csr_array((similarity[near], (columns[near], rows[near])), together.shape)
        return lambda fold_in: (fold_in @ weights).toarray()

    return fit


def inverse_of(gram: np.ndarray) -> np.ndarray:
    """The inverse of a symmetric positive definite matrix."""
    factor, _ = lapack.dpotrf(gram, lower=1)
    half, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    return np.tril(half) + np.tril(half, -1).T


def ease(train: csr_array, seed: int) -> Fit:
    """EASE: each item's ridge regression on the others, all from one inverse (Steck 2019).

    With fewer users than items the inverse is one of users: by Woodbury's identity
    (X'X + c I)^-1 = (I - X' (X X' + c I)^-1 X) / c, so nothing of size items x items is made.
    """
    users, items = train.shape
    by_users = users < items
    gram = (train @ train.T if by_users else train.T @ train).toarray().astype(float)

    def fit(penalty: float) -> Scorer:
        inverse = inverse_of(gram + penalty * np.eye(len(gram)))
        if not by_users:
            return lambda fold_in: fold_in - (fold_in @ inverse) / np.diag(inverse)
        diagonal = 1 - explained(train, inverse)

        def score(fold_in: csr_array) -> np.ndarray:
            through = (fold_in @ train.T).toarray() @ inverse
            return fold_in - (fold_in - (train.T @ through.T).T) / diagonal

        return score

    return fit


def explained(train: csr_array, inverse: np.ndarray) -> np.ndarray:
    """The diagonal of X' inverse X, block by block of items."""
    by_item = csr_array(train.T)
    blocks = [by_item[i : i + BLOCK_ITEMS] for i in range(0, by_item.shape[0], BLOCK_ITEMS)]
    return np.concatenate([block.multiply(block @ inverse).sum(1) for block in blocks])


def ials(train: csr_array, seed: int) -> Fit:
    """Implicit alternating least squares (Hu et al. 2008), by github.com/benfred/implicit."""
    from implicit.als import AlternatingLeastSquares

    matrix = csr_matrix(train, dtype=np.float32)

    def fit(factors: int, regularization: float, alpha: float) -> Scorer:
        model = AlternatingLeastSquares(
            factors=factors, regularization=regularization, alpha=alpha, num_threads=1,
            random_state=seed, use_gpu=False,
        )  # fmt: skip
        model.fit(matrix, show_progress=False)

        def score(fold_in: csr_array) -> np.ndarray:
            users = model.recalculate_user(np.arange(fold_in.shape[0]), csr_matrix(fold_in))
            return users @ model.item_factors.T

        return score

    return fit


PEERS = {
    "popularity": Method(popularity, {}),
    "item-kNN": Method(
        item_knn,
        {
            "neighbours": (10, 20, 50, 100, 200, 500, 1_000, EVERY),
            "shrink": (0, 1, 3, 10, 30, 100, 300),
        },
        start=(5, 2),
    ),
    "EASE": Method(
        ease, {"penalty": (1, 3, 10, 30, 60, 100, 200, 300, 500, 1_000, 3_000)}, start=(5,)
    ),
    "iALS": Method(
        ials,
        {
            "regularization": (0.1, 0.3, 1, 3, 10, 30, 100, 300),
            "alpha": (0.1, 0.3, 1, 3, 10, 30, 100, 300),
            "factors": (16, 32, 64, 128, 256, 512),
        },
        start=(5, 4, 4),
    ),
}
