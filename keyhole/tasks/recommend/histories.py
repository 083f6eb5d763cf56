"""Whose lists are asked for: known users, or lists of items of anyone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import sparse

from keyhole.core.progress import tell
from keyhole.data import open_source
from keyhole.data.frames import is_frame, same_kind
from keyhole.data.identifiers import UNKNOWN, Identifiers, identifier_texts, texts_of
from keyhole.data.interactions import (
    BLOCK_ROWS,
    InteractionColumns,
    Interactions,
    Lists,
    of_matrix,
    read_interactions,
)
from keyhole.data.lazy import pa
from keyhole.errors import DataError
from keyhole.tasks.recommend.base import RankingModel, blocks_of_users


@dataclass(frozen=True)
class Histories:
    """Lists of items by user: `users` is an Arrow array of identifiers, or positions in a list.

    `notes` say what was not used.
    """

    users: Any
    lists: Lists
    notes: list[str] = field(default_factory=list)


def open_histories(
    given: Any, known: Interactions, columns: InteractionColumns | None
) -> Histories:
    """The lists of `given`, in the items of `known`.

    A list of identifiers, or a table with a column of users and none of items, names known
    users; a list of lists, a table of interactions or a sparse matrix are lists of anyone. An
    unknown user has an empty list. Raises: DataError, FileError.
    """
    if sparse.issparse(given):
        read = of_matrix(given, 0.0 if columns is None else columns.above, known.items)
        return Histories(read.users.array, read.history)
    if hasattr(given, "blocks") or isinstance(given, str | os.PathLike) or is_frame(given):
        return _of_table(given, known, columns)
    if isinstance(given, int | np.integer) or not hasattr(given, "__len__"):
        given = [given]
    rows = given.tolist() if hasattr(given, "tolist") else list(given)
    if rows and all(_is_list(row) for row in rows):
        return _of_lists(rows, known.items)
    if any(_is_list(row) for row in rows):
        raise DataError("expected identifiers of users, or lists of items; got some of each")
    return of_users(texts_of(rows), known)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset | np.ndarray)


def of_users(texts: Any, known: Interactions) -> Histories:
    """The lists of known users, empty ones for others."""
    places = known.users.positions(texts)
    unknown = places == UNKNOWN
    empty = sparse.csr_array((1, len(known.items)), dtype=np.float32)
    every = sparse.csr_array(sparse.vstack([known.history, empty]))
    lists = every[np.where(unknown, len(known.users), places)]
    notes = []
    if unknown.any():
        first = texts.filter(pa.array(unknown))[0].as_py()
        notes.append(
            f"{int(unknown.sum()):,} of {len(texts):,} users are unknown, such as {first!r}: they "
            "get popular items"
        )
    return Histories(known.users.like(texts), lists, notes)


def _of_lists(rows: Sequence[Any], items: Identifiers) -> Histories:
    """Lists of raw identifiers; the user is the position in the list."""
    lengths = [len(row) for row in rows]
    places = items.positions(texts_of([item for row in rows for item in row]))
    user = np.repeat(np.arange(len(rows)), lengths)
    known = places != UNKNOWN
    pairs = np.unique(np.stack([user[known], places[known]]), axis=1)
    starts = np.concatenate([[0], np.cumsum(np.bincount(pairs[0], minlength=len(rows)))])
    ones = np.ones(pairs.shape[1], np.float32)
    lists = sparse.csr_array((ones, pairs[1], starts), (len(rows), len(items)))
    missing = int((~known).sum())
    notes = [f"{missing:,} items of the lists are unknown and ignored"] if missing else []
    return Histories(pa.array(np.arange(len(rows))), lists, notes)


def without_each(lists: Lists, part: slice) -> Lists:
    """The first list without one item, a list for each item at the places of `part`."""
    items = lists.indices[: lists.indptr[1]]
    stays = np.arange(len(items)) != np.arange(part.start, part.stop)[:, None]
    flat = np.broadcast_to(items, stays.shape)[stays].astype(np.int64)
    starts = np.arange(len(stays) + 1) * (len(items) - 1)
    return sparse.csr_array(
        (np.ones(len(flat), np.float32), flat, starts), (len(stays), lists.shape[1])
    )


def score_changes(model: RankingModel, lists: Lists, item: int) -> Float[np.ndarray, " place"]:
    """How much the score of an item falls without each item of the first list.

    Shortened lists are scored in blocks, so a long list takes no more memory than a short one.
    """
    whole = model.scores(lists[:1])[:, item]
    blocks = blocks_of_users(int(lists.indptr[1]), lists.shape[1])
    scores = [model.scores(without_each(lists, part))[:, item] for part in blocks]
    return whole.astype(np.float64) - np.concatenate([*scores, whole[:0]]).astype(np.float64)


def _of_table(given: Any, known: Interactions, columns: InteractionColumns | None) -> Histories:
    source = given if hasattr(given, "blocks") else open_source(given)
    names = source.names
    has_items = columns is not None and columns.item in names
    if not has_items and (len(names) == 1 or (columns is not None and columns.user in names)):
        column = names[0] if len(names) == 1 or columns is None else columns.user
        parts = [identifier_texts(b.column(column), column)[0] for b in source.blocks(BLOCK_ROWS)]
        texts = pa.chunked_array(parts, pa.string()).combine_chunks()
        return of_users(texts, known)
    own = InteractionColumns.guess(names, {}) if columns is None else columns.in_table(names)
    read = read_interactions(source, own, known.items)
    return Histories(read.users.array, read.history, read.counts.sentences(own))


def known_places(items: Identifiers, given: Any) -> np.ndarray:
    """The positions of one or several items. Raises: DataError for an unknown one."""
    texts, places = _places(items, given)
    if (places == UNKNOWN).any():
        first = texts.filter(pa.array(places == UNKNOWN))[0].as_py()
        raise DataError(f"item {first!r} was not in training")
    return places


def allowed_items(items: Identifiers, allow: Any, deny: Any) -> tuple[np.ndarray | None, int]:
    """Which items may be recommended (None: all), and how many of the given ones are unknown."""
    if allow is None and deny is None:
        return None, 0
    allowed, unknown = np.full(len(items), allow is None), 0
    for given, value in ((allow, True), (deny, False)):
        if given is not None:
            _, places = _places(items, given)
            unknown += int((places == UNKNOWN).sum())
            allowed[places[places != UNKNOWN]] = value
    return allowed, unknown


def _places(items: Identifiers, given: Any) -> tuple[Any, np.ndarray]:
    """Given items as texts, and their positions."""
    single = isinstance(given, str | bytes) or not hasattr(given, "__len__")
    texts = texts_of([given] if single else list(given))
    return texts, items.positions(texts)


def tell_data(own: Interactions, columns: InteractionColumns | None) -> None:
    """Print the columns that are used, what was not used, and how much is left."""
    if columns is not None:
        roles = {r: n for r, n in vars(columns).items() if r != "above" and n}
        tell("columns", ", ".join(f"{role}: {name}" for role, name in roles.items()))
        for sentence in own.counts.sentences(columns):
            tell("data", sentence)
    users, items = own.history.shape
    tell("data", f"{own.history.nnz:,} pairs of {users:,} users and {items:,} items")


def frame_like(table: Any, given: Any) -> Any:
    """The table as the kind of frame that was given; else pandas where it is installed."""
    if is_frame(given):
        return same_kind(table, given)
    with suppress(ImportError):  # pandas is not installed
        return table.to_pandas()
    return table
