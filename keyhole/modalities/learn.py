"""Which modality a source is of."""

from typing import Any

from keyhole.data.image_rows import holds_images
from keyhole.modalities.base import Modality
from keyhole.modalities.image.image import ImageModality
from keyhole.modalities.prepared import Parts
from keyhole.modalities.tabular.table import Tabular
from keyhole.modalities.tiles.source import NoisyImages
from keyhole.modalities.tiles.tiles import Tiles


def learn_modality(source: Any, parts: Parts, seed: int) -> tuple[Modality, Any]:
    """What a sample is, and the profile of the source that it was learned from.

    A profile has the number of `rows` and a `sample` of them. Raises: DataError, SettingError.
    """
    if isinstance(source, NoisyImages):
        return Tiles.learn(source, parts.schema, parts, seed)
    if holds_images(source):
        return ImageModality.learn(source, parts.schema)
    alike, binned = parts.bottleneck.stochastic, parts.head.binned
    return Tabular.learn(source, parts.schema, alike=alike, binned=binned)
