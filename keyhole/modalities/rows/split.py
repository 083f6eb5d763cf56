"""Which rows train, stop the run or calibrate, and the rows that new ones are compared with.

From 1,000 rows up, all nets train on the same rows, and a tenth each (at most 20,000 rows) is
held out for stopping and for calibration. Below, five nets train side by side, each without its
fold, so that every row has a score from a net that has not seen it.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from keyhole.core.environment import draws
from keyhole.core.records import Batch
from keyhole.data import cast
from keyhole.data.source import Rows
from keyhole.errors import DataError

SMALL_TABLE_ROWS = 1_000
FOLDS = 5
MEMBERS = 3  # nets on the same rows, whose spread is `score_std`
HELD_OUT_SHARE = 0.1
MIN_HELD_OUT = 30  # rows; with fewer, a tenth is too few to hold out
MAX_HELD_OUT = 20_000  # rows each, for stopping and for calibration
MAX_RANKED_GROUPS = 1_000  # more groups fall evenly enough by chance
TRAIN, STOP, CALIBRATE = 0, 1, 2
STRETCH = 4  # times the rows that share values are held out together


@dataclass
class Split:
    """Assigns rows by a hash of their position, of their group, or by their time.

    Where a row shares values with the `overlap` rows after it, as windows of a series do, rows
    are held out in stretches, and those that share values with a stretch are not trained on.
    """

    rows: int
    seed: int
    how: str = "random"  # "random", "group" or "time"
    column: str | None = None
    nets: int | None = None  # None: folds where rows are few, else MEMBERS
    latest: float = np.inf  # rows at or after it are held out, where time decides
    ranks: dict[str | None, int] = field(default_factory=dict)  # of few groups: dealt out evenly
    overlap: int = 0
    folds: int = field(init=False)

    def __post_init__(self) -> None:
        apart = self.rows / (self.overlap + 1)  # so many rows share nothing
        few = self.rows >= 2 and apart < (MIN_HELD_OUT if self.nets else SMALL_TABLE_ROWS)
        folds = min(FOLDS, self.rows, len(self.ranks) or self.rows)
        self.folds = folds if few and self.how != "time" else 0
        self.share = min(HELD_OUT_SHARE, MAX_HELD_OUT / max(self.rows, 1))

    @classmethod
    def of(
        cls, rows: int, seed: int, validation: str, sample: Any, nets: int | None = None,
        overlap: int = 0,
    ) -> "Split":  # fmt: skip
        """The split that the schema asks for. Raises: DataError if a column splits no rows."""
        how, _, column = validation.partition(":")
        if how == "group":
            return cls(rows, seed, how, column, nets, ranks=_ranks(sample, column, seed, rows))
        if how != "time":
            return cls(rows, seed, nets=nets, overlap=overlap)
        times = _times(sample.column(column))
        times = times[np.isfinite(times)]
        if len(times) < 2 or times.min() == times.max():
            raise DataError(
                f"validation={validation!r}: column {column!r} has no dates or numbers that "
                "differ, so rows cannot be ordered by time; name another column"
            )
        share = min(2 * HELD_OUT_SHARE, 2 * MAX_HELD_OUT / rows)
        return cls(rows, seed, how, column, nets, float(np.quantile(times, 1 - share)))

    @property
    def members(self) -> int:
        """How many nets train side by side."""
        return self.folds or self.nets or MEMBERS

    def assign(self, block: Rows, start: int) -> np.ndarray:
        """For each row its fold, or TRAIN, STOP or CALIBRATE where there are no folds."""
        draw = self._draw(block, start)
        if self.how == "time" and not self.folds:
            held_out = _times(block.column(str(self.column))) >= self.latest
            return np.where(held_out, np.where(draw < 0.5, STOP, CALIBRATE), TRAIN)
        return self._part_of(draw)

    def _part_of(self, draw: np.ndarray) -> np.ndarray:
        if self.folds:
            return np.clip((draw * self.folds).astype(np.int64), 0, self.folds - 1)
        calibrates = draw < 2 * self.share
        return np.where(draw < self.share, STOP, np.where(calibrates, CALIBRATE, TRAIN))

    def trains(self, block: Rows, start: int) -> np.ndarray:
        """(member, row): True where the member trains on the row."""
        if self.overlap:
            return self._trains_apart(start, len(block))
        part = self.assign(block, start)[None, :]
        return part != np.arange(self.folds)[:, None] if self.folds else part == TRAIN

    def _trains_apart(self, start: int, rows: int) -> np.ndarray:
        """As `trains`, without the rows that share values with held-out ones."""
        margin = self.overlap
        part = self._part_of(self._draw_of(np.arange(start - margin, start + rows + margin)))
        outside = np.arange(self.folds)[:, None] == part if self.folds else (part != TRAIN)[None]
        counts = np.cumsum(np.pad(outside, ((0, 0), (1, 0))), 1)
        return counts[:, 2 * margin + 1 :] == counts[:, : -2 * margin - 1]

    def _draw(self, block: Rows, start: int) -> np.ndarray:
        """A number in [0, 1) for each row; few rows are dealt out evenly."""
        if self.how == "group":
            texts = cast.texts(block.column(str(self.column))).to_pylist()
            draw_of = {text: self._draw_of_group(text) for text in set(texts)}
            return np.array([draw_of[text] for text in texts])
        return self._draw_of(np.arange(start, start + len(block)))

    def _draw_of(self, positions: np.ndarray) -> np.ndarray:
        if self.overlap and self.folds:
            return positions / self.rows  # five stretches
        if self.overlap:
            positions = positions.clip(0) // (STRETCH * (self.overlap + 1))
        elif self.rows < SMALL_TABLE_ROWS:
            return np.random.default_rng(self.seed).permutation(self.rows)[positions] / self.rows
        return draws(positions.astype(np.uint64), self.seed)

    def _draw_of_group(self, text: str | None) -> float:
        """By its rank where groups are few, so that every part has one; by its hash else."""
        rank, groups = self.ranks.get(text), len(self.ranks)
        if rank is None:
            return _draw_of_text(text, self.seed)
        if self.folds:
            return (rank + 0.5) / groups
        each = max(1, round(self.share * groups))  # groups for stopping, and for calibration
        return 0.0 if rank < each else 1.5 * self.share if rank < 2 * each else 1.0


def _ranks(sample: Any, column: str, seed: int, rows: int) -> dict[str | None, int]:
    """The groups in the order of their draws where there are few, none where there are many."""
    groups = set(cast.texts(sample.column(column)).to_pylist())
    least = 2 if rows < SMALL_TABLE_ROWS else 3
    if len(groups) < least:
        raise DataError(
            f"validation='group:{column}': the column holds {len(groups)} group(s), at least "
            f"{least} are needed to hold one out; name another column"
        )
    if len(groups) > MAX_RANKED_GROUPS:
        return {}
    ordered = sorted(groups, key=lambda text: (_draw_of_text(text, seed), str(text)))
    return {text: rank for rank, text in enumerate(ordered)}


def _draw_of_text(text: str | None, seed: int) -> float:
    key = hashlib.blake2b(str(text).encode(), digest_size=8).digest()
    return float(draws(np.frombuffer(key, np.uint64).copy(), seed)[0])


def _times(values: Any) -> np.ndarray:
    """Dates or numbers as floats that order the rows; a gap comes first."""
    values = cast.plain(values)
    is_text = cast.is_text(values.type)
    style = cast.datetime_style(cast.texts(values.drop_null())) if is_text else None
    times, bad = cast.seconds(values, style or cast.ISO)
    if len(bad) == len(values) or (style is None and is_text):
        times, _ = cast.floats(values)
    return np.where(np.isnan(times), -np.inf, times)


MAX_REFERENCE_ROWS = 4_096  # that every new row is compared with
MAX_REFERENCE_FEATURES = 1 << 22  # 16 MB; of wide tables fewer rows are stored
TRAINED, FRESH = -1, -2  # folds of rows that every net was trained on, or none


@dataclass(frozen=True)
class ReferenceSet:
    """A bounded sample of encoded rows, each with its fold, and what its scores are divided by.

    A row of fold k was not shown to net k; with one fold, it was shown to no net, and other rows
    are not compared with it. TRAINED rows never calibrate; FRESH ones, that came after training,
    do. `groups` name the part of a fleet that a row is of, if the schema has a group. `position`
    is the place of a row in the order of training, machine by machine, where rows share values.
    """

    batch: Batch
    fold: np.ndarray
    folds: int
    factor: np.ndarray
    groups: list[str] | None = None
    position: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def judged(self) -> np.ndarray:
        """The indices of the rows that calibrate."""
        return np.flatnonzero(self.fold != TRAINED)

    @property
    def reference_rows(self) -> np.ndarray:
        """The indices of the rows that others are compared with."""
        return np.arange(len(self)) if self.folds > 1 else np.flatnonzero(self.fold < 0)

    @property
    def own(self) -> np.ndarray:
        """For each row that calibrates its index among the reference rows, -1 if none."""
        index = np.full(len(self), -1)
        index[self.reference_rows] = np.arange(len(self.reference_rows))
        return index[self.judged]

    def spread(self, most: int) -> Int64[np.ndarray, " some"]:
        """The positions of up to `most` of the rows that calibrate, evenly spread."""
        count = len(self.judged)
        return np.linspace(0, count - 1, min(count, most)).astype(np.int64)

    def take(self, indices: np.ndarray) -> "ReferenceSet":
        """The rows at these indices."""
        groups = None if self.groups is None else [self.groups[i] for i in indices]
        batch = self.batch.take(torch.from_numpy(indices))
        position = None if self.position is None else self.position[indices]
        return ReferenceSet(
            batch, self.fold[indices], self.folds, self.factor[indices], groups, position
        )

    def with_rows(self, batch: Batch, factor: np.ndarray, met: int) -> "ReferenceSet":
        """With some of these rows, after `met` others: each of all is equally likely to be in it.

        Source: reservoir sampling by blocks (Vitter 1985, section 2).
        """
        known = torch.nonzero(batch.observed.any(1))[:, 0]  # an empty row is near to nothing
        batch, factor = batch.take(known), factor[known.numpy()]
        rng = np.random.default_rng([met, len(batch)])
        most, present = most_reference_rows(batch.observed.shape[1]), self.reference_rows
        fair = int(most * len(batch) / (met + len(batch)) + rng.random())  # a lone row's turn too
        count = min(len(batch), max(most - len(present), fair))
        dropped = rng.permutation(present)[: max(len(present) + count - most, 0)]
        remaining = self.take(np.setdiff1d(np.arange(len(self)), dropped))
        chosen = np.sort(rng.permutation(len(batch))[:count])
        position = remaining.position
        if position is not None:
            newest = position.max(initial=-1) + 1 + known.numpy()[chosen]
            position = np.concatenate([position, newest])
        return ReferenceSet(
            Batch.join([remaining.batch, batch.take(torch.from_numpy(chosen))]),
            np.concatenate([remaining.fold, np.full(count, FRESH)]),
            self.folds,
            np.concatenate([remaining.factor, factor[chosen].astype(np.float32)]),
            position=position,
        )


def most_reference_rows(features: int) -> int:
    """The largest number of reference rows with so many features."""
    return int(np.clip(MAX_REFERENCE_FEATURES // max(features, 1), 100, MAX_REFERENCE_ROWS))
