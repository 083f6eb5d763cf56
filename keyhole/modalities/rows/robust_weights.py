"""How far each training row is trusted: less, the farther it lies from the rows that agree most.

A net that trains on contaminated rows without care learns the anomalies too. Weights that fall
with the square of the distance bound what any one row can teach (Cauchy-like weights; Hampel et
al. 1986, section 2.6), and cost a clean table next to nothing.
"""

from dataclasses import dataclass, replace

import numpy as np

from keyhole.core.layout import Layout
from keyhole.core.records import Batch
from keyhole.core.robust import Robust, trimmed
from keyhole.data.source import Rows
from keyhole.modalities.base import Modality
from keyhole.modalities.rows.reference import most_reference_rows

FULL = 0.75  # share of rows that count in full, where the share of bad ones is not known


@dataclass(frozen=True)
class RobustWeights:
    """A modality whose batches carry how far each row is trusted, times its own weight."""

    modality: Modality
    robust: Robust
    reach: float  # distance up to which a row counts in full

    @classmethod
    def learn(cls, modality: Modality, rows: Rows, core: float) -> "RobustWeights":
        """Trust by a sample of rows of which a share of `core` is good."""
        most = most_reference_rows(len(modality.layout))
        some = np.random.default_rng(0).permutation(len(rows))[:most]
        x = modality.coordinates(modality.encode(rows.take(np.sort(some))))
        robust = trimmed(x, core)
        return cls(modality, robust, float(robust.distance(x.double()).quantile(max(FULL, core))))

    @property
    def layout(self) -> Layout:
        """The modality's own."""
        return self.modality.layout

    def encode(self, rows: Rows, start: int = 0) -> Batch:
        """The rows as cells, each with its weight."""
        batch = self.modality.encode(rows, start)
        far = self.robust.distance(self.modality.coordinates(batch)).clamp(min=1e-12)
        trust = (self.reach / far).square().clamp(max=1.0).float()
        return replace(batch, weight=trust if batch.weight is None else trust * batch.weight)
