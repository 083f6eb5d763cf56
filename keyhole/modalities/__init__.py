"""What one row is: learned in one pass over blocks, then frozen."""

from keyhole.modalities.base import Field, Maps, Modality
from keyhole.modalities.image.image import ImageModality
from keyhole.modalities.image.schema import ImageSchema
from keyhole.modalities.learn import learn_rows, modality_of
from keyhole.modalities.schema import Schema
from keyhole.modalities.tabular.table import Tabular

__all__ = [
    "Field",
    "ImageModality",
    "ImageSchema",
    "Maps",
    "Modality",
    "Schema",
    "Tabular",
    "learn_rows",
    "modality_of",
]
