"""The interface of a modality: rows to batches and back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
import torch

from keyhole.core.layout import Layout
from keyhole.core.parts import Described, build
from keyhole.core.records import Batch
from keyhole.data.source import Rows
from keyhole.errors import BundleError, SettingError
from keyhole.modalities.expected import Expected, Prediction
from keyhole.modalities.prepared import Parts, Prepared
from keyhole.modalities.tabular.lawful import Lawful
from keyhole.model.network import Network

if TYPE_CHECKING:
    import pyarrow as pa


class Named(Protocol):
    """A column of a source, or what stands for one: a patch of an image."""

    name: str
    kind: Any


class Modality(Described):
    """What one row is, as JSON by `recipe` and back by `restored`.

    `columns` are those of the source, `reasons` says why each is what it is, and `gaps` what share
    of each was missing; `celled` are those that have cells, in the order of `layout.columns`.
    """

    family = "modality"

    has_rows: ClassVar[bool] = True  # False: samples are not rows that answers go back to

    columns: Sequence[Any]
    reasons: dict[str, str]
    gaps: dict[str, float]

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """The cells of a row."""

    @abstractmethod
    def prepare(self, source: Any, profile: Any, parts: Parts, seed: int) -> Prepared:
        """The source made ready for training; `profile` is what `learn` returned with self."""

    def supports(self, task: str) -> str | None:
        """None, or one sentence that says why a model of this modality cannot do a task."""
        return None

    def try_out(self, network: Network) -> None:
        """Send data through a loaded network, if samples are not rows. Raises: BundleError."""

    @property
    def encoded_columns(self) -> Sequence[Any]:
        """The columns that have features."""
        return []

    @property
    def id_column(self) -> str | None:
        """The column that names rows of itself, if one does."""
        return None

    def needs(self) -> list[str]:
        """The columns of a source that scoring reads."""
        return []

    def encode(self, rows: Rows, start: int = 0) -> Batch:
        """The rows as cells; `start` is the place of the first row in its source, for messages."""
        raise self._unsupported("encode")

    def decode(self, batch: Batch) -> pa.Table:
        """Cells of expected rows as an Arrow table in the original units and types."""
        raise self._unsupported("decode")

    def guess(self, batch: Batch) -> pa.Table:
        """Cells that were hidden and guessed, as the values that would fill the gaps best."""
        raise self._unsupported("guess")

    def drawn(self, batch: Batch) -> pa.Table:
        """Cells that were drawn from a likelihood, as rows of legal values."""
        raise self._unsupported("drawn")

    def decode_observed(self, batch: Batch) -> pa.Table:
        """Encoded rows as they were met; unseen cells missing."""
        return self.drawn(batch)

    @property
    def lawful(self) -> Lawful | None:
        """What keeps the rules between columns; None where there are none."""
        return None

    def without_rules(self) -> Self:
        """The same modality, free of rules between columns."""
        return self

    def calibrated(self, expected: dict[str, np.ndarray], observed: dict[str, np.ndarray]) -> Self:
        """The same modality, means calibrated by expected and observed masked values."""
        return self

    def allowed(self, batch: Batch) -> torch.Tensor:
        """(row, cell): False where a drawn value is none that may be drawn."""
        return torch.ones_like(batch.observed)

    def written(self, table: pa.Table) -> pa.Table:
        """Decoded rows in the way that training wrote them; the rows as they are by default."""
        return table

    def encode_given(self, given: Mapping[str, Any]) -> Batch:
        """One row of which only these columns' cells are seen.

        Raises: DataError, SettingError.
        """
        raise self._unsupported("encode_given")

    def texts(self, rows: Rows, column: str) -> list[str]:
        """What stands in a column that has cells, as a person would write it."""
        raise self._unsupported("texts")

    def expected(self, column: str, features: np.ndarray, predicted: Prediction) -> Expected:
        """What was expected in place of a column's values, (row, cell), in words."""
        raise self._unsupported("expected")

    def features(self, batch: Batch) -> np.ndarray:
        """All cells of a batch without lead axes as one matrix: in float64 codes stay exact."""
        pair = [batch.numbers.double(), batch.codes.double()]
        return torch.cat(pair, -1).cpu().numpy()

    def features_of(self, column: str) -> list[int]:
        """The positions of a column's cells."""
        raise self._unsupported("features_of")

    def _unsupported(self, method: str) -> SettingError:
        return SettingError(f"models of {self.kind} have no {method}()")

    @classmethod
    def restored(cls, recipe: Any) -> Self:
        """The modality that a recipe describes.

        Raises: BundleError where the recipe is not one of ours.
        """
        modality = build("modality", recipe)
        if not isinstance(modality, cls):
            raise BundleError(f"expected a {cls.__name__} modality, got {recipe.get('kind')!r}")
        return modality
