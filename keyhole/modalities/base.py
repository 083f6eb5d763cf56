"""The interface of a modality: rows to batches and back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from keyhole.core import layout as core_layout
from keyhole.core.layout import Layout
from keyhole.core.parts import Described, build
from keyhole.core.records import Batch
from keyhole.data import cast
from keyhole.data.lazy import pa, pc
from keyhole.data.source import ArrowRows, Rows, Source
from keyhole.errors import BundleError, DataError, SettingError
from keyhole.modalities.expected import Expected, Prediction, number_texts
from keyhole.modalities.places import Deviance, Maps
from keyhole.modalities.prepared import Parts, Prepared
from keyhole.modalities.profile import SourceProfile
from keyhole.modalities.schema import Schema
from keyhole.model.nets import Net
from keyhole.model.network import Network

# Rows drawn with "given" values, "cards" of code dimensions, "judge" drawn rows, "png" files of
# them; "single_values": is one value far beyond all that its column held? "events" in time.
Ability = Literal[
    "embed", "given", "cards", "judge", "anomaly_map", "png", "single_values", "events"
]
NO_EVENTS = "events and streams need a sensor series: fit with Schema(time=...)"
MIN_REACH = 0.05  # of a feature's spread
PerFeature = Float[np.ndarray, "row feature"]


@dataclass(frozen=True)
class Field:
    """A column of a source without settings of its own."""

    name: str
    kind: str


class Modality(Described):
    """What one row is: everything that differs by kind of data; JSON by `recipe`, then `restored`.

    `columns` are those of the source, `reasons` says why each is what it is, and `gaps` what share
    of each was missing. A new kind needs these, `takes`, `layout`, `encode` and `decode`.
    """

    family = "modality"
    unit: ClassVar[str] = "rows"  # what the terminal counts: rows, or windows
    noun: ClassVar[str] = "rows of another kind"  # "X holds ..., and this model was fitted on ..."
    unsupported: ClassVar[Mapping[Ability, str]] = {  # why not, in one sentence
        "given": "rows of this kind are generated as a whole",
        "cards": "a card names columns of a table, but these rows are not a table",
        "anomaly_map": "anomaly maps are for images; answer() names the columns of a table",
        "png": "rows that are not images need a .csv, .parquet or .jsonl file",
        "events": NO_EVENTS,
    }

    overlap: int = 0  # rows after a row that share values with it, and are not held out alone
    machine_column: str | None = None  # that tells series of one source apart
    has_rows: ClassVar[bool] = True  # False: samples are not rows that answers go back to

    columns: Sequence[Any]
    reasons: dict[str, str]
    gaps: dict[str, float]

    @classmethod
    def takes(cls, source: Source) -> bool:
        """True for a source whose rows are of this kind; only a look at names and types."""
        return False

    @classmethod
    def asked_by(cls, schema: Schema | None) -> bool:
        """True where the schema says that the rows of any source are of this kind."""
        return False

    @classmethod
    def for_fit(cls, source: Source, schema: Schema | None) -> Source:
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
                f"{net!r} is for images, but these rows are a table: give an array (n, "
                "height, width) or a folder of image files, or use MLP"
            )
        if net.items:
            raise SettingError(f"{net!r} is for lists of items, but these are rows: use MLP")
        if net.series:
            raise SettingError(
                f"{net!r} is for series, but these rows are not windows of a series: give "
                "Schema(time=...), or use MLP"
            )

    def supports(self, task: Ability) -> str | None:
        """None where `task` can be asked of such rows, else one sentence that says why not."""
        return self.unsupported.get(task)

    @classmethod
    def learn(
        cls, source: Source, schema: Schema, *,
        alike: bool = False, binned: bool = False, group: str | None = None,
    ) -> tuple[Self, SourceProfile]:  # fmt: skip
        """The modality, and the profile that it was learned from: by default, a sample of rows.

        `alike`: numbers that look like one measure share a scale; `binned`: the head wants bins;
        `group`: a column that names groups of rows, and is not learned from.
        Raises: DataError for a source without rows.
        """
        source_profile = SourceProfile(source, source.names, profiled=False)
        if source_profile.rows == 0:
            raise DataError(f"{source.name} holds 0 sample(s): a minimum of 1 is required")
        return cls.of_sample(source_profile.sample), source_profile

    @classmethod
    def learn_with(
        cls, source: Any, parts: Parts, seed: int, group: str | None
    ) -> tuple[Self, Any]:
        """The modality, and the profile of the source, as these parts need them."""
        alike, binned = parts.bottleneck.stochastic, parts.head.binned
        return cls.learn(source, parts.schema, alike=alike, binned=binned, group=group)

    def prepare(self, source: Any, profile: Any, parts: Parts, seed: int) -> Prepared | None:
        """The source made ready for training; None: as rows, split by their position."""
        return None

    @classmethod
    def of_sample(cls, sample: pa.Table) -> Self:
        """The modality of these rows."""
        return cls()

    def try_out(self, network: Network) -> None:
        """Send data through a loaded network, if samples are not rows. Raises: BundleError."""

    @classmethod
    def restored(cls, recipe: Any) -> Self:
        """The modality that a recipe describes. Raises: BundleError for an invalid one."""
        modality = build("modality", recipe)
        if not isinstance(modality, cls):
            raise BundleError(f"expected a {cls.__name__} modality, got {recipe.get('kind')!r}")
        return modality

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """The features of a row."""

    @property
    def encoded_columns(self) -> Sequence[Any]:
        """The columns that have features, in the order of the source."""
        return [column for column in self.columns if column.name in self.layout.columns]

    @property
    def id_column(self) -> str | None:
        """The column that names rows of itself, if one does."""
        return None

    def needs(self) -> list[str]:
        """The columns of a source that scoring reads."""
        return [column.name for column in self.encoded_columns]

    def trains_on(self) -> list[str]:
        """The columns of a source that training reads."""
        return self.needs()

    moments: Any = None  # reads the rows of a series by time and machine, see series/moments.py
    titles: Sequence[str] = ()  # that several columns with features share, such as channels
    newest: Mapping[str, str] = {}  # of each title the column that tells how it stands now
    view_titles: Mapping[str, Sequence[Sequence[int]]] = {}  # of each axis of a view its titles

    def title(self, column: str) -> str:
        """The name of a column with features, as a person knows it."""
        return column

    def samples_of(self, rows: Rows) -> Int64[np.ndarray, " row"] | None:
        """For each row the line of the batch that answers it, -1 for none; None: its own."""
        return None

    def labels(self, rows: Rows) -> dict[str, pa.Array]:
        """Columns that name the lines of the batch that these rows make."""
        name = self.id_column
        return {} if name is None or name not in rows.names else {name: rows.column(name)}

    def in_rows(self, decoded: pa.Table, rows: Rows) -> pa.Table:
        """Decoded lines of a batch as the rows that they answer."""
        return decoded

    @abstractmethod
    def encode(self, rows: Rows, start: int = 0) -> Batch:
        """The rows as features; `start` is the first row's place in its source, for messages."""

    def encode_tensor(self, rows: Float[Tensor, "row column"]) -> Batch:
        """The features of numbers in the columns of `needs`, NaN a gap. Raises: SettingError."""
        raise SettingError(
            f"this model was fitted on {self.noun}, and an exported graph reads tables of "
            "numbers alone: let keyhole itself answer"
        )

    @abstractmethod
    def decode(self, batch: Batch) -> pa.Table:
        """Features of expected rows as an Arrow table in the original units and types."""

    def decode_columns(self, batch: Batch, names: Collection[str]) -> pa.Table:
        """As `decode`, of these columns alone."""
        return self.decode(batch).select(list(names))

    def guess(self, batch: Batch) -> pa.Table:
        """Expected features of masked values, as the values that fill the gaps best."""
        return self.decode(batch)

    def drawn(self, batch: Batch) -> pa.Table:
        """Features drawn from a likelihood, as rows of legal values; unobserved ones missing."""
        table, observed = self.decode(batch), batch.observed.cpu().numpy()
        for i, name in enumerate(table.column_names):
            gaps = pa.array(~observed[:, self.layout.features(name)].any(1))
            values = pc.if_else(gaps, None, table.column(name))  # pyright: ignore
            table = table.set_column(i, name, values)
        return table

    def decode_observed(self, batch: Batch) -> pa.Table:
        """Encoded rows as observed; unobserved values missing."""
        return self.drawn(batch)

    def encode_given(self, given: Mapping[str, Any]) -> Batch:
        """One encoded row with these values alone. Raises: DataError, SettingError."""
        raise SettingError(f"given={dict(given)!r:.60}: {self.supports('given')}")

    def check_given(self, given: Mapping[str, Any]) -> None:
        """Raises: SettingError for values that break a rule between columns."""

    def features(self, batch: Batch) -> np.ndarray:
        """All features of a batch without lead axes as a matrix: in float64 codes stay exact."""
        return torch.cat([batch.numbers.double(), batch.codes.double()], -1).cpu().numpy()

    @property
    def lawful(self) -> Any:
        """What keeps the rules between columns, a `Lawful`; None where there are none."""
        return None

    def without_rules(self) -> Self:
        """The same modality, free of rules between columns."""
        return self

    @property
    def mean_columns(self) -> list[str]:
        """The columns whose expected values `calibrated` maps to means of observed ones."""
        return []

    def calibrated(self, expected: dict[str, np.ndarray], observed: dict[str, np.ndarray]) -> Self:
        """The same modality, means calibrated by expected and observed masked values."""
        return self

    def allowed(self, batch: Batch) -> torch.Tensor:
        """(row, feature): False where a drawn value is not legal."""
        return torch.ones_like(batch.observed)

    def check_types(self, schema: pa.Schema) -> None:
        """Raises: BundleError for decoded rows of types that their columns do not make."""

    def written(self, table: pa.Table) -> pa.Table:
        """Decoded rows in the way that training wrote them; the rows as they are by default."""
        return table

    def cell_texts(self, column: str, values: pa.Array, decimal: str = "") -> pa.Array:
        """Decoded values of a column of texts; `decimal` is the sign of the file's numbers."""
        return cast.texts(values)

    def texts(self, rows: Rows, column: str) -> list[str]:
        """The values of a column that has features, as a person would write them."""
        values = rows.column(column)
        if cast.is_numeric(values.type):
            return number_texts(cast.floats(values)[0])
        return cast.texts(values).fill_null("missing").to_pylist()

    def usual(self, column: str, low: float, high: float) -> tuple[str, float, float] | None:
        """The range between two values of a column's first number feature, and its ends."""
        return None

    def expected(self, column: str, features: np.ndarray, predicted: Prediction) -> Expected:
        """What was expected instead of a column's values (row, feature), in words.

        By default the decoded middle of the prediction; a value fits if all its features lie in
        their intervals.
        """
        whole = torch.zeros((len(features), len(self.layout)), dtype=torch.float64)
        whole[:, self.layout.features(column)] = torch.from_numpy(predicted.middle).double()
        numbers, codes = whole.tensor_split([self.layout.numbers], 1)
        observed = torch.ones_like(whole, dtype=torch.bool)
        table = self.decode(Batch(numbers.float(), codes.long(), observed))
        texts = [f"about {text}" for text in self.texts(ArrowRows(table), column)]
        fits = np.all((predicted.low <= features) & (features <= predicted.high), axis=1)
        return Expected(texts, fits, np.ones(len(features), bool))

    def images(self, table: pa.Table) -> np.ndarray | None:
        """Decoded rows as images (row, height, width[, channel]); None where they are texts."""
        return None

    def ends(self, column: str) -> tuple[float, float] | None:
        """The least and the most that training met; None for a column that holds no numbers."""
        return None

    def comparable(self, table: pa.Table) -> pa.Table:
        """Rows for judges of drawn ones: dates as numbers, which else were levels."""
        return table

    def unseen_levels(self, batch: Batch) -> dict[str, int]:
        """In how many of these rows each column of levels holds one that training never met."""
        return {}

    def mask_groups(self, most: int = 8) -> list[np.ndarray]:
        """At most `most` groups of features; a value is predicted while its group is masked."""
        count, column = min(most, len(self.layout.columns)), self.layout.column_of_feature
        return [np.flatnonzero(column % count == group) for group in range(count)]

    def even(self, batch: Batch) -> Batch:
        """The rows of a pass, padded so that no row's figures depend on how many others come."""
        return batch.even()

    def coordinates(self, batch: Batch) -> Float[Tensor, "row axis"]:
        """Where distances between rows are measured: the point of each; NaN on axes of a gap."""
        return core_layout.coordinates(batch, self.layout)

    whitens: ClassVar[bool] = True  # coordinates repeat each other, and count by the core's spread

    def broken(self, batch: Batch, seed: int) -> Batch | None:
        """The rows without the relations between their columns, by which views are weighed.

        None: all views count alike.
        """
        return None

    def views(
        self, batch: Batch, coordinates: Float[Tensor, "row axis"]
    ) -> Mapping[str, Float[Tensor, "row axis"]]:
        """Further features by name; Mahalanobis' distance in each is a question of a detector.

        `coordinates` are those of the rows: they may be a view themselves.
        """
        return {}

    @property
    def view_names(self) -> list[str]:
        """The names of `views`."""
        return []

    @property
    def mean_views(self) -> list[str]:
        """The views that count always; others raise a score where they are rare."""
        return []

    def planted(self, batch: Batch, seed: int) -> Mapping[str, Batch]:
        """The rows with faults of several kinds, by which the views that raise are chosen."""
        return {}

    def scale_deviance(self, deviance: Deviance, batch: Batch) -> Deviance:
        """Nats beyond a perfect prediction as they count in a score; as they are by default."""
        return deviance

    def reach(self, half_width: PerFeature) -> PerFeature:
        """The units of residuals: half of a likelihood's interval, at least some of a spread."""
        return np.maximum(half_width, MIN_REACH * np.array([s.scale for s in self.layout.slots]))

    def pool_residuals(self, residuals: PerFeature) -> PerFeature:
        """Residuals as intervals are made of them, NaN for a gap; as they are by default."""
        return residuals

    @property
    def maps(self) -> Maps | None:
        """What anomaly maps are made of; None where rows have no map."""
        return None
