"""The interface of a model that ranks items for lists of items, and the best items of lists."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy import sparse
from torch import Tensor

from keyhole.core.parts import Described
from keyhole.data.interactions import Lists
from keyhole.errors import SettingError

BLOCK_SCORES = 1 << 23  # scores that are held at once
EVEN_USERS = 32  # a matrix product adds its terms in another order for other numbers of rows
NONE = -1  # instead of an item, where a list is shorter than asked for

Scores = Float[np.ndarray, "user item"]


class RankingModel(Described):
    """Scores all items of a catalogue for lists of items; described by its arguments.

    `fit` leaves the learned tensors as attributes; `tensors` names them for a saved model, and
    `restored` is the way back. Scores of a list do not depend on the lists beside it.
    """

    family = "ranking"
    title: ClassVar[str]  # in a table of figures

    @classmethod
    @abstractmethod
    def bytes_for(cls, users: int, items: int, pairs: int) -> int:
        """The memory that `fit` takes, in bytes."""

    @abstractmethod
    def fit(self, history: Lists, seed: int = 0) -> Self:
        """Fit to the lists of users, (user, item) of ones; returns itself."""

    @abstractmethod
    def scores(self, history: Lists) -> Scores:
        """The score of every item for each list; higher is better."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What was learned, to be saved."""

    @abstractmethod
    def shapes(self, users: int, items: int) -> dict[str, tuple[int, ...]]:
        """The shapes of `tensors` of a model of so many users and items; -1: any."""

    @abstractmethod
    def restored(self, tensors: dict[str, Tensor], history: Lists) -> Self:
        """Take what was learned back; `history` is what it was fitted to."""


def blocks_of_users(users: int, items: int) -> Iterator[slice]:
    """Slices of users whose scores fit into memory."""
    step = max(BLOCK_SCORES // max(items, 1) // EVEN_USERS, 1) * EVEN_USERS
    return (slice(first, min(first + step, users)) for first in range(0, users, step))


def evened(history: Lists) -> Lists:
    """The lists, and empty ones up to a multiple of `EVEN_USERS`."""
    missing = -history.shape[0] % EVEN_USERS
    ends = np.concatenate([history.indptr, np.full(missing, history.indptr[-1])])
    shape = (history.shape[0] + missing, history.shape[1])
    return sparse.csr_array((history.data, history.indices, ends), shape)


def best_items(
    model: RankingModel,
    history: Lists,
    k: int,
    *,
    exclude_seen: bool = True,
    allowed: Bool[np.ndarray, " item"] | None = None,
) -> tuple[Int64[np.ndarray, "user k"], Float[np.ndarray, "user k"]]:
    """The `k` best items of each list, best first, and their scores; `NONE` where there are fewer.

    Of equal scores the first item of the catalogue is better.
    """
    users, items = history.shape
    k = min(k, items)
    top, best = np.full((users, k), NONE), np.full((users, k), np.nan, np.float32)
    for part in blocks_of_users(users, items):
        lists = history[part]
        scores = torch.from_numpy(np.ascontiguousarray(model.scores(lists), np.float32))
        if exclude_seen:
            seen = np.repeat(np.arange(lists.shape[0]), np.diff(lists.indptr))
            scores[
                torch.from_numpy(seen), torch.from_numpy(lists.indices.astype(np.int64))
            ] = -torch.inf
        if allowed is not None:
            scores[:, torch.from_numpy(~allowed)] = -torch.inf
        values, places = _largest(scores, k)
        known = torch.isfinite(values)
        top[part] = torch.where(known, places, NONE).numpy()
        best[part] = torch.where(known, values, torch.nan).numpy()
    return top, best


def checked_k(k: Any) -> int:
    """`k` as it was given. Raises: SettingError unless it is a whole number from 1 up."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise SettingError(f"k={k!r:.40}: give a whole number from 1 up")
    return int(k)


def _largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row, of ties the first ones: `topk` leaves their order open."""
    more = min(2 * k, scores.shape[1])
    values, places = scores.topk(more, 1)
    tied = torch.zeros(len(scores), dtype=torch.bool)
    if more < scores.shape[1]:  # the last one may be tied with some that were left out
        tied = (values[:, k - 1] == values[:, -1]) & torch.isfinite(values[:, -1])
    order = torch.argsort(places, dim=1, stable=True)
    values, places = values.gather(1, order), places.gather(1, order)
    order = torch.argsort(values, dim=1, descending=True, stable=True)[:, :k]
    values, places = values.gather(1, order), places.gather(1, order)
    if tied.any():
        exact = torch.sort(scores[tied], dim=1, descending=True, stable=True)
        values[tied], places[tied] = exact.values[:, :k], exact.indices[:, :k]
    return values, places
