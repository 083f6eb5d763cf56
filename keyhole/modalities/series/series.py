"""Series of channels: a row is a window, its columns are patches of one channel each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from keyhole.core.layout import Layout
from keyhole.core.parts import build
from keyhole.core.records import Batch
from keyhole.data import cast
from keyhole.data.lazy import pa, pc, pt
from keyhole.data.readings import NONE
from keyhole.data.series import (
    OF_WINDOW,
    AnsweredSource,
    SeriesRows,
    StepSource,
    WindowSource,
    steps_of,
)
from keyhole.data.source import ArrowRows, Rows, Source, check_columns
from keyhole.data.tracks import WindowSpec
from keyhole.errors import DataError, SettingError
from keyhole.modalities.base import Field, Modality
from keyhole.modalities.expected import Expected, Prediction
from keyhole.modalities.profile import SourceProfile
from keyhole.modalities.schema import Schema
from keyhole.modalities.series import faults, features
from keyhole.modalities.series.moments import Moments
from keyhole.modalities.series.propose import PATCHES, SeriesSchema, propose
from keyhole.modalities.series.steps import Steps
from keyhole.modalities.tabular.table import Tabular
from keyhole.model.nets import MLP, Net

SAMPLE_BYTES = 64 << 20
MASK_GROUPS = 4  # of patches masked together: each is scored a quarter masked, as in training


class SeriesModality(Modality):
    """Windows of a series; `table` holds the channels, `spec` how rows become windows.

    `reasons` and `gaps` are those of channels; the time column's reason is the proposal.
    `overlap` is how many windows after a window of training share steps with it.
    """

    kind = "series"
    noun = "a sensor series"
    unsupported = {
        "given": "windows of a series are generated as a whole",
        "cards": "a card names columns of a table, and these rows are windows of a series",
        "judge": "only generated rows of a table are judged, not windows of a series",
        "anomaly_map": "anomaly maps are for images; answer() names the channels of a series",
        "png": "windows of a series need a .csv, .parquet or .jsonl file",
        "single_values": "a value is judged within its window",
    }

    def __init__(
        self, *, table: Any, spec: dict[str, Any], reasons: dict[str, str], overlap: int
    ) -> None:
        self.table: Tabular = build("modality", table) if isinstance(table, dict) else table
        self.spec = WindowSpec.from_json(spec)
        self.reasons, self.overlap, self.machine_column = reasons, overlap, self.spec.group
        self.gaps = self.table.gaps
        own = [Field(self.spec.time, "datetime")]
        own += [Field(self.spec.group, "ignored")] if self.spec.group else []
        self.columns = [*own, *self.table.columns]

    def check(self) -> None:
        """Raises: SettingError for windows that there cannot be."""
        spec = self.spec
        if not 1 <= spec.stride <= spec.window <= 4_096 or not spec.every > 0 or spec.max_gap < 1:
            raise SettingError(f"spec={spec!r:.80}: invalid windows")

    @classmethod
    def asked_by(cls, schema: Schema | None) -> bool:
        """True for a schema with a time column."""
        series = isinstance(schema, SeriesSchema)
        return series or (isinstance(schema, Schema) and schema.time is not None)

    @classmethod
    def default_parts(cls) -> dict[str, Any]:
        """A small net: a wider one takes longer and finds no more."""
        return {"net": MLP([32])}

    @classmethod
    def check_net(cls, net: Net) -> None:
        """Raises: SettingError for a net of images."""
        if net.images:
            raise SettingError(f"{net!r} is for images, but these rows are windows of a series")

    @classmethod
    def for_fit(cls, source: Source, schema: Schema | None) -> Source:
        """The windows to learn from. Raises: DataError, SettingError."""
        return WindowSource(source, propose(source, schema or Schema()))

    def match(self, source: Source, schema: Schema | None) -> Source:
        """The rows with the windows that answer them. Raises: DataError for an absent channel."""
        check_columns(self.spec.names, source.names, "this model")
        return AnsweredSource(source, self.spec)

    @classmethod
    def learn(
        cls, source: Source, schema: Schema, *,
        alike: bool = False, binned: bool = False, group: str | None = None,
    ) -> tuple[Self, SourceProfile]:  # fmt: skip
        """The channels of a source of windows, and a sample of windows.

        Raises: DataError if there is no channel to learn from.
        """
        profile = SourceProfile(source, source.names, profiled=False, most_bytes=SAMPLE_BYTES)
        spec = WindowSpec.of(profile.sample.schema)
        if profile.rows == 0 or spec is None:
            raise DataError(f"{source.name} holds no window of a series: 0 sample(s)")
        given_kinds = schema.kinds if isinstance(schema.kinds, dict) else {}
        kinds = {name: kind for name, kind in given_kinds.items() if name in spec.channels}
        steps = StepSource(source, spec)
        table, steps_profile = Tabular.learn(steps, Schema(kinds=kinds))
        table = table.over_time(steps_profile, kinds)
        channels = [column.name for column in table.encoded_columns]
        stride = max(1, round(spec.window / PATCHES))
        own = replace(spec, stride=stride, channels=tuple(channels))
        machine = {spec.group: "names the machine"} if spec.group else {}
        reasons = {spec.time: spec.reason, **machine, **table.reasons}
        overlap = -(-spec.window // spec.stride) - 1
        return cls(table=table, spec=asdict(own), reasons=reasons, overlap=overlap), profile

    def recipe(self) -> dict[str, Any]:
        """What was learned, as JSON."""
        spec = {**asdict(self.spec), "channels": list(self.spec.channels)}
        return super().recipe() | {"table": self.table.recipe(), "spec": spec}

    @property
    def patch(self) -> int:
        """The steps of a patch."""
        return max(1, round(self.spec.window / PATCHES))

    @cached_property
    def layout(self) -> Layout:
        """The features of each step behind each other; patches of a channel are the columns."""
        slots: list[Any] = []
        numbers = self.table.layout.numbers
        for own in (self.table.layout.slots[:numbers], self.table.layout.slots[numbers:]):
            for step in range(self.spec.window):
                name = self._patch_name(step)
                slots += [
                    replace(s, column=f"{s.column} {name}", part=f"{s.part} step {step}".strip())
                    for s in own
                ]
        return Layout(tuple(slots), patch=self.patch, steps=self.spec.window)

    def _patch_name(self, step: int) -> str:
        first = step // self.patch * self.patch
        return f"[{first}:{min(first + self.patch, self.spec.window)}]"

    @cached_property
    def encoded_columns(self) -> list[Field]:
        """The patches of the channels."""
        return [Field(n, self.table.by_name[self.title(n)].kind) for n in self.layout.columns]

    @property
    def titles(self) -> list[str]:
        """The channels."""
        return list(self.spec.channels)

    @cached_property
    def newest(self) -> dict[str, str]:
        """The last patch of each channel."""
        return {self.title(name): name for name in self.layout.columns}

    @cached_property
    def view_titles(self) -> dict[str, list[list[int]]]:
        """The channels of each axis of the views."""
        slots, count = self.table.layout.slots, self.table.layout.numbers
        own = [[self.titles.index(slot.column)] for slot in slots[:count]]
        patches = -(-self.spec.window // self.patch)
        levels = [[self.titles.index(s.column)] for s in slots[count:] for _ in range(s.levels)]
        waves = [own[i] for i in self.continuous]
        pairs = [waves[i] + waves[j] for i, j in features.pairs(len(waves))]
        return {
            "level": own * patches + levels, "shape": waves * 3,
            "spectrum": waves * (4 + features.bands(self.spec.window)), "roughness": waves * 2,
            "relation": pairs,
        }  # fmt: skip

    def title(self, column: str) -> str:
        """The channel of a patch."""
        return column.rpartition(" [")[0]

    @property
    def id_column(self) -> str:
        """The time stamps name the rows."""
        return self.spec.time

    @cached_property
    def moments(self) -> Moments:
        """Reads rows by time and machine."""
        return Moments(self.steps)

    @cached_property
    def steps(self) -> Steps:
        """Steps of windows, as rows of the table of channels."""
        return Steps(self.table, self.spec)

    def needs(self) -> list[str]:
        """The columns of the rows that windows are made of."""
        return self.spec.names

    def trains_on(self) -> list[str]:
        """The columns of windows."""
        return [n for n in (self.spec.time, self.spec.group, *self.spec.channels) if n]

    def samples_of(self, rows: Rows) -> Int64[np.ndarray, " row"] | None:
        """The window of each row."""
        return rows.window if isinstance(rows, SeriesRows) else None

    def encode(self, rows: Rows, start: int = 0) -> Batch:
        """The encoded windows of the rows, or of a table of windows. Raises: DataError."""
        windows: Any = rows.windows if isinstance(rows, SeriesRows) else rows.arrow()
        layout, count = self.table.layout, 0 if windows is None else windows.num_rows
        if not count:
            numbers, codes = (torch.zeros(0, n) for n in (self.layout.numbers, self.layout.codes))
            return Batch(numbers, codes.long(), torch.zeros(0, len(self.layout)).bool())
        steps = steps_of(ArrowRows(windows), self.spec.channels)
        encoded = self.table.encode(self.steps.readable(steps))
        numbers, codes = (part.reshape(count, -1) for part in (encoded.numbers, encoded.codes))
        observed = encoded.observed.tensor_split([layout.numbers], 1)
        return Batch(numbers, codes, torch.cat([part.reshape(count, -1) for part in observed], 1))

    def decode(self, batch: Batch) -> pa.Table:
        """Windows in the original units, a list a channel."""
        return self.steps.in_windows(self.table.decode(self.steps.of_windows(batch)))

    def guess(self, batch: Batch) -> pa.Table:
        """Expected windows, as values that fill gaps best."""
        return self.steps.in_windows(self.table.guess(self.steps.of_windows(batch)))

    def drawn(self, batch: Batch) -> pa.Table:
        """Drawn windows of legal values."""
        return self.steps.in_windows(self.table.drawn(self.steps.of_windows(batch)))

    def decode_observed(self, batch: Batch) -> pa.Table:
        """Encoded windows as observed."""
        return self.steps.in_windows(self.table.decode_observed(self.steps.of_windows(batch)))

    def labels(self, rows: Rows) -> dict[str, pa.Array]:
        """The time of the last step of each window, and its machine."""
        table: Any = rows.windows if isinstance(rows, SeriesRows) else rows.arrow()
        if table is None:
            return {}
        return {n: cast.plain(table.column(n)) for n in (self.spec.time, self.spec.group) if n}

    def in_rows(self, decoded: pa.Table, rows: Rows) -> pa.Table:
        """The channels of decoded windows in the rows that they answer; null for no window.

        In a long format each row has the value of its own channel alone.
        """
        if not isinstance(rows, SeriesRows):
            return decoded
        place = np.where(rows.window == NONE, NONE, rows.window * self.spec.window + rows.step)
        place = pa.array(place, mask=place == NONE)
        columns = {
            name: cast.plain(decoded.column(name)).flatten().take(place)
            for name in decoded.column_names
        }
        if self.spec.tag is None:
            return pa.table(columns)
        tags, value = cast.texts(rows.column(self.spec.tag)), pa.nulls(len(rows), pa.float64())
        for name, values in columns.items():
            own = pc.fill_null(pc.equal(tags, name), False)
            value = pc.if_else(own, cast.numbers_or_gaps(values), value)
        return pa.table({str(self.spec.value): value})

    def written(self, table: pa.Table) -> pa.Table:
        """Windows as steps behind each other, with the number of the window and of the step."""
        lists = [
            n for n in table.column_names if pt.is_fixed_size_list(table.schema.field(n).type)
        ]
        if not lists:
            return self.table.written(table)
        steps = {name: cast.plain(table.column(name)).flatten() for name in lists}
        window, step = np.divmod(np.arange(len(table) * self.spec.window), self.spec.window)
        return pa.table({"window": window + 1, "step": step, **steps})

    def unseen_levels(self, batch: Batch) -> dict[str, int]:
        """In how many steps each channel of levels holds one that training never met."""
        return self.table.unseen_levels(self.steps.of_windows(batch))

    def texts(self, rows: Rows, column: str) -> list[str]:
        """The reading of each row; of a window, or in a long format, the last of the patch."""
        name, (_, last) = self.title(column), self._span(column)
        if name in rows.names and not pt.is_fixed_size_list(rows.arrow().schema.field(name).type):
            own = rows.arrow().select([name])
            return self.table.texts(self.steps.readable(ArrowRows(own)), name)
        name = name if name in rows.names else name + OF_WINDOW
        lists = cast.plain(rows.arrow().column(name))
        values = ArrowRows(pa.table({self.title(column): pc.list_element(lists, last)}))
        return self.table.texts(self.steps.readable(values), self.title(column))

    def _span(self, column: str) -> tuple[int, int]:
        """The first and the last step of a patch."""
        first, last = re.fullmatch(r"\[(\d+):(\d+)\]", column.rpartition(" ")[2]).groups()  # pyright: ignore
        return int(first), int(last) - 1

    def expected(self, column: str, features: np.ndarray, predicted: Prediction) -> Expected:
        """What was expected instead of the last value of a patch."""
        name = self.title(column)
        last = slice(-len(self.table.layout.features(name)), None)
        if not self.layout.slots[self.layout.features(column)[0]].coded:
            parts = (predicted.middle, predicted.low, predicted.high)
            predicted = Prediction(*(part[:, last] for part in parts), levels=predicted.levels)
        return self.table.expected(name, features[:, last], predicted)

    def mask_groups(self, most: int = PATCHES) -> list[np.ndarray]:
        """Patches, so that none is masked with the next one of its channel."""
        count = min(most, MASK_GROUPS, len(self.layout.columns))
        group_of = self._places % count
        return [np.flatnonzero(group_of == group) for group in range(count)]

    @cached_property
    def _places(self) -> Int64[np.ndarray, " feature"]:
        """A number of each feature's channel and patch: no two next to each other are alike."""
        places = [
            3 * self.titles.index(self.title(name)) + self._span(name)[0] // self.patch
            for name in self.layout.columns
        ]
        return np.array(places)[self.layout.column_of_feature]

    @cached_property
    def continuous(self) -> list[int]:
        """The number features of a step whose shape over time is compared; flags have none."""
        slots = self.table.layout.slots[: self.table.layout.numbers]
        return [i for i, slot in enumerate(slots) if slot.head != "bernoulli"]

    def _series(self, batch: Batch) -> Float[Tensor, "window step channel"]:
        """The number features of windows, in units of their spread, gaps filled."""
        return features.filled(*self.steps.in_units(batch))

    def coordinates(self, batch: Batch) -> Float[Tensor, "row axis"]:
        """The mean of each patch of each channel; of levels, the share of steps that hold each."""
        numbers, size = self.table.layout.numbers, self.spec.window
        parts = [features.levels(self._series(batch), self.patch)] if numbers else []
        for i, slot in enumerate(self.table.layout.slots[numbers:]):
            parts.append(
                features.shares(batch.codes.unflatten(1, (size, -1))[..., i], slot.levels)
            )
        return torch.cat(parts, 1)

    def views(
        self, batch: Batch, coordinates: Float[Tensor, "row axis"]
    ) -> Mapping[str, Float[Tensor, "row axis"]]:
        """Levels, shape, spectrum, roughness and relations of the channels."""
        views = {"level": coordinates}
        if self.continuous:
            x = self._series(batch).nan_to_num(0.0)[..., self.continuous]
            views |= {"shape": features.shape(x), "spectrum": features.spectrum(x)}
            views["roughness"] = features.roughness(x)
            if len(self.continuous) > 1:
                views["relation"] = features.relations(x)
        return views

    @property
    def view_names(self) -> list[str]:
        """The names of `views`."""
        names = ["level", "shape", "spectrum", "roughness", "relation"]
        return names[: (1, 4, 5)[len(self.continuous[:2])]]

    @property
    def mean_views(self) -> list[str]:
        """The levels: what shows in noise, rhythm or relations alone raises a score."""
        return ["level"]

    def planted(self, batch: Batch, seed: int) -> Mapping[str, Batch]:
        """The windows with each kind of fault planted in one channel of numbers."""
        if not self.continuous:
            return {}
        windows = batch.numbers.unflatten(1, (self.spec.window, -1))
        x = windows[..., self.continuous].double().numpy()
        rows, observed = {}, batch.observed[:, : self.layout.numbers]
        for name, changed in faults.planted(x, seed).items():
            faulty = windows.clone()
            faulty[..., self.continuous] = torch.from_numpy(changed).float()
            rows[name] = replace(batch, numbers=faulty.flatten(1) * observed)
        return rows
