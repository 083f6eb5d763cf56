"""Lists of items: a sample is a user, its one feature the list of items that the user touched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Int64
from scipy import sparse

from keyhole.core.environment import draws, hash_of
from keyhole.core.layout import Layout, Slot
from keyhole.core.parts import copy
from keyhole.core.records import Batch
from keyhole.data.interactions import Lists
from keyhole.errors import BundleError, DataError, SettingError
from keyhole.modalities.base import Ability, Modality
from keyhole.modalities.prepared import Calibrated, Heldout, Parts, Prepared
from keyhole.modalities.schema import Schema
from keyhole.model.nets import Net
from keyhole.model.network import Network

MAX_ITEMS = 1 << 24  # a float32 tells no more apart
STOP_SHARE, MAX_STOP_USERS = 0.1, 2_000  # users that decide when to stop
EPOCHS, MIN_STEPS, MAX_STEPS = 100, 300, 20_000
BATCH_USERS, ITEMS_A_STEP = 500, 1 << 24  # users of a step, and the most logits of a step
CLIP_NATS = 10.0  # norm of a gradient for each item of a list


class InteractionSchema(Schema):
    """Which columns of a table of interactions hold what.

    Parameters
    ----------
    user : str, default=None
        The column of users. None: guessed by its name.
    item : str, default=None
        The column of items. None: guessed by its name.
    value : str, default=None
        The column of values, such as ratings. They are not learned from. None: guessed; all rows
        count where there is none.
    time : str, default=None
        The column of times: it says which of a user's items were last. None: guessed.
    above : float, default=0.0
        A row counts if its value is above this number.

    Raises
    ------
    DataError
        In `fit`, for columns that are absent.

    Examples
    --------
    >>> from keyhole import InteractionSchema, Recommender
    >>> schema = InteractionSchema("member", "film", value="stars", above=3)
    >>> Recommender(schema=schema).schema.above
    3
    """

    kind = "interactions"

    def __init__(
        self,
        user: str | None = None,
        item: str | None = None,
        *,
        value: str | None = None,
        time: str | None = None,
        above: float = 0.0,
    ) -> None:
        super().__init__()
        self.user = user
        self.item = item
        self.value = value
        self.time = time
        self.above = above


@dataclass(frozen=True)
class ListsOfItems:
    """The lists of users, as a source that a fit reads: `history` (user, item) of ones."""

    history: Lists
    name: str = "the interactions"
    names = ("items",)
    groups = 1

    @property
    def rows(self) -> int:
        """The number of users."""
        return self.history.shape[0]

    @property
    def sample(self) -> Any:
        """None: no rows of a table are looked at."""
        return None

    def blocks(self, rows: int) -> Iterator[Any]:
        """The lists in order, at most `rows` in a block."""
        for start in range(0, self.rows, rows):
            yield replace(self, history=self.history[start : start + rows])


class InteractionModality(Modality):
    """Lists of items of a catalogue of `count` items."""

    kind = "interactions"
    noun = "lists of items"
    has_rows = False

    def __init__(self, *, count: int) -> None:
        self.count = count
        self.columns, self.reasons, self.gaps = [], {}, {}

    def check(self) -> None:
        """Raises: SettingError for a catalogue that no fit leaves."""
        if not 1 <= self.count <= MAX_ITEMS:
            raise SettingError(f"count={self.count}: expected from 1 to {MAX_ITEMS:,} items")

    @classmethod
    def takes(cls, source: Any) -> bool:
        """True for lists of items."""
        return isinstance(source, ListsOfItems)

    @classmethod
    def check_net(cls, net: Net) -> None:
        """Raises: SettingError for a net of anything else."""
        if not net.items:
            raise SettingError(f"{net!r} is not for lists of items; use ItemBag")

    @classmethod
    def learn_with(
        cls, source: ListsOfItems, parts: Parts, seed: int, group: str | None
    ) -> tuple[Self, ListsOfItems]:
        """The catalogue. Raises: DataError for a source without an item, SettingError."""
        cls.check_net(parts.net)
        if source.history.nnz == 0:
            raise DataError(
                f"{source.name} holds no list with an item: a minimum of 1 is required"
            )
        return cls(count=source.history.shape[1]), source

    @cached_property
    def layout(self) -> Layout:
        """One feature: the list."""
        return Layout((Slot("items", "items", "multinomial"),), items=self.count)

    def prepare(self, source: Any, profile: ListsOfItems, parts: Parts, seed: int) -> Prepared:
        """Lists for training, and users held out of it."""
        history = source.history
        users = np.flatnonzero(np.diff(history.indptr) > 1)  # a list of one predicts nothing
        users = users if len(users) else np.flatnonzero(np.diff(history.indptr))
        order = users[np.argsort(draws(users.astype(np.uint64), seed), kind="stable")]
        stops = max(min(round(STOP_SHARE * len(order)), MAX_STOP_USERS), 1)
        training, stopping = np.sort(order[stops:]), np.sort(order[:stops])
        training = training if len(training) else stopping
        lists = history[training]
        feed = ListFeed(lists, seed)
        held_out = encoded(history[stopping])
        mean_length = lists.nnz / max(lists.shape[0], 1)
        return Prepared(
            parts=replace(parts, training=_training(parts.training, lists)),
            feed=feed,
            stopping=_with_members(held_out),
            heldout=ListsToJudge(held_out, np.bincount(lists.indices, minlength=self.count)),
            fingerprint=_fingerprint(history, parts, seed),
            rows=lists.shape[0],
            gradient_norm=CLIP_NATS * max(mean_length, 1.0),
        )

    def encode(self, rows: ListsOfItems, start: int = 0) -> Batch:
        """The lists of some users."""
        return encoded(rows.history)

    def decode(self, batch: Batch) -> Any:
        """Raises: SettingError: the expected list is a ranking, which `recommend` gives."""
        raise SettingError("a list of items is not a row of a table: use `keyhole recommend`")

    def supports(self, task: Ability) -> str | None:
        """Nothing but recommendation."""
        return "it holds a recommender: use `keyhole recommend`"

    @torch.no_grad()
    def try_out(self, network: Network) -> None:
        """Send a list through the network. Raises: BundleError."""
        batch = encoded(sparse.csr_array(([1.0], ([0], [0])), (1, self.count)))
        if not torch.isfinite(network(batch).likelihood.log_prob(batch)).all():
            raise BundleError("the weights give probabilities that are NaN or infinite")


def encoded(history: Lists) -> Batch:
    """Lists (user, item) as a batch: items from 1, shorter lists filled up with 0."""
    lengths = np.diff(history.indptr)
    place = np.arange(history.nnz) - np.repeat(history.indptr[:-1], lengths)
    items = np.zeros((history.shape[0], max(int(lengths.max(initial=0)), 1)), np.int64)
    items[np.repeat(np.arange(len(lengths)), lengths), place] = history.indices + 1
    numbers = torch.from_numpy(lengths.astype(np.float32))[:, None]
    codes = torch.zeros((len(lengths), 0), dtype=torch.int64)
    return Batch(numbers, codes, numbers > 0, items=torch.from_numpy(items))


def _with_members(batch: Batch) -> Batch:
    """The rows with an axis of one ensemble member."""
    items: Any = batch.items
    return Batch(batch.numbers[None], batch.codes[None], batch.observed[None], items=items[None])


@dataclass(frozen=True)
class ListFeed:
    """Batches of training lists."""

    history: Lists
    seed: int
    pools = 1

    @property
    def rows(self) -> int:
        """The number of training lists."""
        return self.history.shape[0]

    def batch(self, step: int, size: int, steps_a_pool: int) -> tuple[Batch, torch.Generator]:
        """The lists of a step with a member axis, and the generator of its randomness.

        Each list comes once in every pass over all.
        """
        size = min(size, self.rows)
        steps = max(self.rows // size, 1)
        order = np.random.default_rng([self.seed, step // steps]).permutation(self.rows)
        first = step % steps * size
        generator = torch.Generator().manual_seed(hash_of(self.seed, step))
        return _with_members(encoded(self.history[order[first : first + size]])), generator


@dataclass(frozen=True)
class ListsToJudge(Heldout):
    """Lists that the network did not train on, and how many training lists have each item."""

    lists: Batch
    counts: Int64[np.ndarray, " item"]

    @torch.no_grad()
    def calibrate(self, modality: Any, network: Network) -> Calibrated[Any]:
        """The nats of held-out lists, given themselves."""
        device = next(network.parameters()).device
        batch = self.lists.to(device)
        nats = -network(batch).likelihood.log_prob(batch)[0].mean(0)[:, 0]  # (S, M, B, 1)
        nats = nats.double().cpu().numpy()
        return Calibrated(modality, np.array([nats.mean()]), np.sort(nats))

    def parted(self) -> tuple[Batch, Bool[torch.Tensor, "row place"]]:
        """The lists without every fifth item, shorter ones without the last; and those items."""
        items: Any = self.lists.items
        place, lengths = torch.arange(items.shape[1]), (items > 0).sum(1, keepdim=True)
        last = (place == lengths - 1) & (lengths > 1) & (lengths < 5)
        left_out = (items > 0) & ((place % 5 == 4) | last)
        return replace(self.lists, items=torch.where(left_out, 0, items)), left_out


def _training(training: Any, lists: Lists) -> Any:
    """The training config with steps and batch that suit the lists, so that a run resumes."""
    training = copy(training)
    training.check()
    users, items = lists.shape
    if training.batch is None:
        training.batch = int(np.clip(ITEMS_A_STEP // items, 32, BATCH_USERS))
    if training.steps is None:
        steps = EPOCHS * max(users // training.batch, 1)
        training.steps = int(np.clip(steps, MIN_STEPS, MAX_STEPS))
    training.members = 1
    return training


def _fingerprint(history: Lists, parts: Parts, seed: int) -> str:
    settings = [history.shape, parts.recipes(), seed]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(history.indptr.astype(np.int64).tobytes())
    digest.update(history.indices.astype(np.int64).tobytes())
    return digest.hexdigest()[:16]
