"""Which modality a source is of: its rows are images, or those of a table."""

from typing import Any

from keyhole.data.image_rows import holds_images
from keyhole.data.source import Source
from keyhole.modalities.base import Modality
from keyhole.modalities.image.image import ImageModality
from keyhole.modalities.schema import Schema
from keyhole.modalities.tabular.profile import SourceProfile
from keyhole.modalities.tabular.table import Tabular


def learn_rows(
    source: Source, schema: Schema, parts: dict[str, Any]
) -> tuple[Modality, SourceProfile]:
    """What a row is, and the survey it was learned from; `parts` say what cells have to offer.

    Raises: DataError, SettingError.
    """
    if holds_images(source):
        return ImageModality.learn(source, schema)
    alike, binned = parts["bottleneck"].stochastic, parts["head"].binned
    return Tabular.learn(source, schema, alike=alike, binned=binned)
