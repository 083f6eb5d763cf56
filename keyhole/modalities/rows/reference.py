"""A bounded sample of the rows that a fit saw, as cells: what new rows are compared with.

It does not grow with the training set, and its rows are known by what trained on them: those
that no net has seen calibrate.
"""

from dataclasses import dataclass

import numpy as np
import torch

from keyhole.core.records import Batch

MOST_ROWS = 5_000  # to be near to
MOST_FEATURES = 1 << 22  # 16 MB; wide tables remember fewer rows


TRAINED, FRESH = -1, -2  # folds of rows that every net was trained on, or none


@dataclass(frozen=True)
class ReferenceSet:
    """Rows as cells, each with its fold, and what its segment's anomaly scores are divided by.

    A row of fold k was not shown to net k; with one fold, to no net, nor is it near to others.
    TRAINED rows never calibrate; FRESH ones, that came after training, do. `segments` name the
    part of a fleet that a row is of, where one was asked for.
    """

    batch: Batch
    fold: np.ndarray
    folds: int
    factor: np.ndarray
    groups: list[str] | None = None

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def judged(self) -> np.ndarray:
        """The places of the rows that calibrate."""
        return np.flatnonzero(self.fold != TRAINED)

    @property
    def reference_rows(self) -> np.ndarray:
        """The places of the rows that others may be near to."""
        return np.arange(len(self)) if self.folds > 1 else np.flatnonzero(self.fold < 0)

    @property
    def own(self) -> np.ndarray:
        """For each row that calibrates its place among the remembered ones, -1 if none."""
        place = np.full(len(self), -1)
        place[self.reference_rows] = np.arange(len(self.reference_rows))
        return place[self.judged]

    def take(self, places: np.ndarray) -> "ReferenceSet":
        """The rows at these places."""
        groups = None if self.groups is None else [self.groups[i] for i in places]
        batch = self.batch.take(torch.from_numpy(places))
        return ReferenceSet(batch, self.fold[places], self.folds, self.factor[places], groups)

    def with_rows(self, batch: Batch, factor: np.ndarray, met: int) -> "ReferenceSet":
        """With some of these rows, after `met` others: of all, each is as likely to be held.

        Source: reservoir sampling by blocks (Vitter 1985, section 2).
        """
        some = torch.nonzero(batch.observed.any(1))[:, 0]  # an empty row is near to nothing
        batch, factor = batch.take(some), factor[some.numpy()]
        rng = np.random.default_rng([met, len(batch)])
        most, held = most_reference_rows(batch.observed.shape[1]), self.reference_rows
        fair = int(most * len(batch) / (met + len(batch)) + rng.random())  # a lone row's turn too
        taken = min(len(batch), max(most - len(held), fair))
        gone = rng.permutation(held)[: max(len(held) + taken - most, 0)]
        kept = self.take(np.setdiff1d(np.arange(len(self)), gone))
        chosen = np.sort(rng.permutation(len(batch))[:taken])
        return ReferenceSet(
            Batch.join([kept.batch, batch.take(torch.from_numpy(chosen))]),
            np.concatenate([kept.fold, np.full(taken, FRESH)]),
            self.folds,
            np.concatenate([kept.factor, factor[chosen].astype(np.float32)]),
        )


def most_reference_rows(features: int) -> int:
    """How many rows of so many cells are remembered."""
    return int(np.clip(MOST_FEATURES // max(features, 1), 100, MOST_ROWS))
