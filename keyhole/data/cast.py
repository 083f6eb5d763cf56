"""Arrow arrays as floats, texts or seconds; unreadable values are reported, not raised."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import numpy as np

from keyhole.data import dates, numerals

NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:inf|infinity))$"
WHOLE = r"^[+-]?(\d+|(?i:inf|infinity))$"
ISO = dates.ISO
YEAR_DAY = re.compile(r"%Y\W*%-?d")  # a year followed by a day, which ISO 8601 has not
DAY_S = 86_400
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def plain(values: Any) -> Any:
    """The array without dictionary encoding or views, in one chunk."""
    import pyarrow as pa

    values = without_views(values)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def without_views(values: Any) -> Any:
    """The array (or chunks) in a layout that Arrow can filter: no views, no run ends."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_run_end_encoded(values.type):
        values = pc.run_end_decode(values)  # pyright: ignore
    if pa.types.is_string_view(values.type):
        return values.cast(pa.string())
    return values.cast(pa.binary()) if pa.types.is_binary_view(values.type) else values


def ticks(values: Any) -> Any:
    """Dates, times, timestamps or durations as whole numbers of their unit."""
    import pyarrow as pa

    return values.cast(pa.int32() if values.type.bit_width == 32 else pa.int64())


def is_text(arrow_type: Any) -> bool:
    """True for the string types."""
    import pyarrow.types as pt

    return pt.is_string(arrow_type) or pt.is_large_string(arrow_type) or (
        pt.is_string_view(arrow_type)
    )  # fmt: skip


def is_numeric(arrow_type: Any) -> bool:
    """True for the types whose values are numbers: integers, floats, decimals, durations."""
    import pyarrow.types as pt

    tests = (pt.is_integer, pt.is_floating, pt.is_decimal, pt.is_duration)
    return any(test(arrow_type) for test in tests)


def floats(
    values: Any, decimal: str | None = None, unit: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Float64 with NaN for missing, and the positions of cells that hold no number.

    Texts are read with this decimal sign (None: the one that reads more of them) and, if any, this
    currency or percent sign.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as pt

    values = plain(values)
    none = np.empty(0, np.int64)
    if pt.is_null(values.type):
        return np.full(len(values), np.nan), none
    if pt.is_duration(values.type):
        values = pc.divide(ticks(values).cast("double", safe=False), PER_SECOND[values.type.unit])  # pyright: ignore
    if is_text(values.type):
        return _floats_of_text(texts(values), decimal, unit)
    if pt.is_boolean(values.type):
        values = values.cast(pa.uint8())
    if not (
        pt.is_integer(values.type) or pt.is_floating(values.type) or pt.is_decimal(values.type)
    ):
        return np.full(len(values), np.nan), np.flatnonzero(values.is_valid().to_numpy(False))
    return values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), none


def _floats_of_text(
    values: Any, decimal: str | None, unit: str | None
) -> tuple[np.ndarray, np.ndarray]:
    import pyarrow as pa

    if decimal is None:
        read, bad = _floats_of_text(values, ".", unit)
        other = _floats_of_text(values, ",", unit) if len(bad) else (read, bad)
        return other if len(other[1]) < len(bad) else (read, bad)
    if decimal != ",":
        try:
            return values.cast(pa.float64()).to_numpy(zero_copy_only=False), np.empty(0, np.int64)
        except pa.ArrowInvalid:
            pass
    return _floats_of_odd_text(values, decimal, unit)


