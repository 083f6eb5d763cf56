"""Training rows by pool and step: a pure function of seed and step, so a run can be resumed.

A pool is as many encoded rows as fit a bounded memory; each is used for a while, then the
next is read: groups of rows in shuffled order, the last one wrapping round to the first.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from keyhole.core.environment import draws, hash_of
from keyhole.core.records import Batch
from keyhole.data.source import Rows, Source
from keyhole.modalities.base import Modality
from keyhole.modalities.rows.robust_weights import RobustWeights
from keyhole.modalities.rows.split import Split

POOL_FEATURES = 1 << 24  # 64 MB of float32 and 16 MB of seen flags
BLOCK_ROWS = 65_536


@dataclass
class RowFeed:
    """Batches for training, and the rows held out of it."""

    source: Source
    modality: Modality | RobustWeights
    split: Split
    seed: int
    rows: int

    def __post_init__(self) -> None:
        streams = hasattr(self.source, "group_blocks")
        self._held = None if streams or self.source.groups != 1 else self.source.group(0)
        self._starts = self._group_starts()
        fits = self.rows * len(self.modality.layout) <= POOL_FEATURES
        self.groups_a_pool = self.source.groups if fits else self._groups_that_fit()
        self.parts_a_group = 1 if self._held is not None or fits else self._parts_a_group()
        self._place = -1
        self._pool: list[Batch] = []

    @property
    def pools(self) -> int:
        """How many pools there are before groups come again."""
        return -(-self.source.groups // self.groups_a_pool) * self.parts_a_group

    def batch(self, step: int, size: int, steps_a_pool: int) -> tuple[Batch, torch.Generator]:
        """The rows of a step with a member axis, and the generator of its randomness."""
        self._turn_to(step // steps_a_pool)
        generator = torch.Generator().manual_seed(hash_of(self.seed, step))
        if len(self._pool) == 1:
            rows = torch.randint(len(self._pool[0]), (size,), generator=generator)
            return _lead(self._pool[0].take(rows)), generator
        drawn = [
            rows.take(torch.randint(len(rows), (size,), generator=generator))
            for rows in self._pool
        ]
        return stacked(drawn), generator

    def _turn_to(self, place: int) -> None:
        place = place if self.pools > 1 else 0
        if place == self._place:
            return
        rounds, turn = divmod(place, self.pools)
        order = np.random.default_rng([self.seed, rounds]).permutation(self.source.groups)
        turn, part = divmod(turn, self.parts_a_group)
        self._draws = (hash_of(self.seed, rounds), part)
        start = turn * self.groups_a_pool
        chosen = np.sort(order[start : start + self.groups_a_pool])
        parts: list[list[Batch]] = [[] for _ in range(max(self.split.folds, 1))]
        for group in chosen:
            self._read_group(int(group), parts)
        self._pool = [Batch.join(part) for part in parts]
        self._place = place

    def _read_group(self, group: int, parts: list[list[Batch]]) -> None:
        place = self._starts[group]
        for block in self._blocks_of(group):
            trains = self.split.trains(block, place) & self._in_part(place, len(block))
            batch = self.modality.encode(block, place)
            for member, part in enumerate(parts):
                part.append(batch.take(torch.from_numpy(np.flatnonzero(trains[member]))))
            place += len(block)

    def _blocks_of(self, group: int) -> Iterator[Rows]:
        """The rows of a group, streamed where the source can: a group may be the whole file."""
        stream: Any = getattr(self.source, "group_blocks", None)
        if self._held is None and stream is not None:
            yield from stream(group, BLOCK_ROWS)
            return
        rows = self._held if self._held is not None else self.source.group(group)
        for start in range(0, len(rows), BLOCK_ROWS):
            yield rows.take(slice(start, start + BLOCK_ROWS))

    def _in_part(self, place: int, rows: int) -> np.ndarray:
        """True for the rows that this pool takes of a group too large for one."""
        if self.parts_a_group == 1:
            return np.ones(rows, bool)
        seed, part = self._draws
        draw = draws(np.arange(place, place + rows, dtype=np.uint64), seed % (1 << 62))
        return (draw * self.parts_a_group).astype(np.int64) == part

    def _parts_a_group(self) -> int:
        """Into how many random parts a group is divided, so that each fits a pool."""
        if self.groups_a_pool > 1:
            return 1
        largest = max(rows for _, _, rows in self.source.places)  # pyright: ignore
        return max(-(-largest * len(self.modality.layout) // POOL_FEATURES), 1)

    def _group_starts(self) -> list[int]:
        if self._held is not None:
            return [0]
        sizes = [rows for _, _, rows in self.source.places]  # pyright: ignore
        return np.concatenate([[0], np.cumsum(sizes)]).astype(int).tolist()

    def _groups_that_fit(self) -> int:
        features = len(self.modality.layout) * max(self.rows // self.source.groups, 1)
        return int(np.clip(POOL_FEATURES // features, 1, self.source.groups))


def _lead(batch: Batch) -> Batch:
    weight = None if batch.weight is None else batch.weight[None]
    return Batch(batch.numbers[None], batch.codes[None], batch.observed[None], weight)


def stacked(batches: list[Batch]) -> Batch:
    """Batches of equal size behind each other in a new first dimension; weighted if all are."""

    def stack(pick: Callable[[Batch], torch.Tensor]) -> torch.Tensor:
        return torch.stack([pick(batch) for batch in batches])

    weighted = all(batch.weight is not None for batch in batches)
    return Batch(
        stack(lambda b: b.numbers),
        stack(lambda b: b.codes),
        stack(lambda b: b.observed),
        torch.stack([b.weight for b in batches if b.weight is not None]) if weighted else None,
    )
