"""What one row is: learned in one pass over blocks, then frozen."""

from typing import Any, cast

from keyhole.core.parts import kinds
from keyhole.modalities.base import Field, Maps, Modality
from keyhole.modalities.image.image import ImageModality, ImageSchema
from keyhole.modalities.interactions.interactions import InteractionModality, InteractionSchema
from keyhole.modalities.prepared import FitOptions, Parts, Prepared
from keyhole.modalities.rows.holdout import prepare_rows
from keyhole.modalities.schema import Schema
from keyhole.modalities.series.propose import SeriesSchema
from keyhole.modalities.series.series import SeriesModality
from keyhole.modalities.tabular.table import Tabular
from keyhole.modalities.tiles.tiles import Tiles

__all__ = [
    "Field",
    "ImageModality",
    "ImageSchema",
    "InteractionModality",
    "InteractionSchema",
    "Maps",
    "Modality",
    "Schema",
    "SeriesModality",
    "SeriesSchema",
    "Tabular",
    "Tiles",
    "learn_modality",
    "modality_of",
    "prepare",
]


def modality_of(source: Any, schema: Schema | None = None) -> type[Modality]:
    """The registered modality that a schema asks for, or that takes a source; else `Tabular`."""
    registered = cast(list[type[Modality]], list(kinds("modality").values()))
    asking = (kind for kind in registered if kind.asked_by(schema))
    return next(asking, next((kind for kind in registered if kind.takes(source)), Tabular))


def learn_modality(
    source: Any, parts: Parts, seed: int, options: FitOptions
) -> tuple[Modality, Any]:
    """What a sample is, and the profile of the source that it was learned from.

    A profile has the number of `rows` and a `sample` of them. Raises: DataError, SettingError.
    """
    return modality_of(source, parts.schema).learn_with(source, parts, seed, options.group)


def prepare(
    modality: Modality, source: Any, profile: Any, parts: Parts, seed: int, options: FitOptions
) -> Prepared:
    """The source made ready for training."""
    prepared = modality.prepare(source, profile, parts, seed)
    return prepared or prepare_rows(modality, source, profile, parts, seed, options)
