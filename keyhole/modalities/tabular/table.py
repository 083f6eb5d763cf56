"""The tabular modality: columns of several kinds, learned from one profile of the source."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch

from keyhole.core.layout import Layout
from keyhole.core.parts import build
from keyhole.core.records import Batch
from keyhole.data import cast
from keyhole.data.lazy import pa, pc
from keyhole.data.numerals import NumberFormat
from keyhole.data.source import ArrowRows, Rows, Source, check_columns, finite_matrix, weights
from keyhole.errors import DataError, SettingError
from keyhole.modalities.base import NO_EVENTS, Modality
from keyhole.modalities.expected import Expected, Prediction
from keyhole.modalities.profile import SourceProfile
from keyhole.modalities.schema import Schema
from keyhole.modalities.tabular.columns import Column, Count, Datetime, Ignored, Number
from keyhole.modalities.tabular.columns.base import Grid, bins, heaped, is_valid, rounding_grid
from keyhole.modalities.tabular.columns.number import encode_matrix
from keyhole.modalities.tabular.kinds_of_columns import columns_of
from keyhole.modalities.tabular.lawful import Lawful, check_types, given_row
from keyhole.modalities.tabular.rules import Rule, check_rules, rules_of

BINNED = {"student_t", "counts"}  # likelihoods that a histogram can replace


class Tabular(Modality):
    """The columns of a table, the reasons for their kinds, and their shares of missing values.

    `mixed` are columns of numbers with some texts in training data: there, texts count as missing.
    """

    kind = "tabular"
    noun = "a table"
    unsupported = {
        "anomaly_map": "anomaly maps are for images; answer() names the columns of a table",
        "png": "the rows of a table need a .csv, .parquet or .jsonl file",
        "events": NO_EVENTS,
    }

    def __init__(
        self,
        *,
        columns: list[Any],
        reasons: dict[str, str],
        gaps: dict[str, float],
        weight: str | None = None,
        mixed: list[str] | None = None,
        bins: dict[str, list[list[float]]] | None = None,
        grids: dict[str, dict[str, list[float]]] | None = None,
        rules: list[dict[str, Any]] | None = None,
    ) -> None:
        self.columns = [build("column", c) if isinstance(c, dict) else c for c in columns]
        self.reasons, self.gaps, self.weight, self.mixed = reasons, gaps, weight, mixed
        self.bins, self.grids, self.rules = bins, grids, rules

    def check(self) -> None:
        """Raises: SettingError for invalid grids or rules."""
        for name, grid in (self.grids or {}).items():
            if not is_valid(grid):
                raise SettingError(f"grids: {grid!r:.80} of column {name!r:.40} is not valid")
        if self.rules:
            check_rules(self.rules, self.columns)

    @classmethod
    def learn(
        cls, source: Source, schema: Schema, *,
        alike: bool = False, binned: bool = False, group: str | None = None,
    ) -> tuple[Self, SourceProfile]:  # fmt: skip
        """The table and its profile. Raises: DataError if there is no column to learn from."""
        schema = schema.matched(source.names)
        check_columns(schema.named(), source.names, "the schema")
        check_columns([group] if group else [], source.names, "group")
        profile = SourceProfile(source, source.names, schema.kind_of, schema.format_of)
        if profile.rows == 0:
            raise DataError(
                f"{source.name} has column names but no rows (0 sample(s), a minimum of 1)"
            )
        profiles = profile.profiles
        columns, reasons = columns_of(profiles, schema, group, alike)
        gaps = {name: p.missing / p.rows for name, p in profiles.items()}
        numeric = [c.name for c in columns if isinstance(c, Number | Count)]
        mixed = [name for name in numeric if profiles[name].not_numbers] or None
        table = cls(columns=columns, reasons=reasons, gaps=gaps, weight=schema.weight, mixed=mixed)
        if not len(table.layout):
            ignored = ", ".join(f"{name}: {why}" for name, why in list(reasons.items())[:5])
            joined = len(columns) == 1 and re.search(r"[\s:;|,^~]", columns[0].name)
            hint = "it was read as one column: is its separator , ; | or a tab?"
            hint = f"; {hint}" if joined else ""
            raise DataError(f"{source.name} has no column to learn from ({ignored}){hint}")
        grids = {c.name: c.bounds(profiles[c.name]) for c in table.encoded_columns}
        grids = {name: grid for name, grid in grids.items() if grid}
        rules = [asdict(rule) for rule in rules_of(source, profile, columns)] or None
        table = table._with({"grids": grids, "rules": rules})
        return table._binned(profile) if binned else table, profile

    def _binned(self, profile: SourceProfile) -> Self:
        """The table with a histogram for values that repeat, and normal scores for others."""
        profiles = profile.profiles
        columns = [
            c.normalized(profiles[c.name].numbers()) if isinstance(c, Number) else c
            for c in self.columns
        ]
        table = self._with({"columns": columns})
        batch, histograms = table.encode(ArrowRows(profile.sample)), {}
        for i, slot in enumerate(table.layout.slots):
            if slot.head in BINNED and not slot.coded:
                features = batch.numbers[:, i][batch.observed[:, i]].numpy()
                if heaped(features):
                    histograms[slot.name] = bins(features)
        return table._with({"bins": histograms})

    def calibrated(self, expected: dict[str, np.ndarray], observed: dict[str, np.ndarray]) -> Self:
        """The same table, number columns calibrated by expected and observed masked values."""
        columns = [
            c.calibrated(expected[c.name], observed[c.name])
            if isinstance(c, Number) and c.name in expected
            else c
            for c in self.columns
        ]
        return self._with({"columns": columns})

    def over_time(self, profile: SourceProfile, told: Collection[str]) -> Self:
        """The table as steps of a series: numbers without point masses, and no rules.

        Columns whose kind was `told` stay as they are.
        """
        columns = [
            Number.over_time(profile.profiles[c.name])
            if isinstance(c, Number | Count) and c.name not in told
            else c
            for c in self.columns
        ]
        return self._with({"columns": columns, "rules": None})

    def _with(self, changed: dict[str, Any]) -> Self:
        return type(self)(**{**self.get_params(), **changed})

    def recipe(self) -> dict[str, Any]:
        """The constructor's arguments as JSON."""
        return super().recipe() | {"columns": [column.recipe() for column in self.columns]}

    @cached_property
    def layout(self) -> Layout:
        """The features of all columns."""
        slots = [slot for column in self.columns for slot in column.slots()]
        bins = self.bins or {}
        return Layout.of([replace(s, bins=tuple(map(tuple, bins.get(s.name, ())))) for s in slots])

    @cached_property
    def encoded_columns(self) -> list[Column]:
        """The columns that have features, in the order of the table."""
        return [column for column in self.columns if not isinstance(column, Ignored)]

    @cached_property
    def by_name(self) -> dict[str, Column]:
        """The columns by name."""
        return {column.name: column for column in self.columns}

    def encode(self, rows: Rows, start: int = 0) -> Batch:
        """The encoded rows. Raises: DataError, also for an infinite number."""
        check_columns(self.needs(), rows.names, "this model")
        mixed = self.mixed or []
        decimal = getattr(rows, "decimal", ".")
        number_columns = [c for c in self.encoded_columns if isinstance(c, Number)]
        numeric = [c for c in number_columns if c.name not in mixed and c.reads_as(decimal)]
        x = finite_matrix(rows, [column.name for column in numeric], start)
        encoded = encode_matrix(numeric, x) if len(numeric) == len(self.encoded_columns) else None
        if encoded is None:
            floats = {c.name: x[:, i] for i, c in enumerate(numeric)}
            numbers, codes, observed = self._encode_columns(rows, floats, start)
        else:
            (numbers, observed), codes = encoded, np.zeros((len(rows), 0), np.int64)
        number, code, mask = map(torch.from_numpy, (numbers, codes, observed))
        has_weight = self.weight is not None and self.weight in rows.names
        weight = weights(rows, str(self.weight)).astype(np.float32) if has_weight else None
        return Batch(number, code, mask, None if weight is None else torch.from_numpy(weight))

    def encode_tensor(self, rows: torch.Tensor) -> Batch:
        """The encoded rows. Raises: SettingError for a column that does not hold numbers."""
        places_of_kind: dict[type[Column], list[int]] = {}
        for i, column in enumerate(self.encoded_columns):
            places_of_kind.setdefault(type(column), []).append(i)
        parts, features = [], []
        for kind, places in places_of_kind.items():
            columns = [self.encoded_columns[i] for i in places]
            parts.append(kind.encode_tensors(columns, rows[:, places]))
            features += [i for column in columns for i in self.layout.features(column.name)]
        order = np.argsort(features).tolist()
        numbers, observed = (torch.cat(part, 1)[:, order] for part in zip(*parts, strict=True))
        return Batch(numbers, rows.new_zeros((rows.shape[0], 0), dtype=torch.int64), observed)

    def decode(self, batch: Batch) -> pa.Table:
        """Features of expected rows in the original units and types."""
        return self._decoded(batch, lambda column, features: column.decode(features))

    def decode_columns(self, batch: Batch, names: Collection[str]) -> pa.Table:
        """As `decode`, of these columns alone."""
        return self._decoded(batch, lambda column, features: column.decode(features), names)

    def guess(self, batch: Batch) -> pa.Table:
        """Expected features of masked values, as the values that fill the gaps."""
        return self._decoded(batch, lambda column, features: column.guess(features))

    def drawn(self, batch: Batch) -> pa.Table:
        """Features drawn from a likelihood as rows of legal values; unobserved ones missing."""
        return self._drawn(batch, self.grids or {})

    def decode_observed(self, batch: Batch) -> pa.Table:
        """Encoded rows as observed; unobserved values missing."""
        grids = {name: rounding_grid(grid) for name, grid in (self.grids or {}).items()}
        return self._drawn(batch, grids)

    def _drawn(self, batch: Batch, grids: dict[str, Grid]) -> pa.Table:
        """Features as rows of values that these grids allow; unobserved ones missing."""
        observed = batch.observed.cpu().numpy()

        def values_of(column: Column, features: np.ndarray) -> Any:
            values = column.drawn(features, grids.get(column.name))
            gaps = ~observed[:, self.layout.features(column.name)].any(1)
            if not gaps.any():
                return values
            return pc.if_else(pa.array(gaps), pa.scalar(None, values.type), values)  # pyright: ignore

        return self._decoded(batch, values_of)

    def _decoded(
        self,
        batch: Batch,
        decode: Callable[[Column, np.ndarray], Any],
        names: Collection[str] | None = None,
    ) -> pa.Table:
        features, places = self.features(batch), self.layout.features
        columns = self.encoded_columns if names is None else [self.by_name[n] for n in names]
        return pa.table({c.name: decode(c, features[:, places(c.name)]) for c in columns})

    def allowed(self, batch: Batch) -> torch.Tensor:
        """(row, feature): False where a drawn value is not legal."""
        features = self.features(batch)
        allowed = np.ones(features.shape, bool)
        for column in self.encoded_columns:
            grid, indices = (self.grids or {}).get(column.name), self.layout.features(column.name)
            if grid:
                allowed[:, indices] = column.allows(features[:, indices], grid)[:, None]
        return torch.from_numpy(allowed)

    @cached_property
    def lawful(self) -> Lawful | None:
        """The rules between columns, applied to drawn rows; None without rules."""
        if not self.rules:
            return None
        rules = [Rule(**rule) for rule in self.rules]
        names = {name for rule in rules for name in rule.columns}
        columns = [column for column in self.encoded_columns if column.name in names]
        return Lawful(rules, columns, self.grids or {})

    def without_rules(self) -> Self:
        """The same table without rules between columns."""
        return self._with({"rules": None})

    def given_row(self, given: Mapping[str, Any]) -> pa.Table:
        """One row with values in these columns alone. Raises: DataError, SettingError."""
        one = torch.zeros((1, len(self.layout)), dtype=torch.bool)
        numbers, codes = (torch.zeros(1, n) for n in (self.layout.numbers, self.layout.codes))
        types = self.decode(Batch(numbers, codes.long() + 1, one)).schema
        return given_row(self.encoded_columns, types, given)

    def check_given(self, given: Mapping[str, Any]) -> None:
        """Raises: SettingError for values that break a rule between columns."""
        if self.lawful is not None:
            self.lawful.refuse(self.given_row(given), list(given))

    def written(self, table: pa.Table) -> pa.Table:
        """Decoded rows in the formats of training: money and percent as texts."""
        names = table.column_names
        return pa.table({n: self.by_name[n].written(table.column(n)) for n in names})

    def encode_given(self, given: Mapping[str, Any]) -> Batch:
        """One encoded row with these values alone. Raises: DataError, SettingError."""
        return self.encode(ArrowRows(self.given_row(given)))

    def texts(self, rows: Rows, column: str) -> list[str]:
        """The values of a column as texts."""
        return self.by_name[column].text(rows.column(column))

    @property
    def mean_columns(self) -> list[str]:
        """The number columns."""
        return [column.name for column in self.encoded_columns if isinstance(column, Number)]

    def unseen_levels(self, batch: Batch) -> dict[str, int]:
        """Of each category and boolean column."""
        return {
            c.name: int((batch.feature(self.layout.features(c.name)[0]) == c.unseen).sum())
            for c in self.encoded_columns
            if c.unseen is not None
        }

    def comparable(self, table: pa.Table) -> pa.Table:
        """The rows, dates as seconds."""
        for column in self.encoded_columns:
            if isinstance(column, Datetime):
                place = table.column_names.index(column.name)
                seconds, _ = cast.seconds(table.column(column.name), column.style)
                table = table.set_column(place, column.name, pa.array(seconds, from_pandas=True))
        return table

    def ends(self, column: str) -> tuple[float, float] | None:
        """Those of numbers, counts, and booleans of two numbers."""
        return self.by_name[column].ends

    def cell_texts(self, column: str, values: pa.Array, decimal: str = "") -> pa.Array:
        """The values as training wrote them."""
        return self.by_name[column].cell_texts(values, decimal)

    def check_types(self, schema: pa.Schema) -> None:
        """Raises: BundleError for a number or a date whose type is none."""
        check_types(self.encoded_columns, schema)

    whitens = False  # each column counts alike

    def broken(self, batch: Batch, seed: int) -> Batch:
        """Each row with about half of its columns from another row."""
        rng = np.random.default_rng(seed)
        taken = rng.random((len(batch), len(self.layout.columns))) < 0.5
        where = torch.from_numpy(taken[:, self.layout.column_of_feature])
        return batch.exchanged(torch.from_numpy(rng.permutation(len(batch))), where)

    def usual(self, column: str, low: float, high: float) -> tuple[str, float, float]:
        """The range between two values of a column's first number feature, and its ends."""
        return self.by_name[column].usual(low, high)

    def expected(self, column: str, features: np.ndarray, predicted: Prediction) -> Expected:
        """What was expected instead of a column's values, in words."""
        return self.by_name[column].expected(features, predicted)

    def _encode_columns(
        self, rows: Rows, floats: dict[str, np.ndarray], start: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers, codes and which features are observed; `floats` holds the numeric columns."""
        first_code = self.layout.numbers
        numbers = np.zeros((len(rows), first_code), np.float32)
        codes = np.zeros((len(rows), self.layout.codes), np.int64)
        observed = np.zeros((len(rows), len(self.layout)), bool)
        for column in self.encoded_columns:
            indices = self.layout.features(column.name)
            if isinstance(column, Number) and column.name in floats:
                features, features_observed = column.encode_floats(floats[column.name])
            else:
                values = rows.column(column.name)
                if column.name in (self.mixed or []):
                    format_ = getattr(column, "written_as", None) or NumberFormat()
                    values = cast.numbers_or_gaps(values, format_.decimal or ".", format_.unit)
                features, features_observed = column.encode(values, start)
            if indices[0] < first_code:
                numbers[:, indices] = features
            else:
                codes[:, indices[0] - first_code] = features[:, 0]
            observed[:, indices] = features_observed
        return numbers, codes, observed
