"""Given values of a row, checked against what training data held; columns that must exist."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keyhole.data import cast
from keyhole.data.levels import value_key
from keyhole.errors import BundleError, DataError, SettingError
from keyhole.modalities.tabular.columns import Boolean, Category, Column, Count, Datetime, Number

if TYPE_CHECKING:
    import pyarrow as pa


def given_row(columns: list[Column], types: pa.Schema, given: Mapping[str, Any]) -> pa.Table:
    """A table of one row with these values; all others are missing.

    Raises: DataError for an unknown column, SettingError for a value outside of training data.
    """
    import pyarrow as pa

    if not isinstance(given, Mapping):
        raise SettingError(f"given={given!r:.60}: give values by column, {{'price': 2.5}}")
    by_name = {column.name: column for column in columns}
    for name in given:
        if name not in by_name:
            hint = _hint(str(name), list(by_name), f"columns: {list(by_name)[:20]}", cutoff=0.5)
            raise DataError(f"given={name!r}: this model has no such column; {hint}")
    arrays = {}
    for field in types:
        if field.name not in given:
            arrays[field.name] = pa.nulls(1, field.type)
            continue
        value = given[field.name]
        _check(by_name[field.name], value)
        try:
            arrays[field.name] = _array(value, field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as fault:
            raise SettingError(
                f"given {field.name}={value!r:.60}: the column holds {field.type}"
            ) from fault
    return pa.table(arrays)


def _array(value: Any, wanted: Any) -> Any:
    """One value as an Arrow array of the wanted type."""
    import pyarrow as pa

    plain = wanted.value_type if pa.types.is_dictionary(wanted) else wanted
    if isinstance(value, str) and pa.types.is_integer(plain):
        return _array(float(value), wanted)  # some files write 1 as 1.0
    if isinstance(value, str) and not pa.types.is_string(plain):
        array = pa.array([value]).cast(plain)
    else:
        array = pa.array([value], plain)
        if isinstance(value, float) and array[0].as_py() != value and pa.types.is_integer(plain):
            raise ValueError("not a whole number")
    return array.dictionary_encode().cast(wanted) if plain is not wanted else array


def _check(column: Column, value: Any) -> None:
    """Raises: SettingError for a level, number or datetime outside of training data."""
    import pyarrow as pa

    if isinstance(column, Category | Boolean):
        levels = column.levels if isinstance(column, Category) else [column.no, column.yes]
        known = [str(level) for level in levels]
        if value_key(str(value)) not in {value_key(level) for level in known}:
            hint = _hint(str(value), known, f"such as {levels[:8]}")
            raise SettingError(
                f"given {column.name}={value!r:.60}: training never met this level; {hint}"
            )
    if isinstance(column, Datetime):
        seconds, unreadable = cast.seconds(pa.array([value]), column.style)
        (least, most), texts = column.range_s, column.met()
        point_mass = column.point_mass is not None and seconds[0] == column.point_mass[0]
        if len(unreadable) or not (least <= seconds[0] <= most or point_mass):
            raise SettingError(
                f"given {column.name}={value!s:.60}: training met {texts[0]} to {texts[1]}"
            )
    if isinstance(column, Number | Count):
        try:
            number = float(value)
        except (TypeError, ValueError):
            return  # `given_row` checks the type
        least, most = column.range if isinstance(column, Number) else (column.least, column.most)
        if not least <= number <= most:
            raise SettingError(
                f"given {column.name}={value!r:.60}: training met {least:g} to {most:g}"
            )


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


def _hint(name: str, known: list[str], otherwise: str, cutoff: float = 0.6) -> str:
    close = difflib.get_close_matches(name, known, 1, cutoff=cutoff)
    return f"did you mean {close[0]!r}?" if close else otherwise
