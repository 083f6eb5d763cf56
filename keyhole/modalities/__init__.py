"""What one row is: learnt in one pass over blocks, then frozen."""

from keyhole.modalities.base import Modality
from keyhole.modalities.tabular import Hints, Tabular

__all__ = ["Hints", "Modality", "Tabular"]
