"""Which modality a source is of: its rows are pictures, or those of a table."""

from typing import Any

from keyhole.modalities.base import Modality
from keyhole.modalities.hints import Hints
from keyhole.modalities.pictures import Pictured
from keyhole.modalities.survey import Survey
from keyhole.modalities.tabular import Tabular
from keyhole.sources.base import Source
from keyhole.sources.form import holds_pictures


def learn_rows(source: Source, hints: Hints, parts: dict[str, Any]) -> tuple[Modality, Survey]:
    """What a row is, and the survey it was learnt from; `parts` say what cells have to offer.

    Raises: DataError, SettingError.
    """
    if holds_pictures(source):
        return Pictured.learn(source, hints)
    alike, binned = parts["bottleneck"].noisy, parts["head"].binned
    return Tabular.learn(source, hints, alike=alike, binned=binned)
