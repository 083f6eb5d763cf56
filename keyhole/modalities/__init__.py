"""What one row is: learned in one pass over blocks, then frozen."""

from keyhole.modalities.base import Field, Maps, Modality
from keyhole.modalities.image.image import ImageModality
from keyhole.modalities.image.schema import ImageSchema
from keyhole.modalities.learn import learn_modality, modality_of, prepare
from keyhole.modalities.schema import Schema
from keyhole.modalities.tabular.table import Tabular
from keyhole.modalities.tiles.tiles import Tiles

__all__ = [
    "Field",
    "ImageModality",
    "ImageSchema",
    "Maps",
    "Modality",
    "Schema",
    "Tabular",
    "Tiles",
    "learn_modality",
    "modality_of",
    "prepare",
]
