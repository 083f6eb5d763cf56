"""The interface of a modality: rows to batches and back."""

from abc import abstractmethod
from typing import Any, Self

from keyhole.core.layout import Layout
from keyhole.core.part import Described, build
from keyhole.core.records import Batch
from keyhole.errors import BundleError
from keyhole.sources.base import Rows


class Modality(Described):
    """What one row is, as JSON by `recipe` and back by `restored`."""

    family = "modality"

    layout: Layout

    @abstractmethod
    def encode(self, rows: Rows, start: int = 0) -> Batch:
        """The rows as cells; `start` is the place of the first row in its source, for messages."""

    @abstractmethod
    def decode(self, batch: Batch) -> Any:
        """Cells of expected rows as an Arrow table in the original units and types."""

    @classmethod
    def restored(cls, recipe: Any) -> Self:
        """The modality that a recipe describes.

        Raises: BundleError where the recipe is not one of ours.
        """
        modality = build("modality", recipe)
        if not isinstance(modality, cls):
            raise BundleError(f"expected a {cls.__name__} modality, got {recipe.get('kind')!r}")
        return modality
