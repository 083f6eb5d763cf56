"""Given values of a row: checked and encoded; bins and legal values of drawn rows."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keyhole.data import cast
from keyhole.data.levels import value_key
from keyhole.data.source import ArrowRows, Source
from keyhole.errors import BundleError, DataError, SettingError
from keyhole.modalities.tabular.columns import (
    Boolean,
    Category,
    Column,
    Count,
    Datetime,
    Ignored,
    Number,
)
from keyhole.modalities.tabular.columns.grids import Grid, bins, heaped
from keyhole.modalities.tabular.rules import rules_of
from keyhole.modalities.tabular.source_profile import SourceProfile

if TYPE_CHECKING:
    import pyarrow as pa

    from keyhole.core.records import Batch
    from keyhole.modalities.tabular.table import Tabular


def given_row(columns: list[Column], types: pa.Schema, given: Mapping[str, Any]) -> pa.Table:
    """A table of one row with these values, all else missing.

    Raises: DataError for a column that is none, SettingError for a value never met in training.
    """
    import pyarrow as pa

    if not isinstance(given, Mapping):
        raise SettingError(f"given={given!r:.60}: give values by column, {{'price': 2.5}}")
    by_name = {column.name: column for column in columns}
    for name in given:
        if name not in by_name:
            near = difflib.get_close_matches(str(name), list(by_name), 1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"columns: {list(by_name)[:20]}"
            raise DataError(f"given={name!r}: this model has no such column; {hint}")
    features = {}
    for field in types:
        if field.name not in given:
            features[field.name] = pa.nulls(1, field.type)
            continue
        value = given[field.name]
        _check(by_name[field.name], value)
        try:
            features[field.name] = _feature(value, field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as fault:
            raise SettingError(
                f"given {field.name}={value!r:.60}: the column holds {field.type}"
            ) from fault
    return pa.table(features)


def _feature(value: Any, wanted: Any) -> Any:
    import pyarrow as pa

    plain = wanted.value_type if pa.types.is_dictionary(wanted) else wanted
    if isinstance(value, str) and pa.types.is_integer(plain):
        return _feature(float(value), wanted)  # «1.0» is how some files write 1
    if isinstance(value, str) and not pa.types.is_string(plain):
        feature = pa.array([value]).cast(plain)
    else:
        feature = pa.array([value], plain)
        if isinstance(value, float) and feature[0].as_py() != value and pa.types.is_integer(plain):
            raise ValueError("not a whole number")
    return feature.dictionary_encode().cast(wanted) if plain is not wanted else feature


def _check(column: Column, value: Any) -> None:
    """Raises: SettingError for a level or a size that training never met."""
    if isinstance(column, Category | Boolean):
        levels = column.levels if isinstance(column, Category) else [column.no, column.yes]
        known = [str(level) for level in levels]
        if value_key(str(value)) not in {value_key(level) for level in known}:
            near = difflib.get_close_matches(str(value), known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"such as {levels[:8]}"
            raise SettingError(
                f"given {column.name}={value!r:.60}: training never met this level; {hint}"
            )
    if isinstance(column, Datetime):
        _check_datetime(column, value)
    if isinstance(column, Number | Count):
        try:
            size = float(value)
        except (TypeError, ValueError):
            return  # its type is refused where it is read
        least, most = column.range if isinstance(column, Number) else (column.least, column.most)
        if not least <= size <= most:
            raise SettingError(
                f"given {column.name}={value!r:.60}: training met {least:g} to {most:g}"
            )


def _check_datetime(column: Datetime, value: Any) -> None:
    """Raises: SettingError for a moment that is none, or beyond those that training met."""
    import pyarrow as pa

    seconds, bad = cast.seconds(pa.array([value]), column.style)
    least, most = column.range_s
    point_mass = column.point_mass is not None and seconds[0] == column.point_mass[0]
    if len(bad) or not (least <= seconds[0] <= most or point_mass):
        met = column.met()
        raise SettingError(f"given {column.name}={value!s:.60}: training met {met[0]} to {met[1]}")


NUMBERS, MOMENTS = {"number", "count"}, {"datetime"}  # kinds whose types are known


def check_types(columns: list[Column], schema: pa.Schema) -> None:
    """Decoded values of a column can only be of a type that its kind makes.

    Raises: BundleError.
    """
    import pyarrow.types as pt

    for column in columns:
        type_ = schema.field(column.name).type
        plain = pt.is_integer(type_) or pt.is_floating(type_)
        number = plain or pt.is_duration(type_)
        moment = pt.is_timestamp(type_) or pt.is_date(type_) or pt.is_string(type_)
        # 20240131, epochs
        moment = moment or (plain and getattr(column, "style", cast.ISO) != cast.ISO)
        if (column.kind in NUMBERS and not number) or (column.kind in MOMENTS and not moment):
            raise BundleError(f"column {column.name!r:.80} is a {column.kind} of type {type_}")


BINNED = {"student_t", "counts"}  # likelihoods that bins can stand for


def bounds_of(columns: list[Column], source_profile: SourceProfile) -> dict[str, Grid]:
    """Which values may be drawn, by column."""
    bounds = {
        c.name: c.bounds(source_profile.profiles[c.name])
        for c in columns
        if not isinstance(c, Ignored)
    }
    return {name: grid for name, grid in bounds.items() if grid}


def kept_rules(
    source: Source, source_profile: SourceProfile, columns: list[Column]
) -> list[dict[str, Any]] | None:
    """The rules between columns that all rows keep, as JSON; None without any."""
    return [rule.to_json() for rule in rules_of(source, source_profile, columns)] or None


def normalized(column: Column, source_profile: SourceProfile) -> Column:
    """A number column without repeated values, transformed to normal scores; others unchanged."""
    if not isinstance(column, Number):
        return column
    numbers = source_profile.profiles[column.name].numbers()
    if column.point_mass is not None:
        numbers = numbers[numbers != column.point_mass[0]]
    return column if heaped(numbers) else column.normalized(numbers)


def bins_of(table: Tabular, source_profile: SourceProfile) -> dict[str, list[list[float]]]:
    """The bins of features whose values repeat, from the profile's sample."""
    batch, binned = table.encode(ArrowRows(source_profile.sample)), {}
    for i, slot in enumerate(table.layout.slots):
        features = batch.numbers[:, i][batch.observed[:, i]].numpy() if not slot.coded else None
        if slot.head in BINNED and features is not None and heaped(features):
            binned[slot.name] = bins(features)
    return binned


def decode_codes(table: Tabular, batch: Batch, grids: dict[str, Grid]) -> pa.Table:
    """Cells as rows of values that these grids allow; unseen ones missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    features, observed = table.features(batch), batch.observed.cpu().numpy()
    columns = {}
    for column in table.encoded_columns:
        place = table.layout.features(column.name)
        values = column.drawn(features[:, place], grids.get(column.name))
        gaps = ~observed[:, place].any(1)
        if gaps.any():
            values = pc.if_else(pa.array(gaps), pa.scalar(None, values.type), values)  # pyright: ignore
        columns[column.name] = values
    return pa.table(columns)
