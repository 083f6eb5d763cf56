"""Frames and arrays (pandas, polars, Arrow, NumPy, SciPy) as sources, and back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from scipy import sparse

from keyhole.data import cast
from keyhole.data.image_rows import ImageSource, array_images, as_images
from keyhole.data.lazy import nw, pa, pd, pt
from keyhole.data.source import ArrayRows, ArrowRows, Rows, TableSource, check_names
from keyhole.data.vectors import spread
from keyhole.errors import ColumnTypeError, DataError

Label = Literal["index", "position", "row"]


def array_names(width: int) -> list[str]:
    """The names that scikit-learn gives to the columns of an array: x0, x1, ..."""
    return [f"x{i}" for i in range(width)]


def is_frame(data: Any) -> bool:
    """True for a frame of any kind, but not for an array."""
    return hasattr(data, "__arrow_c_stream__") or hasattr(type(data), "columns")


def is_array(data: Any) -> bool:
    """True for rows without names of columns: a NumPy array, a list, a sparse matrix."""
    return isinstance(data, np.ndarray | list) or sparse.issparse(data)


def label_of(data: Any) -> Label:
    """The labels of an answer's rows: a pandas index, data rows of a file, or positions."""
    if nw.dependencies.is_pandas_dataframe(data):
        return "index"
    return "row" if isinstance(data, str | os.PathLike) or hasattr(data, "blocks") else "position"


def outline(data: Any) -> Any:
    """An empty frame of the same kind, with the index of a pandas frame; None for no frame."""
    if not is_frame(data):
        return None
    if nw.dependencies.is_pandas_dataframe(data):
        return data.iloc[:, :0]
    try:
        return nw.from_native(data).head(0).to_native()
    except TypeError:
        return None


def frame_source(data: Any) -> TableSource | ImageSource:
    """The rows of a frame, an array or a sparse matrix. Raises: DataError, ColumnTypeError."""
    if sparse.issparse(data):
        names = array_names(data.shape[1])
        return TableSource(ArrayRows(sparse.csr_array(data), names), "the sparse matrix")
    if is_frame(data):
        table = arrow_table(data)
        for i, field in enumerate(table.schema):
            if pt.is_string_view(field.type):  # few functions take views
                table = table.set_column(
                    i, field.with_type(pa.string()), table.column(i).cast(pa.string())
                )
        check_names(table.column_names, "the frame")
        return TableSource(ArrowRows(spread(table)), "the frame")
    values = _unmasked(data) if isinstance(data, np.ma.MaskedArray) else _array(data)
    if values.ndim == 0:
        raise DataError(
            f"{type(data).__name__} is not a table: expected a frame, a 2D array, or the path of "
            "a CSV or Parquet file; Reshape your data, or wrap columns in a frame"
        )
    if values.ndim in {3, 4} and values.dtype.kind in "fiub":
        return array_images(values)
    if values.ndim != 2:
        raise DataError(
            f"Expected 2D array, got {values.ndim}D array instead, shape {values.shape}. Reshape "
            "your data using X.reshape(-1, 1) for one column or X.reshape(1, -1) for one row"
        )
    return TableSource(_array_rows(values), "the array")


def _array(data: Any) -> np.ndarray:
    try:
        return np.asarray(data)
    except ValueError:
        raise DataError(
            f"{type(data).__name__} has rows of unequal lengths: expected a frame or a 2D array; "
            "give the same number of values in each row"
        ) from None


def _unmasked(data: np.ma.MaskedArray) -> np.ndarray:
    """A masked array with NaN for masked numbers, or None for other masked values."""
    if not np.ma.getmaskarray(data).any():
        return np.asarray(data)
    exact = data.dtype.kind in "fb" or (
        data.dtype.kind in "iu" and np.abs(data.compressed().astype(float)).max(initial=0) < 2**53
    )
    if not exact:
        return np.ma.filled(data.astype(object), None)
    return np.ma.filled(data.astype(np.result_type(data.dtype, np.float32)), np.nan)


def same_kind(table: pa.Table, like: Any) -> Any:
    """The table as the same kind of frame as `like`, with its index and labels; else Arrow."""
    if not is_frame(like):
        return table
    try:
        backend = nw.from_native(like).implementation
    except TypeError:
        return table
    if backend.is_pyarrow():
        return table
    frame = nw.from_arrow(table, backend=backend).to_native()
    if backend.is_pandas():
        frame.index = like.index if len(like) == len(frame) else frame.index
        indices = {str(label): i for i, label in enumerate(like.columns)}
        if all(name in indices for name in frame.columns):  # labels need not be texts
            frame.columns = like.columns[[indices[name] for name in frame.columns]]
    return frame


def _array_rows(values: np.ndarray) -> Rows:
    names = array_names(values.shape[1])
    check_names(names, "the array", len(values))
    if np.iscomplexobj(values):
        raise DataError("Complex data not supported: split it into real and imaginary columns")
    if values.dtype.kind in "fiub":
        usable = values.dtype.isnative and values.dtype.itemsize <= 8  # for Arrow and torch
        return ArrayRows(values if usable else values.astype(np.float64), names)
    return ArrowRows(pa.table({n: _object_array(n, values[:, i]) for i, n in enumerate(names)}))


