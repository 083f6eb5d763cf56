"""Arrow types as names in saved models, and arrays of a named type."""

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from keyhole.data import cast

PLAIN = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "halffloat",
    "float", "double", "string", "date32[day]", "date64[ms]", "timestamp[s]", "timestamp[ms]",
    "timestamp[us]", "timestamp[ns]", "duration[s]", "duration[ms]", "duration[us]",
    "duration[ns]", "time32[s]", "time32[ms]", "time64[us]", "time64[ns]",
}  # fmt: skip
ZONED = re.compile(r"timestamp\[(s|ms|us|ns), tz=([A-Za-z0-9_+:/-]{1,64})\]")
DECIMAL = re.compile(r"decimal(32|64|128|256)\((\d{1,2}), (-?\d{1,2})\)")
LEVELS = "levels of "  # before the name of the values' type: an Arrow dictionary
ROUNDINGS = 8  # float64 steps by which an end of a range is moved at most


def name(arrow_type: Any, *, levels: bool = False) -> str:
    """The name of the type in which a column is decoded; "string" for a type without a name."""
    import pyarrow.types as pt

    text = str(arrow_type.value_type if pt.is_dictionary(arrow_type) else arrow_type)
    known = text in PLAIN or ZONED.fullmatch(text) or DECIMAL.fullmatch(text)
    return (LEVELS if levels else "") + (text if known else "string")


def named(type_name: str) -> Any:
    """The Arrow type of this name (of levels: of their values), or text for an unknown name."""
    import pyarrow as pa

    type_name = type_name.removeprefix(LEVELS)
    zoned, decimal = ZONED.fullmatch(type_name), DECIMAL.fullmatch(type_name)
    if zoned:
        return pa.timestamp(zoned[1], tz=zoned[2])
    if decimal:
        return getattr(pa, f"decimal{decimal[1]}")(int(decimal[2]), int(decimal[3]))
    return pa.type_for_alias(type_name) if type_name in PLAIN else pa.string()


def is_datetime(type_name: str) -> bool:
    """True for the names of dates and timestamps."""
    return type_name.startswith(("date", "timestamp"))


def array(values: Any, type_name: str) -> Any:
    """An Arrow array of values, or of levels from JSON, in the named type.

    All levels are texts if one of them cannot be converted.
    """
    import pyarrow as pa
    import pyarrow.types as pt

    wanted = named(type_name)
    if not isinstance(values, list) or all(not isinstance(value, str) for value in values):
        return pa.array(values, wanted)
    texts = pa.array(values, pa.string())
    try:
        if pt.is_duration(wanted):
            per_second = cast.PER_SECOND[wanted.unit]
            ticks = [
                v if v is None else int(cast.EXACT.multiply(Decimal(v), per_second))
                for v in values
            ]
            return pa.array(ticks, pa.int64()).cast(wanted)
        if pt.is_decimal(wanted):
            return pa.array([None if v is None else Decimal(v) for v in values], wanted)
        if pt.is_time(wanted):
            moments = pa.array([v if v is None else f"1970-01-01 {v}" for v in values])
            ticks = cast.ticks(moments.cast(pa.timestamp(wanted.unit)))
            return ticks.cast(pa.int32() if wanted.bit_width == 32 else pa.int64()).cast(wanted)
        return texts.cast(wanted)
    except (pa.ArrowException, ArithmeticError, ValueError):
        return texts


def picked(values: list[Any], indices: Any, type_name: str) -> Any:
    """The values at these indices (an Arrow array with null for missing), in the named type."""
    import pyarrow as pa

    levels = array(values, type_name)
    if type_name.startswith(LEVELS):
        return pa.DictionaryArray.from_arrays(indices.cast(pa.int32()), levels)
    return levels.take(indices)


def of_numbers(numbers: np.ndarray, type_name: str) -> Any:
    """Floats in the named type, rounded if it is a type of whole numbers."""
    import pyarrow as pa
    import pyarrow.types as pt

    wanted = named(type_name)
    if pt.is_integer(wanted):
        return _whole(numbers, wanted)
    if pt.is_duration(wanted):
        ticks = _whole(numbers * cast.PER_SECOND[wanted.unit], pa.int64())
        return ticks.cast(wanted)
    if pt.is_decimal(wanted):
        return _decimals(numbers, wanted)
    wanted = wanted if pt.is_floating(wanted) else pa.float64()
    return pa.array(numbers.astype(wanted.to_pandas_dtype()), wanted)


def of_seconds(moments: np.ndarray, type_name: str) -> Any:
    """Seconds since 1970 as dates or timestamps of the named type."""
    import pyarrow as pa
    import pyarrow.types as pt

    wanted = named(type_name)
    days = np.floor(moments / cast.DAY_S)
    if pt.is_date32(wanted):
        ticks = _whole(days, pa.int32())
    elif pt.is_date(wanted):
        ticks = _whole(days * cast.DAY_S * 1_000, pa.int64())
    else:
        ticks = _whole(moments * cast.PER_SECOND[wanted.unit], pa.int64())
    return ticks.cast(wanted)


def ends_of(values: Any) -> list[str] | None:
    """The exact least and most value as texts; None for floats and other types."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as pt

    if pt.is_temporal(values.type):
        values = cast.ticks(values)
    exact = pt.is_integer(values.type) or pt.is_decimal(values.type)
    if not exact or values.null_count == len(values):
        return None
    ends = pc.min_max(values)  # pyright: ignore
    pair = pa.array([ends["min"].as_py(), ends["max"].as_py()], values.type)
    return cast.texts(pair).to_pylist()


def narrowed(
    floats: Sequence[float], ends: Sequence[str] | None, typed: Callable[[np.ndarray], Any]
) -> list[float]:
    """The range as floats which `typed` does not convert to values beyond the exact `ends`."""
    low, high = floats
    for _ in range(ROUNDINGS if ends is not None else 0):
        exact = ends_of(typed(np.array([low, high])))
        if ends is None or exact is None:
            break
        low = np.nextafter(low, np.inf) if Decimal(exact[0]) < Decimal(ends[0]) else low
        high = np.nextafter(high, -np.inf) if Decimal(exact[1]) > Decimal(ends[1]) else high
    return [float(low), float(max(low, high))]


def _whole(numbers: np.ndarray, wanted: Any) -> Any:
    """Rounded numbers as integers, clipped to the type's range."""
    import pyarrow as pa

    dtype = wanted.to_pandas_dtype()
    limits = np.iinfo(dtype)
    # A float64 rounds the last int64 up, beyond its range.
    most = np.nextafter(float(limits.max), 0) if limits.max > 2**53 else float(limits.max)
    return pa.array(np.round(numbers).clip(float(limits.min), most).astype(dtype), wanted)


def _decimals(numbers: np.ndarray, wanted: Any) -> Any:
    """Rounded numbers as decimals, clipped to the type's range."""
    import pyarrow as pa

    step = Decimal(1).scaleb(-wanted.scale)
    most = (Decimal(10) ** wanted.precision - 1).scaleb(-wanted.scale, cast.EXACT)
    rounded = (cast.EXACT.quantize(Decimal(repr(n)), step) for n in numbers.tolist())
    return pa.array([min(max(value, -most), most) for value in rounded], wanted)
