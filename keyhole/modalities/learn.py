"""Which modality a source is of: its rows are pictures, or those of a table."""

from typing import Any

from keyhole.data.image_rows import holds_pictures
from keyhole.data.source import Source
from keyhole.modalities.base import Modality
from keyhole.modalities.image.image import Pictured
from keyhole.modalities.schema import Hints
from keyhole.modalities.tabular.survey import Survey
from keyhole.modalities.tabular.table import Tabular


def learn_rows(source: Source, hints: Hints, parts: dict[str, Any]) -> tuple[Modality, Survey]:
    """What a row is, and the survey it was learnt from; `parts` say what cells have to offer.

    Raises: DataError, SettingError.
    """
    if holds_pictures(source):
        return Pictured.learn(source, hints)
    alike, binned = parts["bottleneck"].noisy, parts["head"].binned
    return Tabular.learn(source, hints, alike=alike, binned=binned)
