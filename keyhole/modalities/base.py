"""The interface of a modality: rows to batches and back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from keyhole.core import coordinates
from keyhole.core.layout import Layout
from keyhole.core.parts import Described, build
from keyhole.core.records import Batch
from keyhole.data.source import Rows, Source
from keyhole.errors import BundleError, DataError, SettingError
from keyhole.modalities.expected import Expected, Prediction
from keyhole.modalities.schema import Schema
from keyhole.modalities.tabular.lawful import Lawful
from keyhole.modalities.tabular.source_profile import SourceProfile
from keyhole.model.nets import Net

if TYPE_CHECKING:
    import pyarrow as pa


UNSUPPORTED = {  # by a modality that says nothing of its own
    "given": "rows of this kind are drawn as a whole",
    "cards": "a card names columns of a table, and these rows are none",
    "anomaly_map": "an anomaly map is of images; answer() names the columns of a table",
    "png": "rows that are no images need a .csv, .parquet or .jsonl file",
}
LEAST_REACH = 0.05  # of a feature's spread


class Named(Protocol):
    """A column of a source, or what stands for one: a patch of an image."""

    name: str
    kind: Any


class Maps(Protocol):
    """What anomaly maps of rows are made of: places, such as the pixels of an image."""

    @property
    def places(self) -> int:
        """How many places a map has."""
        ...

    @property
    def masks(self) -> list[Tensor]:
        """The features that are masked together, (feature,) each."""
        ...

    def nats(
        self, deviance: Float[Tensor, "member row feature"], batch: Batch
    ) -> Float[Tensor, "member row place"]:
        """Nats of each place from those of features, each summed over all masks; NaN for a gap."""
        ...

    def shaped(self, ratios: Float[np.ndarray, "row place"]) -> np.ndarray:
        """The maps (row, height, width) as a person looks at them."""
        ...


class Modality(Described):
    """What one row is, as JSON by `recipe` and back by `restored`.

    `columns` are those of the source, `reasons` says why each is what it is, and `gaps` what share
    of each was missing; `celled` are those that have cells, in the order of `layout.columns`.
    """

    family = "modality"
    noun: ClassVar[str] = "rows of another kind"  # "X holds ..., and this model was fitted on ..."

    columns: Sequence[Any]
    reasons: dict[str, str]
    gaps: dict[str, float]

    @classmethod
    def takes(cls, source: Source) -> bool:
        """True for a source whose rows are of this kind; only a look at names and types."""
        return False

    @classmethod
    def prepare(cls, source: Source, schema: Schema | None) -> Source:
        """The source as a fit reads it. Raises: DataError, SettingError."""
        return source

    def match(self, source: Source, schema: Schema | None) -> Source:
        """A source of this kind as this model reads it. Raises: DataError."""
        return source

    @classmethod
    def default_parts(cls) -> dict[str, Any]:
        """Parts by family for such rows, where neither user nor bottleneck asks for others."""
        return {}

    @classmethod
    def check_net(cls, net: Net) -> None:
        """Raises: SettingError for a net that is not for such rows."""
        if net.images:
            raise SettingError(
                f"{net!r} is for images, and these rows are those of a table: give an array "
                "(n, height, width) or a folder of image files, or take MLP"
            )

    @classmethod
    def learn(
        cls, source: Source, schema: Schema, *, alike: bool = False, binned: bool = False
    ) -> tuple[Self, SourceProfile]:
        """The modality, and the profile that it was learned from: by default, a sample of rows.

        `alike`: numbers that look like one measure share a scale; `binned`: the head wants bins.
        Raises: DataError for a source without rows.
        """
        source_profile = SourceProfile(source, source.names, profiled=False)
        if source_profile.rows == 0:
            raise DataError(f"{source.name} holds 0 sample(s): a minimum of 1 is required")
        return cls.of_sample(source_profile.sample), source_profile

    @classmethod
    def of_sample(cls, sample: pa.Table) -> Self:
        """The modality of these rows."""
        return cls()

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """The cells of a row."""

    @property
    @abstractmethod
    def encoded_columns(self) -> Sequence[Any]:
        """The columns that have cells."""

    @property
    def id_column(self) -> str | None:
        """The column that names rows of itself, if one does."""
        return None

    @abstractmethod
    def needs(self) -> list[str]:
        """The columns of a source that scoring reads."""

    @abstractmethod
    def encode(self, rows: Rows, start: int = 0) -> Batch:
        """The rows as cells; `start` is the place of the first row in its source, for messages."""

    @abstractmethod
    def decode(self, batch: Batch) -> pa.Table:
        """Cells of expected rows as an Arrow table in the original units and types."""

    @abstractmethod
    def guess(self, batch: Batch) -> pa.Table:
        """Cells that were hidden and guessed, as the values that would fill the gaps best."""

    @abstractmethod
    def drawn(self, batch: Batch) -> pa.Table:
        """Cells that were drawn from a likelihood, as rows of legal values."""

    def decode_observed(self, batch: Batch) -> pa.Table:
        """Encoded rows as they were met; unseen cells missing."""
        return self.drawn(batch)

    def supports(self, task: str) -> str | None:
        """None where `task` can be asked of such rows, else one sentence that says why not.

        Tasks are "given" (rows drawn with given values), "cards" (of code dimensions), "judge" (of
        drawn rows), "anomaly_map", "png" (files of drawn rows), and "single_values" (is one value
        far beyond all that its column held?).
        """
        return UNSUPPORTED.get(task)

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

    @abstractmethod
    def encode_given(self, given: Mapping[str, Any]) -> Batch:
        """One row of which only these columns' cells are seen.

        Raises: DataError, SettingError.
        """

    @abstractmethod
    def texts(self, rows: Rows, column: str) -> list[str]:
        """What stands in a column that has cells, as a person would write it."""

    def usual(self, column: str, low: float, high: float) -> str:
        """The range between two values of a column's first number feature, in words, or ""."""
        return ""

    @abstractmethod
    def expected(self, column: str, features: np.ndarray, predicted: Prediction) -> Expected:
        """What was expected in place of a column's values, (row, cell), in words."""

    @property
    def maps(self) -> Maps | None:
        """What anomaly maps are made of; None where rows have no map."""
        return None

    def mask_groups(self, most: int = 8) -> list[np.ndarray]:
        """The features that are masked together, at most so many groups of every column once.

        Each value is predicted while its group is masked: by default every eighth column.
        """
        count, column = min(most, len(self.layout.columns)), self.layout.column_of_feature
        return [np.flatnonzero(column % count == group) for group in range(count)]

    def even(self, batch: Batch) -> Batch:
        """The rows of a pass, padded so that no row's figures depend on how many others come.

        A modality whose rows are large may return them as they are.
        """
        return batch.even()

    def coordinates(self, batch: Batch) -> Float[Tensor, "row axis"]:
        """Where distances between rows are measured: the point of each; NaN on axes of a gap."""
        return coordinates.coordinates(batch, self.layout)

    def scale_deviance(
        self, deviance: Float[Tensor, "*lead row feature"], batch: Batch
    ) -> Float[Tensor, "*lead row feature"]:
        """Nats beyond a perfect prediction as they count in a score; as they are by default."""
        return deviance

    def reach(
        self, half_width: Float[np.ndarray, "row feature"]
    ) -> Float[np.ndarray, "row feature"]:
        """The units of residuals: half of a likelihood's interval, at least some of a spread."""
        return np.maximum(half_width, LEAST_REACH * np.array([s.scale for s in self.layout.slots]))

    def pool_residuals(
        self, residuals: Float[np.ndarray, "row feature"]
    ) -> Float[np.ndarray, "row feature"]:
        """Residuals as intervals are made of them, NaN for a gap; as they are by default."""
        return residuals

    def features(self, batch: Batch) -> np.ndarray:
        """All cells of a batch without lead axes as one matrix: in float64 codes stay exact."""
        pair = [batch.numbers.double(), batch.codes.double()]
        return torch.cat(pair, -1).cpu().numpy()

    @abstractmethod
    def features_of(self, column: str) -> list[int]:
        """The positions of a column's cells."""

    @classmethod
    def restored(cls, recipe: Any) -> Self:
        """The modality that a recipe describes.

        Raises: BundleError where the recipe is not one of ours.
        """
        modality = build("modality", recipe)
        if not isinstance(modality, cls):
            raise BundleError(f"expected a {cls.__name__} modality, got {recipe.get('kind')!r}")
        return modality
