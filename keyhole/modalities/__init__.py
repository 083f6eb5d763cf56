"""What one row is: learnt in one pass over blocks, then frozen."""

from keyhole.modalities.base import Modality
from keyhole.modalities.image.image import Pictured
from keyhole.modalities.learn import learn_rows
from keyhole.modalities.schema import Hints, PictureHints
from keyhole.modalities.tabular.table import Tabular

__all__ = ["Hints", "Modality", "PictureHints", "Pictured", "Tabular", "learn_rows"]
