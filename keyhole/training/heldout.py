"""The rows that no net trained on, gathered in one pass; bounded, whatever the table."""

from dataclasses import dataclass

import numpy as np
import torch

from keyhole.core.records import Batch
from keyhole.modalities.base import Modality
from keyhole.sources.base import ArrowRows, Rows, Source
from keyhole.training.feed import stacked
from keyhole.training.split import CALIBRATE, STOP, TRAIN, Split

BLOCK_ROWS = 65_536
MOST_STOP_ROWS = 4_096  # an evaluation on more tells no more


@dataclass(frozen=True)
class HeldOut:
    """Held-out rows, and for each its part: a fold, or STOP or CALIBRATE.

    `places` is each row's place in the source.
    """

    rows: Rows
    part: np.ndarray
    places: np.ndarray
    split: Split

    @classmethod
    def gather(cls, source: Source, split: Split) -> "HeldOut":
        """All rows where there are folds, the held-out ones otherwise."""
        import pyarrow as pa

        blocks, parts, places, start = [], [], [], 0
        for block in source.blocks(BLOCK_ROWS):
            part = split.assign(block, start)
            kept = np.arange(len(part)) if split.folds else np.flatnonzero(part != TRAIN)
            blocks.append(block.take(kept).arrow())
            parts.append(part[kept])
            places.append(kept + start)
            start += len(block)
        table = pa.concat_tables(blocks, promote_options="permissive")
        return cls(ArrowRows(table), np.concatenate(parts), np.concatenate(places), split)

    def stopping(self, modality: Modality) -> Batch:
        """Rows that tell when to stop, with a member axis: for each member some it never saw."""
        if not self.split.folds:
            found = np.flatnonzero(self.part == STOP)[:MOST_STOP_ROWS]
            if not len(found):  # a handful of latest rows: all of them calibrate, and stop too
                found = np.arange(min(len(self.part), MOST_STOP_ROWS))
            return stacked([modality.encode(self.rows.take(found))])
        folds = [np.flatnonzero(self.part == fold) for fold in range(self.split.folds)]
        least = max(min(len(fold) for fold in folds), 1)
        encoded = modality.encode(self.rows)
        picked = [fold[:least] if len(fold) else np.zeros(least, np.int64) for fold in folds]
        return stacked([encoded.take(torch.from_numpy(fold)) for fold in picked])

    def calibration(self) -> tuple[Rows, np.ndarray]:
        """Rows for calibration, and the member that has not seen each."""
        if self.split.folds:
            return self.rows, self.part
        chosen = np.flatnonzero(self.part == CALIBRATE)
        return self.rows.take(chosen), np.zeros(len(chosen), np.int64)
