"""The baselines of recommendation: what is popular, and items that share users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from keyhole.data.interactions import Lists
from keyhole.errors import BundleError, SettingError
from keyhole.tasks.recommend.base import RankingModel, Scores

BLOCK_ITEMS = 512  # whose similarities to all others are held at once


class Popularity(RankingModel):
    """Every list gets the items of most users."""

    kind = "popularity"
    title = "popularity"

    @classmethod
    def bytes_for(cls, users: int, items: int, pairs: int) -> int:
        """A number an item."""
        return 8 * items

    def fit(self, history: Lists, seed: int = 0) -> Self:
        """Count the users of each item."""
        counts = np.bincount(history.indices, minlength=history.shape[1])
        self.counts = torch.from_numpy(counts.astype(np.float32))
        return self

    def scores(self, history: Lists) -> Scores:
        """The share of users of each item."""
        share = (self.counts / self.counts.sum().clamp(min=1)).numpy()
        return np.broadcast_to(share, history.shape).copy()

    def tensors(self) -> dict[str, Tensor]:
        """The counts."""
        return {"counts": self.counts}

    def shapes(self, users: int, items: int) -> dict[str, tuple[int, ...]]:
        """A number an item."""
        return {"counts": (items,)}

    def restored(self, tensors: dict[str, Tensor], history: Lists) -> Self:
        """With these counts."""
        self.counts = tensors["counts"]
        return self


@dataclass(eq=False, repr=False)
class ItemNeighbours(RankingModel):
    """The sum of an item's similarities to those of a list: its cosine over users, shrunk.

    Each item has its `most` nearest neighbours. Source: Sarwar et al. 2001; shrinkage: Bell and
    Koren 2007.
    """

    kind = "item_knn"
    title = "item-kNN"

    most: int = 200
    shrink: float = 10.0

    def check(self) -> None:
        """Raises: SettingError for invalid numbers."""
        if self.most < 1 or not self.shrink >= 0:
            raise SettingError(f"{self!r}: most must be at least 1, shrink at least 0")

    @classmethod
    def bytes_for(cls, users: int, items: int, pairs: int) -> int:
        """Neighbours of all items, and similarities of a block."""
        return 16 * items * 200 + 8 * BLOCK_ITEMS * items

    def fit(self, history: Lists, seed: int = 0) -> Self:
        """The neighbours of each item."""
        self.check()
        items, by_item = history.shape[1], sparse.csr_array(history.T)
        size = np.sqrt(np.diff(by_item.indptr).astype(np.float64))
        k, rows = min(self.most, max(items - 1, 1)), []
        for first in range(0, items, BLOCK_ITEMS):
            part = slice(first, first + BLOCK_ITEMS)
            shared = (by_item[part] @ history).toarray()
            own = np.arange(len(shared))
            shared[own, own + first] = 0.0
            cosine = shared / (size[part, None] * size + self.shrink).clip(1e-9)
            values, places = torch.from_numpy(cosine).topk(k, 1)
            rows.append((values.float(), places))
        self.values, self.places = (torch.cat(part) for part in zip(*rows, strict=True))
        return self

    def scores(self, history: Lists) -> Scores:
        """The sums of similarities."""
        return np.asarray((history @ self._matrix(history.shape[1])).toarray(), np.float32)

    def _matrix(self, items: int) -> Lists:
        """(neighbour, item): the similarity of an item of a list to each item it is near."""
        count, k = self.values.shape
        rows = (self.values.numpy().ravel(), self.places.long().numpy().ravel())
        starts = np.arange(0, count * k + 1, k)
        return sparse.csr_array(sparse.csr_array((*rows, starts), (count, items)).T)

    def tensors(self) -> dict[str, Tensor]:
        """The neighbours of each item, and how near they are."""
        return {"values": self.values, "places": self.places.float()}

    def shapes(self, users: int, items: int) -> dict[str, tuple[int, ...]]:
        """As many neighbours as there are."""
        return {"values": (items, -1), "places": (items, -1)}

    def restored(self, tensors: dict[str, Tensor], history: Lists) -> Self:
        """With these neighbours. Raises: BundleError for places outside the catalogue."""
        values, places = tensors["values"], tensors["places"]
        if not ((places >= 0) & (places < history.shape[1]) & (places == places.floor())).all():
            raise BundleError("the neighbours of items are not in the catalogue")
        self.values, self.places = values, places.long()
        return self
