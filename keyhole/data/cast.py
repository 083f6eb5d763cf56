"""Arrow arrays as floats, texts or seconds, and back as arrays of a named type."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Context, Decimal
from typing import Any

import numpy as np

from keyhole.data import dates, numerals
from keyhole.data.lazy import pa, pc, pt

NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:inf|infinity))$"
WHOLE = r"^[+-]?(\d+|(?i:inf|infinity))$"
ISO = dates.ISO
YEAR_DAY = re.compile(r"%Y\W*%-?d")  # a year followed by a day, unlike ISO 8601
DAY_S = 86_400
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
EXACT = Context(prec=100)  # digits: more than any Arrow type has


def plain(values: Any) -> Any:
    """One array without encodings and views, for which Arrow has few functions."""
    if pa.types.is_run_end_encoded(values.type):
        values = pc.run_end_decode(values)
    if pa.types.is_string_view(values.type):
        values = values.cast(pa.string())
    elif pa.types.is_binary_view(values.type):
        values = values.cast(pa.binary())
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def ticks(values: Any) -> Any:
    """Dates, times, timestamps or durations as whole numbers of their unit."""
    return values.cast(pa.int32() if values.type.bit_width == 32 else pa.int64())


def is_text(arrow_type: Any) -> bool:
    """True for the string types."""
    return any(is_(arrow_type) for is_ in (pt.is_string, pt.is_large_string, pt.is_string_view))


def is_numeric(arrow_type: Any) -> bool:
    """True for integers, floats, decimals and durations."""
    tests = (pt.is_integer, pt.is_floating, pt.is_decimal, pt.is_duration)
    return any(test(arrow_type) for test in tests)


def floats(
    values: Any, decimal: str | None = None, unit: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Float64 with NaN for missing, and the positions of values that are not numbers.

    Texts are read with this decimal sign (None: the one that reads more of them), and with no
    other unit than this one.
    """
    values = plain(values)
    if pt.is_duration(values.type):
        values = pc.divide(ticks(values).cast("double", safe=False), PER_SECOND[values.type.unit])
    if is_text(values.type):
        return _floats_of_text(texts(values), decimal, unit)
    if pt.is_boolean(values.type):
        values = values.cast(pa.uint8())
    if not is_numeric(values.type):
        return np.full(len(values), np.nan), np.flatnonzero(values.is_valid().to_numpy(False))
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers, np.empty(0, np.int64)


def _floats_of_text(
    values: Any, decimal: str | None, unit: str | None
) -> tuple[np.ndarray, np.ndarray]:
    if decimal is None:
        numbers, bad = _floats_of_text(values, ".", unit)
        other = _floats_of_text(values, ",", unit) if len(bad) else (numbers, bad)
        return other if len(other[1]) < len(bad) else (numbers, bad)
    if decimal != ",":
        with suppress(pa.ArrowInvalid):
            return values.cast(pa.float64()).to_numpy(zero_copy_only=False), np.empty(0, np.int64)
    pattern = NUMBER if decimal != "," else WHOLE
    simple = pc.fill_null(pc.match_substring_regex(values, pattern), False)
    numbers = np.array(pc.if_else(simple, values, None).cast(pa.float64()))
    complex_ = np.flatnonzero(pc.and_(values.is_valid(), pc.invert(simple)).to_numpy(False))
    if len(complex_):  # Arrow cannot read thousands, units or a decimal comma
        numbers[complex_] = numerals.numbers(values.take(complex_), decimal or ".", unit)
    return numbers, complex_[np.isnan(numbers[complex_])]


def numbers_or_gaps(values: Any, decimal: str | None = None, unit: str | None = None) -> Any:
    """The array as float64, null for values that are not numbers."""
    return pa.array(floats(values, decimal, unit)[0], from_pandas=True)


def short_texts(values: Any) -> Any:
    """The array as Arrow strings, floats with six digits; NaN becomes null."""
    if not pa.types.is_floating(values.type):
        return texts(values)
    numbers = values.to_numpy(zero_copy_only=False)
    return pa.array([None if np.isnan(n) else f"{n:.6g}" for n in numbers], pa.string())


