"""Features of items and users: vectors that stay as they were when a model is fitted again."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64

from keyhole.data.identifiers import UNKNOWN, Identifiers
from keyhole.data.interactions import Lists
from keyhole.tasks.recommend.base import blocks_of_users
from keyhole.tasks.recommend.low_rank import LowRank

WIDTH = 128  # of an item's vector, where there are as many users and items
STRENGTH = 30.0
MIN_SHARED = 2  # items by which vectors are turned


def embedding_of(history: Lists, seed: int) -> LowRank | None:
    """The vectors of items; None of a catalogue or of lists too small to have a direction."""
    if min(history.shape) < 2:
        return None
    width = min(WIDTH, min(history.shape) - 1)
    return LowRank(width, STRENGTH).fit(history, seed)


def aligned(new: LowRank, new_items: Identifiers, old: LowRank, old_items: Identifiers) -> LowRank:
    """The new vectors, turned so that those of shared items lie as near as can be to the old.

    A rotation changes no score. Source: orthogonal Procrustes (Schönemann 1966).
    """
    places = old_items.positions(new_items.as_texts)
    shared = places != UNKNOWN
    width = min(new.vectors.shape[1], old.vectors.shape[1])
    if shared.sum() < MIN_SHARED or new.vectors.shape[1] != old.vectors.shape[1]:
        return new
    before = old.vectors[torch.from_numpy(places[shared]), :width]
    after = new.vectors[torch.from_numpy(shared), :width]
    left, _, right = torch.linalg.svd((after.T @ before).double())
    new.vectors = (new.vectors.double() @ (left @ right)).float()
    return new


def nearest(
    embedding: LowRank, items: Int64[np.ndarray, " item"], k: int
) -> tuple[Int64[np.ndarray, "item k"], Float[np.ndarray, "item k"]]:
    """The items with the most similar vectors (cosine), without the item itself."""
    unit = torch.nn.functional.normalize(embedding.vectors, dim=1)
    k = min(k, unit.shape[0] - 1)
    places, values = np.empty((len(items), k), np.int64), np.empty((len(items), k), np.float32)
    for part in blocks_of_users(len(items), len(unit)):  # else all items by all items
        own = torch.from_numpy(items[part])
        cosine = unit[own] @ unit.T
        cosine[torch.arange(len(own)), own] = -torch.inf
        order = torch.sort(cosine, dim=1, descending=True, stable=True)
        places[part], values[part] = order.indices[:, :k].numpy(), order.values[:, :k].numpy()
    return places, values
