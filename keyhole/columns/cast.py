"""Arrow arrays of any type as floats, texts or moments; what cannot be read is not raised."""

from __future__ import annotations

from typing import Any

import numpy as np

NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:inf|infinity))$"
# Tried in this order, on the whole sample: the first that reads every text wins.
DATE_FORMATS = (
    "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y/%m/%d",
    "%Y/%m/%d %H:%M:%S", "%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%d/%m/%Y",
    "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S",
)  # fmt: skip
ISO = "iso"  # Arrow's own reader: fractions of a second, a zone


def plain(values: Any) -> Any:
    """The array without dictionary encoding or string views, in one chunk."""
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_string_view(values.type):
        values = values.cast(pa.string())  # many functions have no kernel for views
    return values


def is_text(arrow_type: Any) -> bool:
    """True for the string types."""
    import pyarrow.types as pt

    return pt.is_string(arrow_type) or pt.is_large_string(arrow_type) or (
        pt.is_string_view(arrow_type)
    )  # fmt: skip


def floats(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Float64 with NaN for missing, and the positions of cells that hold no number."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as pt

    values = plain(values)
    none = np.empty(0, np.int64)
    if pt.is_null(values.type):
        return np.full(len(values), np.nan), none
    if pt.is_duration(values.type):
        values = pc.divide(values.cast(pa.duration("us")).cast(pa.int64()).cast("double"), 1e6)  # pyright: ignore
    if is_text(values.type):
        return _floats_of_text(values)
    if pt.is_boolean(values.type):
        values = values.cast(pa.uint8())
    if not (
        pt.is_integer(values.type) or pt.is_floating(values.type) or pt.is_decimal(values.type)
    ):
        return np.full(len(values), np.nan), np.flatnonzero(values.is_valid().to_numpy(False))
    return values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), none


def _floats_of_text(values: Any) -> tuple[np.ndarray, np.ndarray]:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return values.cast(pa.float64()).to_numpy(zero_copy_only=False), np.empty(0, np.int64)
    except pa.ArrowInvalid:
        reads = pc.match_substring_regex(values, NUMBER)  # pyright: ignore
        read = pc.if_else(reads, values, None).cast(pa.float64())  # pyright: ignore
        bad = pc.fill_null(pc.invert(reads), False).to_numpy(zero_copy_only=False)  # pyright: ignore
        return read.to_numpy(zero_copy_only=False), np.flatnonzero(bad)


def numbers_or_gaps(values: Any) -> Any:
    """The array as float64, null where a cell holds no number."""
    import pyarrow as pa

    return pa.array(floats(values)[0], from_pandas=True)


def texts(values: Any) -> Any:
    """The array as Arrow strings; null stays null."""
    import pyarrow as pa

    values = plain(values)
    if values.type == pa.string():
        return values
    try:
        return values.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array([None if v is None else str(v) for v in values.to_pylist()], pa.string())


def seconds(values: Any, style: str = ISO) -> tuple[np.ndarray, np.ndarray]:
    """Seconds since 1970 in UTC, NaN for missing, and the positions that hold no moment."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as pt

    values = plain(values)
    bad = np.empty(0, np.int64)
    if is_text(values.type):
        values, bad = _moments_of_text(values, style)
    if not (pt.is_timestamp(values.type) or pt.is_date(values.type)):
        return np.full(len(values), np.nan), np.flatnonzero(values.is_valid().to_numpy(False))
    micros = values.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    return pc.divide(micros.cast("double", safe=False), 1e6).to_numpy(False), bad  # pyright: ignore


def _moments_of_text(values: Any, style: str) -> tuple[Any, np.ndarray]:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return _read_moments(values, style), np.empty(0, np.int64)
    except pa.ArrowInvalid:
        read = []
        for value in values:
            try:
                read.append(_read_moments(pa.array([value], pa.string()), style)[0].as_py())
            except pa.ArrowInvalid:
                read.append(None)
        moments = pa.array(read, pa.timestamp("us"))
        bad = pc.and_(pc.is_null(moments), pc.is_valid(values))  # pyright: ignore
        return moments, np.flatnonzero(bad.to_numpy(zero_copy_only=False))


def _read_moments(values: Any, style: str) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if style != ISO:
        return pc.strptime(values, format=style, unit="us")  # pyright: ignore
    try:
        return values.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:  # texts with a zone
        return values.cast(pa.timestamp("us", tz="UTC")).cast(pa.timestamp("us"))


def moment_style(sample: Any) -> str | None:
    """The format that reads every text of the sample as a moment, or None."""
    import pyarrow as pa

    if not len(sample):
        return None
    for style in (ISO, *DATE_FORMATS):
        try:
            _read_moments(sample, style)
        except pa.ArrowInvalid:
            continue
        return style
    return None