def arrow_table(data: Any, wanted: Sequence[str] | None = None) -> pa.Table:
    """The frame as an Arrow table, of pandas only the `wanted` columns if others are not needed.

    Raises: DataError, ColumnTypeError.
    """
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.table(data)
    if nw.dependencies.is_pandas_dataframe(data):
        if wanted is not None and data.columns.is_unique and set(wanted) <= set(data.columns):
            return pa.table({name: pandas_array(name, data[name]) for name in wanted})
        return _pandas_table(data)
    try:
        frame = nw.from_native(data)
    except TypeError:  # not a known library
        try:
            return pa.table(data)
        except (pa.ArrowInvalid, TypeError) as fault:
            raise DataError(
                f"{type(data).__name__} is not a table: expected a frame with named columns; make "
                "a frame of one column by to_frame()"
            ) from fault
    frame = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
    long = [name for name, dtype in frame.schema.items() if dtype in (nw.Int128, nw.UInt128)]
    if long:  # Arrow has no such type
        frame = frame.with_columns(nw.col(*long).cast(nw.Float64))
    return frame.to_arrow()


def few_rows(data: Any, names: Sequence[str], most: int) -> dict[str, list[Any]] | None:
    """The columns of a pandas frame of a few rows as lists, which is fast; None for others."""
    if not nw.dependencies.is_pandas_dataframe(data) or not 0 < len(data) <= most:
        return None
    labels = data.columns.tolist()
    if len(set(labels)) < len(labels) or not set(names) <= set(labels):
        return None
    columns = dict(zip(labels, data.to_numpy(dtype=object).T.tolist(), strict=True))
    return {name: columns[name] for name in names}


def renamed(source: TableSource, names: list[str]) -> TableSource:
    """The source with these names of its columns."""
    rows: Any = source.loaded
    if isinstance(rows, ArrowRows):
        return replace(source, loaded=ArrowRows(rows.table.rename_columns(names)))
    return replace(source, loaded=replace(rows, names=names))


def container_of(X: Any, source: Any) -> str:
    """The kind of container of the rows: "array", "pandas", "polars", "images", or "arrow"."""
    if isinstance(source, ImageSource):
        return "images"
    if not isinstance(source, TableSource):
        return "arrow"
    if not is_frame(X):
        is_array = isinstance(source.loaded, ArrayRows) and not sparse.issparse(X)
        return "array" if is_array else "arrow"
    try:
        name = nw.from_native(X, eager_only=True).implementation.value
    except TypeError:
        return "arrow"
    return "arrow" if name == "pyarrow" else name


def as_container(table: Any, container: str) -> Any:
    """The table in this kind of container."""
    if container == "array":
        return np.stack([column.to_numpy() for column in table.columns], 1)
    if container == "images":
        return as_images(table)
    if container == "arrow":
        return table
    backend: Any = container
    return nw.from_arrow(table, backend=backend).to_native()


def like_given(values: np.ndarray, names: Any, like: Any) -> Any:
    """Values (row, column) as an array if `like` is an array, else as the same kind of frame."""
    if is_array(like):
        return values
    return same_kind(pa.table(dict(zip(names, values.T, strict=True))), like)


def _pandas_table(data: Any) -> pa.Table:
    if len({isinstance(name, str) for name in data.columns}) > 1:
        label = next(name for name in data.columns if not isinstance(name, str))
        raise DataError(
            f"some column names of the frame are texts and some are not, such as {label!r}; "
            "convert all to texts: X.columns = X.columns.astype(str)"
        )
    names = [str(name) for name in data.columns]
    check_names(names, "the frame")
    columns = [pandas_array(n, data.iloc[:, i]) for i, n in enumerate(names)]
    return pa.table(columns, names=names)


def pandas_array(name: str, values: Any) -> pa.Array:
    """One column of a pandas frame; objects of several types become texts.

    Levels keep their order, periods become their start, intervals become texts.
    """
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        codes = pa.array(values.cat.codes.to_numpy(), mask=values.isna().to_numpy())
        known = level_array(dtype.categories)
        return pa.DictionaryArray.from_arrays(codes, known, ordered=bool(dtype.ordered))
    if isinstance(dtype, pd.IntervalDtype):
        return _texts_of(values)
    if isinstance(dtype, pd.PeriodDtype):
        series = isinstance(values, pd.Series)
        values = values.astype("datetime64[ns]") if series else values.to_timestamp()
    if isinstance(dtype, pd.SparseDtype):
        values = pd.Series(values.to_numpy())
    if isinstance(dtype, np.dtype) and dtype.kind == "f" and dtype.itemsize > 8:  # not in Arrow
        values = values.astype("float64")
    try:
        array = pa.Array.from_pandas(values)
    except UnicodeEncodeError as error:
        raise ColumnTypeError(
            f"column {name!r} holds {error.object!a:.60}, which is not a valid Unicode text; "
            "decode such bytes in their encoding, or exclude the column"
        ) from None
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return _object_array(name, values.to_numpy())
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def level_array(levels: Any) -> pa.Array:
    """A pandas index of levels as an Arrow array; texts if Arrow has no such type."""
    try:
        known = cast.plain(pandas_array("levels", levels))
    except ColumnTypeError:  # tuples
        return _texts_of(levels)
    usable = pt.is_temporal(known.type) or pt.is_boolean(known.type) or cast.is_text(known.type)
    return known if usable or cast.is_numeric(known.type) else _texts_of(levels)


def _texts_of(values: Any) -> pa.Array:
    objects = zip(values.tolist(), pd.isna(values), strict=True)
    return pa.array([None if gap else str(value) for value, gap in objects], pa.string())


def _object_array(name: str, values: np.ndarray) -> pa.Array:
    """Python objects as numbers if all are numbers, else as texts."""
    objects = values.tolist()
    for i, value in enumerate(objects):
        if isinstance(value, dict | list | set | tuple | np.ndarray):
            raise ColumnTypeError(
                f"column {name!r} holds {value!r:.60}: a cell must be a string or a number "
                "(argument must be a string or a real number)"
            )
        if type(value).__name__ in {"NAType", "NaTType"} or bool(value != value):  # noqa: PLR0124
            objects[i] = None
    try:
        return cast.plain(pa.array(objects))
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if v is None else str(v) for v in objects], pa.string())
