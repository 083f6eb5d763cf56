"""Which users and which of their items are held out, so that recommendations can be judged.

A history is a sparse matrix (user, item); a stored value other than zero is an interaction.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Shaped
from scipy.sparse import csr_array, vstack

from keyhole.core.environment import draws
from keyhole.data.identifiers import UNKNOWN
from keyhole.data.interactions import Interactions
from keyhole.errors import DataError, SettingError

Cut = tuple[csr_array, csr_array]

FOLD_IN_SHARE = 0.8
FEWEST_ITEMS = 2  # of a user: one to recommend from, one to find
ROUNDING = 1e-9  # so that 0.2 * 5 holds one item out, whatever its last bit


def interactions_of(history: csr_array) -> csr_array:
    """A copy with one stored value for each interaction; a user's items are in order."""
    interactions = csr_array(history, copy=True)
    interactions.sum_duplicates()
    interactions.eliminate_zeros()
    return interactions


def item_counts(history: csr_array) -> np.ndarray:
    """How many values are stored for each user."""
    return np.diff(history.indptr).astype(np.int64)


def held_out_users(history: csr_array, seed: int, share: float) -> Bool[np.ndarray, " user"]:
    """True for a random share of the users that have at least two items.

    Users with fewer items cannot be judged, so they are never held out. At least one user is held
    out and at least one is not, if two or more qualify.

    Raises: SettingError if the share is not between 0 and 1.
    """
    _check_share(share)
    counts = item_counts(interactions_of(history))
    users = np.flatnonzero(counts >= FEWEST_ITEMS)
    count = int(np.clip(round(share * len(users)), min(1, len(users) - 1), len(users) - 1))
    order = np.argsort(draws(users.astype(np.uint64), seed), kind="stable")
    held_out = np.zeros(len(counts), bool)
    held_out[users[order[: max(count, 0)]]] = True
    return held_out


def fold_in(history: csr_array, seed: int, share: float = FOLD_IN_SHARE) -> Cut:
    """Items to recommend from and items to find: a random cut of each user's items.

    Of n items, (1 - share) n are held out, rounded down but at least one; a user with a single
    item keeps it. A user's cut depends on the seed, the user's position and those of the items,
    not on other users.

    Raises: SettingError if the share is not between 0 and 1.
    Source: Liang et al. 2018, Variational Autoencoders for Collaborative Filtering, section 4.
    """
    _check_share(share)
    interactions = interactions_of(history)
    counts = item_counts(interactions)
    floors = np.floor((1 - share) * counts + ROUNDING)
    held_out_counts = np.where(counts >= FEWEST_ITEMS, np.clip(floors, 1, counts - 1), 0)
    users = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
    keys = (users << np.uint64(32)) + interactions.indices.astype(np.uint64)
    order = np.lexsort((draws(keys, seed), users))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.repeat(interactions.indptr[:-1], counts)
    return _cut(interactions, ranks < np.repeat(held_out_counts, counts))


def last_out(history: csr_array, times: Shaped[np.ndarray, " interaction"]) -> Cut:
    """All items but the last by time, and the last; of equal times the last in position.

    `times` belongs to the stored values of `history`, in their order; numbers or dates. A user
    with a single item keeps it.

    Raises: DataError if times and interactions do not match one to one.
    """
    if len(times) != history.nnz:
        raise DataError(f"expected times of {history.nnz} interactions, got {len(times)}")
    if np.isnan(times).any():  # NaT, too
        raise DataError("a time is missing; leave out interactions without one")
    if interactions_of(history).nnz != history.nnz:
        raise DataError("an interaction is stored twice or as zero; store each once, as 1")
    counts = item_counts(history)
    users = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((history.indices, times, users))
    last = np.zeros(len(order), bool)
    last[order[history.indptr[1:][counts >= FEWEST_ITEMS] - 1]] = True
    return _cut(history, last)


def _cut(history: csr_array, held_out: Bool[np.ndarray, " interaction"]) -> Cut:
    """Interactions that are not held out, and those that are; both of the same shape."""
    return _chosen(history, ~held_out), _chosen(history, held_out)


def _chosen(history: csr_array, chosen: Bool[np.ndarray, " interaction"]) -> csr_array:
    starts = np.concatenate([[0], np.cumsum(chosen)])[history.indptr]
    return csr_array((history.data[chosen], history.indices[chosen], starts), history.shape)


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise SettingError(f"share={share!r}: give a number between 0 and 1, such as 0.8")


def later_lists(own: Interactions, later: Interactions) -> Cut:
    """What users are given, and what they shall get, where later interactions judge a model.

    Known users are given what they had in training and get what is new; of unknown ones four
    fifths are given.
    """
    places = own.users.positions(later.users.as_texts)
    known = places != UNKNOWN
    before = own.history[places[known]]
    new = later.history[np.flatnonzero(known)]
    new = csr_array(new - new.multiply(before))
    new.eliminate_zeros()
    given, wanted = fold_in(later.history[np.flatnonzero(~known)], seed=0)
    both = (before, given), (new, wanted)
    first, second = (csr_array(vstack(parts)) for parts in both)
    return first, second