def _floats_of_odd_text(
    values: Any, decimal: str, unit: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Texts of which not all are numbers that every program reads."""
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = NUMBER if decimal != "," else WHOLE
    reads = pc.fill_null(pc.match_substring_regex(values, whole), False)  # pyright: ignore
    read = pc.if_else(reads, values, None).cast(pa.float64()).to_numpy(zero_copy_only=False)  # pyright: ignore
    odd = np.flatnonzero(pc.and_(values.is_valid(), pc.invert(reads)).to_numpy(False))  # pyright: ignore
    if not len(odd):
        return read, odd
    read = np.array(read)
    read[odd] = numerals.numbers(values.take(odd), decimal or ".", unit)
    return read, odd[np.isnan(read[odd])]


def numbers_or_gaps(values: Any, decimal: str | None = None, unit: str | None = None) -> Any:
    """The array as float64, null where a cell holds no number."""
    import pyarrow as pa

    return pa.array(floats(values, decimal, unit)[0], from_pandas=True)


def number_texts(values: Any) -> Any:
    """Floats as texts with six digits; NaN becomes null."""
    import pyarrow as pa

    numbers = values.to_numpy(zero_copy_only=False)
    return pa.array([None if np.isnan(n) else f"{n:.6g}" for n in numbers], pa.string())


def texts(values: Any) -> Any:
    """The array as Arrow strings, durations in seconds; null stays null."""
    import pyarrow as pa

    values = plain(values)
    if values.type == pa.string():
        return values
    if pa.types.is_duration(values.type):
        return _seconds_texts(ticks(values), PER_SECOND[values.type.unit])
    try:
        return values.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        zone = pa.types.is_timestamp(values.type) and values.type.tz
        if zone and zone != "UTC":  # one that this machine does not know
            return texts(values.cast(pa.timestamp(values.type.unit, tz="UTC")))
        return pa.array([None if v is None else str(v) for v in values.to_pylist()], pa.string())


def _seconds_texts(whole: Any, per_second: int) -> Any:
    """Whole numbers of a unit as texts of seconds, exactly."""
    import pyarrow as pa

    numbers = (None if n is None else Decimal(n) / per_second for n in whole.to_pylist())
    return pa.array([None if n is None else f"{n.normalize():f}" for n in numbers], pa.string())


def seconds(values: Any, style: str = ISO) -> tuple[np.ndarray, np.ndarray]:
    """Seconds since 1970 in UTC, NaN for missing, and the positions that hold no moment.

    `style` is how texts or numbers write moments, see `dates`.
    """
    import pyarrow.types as pt

    values = plain(values)
    if style in dates.EPOCHS and not (pt.is_timestamp(values.type) or pt.is_date(values.type)):
        numbers, bad = floats(values, ".")
        return numbers * dates.EPOCHS[style], bad
    if pt.is_integer(values.type) or is_text(values.type):
        moments = _iso_too(texts(values), style)
        observed = values.is_valid().to_numpy(zero_copy_only=False)
        return moments, np.flatnonzero(np.isnan(moments) & observed)
    if not (pt.is_timestamp(values.type) or pt.is_date(values.type)):
        return np.full(len(values), np.nan), np.flatnonzero(values.is_valid().to_numpy(False))
    none = np.empty(0, np.int64)
    whole = ticks(values).cast("double", safe=False).to_numpy(zero_copy_only=False)
    if pt.is_date32(values.type):
        return whole * DAY_S, none
    return whole / PER_SECOND["ms" if pt.is_date(values.type) else values.type.unit], none


def _iso_too(written: Any, style: str) -> np.ndarray:
    """Seconds of texts in a format or, where it does not read them, in ISO 8601; NaN for neither.

    The libraries that write one table as CSV differ in its T, its fractions and its midnights.
    With and without a zone are not mixed, nor the ISO order with a year followed by a day.
    """
    import pyarrow.compute as pc

    moments = dates.read(written, style)
    odd = np.isnan(moments) & written.is_valid().to_numpy(zero_copy_only=False)
    if not odd.any() or style == ISO or YEAR_DAY.search(style):
        return moments
    spaced = pc.replace_substring_regex(written.filter(odd), r"(\d)T(\d)", r"\1 \2")  # pyright: ignore
    zone = "%z" if "%z" in style else ""
    for clock in (" %H:%M:%S", " %H:%M", "")[: 2 if zone else 3]:
        left = np.isnan(moments[odd])
        moments[odd] = np.where(left, dates.read(spaced, f"%Y-%m-%d{clock}{zone}"), moments[odd])
    return moments


def datetime_style(sample: Any) -> str | None:
    """The format that reads every text of the sample as a moment, None where none or two do."""
    styles = dates.styles(sample)
    return styles[0] if len(styles) == 1 else None