def texts(values: Any) -> Any:
    """The array as Arrow strings, durations in seconds; null stays null."""
    values = plain(values)
    if values.type == pa.string():
        return values
    if pa.types.is_duration(values.type):
        unit = PER_SECOND[values.type.unit]
        exact = (None if n is None else Decimal(n) / unit for n in ticks(values).to_pylist())
        return pa.array([n if n is None else f"{n.normalize():f}" for n in exact], pa.string())
    try:
        return values.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        zone = pa.types.is_timestamp(values.type) and values.type.tz
        if zone and zone != "UTC":  # a time zone that this machine does not know
            return texts(values.cast(pa.timestamp(values.type.unit, tz="UTC")))
        return pa.array([None if v is None else str(v) for v in values.to_pylist()], pa.string())


def seconds(values: Any, style: str = ISO) -> tuple[np.ndarray, np.ndarray]:
    """Seconds since 1970 in UTC, NaN for gaps, and positions of unreadable values; see `dates`."""
    values = plain(values)
    if style in dates.EPOCHS and not (pt.is_timestamp(values.type) or pt.is_date(values.type)):
        numbers, bad = floats(values, ".")
        return numbers * dates.EPOCHS[style], bad
    if pt.is_integer(values.type) or is_text(values.type):
        moments = _seconds_of_text(texts(values), style)
        observed = values.is_valid().to_numpy(zero_copy_only=False)
        return moments, np.flatnonzero(np.isnan(moments) & observed)
    if not (pt.is_timestamp(values.type) or pt.is_date(values.type)):
        return np.full(len(values), np.nan), np.flatnonzero(values.is_valid().to_numpy(False))
    whole = ticks(values).cast("double", safe=False).to_numpy(zero_copy_only=False)
    if pt.is_date32(values.type):
        whole = whole * DAY_S
    else:
        whole = whole / PER_SECOND["ms" if pt.is_date(values.type) else values.type.unit]
    return whole, np.empty(0, np.int64)


def _seconds_of_text(values: Any, style: str) -> np.ndarray:
    """Seconds of texts in a format or else in ISO 8601; NaN for other texts.

    Libraries differ in the T, the fractions and the midnights that they write to a CSV. Texts with
    and without a time zone are not mixed, nor is ISO 8601 with a year followed by a day.
    """
    moments = dates.read(values, style)
    unread = np.isnan(moments) & values.is_valid().to_numpy(zero_copy_only=False)
    if not unread.any() or style == ISO or YEAR_DAY.search(style):
        return moments
    spaced = pc.replace_substring_regex(values.filter(unread), r"(\d)T(\d)", r"\1 \2")
    zone = "%z" if "%z" in style else ""
    iso = np.full(len(spaced), np.nan)
    for clock in (" %H:%M:%S", " %H:%M", "")[: 2 if zone else 3]:
        iso = np.where(np.isnan(iso), dates.read(spaced, f"%Y-%m-%d{clock}{zone}"), iso)
    moments[unread] = iso
    return moments


def datetime_style(sample: Any) -> str | None:
    """The datetime format of all texts of the sample; None if none or two fit."""
    styles = dates.styles(sample)
    return styles[0] if len(styles) == 1 else None


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


def name_of(arrow_type: Any, *, levels: bool = False) -> str:
    """The name of the type in which a column is decoded; "string" for a type without a name."""
    text = str(arrow_type.value_type if pt.is_dictionary(arrow_type) else arrow_type)
    known = text in PLAIN or ZONED.fullmatch(text) or DECIMAL.fullmatch(text)
    return (LEVELS if levels else "") + (text if known else "string")


