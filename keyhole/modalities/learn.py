"""Which modality takes a source, and what it learns from it."""

from typing import Any, cast

from keyhole.core.parts import kinds
from keyhole.data.source import Source
from keyhole.modalities.base import Modality
from keyhole.modalities.schema import Schema
from keyhole.modalities.tabular.source_profile import SourceProfile
from keyhole.modalities.tabular.table import Tabular


def modality_of(source: Source) -> type[Modality]:
    """The registered modality that takes these rows; `Tabular` takes what no other does."""
    registered = cast(list[type[Modality]], list(kinds("modality").values()))
    return next((kind for kind in registered if kind.takes(source)), Tabular)


def learn_rows(
    source: Source, schema: Schema, parts: dict[str, Any]
) -> tuple[Modality, SourceProfile]:
    """What a row is, and the survey it was learned from; `parts` say what cells have to offer.

    Raises: DataError, SettingError.
    """
    alike, binned = parts["bottleneck"].stochastic, parts["head"].binned
    return modality_of(source).learn(source, schema, alike=alike, binned=binned)
