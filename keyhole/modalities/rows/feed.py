"""Training rows by pool and step: a pure function of seed and step, so a run can be resumed.

A pool is as many encoded rows as fit a bounded memory; each is used for a while, then the
next is read: groups of rows in shuffled order, the last one wrapping round to the first.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from keyhole.core.environment import draws, hash_of
from keyhole.core.layout import Layout
from keyhole.core.records import Batch
from keyhole.core.robust import Robust, trimmed
from keyhole.data.source import Rows, Source
from keyhole.modalities.base import Modality
from keyhole.modalities.rows.split import Split, most_reference_rows

POOL_FEATURES = 1 << 24  # 64 MB of float32 and 16 MB of flags
BLOCK_ROWS = 65_536
FULL_WEIGHT_SHARE = 0.75  # of rows, where the share of bad ones is not known


@dataclass(frozen=True)
class RobustWeights:
    """A modality whose rows weigh less, the farther they lie from the rows that agree most.

    A net that trains on contaminated rows without care learns the anomalies too. Weights that
    fall with the square of the distance bound the influence of any one row (Cauchy-like weights;
    Hampel et al. 1986, section 2.6), and cost a clean table next to nothing.
    """

    modality: Modality
    robust: Robust
    reach: float  # distance up to which a row counts in full

    @classmethod
    def learn(cls, modality: Modality, rows: Rows, support_fraction: float) -> "RobustWeights":
        """Weights learned from a sample of rows, of which `support_fraction` is good."""
        most = most_reference_rows(len(modality.layout))
        some = np.random.default_rng(0).permutation(len(rows))[:most]
        x = modality.coordinates(modality.encode(rows.take(np.sort(some))))
        robust = trimmed(x, support_fraction)
        share = max(FULL_WEIGHT_SHARE, support_fraction)
        return cls(modality, robust, float(robust.distance(x.double()).quantile(share)))

    @property
    def layout(self) -> Layout:
        """The modality's own."""
        return self.modality.layout

    def encode(self, rows: Rows, start: int = 0) -> Batch:
        """The encoded rows, each with its robust weight times its own."""
        batch = self.modality.encode(rows, start)
        distance = self.robust.distance(self.modality.coordinates(batch)).clamp(min=1e-12)
        weight = (self.reach / distance).square().clamp(max=1.0).float()
        return replace(batch, weight=weight if batch.weight is None else weight * batch.weight)


@dataclass
class RowFeed:
    """Batches of training rows."""

    source: Source
    modality: Modality | RobustWeights
    split: Split
    seed: int
    rows: int

    def __post_init__(self) -> None:
        streams = hasattr(self.source, "group_blocks")
        self._loaded = None if streams or self.source.groups != 1 else self.source.group(0)
        sizes: Any = [] if self._loaded is not None else [n for *_, n in self.source.places]  # pyright: ignore
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int).tolist()
        groups, features = self.source.groups, len(self.modality.layout)
        fits = self.rows * features <= POOL_FEATURES
        group_features = features * max(self.rows // groups, 1)
        some = int(np.clip(POOL_FEATURES // group_features, 1, groups))
        self.groups_a_pool = groups if fits else some
        divided = self._loaded is None and not fits and some == 1  # into random parts that fit
        self.parts_a_group = max(-(-max(sizes) * features // POOL_FEATURES), 1) if divided else 1
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
        batches: list[list[Batch]] = [[] for _ in range(max(self.split.folds, 1))]
        for group in np.sort(order[start : start + self.groups_a_pool]):
            self._read_group(int(group), batches)
        self._pool = [Batch.join(batch) for batch in batches]
        self._place = place

    def _read_group(self, group: int, batches: list[list[Batch]]) -> None:
        start = self._starts[group]
        for block in self._blocks_of(group):
            trains = self.split.trains(block, start) & self._in_part(start, len(block))
            encoded = self.modality.encode(block, start)
            for batch, rows in zip(batches, trains, strict=True):
                batch.append(encoded.take(torch.from_numpy(np.flatnonzero(rows))))
            start += len(block)

    def _blocks_of(self, group: int) -> Iterator[Rows]:
        """The rows of a group, streamed where the source can: a group may be the whole file."""
        stream: Any = getattr(self.source, "group_blocks", None)
        if self._loaded is None and stream is not None:
            yield from stream(group, BLOCK_ROWS)
            return
        rows = self._loaded if self._loaded is not None else self.source.group(group)
        for start in range(0, len(rows), BLOCK_ROWS):
            yield rows.take(slice(start, start + BLOCK_ROWS))

    def _in_part(self, start: int, rows: int) -> np.ndarray:
        """True for the rows that this pool takes of a group too large for one."""
        if self.parts_a_group == 1:
            return np.ones(rows, bool)
        seed, part = self._draws
        draw = draws(np.arange(start, start + rows, dtype=np.uint64), seed % (1 << 62))
        return (draw * self.parts_a_group).astype(np.int64) == part


def stacked(batches: list[Batch]) -> Batch:
    """Batches of equal size behind each other in a new first dimension; weighted if all are."""
    parts = zip(*((b.numbers, b.codes, b.observed) for b in batches), strict=True)
    numbers, codes, observed = map(torch.stack, parts)
    weights = [b.weight for b in batches if b.weight is not None]
    weighted = len(weights) == len(batches)
    return Batch(numbers, codes, observed, torch.stack(weights) if weighted else None)