def type_named(type_name: str) -> Any:
    """The Arrow type of this name (of levels: of their values), or text for an unknown name."""
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
    """Values, or levels from JSON, in the named type; all as texts if one cannot be converted."""
    wanted = type_named(type_name)
    if not isinstance(values, list) or all(not isinstance(value, str) for value in values):
        return pa.array(values, wanted)
    strings = pa.array(values, pa.string())
    try:
        if pt.is_duration(wanted):
            unit = PER_SECOND[wanted.unit]
            units = [None if v is None else int(EXACT.multiply(Decimal(v), unit)) for v in values]
            return pa.array(units, pa.int64()).cast(wanted)
        if pt.is_decimal(wanted):
            return pa.array([None if v is None else Decimal(v) for v in values], wanted)
        if pt.is_time(wanted):
            moments = pa.array([v if v is None else f"1970-01-01 {v}" for v in values])
            units = ticks(moments.cast(pa.timestamp(wanted.unit)))
            return units.cast(pa.int32() if wanted.bit_width == 32 else pa.int64()).cast(wanted)
        return strings.cast(wanted)
    except (pa.ArrowException, ArithmeticError, ValueError):
        return strings


def picked(values: list[Any], indices: Any, type_name: str) -> Any:
    """The values at these indices (an Arrow array with null for missing), in the named type."""
    levels = array(values, type_name)
    if type_name.startswith(LEVELS):
        return pa.DictionaryArray.from_arrays(indices.cast(pa.int32()), levels)
    return levels.take(indices)


def of_numbers(numbers: np.ndarray, type_name: str) -> Any:
    """Floats in the named type, rounded and clipped to its range if it is not a type of floats."""
    wanted = type_named(type_name)
    if pt.is_integer(wanted):
        return _whole(numbers, wanted)
    if pt.is_duration(wanted):
        return _whole(numbers * PER_SECOND[wanted.unit], pa.int64()).cast(wanted)
    if pt.is_decimal(wanted):
        step = Decimal(1).scaleb(-wanted.scale)
        most = (Decimal(10) ** wanted.precision - 1).scaleb(-wanted.scale, EXACT)
        rounded = (EXACT.quantize(Decimal(repr(n)), step) for n in numbers.tolist())
        return pa.array([min(max(value, -most), most) for value in rounded], wanted)
    wanted = wanted if pt.is_floating(wanted) else pa.float64()
    return pa.array(numbers.astype(wanted.to_pandas_dtype()), wanted)


def of_seconds(moments: np.ndarray, type_name: str) -> Any:
    """Seconds since 1970 as dates or timestamps of the named type."""
    wanted = type_named(type_name)
    days = np.floor(moments / DAY_S)
    if pt.is_date32(wanted):
        return _whole(days, pa.int32()).cast(wanted)
    if pt.is_date(wanted):
        return _whole(days * DAY_S * 1_000, pa.int64()).cast(wanted)
    return _whole(moments * PER_SECOND[wanted.unit], pa.int64()).cast(wanted)


def ends_of(values: Any) -> list[str] | None:
    """The exact least and most value as texts; None for floats and other types."""
    if pt.is_temporal(values.type):
        values = ticks(values)
    exact = pt.is_integer(values.type) or pt.is_decimal(values.type)
    if not exact or values.null_count == len(values):
        return None
    ends = pc.min_max(values)
    pair = pa.array([ends["min"].as_py(), ends["max"].as_py()], values.type)
    return texts(pair).to_pylist()


def narrowed(
    limits: Sequence[float], ends: Sequence[str] | None, typed: Callable[[np.ndarray], Any]
) -> list[float]:
    """The range as floats which `typed` does not convert to values beyond the exact `ends`."""
    low, high = limits
    for _ in range(ROUNDINGS):
        exact = None if ends is None else ends_of(typed(np.array([low, high])))
        if ends is None or exact is None:
            break
        low = np.nextafter(low, np.inf) if Decimal(exact[0]) < Decimal(ends[0]) else low
        high = np.nextafter(high, -np.inf) if Decimal(exact[1]) > Decimal(ends[1]) else high
    return [float(low), float(max(low, high))]


def _whole(numbers: np.ndarray, wanted: Any) -> Any:
    dtype = wanted.to_pandas_dtype()
    limits = np.iinfo(dtype)
    # A float64 rounds the last int64 up, beyond its range.
    most = np.nextafter(float(limits.max), 0) if limits.max > 2**53 else float(limits.max)
    return pa.array(np.round(numbers).clip(float(limits.min), most).astype(dtype), wanted)
