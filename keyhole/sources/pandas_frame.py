"""Columns of pandas frames, and of Python objects, as Arrow arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from keyhole.columns import cast
from keyhole.errors import ColumnTypeError, DataError
from keyhole.sources.base import check_names

if TYPE_CHECKING:
    import pyarrow as pa

FLOAT_BYTES = 8  # of the widest floats that Arrow has


def pandas_table(data: Any) -> pa.Table:
    """A pandas frame as an Arrow table; labels become texts.

    Raises: DataError for labels of which some are texts and some are not.
    """
    import pyarrow as pa

    if len({isinstance(name, str) for name in data.columns}) > 1:
        odd = next(name for name in data.columns if not isinstance(name, str))
        raise DataError(
            f"the frame has column names that are texts and some that are not, such as {odd!r}; "
            "name all by texts: X.columns = X.columns.astype(str)"
        )
    names = [str(name) for name in data.columns]
    check_names(names, "the frame")
    columns = [pandas_array(n, data.iloc[:, i]) for i, n in enumerate(names)]
    return pa.table(columns, names=names)


def pandas_array(name: str, values: Any) -> pa.Array:
    """One column of a pandas frame; objects of several types become texts.

    Levels keep their order; periods are the moments that they begin, intervals are texts.
    """
    import pandas as pd
    import pyarrow as pa

    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        codes = pa.array(values.cat.codes.to_numpy(), mask=values.isna().to_numpy())
        known = level_array(dtype.categories)
        return pa.DictionaryArray.from_arrays(codes, known, ordered=bool(dtype.ordered))
    if isinstance(dtype, pd.IntervalDtype):
        return _texts_of(values)
    if isinstance(dtype, pd.PeriodDtype):
        values = values.astype("datetime64[ns]") if isinstance(values, pd.Series) else (
            values.to_timestamp()
        )  # fmt: skip
    if isinstance(dtype, pd.SparseDtype):
        values = pd.Series(values.to_numpy())
    if isinstance(dtype, np.dtype) and dtype.kind == "f" and dtype.itemsize > FLOAT_BYTES:
        values = values.astype("float64")  # Arrow has none of more bits
    try:
        found = pa.Array.from_pandas(values)
    except UnicodeEncodeError as error:
        raise ColumnTypeError(
            f"column {name!r} holds {error.object!a:.60}, which is no valid Unicode text; decode "
            "such bytes in their own encoding, or exclude the column"
        ) from None
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return _object_array(name, values.to_numpy())
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def level_array(levels: Any) -> pa.Array:
    """A pandas index of levels as an Arrow array: as texts where Arrow has no such type."""
    import pyarrow.types as pt

    try:
        known = cast.plain(pandas_array("levels", levels))
    except ColumnTypeError:  # tuples
        return _texts_of(levels)
    usable = pt.is_temporal(known.type) or pt.is_boolean(known.type) or cast.is_text(known.type)
    return known if usable or cast.is_numeric(known.type) else _texts_of(levels)


def _texts_of(values: Any) -> pa.Array:
    """Objects of any type as texts."""
    import pandas as pd
    import pyarrow as pa

    objects = zip(values.tolist(), pd.isna(values), strict=True)
    return pa.array([None if gap else str(value) for value, gap in objects], pa.string())


def object_table(columns: dict[str, np.ndarray]) -> pa.Table:
    """Columns of Python objects as an Arrow table."""
    import pyarrow as pa

    return pa.table({name: _object_array(name, values) for name, values in columns.items()})


def _object_array(name: str, values: np.ndarray) -> pa.Array:
    """Objects as numbers where all are numbers, as texts otherwise."""
    import pyarrow as pa

    held = values.tolist()
    odd = next((v for v in held if isinstance(v, dict | list | set | tuple | np.ndarray)), None)
    if odd is not None:
        raise ColumnTypeError(
            f"column {name!r} holds {odd!r:.60}: a cell must be a string or a number "
            "(argument must be a string or a real number)"
        )
    gaps = [v is None or type(v).__name__ in {"NAType", "NaTType"} or bool(v != v) for v in held]  # noqa: PLR0124
    held = [None if gap else v for v, gap in zip(held, gaps, strict=True)]
    try:
        return cast.plain(pa.array(held))
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if v is None else str(v) for v in held], pa.string())
