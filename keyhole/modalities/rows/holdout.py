"""Rows kept from the one pass over a source: those held out of training, and some to remember.

Bounded, whatever the table.
"""

from dataclasses import dataclass

import numpy as np
import torch

from keyhole.core.environment import draws
from keyhole.core.records import Batch
from keyhole.data import cast
from keyhole.data.source import ArrowRows, Rows, Source
from keyhole.modalities.base import Modality
from keyhole.modalities.rows.feed import stacked
from keyhole.modalities.rows.reference import TRAINED, ReferenceSet, most_reference_rows
from keyhole.modalities.rows.robust_weights import RobustWeights
from keyhole.modalities.rows.split import CALIBRATE, STOP, TRAIN, Split

BLOCK_ROWS = 65_536
MOST_STOP_ROWS = 4_096  # an evaluation on more tells no more
SPARE = 1.3  # times as many rows are drawn as are remembered, so that there are enough


@dataclass(frozen=True)
class HeldOutRows:
    """Rows, and for each its part: a fold, or TRAIN, STOP or CALIBRATE.

    `places` is each row's place in the source; `recalled` are the rows, none of them to
    calibrate, that are remembered where there are no folds.
    """

    rows: Rows
    part: np.ndarray
    places: np.ndarray
    recalled: np.ndarray
    split: Split

    @classmethod
    def gather(cls, source: Source, split: Split, features: int) -> "HeldOutRows":
        """All rows where there are folds; else the held-out ones, and some of training."""
        import pyarrow as pa

        most = most_reference_rows(features)
        rate = min(SPARE * most / max(split.rows, 1), 1.0)
        blocks, parts, places, keys, start = [], [], [], [], 0
        for block in source.blocks(BLOCK_ROWS):
            part = split.assign(block, start)
            key = draws(np.arange(start, start + len(part), dtype=np.uint64), split.seed + 1)
            chosen = (part != TRAIN) | (key < rate) | bool(split.folds)
            kept = np.flatnonzero(chosen)
            blocks.append(block.take(kept).arrow())
            parts.append(part[kept])
            places.append(kept + start)
            keys.append(key[kept])
            start += len(block)
        rows = ArrowRows(pa.concat_tables(blocks, promote_options="permissive"))
        part, key = np.concatenate(parts), np.concatenate(keys)
        open_rows = np.flatnonzero(part != CALIBRATE)
        recalled = np.sort(open_rows[np.argsort(key[open_rows], kind="stable")[:most]])
        return cls(rows, part, np.concatenate(places), recalled, split)

    def stopping(self, modality: Modality | RobustWeights) -> Batch:
        """Rows that tell when to stop, with a member axis: for each member some it never saw."""
        if not self.split.folds:
            found = np.flatnonzero(self.part == STOP)[:MOST_STOP_ROWS]
            if not len(found):  # a handful of latest rows: all of them calibrate, and stop too
                found = self._judged()[:MOST_STOP_ROWS]
            return stacked([modality.encode(self.rows.take(found))])
        folds = [np.flatnonzero(self.part == fold) for fold in range(self.split.folds)]
        least = max(min(len(fold) for fold in folds), 1)
        encoded = modality.encode(self.rows)
        picked = [fold[:least] if len(fold) else np.zeros(least, np.int64) for fold in folds]
        return stacked([encoded.take(torch.from_numpy(fold)) for fold in picked])

    def fresh(self) -> tuple[Rows, np.ndarray]:
        """Rows that were not trained on, and the member that has not seen each.

        Rows that told when to stop are among them: nothing was fitted to them.
        """
        if self.split.folds:
            return self.rows, self.part
        chosen = np.flatnonzero(self.part != TRAIN)
        chosen = chosen if len(chosen) else np.arange(len(self.part))
        return self.rows.take(chosen), np.zeros(len(chosen), np.int64)

    def calibration(self) -> tuple[Rows, np.ndarray]:
        """Rows for calibration, and the member that has not seen each."""
        if self.split.folds:
            return self.rows, self.part
        chosen = self._judged()
        return self.rows.take(chosen), np.zeros(len(chosen), np.int64)

    def reference(self, modality: Modality | RobustWeights, group: str | None) -> ReferenceSet:
        """The rows to be near to, and those that calibrate, as cells."""
        chosen, fold = np.arange(len(self.part)), self.part
        if not self.split.folds:
            judged = self._judged()[: 4 * most_reference_rows(len(modality.layout))]
            fold = np.where(np.isin(chosen, judged), 0, TRAINED)
            chosen = np.union1d(judged, self.recalled)
        rows = self.rows.take(chosen)
        names = None if group is None else cast.texts(rows.column(group)).to_pylist()
        groups = None if names is None else [name or "" for name in names]
        folds, factor = max(self.split.folds, 1), np.ones(len(chosen), np.float32)
        return ReferenceSet(modality.encode(rows), fold[chosen], folds, factor, groups)

    def _judged(self) -> np.ndarray:
        """The places of rows that calibrate; where too few are held out, those that stop too."""
        for judged in (self.part == CALIBRATE, self.part != TRAIN):
            if judged.any():
                return np.flatnonzero(judged)
        return np.arange(len(self.part))
