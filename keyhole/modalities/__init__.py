"""What one row is: learned in one pass over blocks, then frozen."""

from keyhole.modalities.base import Modality
from keyhole.modalities.image.image import ImageModality
from keyhole.modalities.learn import learn_modality
from keyhole.modalities.schema import ImageSchema, Schema
from keyhole.modalities.tabular.table import Tabular
from keyhole.modalities.tiles.tiles import Tiles

__all__ = [
    "ImageModality",
    "ImageSchema",
    "Modality",
    "Schema",
    "Tabular",
    "Tiles",
    "learn_modality",
]
