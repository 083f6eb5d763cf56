"""Between what a file stores and real values: rounding, and a count of what does not fit."""

import numpy as np

from keyhole.errors import DataError

Limits = tuple[float, float]


def limits_of(dtype: np.dtype) -> Limits | None:
    """The least and the largest value that a type can hold; None for floats."""
    if dtype.kind == "b":
        return 0.0, 1.0
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return float(info.min), float(info.max)
    return None


def check_dtype(dtype: np.dtype) -> None:
    """Raises: DataError for what is no real number: complex, objects, texts, records."""
    if dtype.kind not in "biuf":
        what = {"c": "complex numbers; take their magnitude first"}.get(
            dtype.kind, f"{dtype} and not numbers"
        )
        raise DataError(f"its pixels are {what}")


def to_stored(
    values: np.ndarray, dtype: np.dtype, limits: Limits | None
) -> tuple[np.ndarray, int]:
    """Values as the type stores them, rounded to nearest, and how many pixels had to be clipped.

    `limits` are in stored units. A NaN has no place among integers: it is clipped to the value
    next to zero.
    """
    if dtype.kind == "f":
        return _to_float(values, dtype)
    low, high = limits or limits_of(dtype) or (0.0, 1.0)
    rounded = np.rint(values)
    wrong = ~((rounded >= low) & (rounded <= high))
    clipped = int(wrong.any(-1).sum())
    if clipped or dtype.itemsize > 2:  # in single precision, 2**32 passes for the last uint32
        rounded = np.where(np.isnan(rounded), 0.0, rounded.astype(np.float64)).clip(low, high)
    if dtype.kind != "b" and dtype.itemsize == 8:  # a float near 2**63 may round past the end
        info = np.iinfo(dtype)
        over, under = rounded >= info.max, rounded <= info.min
        whole = np.where(over | under, 0, rounded).astype(dtype)
        return np.where(over, info.max, np.where(under, info.min, whole)).astype(dtype), clipped
    return rounded.astype(dtype), clipped


def _to_float(values: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, int]:
    """Only half precision and the like can overflow; what was infinite or NaN stays so."""
    top = np.finfo(dtype).max
    wrong = np.isfinite(values) & (np.abs(values) > top)
    clipped = int(wrong.any(-1).sum())
    if clipped:
        values = np.where(wrong, np.copysign(top, values), values)
    return values.astype(dtype), clipped
