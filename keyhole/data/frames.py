"""Frames and arrays (pandas, polars, Arrow, NumPy, SciPy) as sources, and back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import sparse

from keyhole.data import cast
from keyhole.data.image_rows import ImageSource, array_images, as_images
from keyhole.data.source import ArrayRows, ArrowRows, Rows, TableSource, check_names
from keyhole.errors import ColumnTypeError, DataError

if TYPE_CHECKING:
    import pyarrow as pa


Label = Literal["index", "position", "row"]


def array_names(width: int) -> list[str]:
    """The names of a matrix's columns, as scikit-learn calls them: x0, x1, ..."""
    return [f"x{i}" for i in range(width)]


@dataclass(frozen=True)
class SparseRows:
    """Rows held by a SciPy sparse matrix; an absent entry is zero."""

    values: sparse.csr_array
    names: list[str]

    def __len__(self) -> int:
        return len(self.values.indptr) - 1

    def column(self, name: str) -> pa.Array:
        """One column, made dense."""
        import pyarrow as pa

        return pa.array(self.matrix([name])[:, 0], from_pandas=True)

    def matrix(self, names: Sequence[str], start: int = 0) -> np.ndarray:
        """These columns, made dense."""
        wanted = [self.names.index(name) for name in names]
        block = self.values if list(names) == self.names else self.values[:, wanted]
        return block.toarray().astype(np.float64, copy=False)

    def take(self, rows: slice | np.ndarray) -> SparseRows:
        """The rows at these positions, still sparse."""
        return SparseRows(self.values[rows], self.names)

    def arrow(self) -> pa.Table:
        """All columns, made dense."""
        return ArrayRows(self.matrix(self.names), self.names).arrow()


def is_frame(data: Any) -> bool:
    """True for what has named columns: a frame of any kind, not an array."""
    return hasattr(data, "__arrow_c_stream__") or hasattr(type(data), "columns")


def label_of(data: Any) -> Label:
    """What labels the rows of an answer: a pandas index, data rows of files, or positions."""
    import narwhals as nw

    if nw.dependencies.is_pandas_dataframe(data):
        return "index"
    from_file = isinstance(data, str | os.PathLike) or hasattr(data, "blocks")
    return "row" if from_file else "position"


def outline(data: Any) -> Any:
    """A frame without its columns: its kind, and pandas' index; None for what is no frame."""
    import narwhals as nw

    if not is_frame(data):
        return None
    if nw.dependencies.is_pandas_dataframe(data):
        return data.iloc[:, :0]
    try:
        return nw.from_native(data).head(0).to_native()
    except TypeError:
        return None


def frame_source(data: Any) -> TableSource | ImageSource:
    """The rows of a frame, an array or a sparse matrix.

    Raises: DataError, ColumnTypeError for what no table can be made of.
    """
    if sparse.issparse(data):
        names = array_names(data.shape[1])
        return TableSource(SparseRows(sparse.csr_array(data), names), "the sparse matrix")
    if is_frame(data):
        table = _without_views(arrow_table(data))
        check_names(table.column_names, "the frame")
        return TableSource(ArrowRows(table), "the frame")
    values = _unmasked(data) if isinstance(data, np.ma.MaskedArray) else _even(data)
    if values.ndim == 0:
        raise DataError(
            f"{type(data).__name__} is no table: expected a frame, a 2D array, or the path of a "
            "CSV or Parquet file; Reshape your data, or wrap columns in a frame"
        )
    if values.ndim in {3, 4} and values.dtype.kind in "fiub":
        return array_images(values)
    if values.ndim != 2:
        raise DataError(
            f"Expected 2D array, got {values.ndim}D array instead, shape {values.shape}. Reshape "
            "your data using X.reshape(-1, 1) for one column or X.reshape(1, -1) for one row"
        )
    return TableSource(_array_rows(values), "the array")


def _even(data: Any) -> np.ndarray:
    """The data as an array; rows of unequal lengths are refused.

    Raises: DataError.
    """
    try:
        return np.asarray(data)
    except ValueError:
        raise DataError(
            f"{type(data).__name__} has rows of unequal lengths: expected a frame, or a 2D array; "
            "give each row as many values"
        ) from None


def _unmasked(data: np.ma.MaskedArray) -> np.ndarray:
    """A masked array as numbers with NaN, or as objects with None: masked means missing."""
    if not np.ma.getmaskarray(data).any():
        return np.asarray(data)
    exact = data.dtype.kind in "fb" or (
        data.dtype.kind in "iu" and np.abs(data.compressed().astype(float)).max(initial=0) < 2**53
    )
    if not exact:
        return np.ma.filled(data.astype(object), None)
    return np.ma.filled(data.astype(np.result_type(data.dtype, np.float32)), np.nan)


def same_kind(table: pa.Table, like: Any) -> Any:
    """The table as the kind of frame that `like` is, with its index; Arrow for anything else."""
    import narwhals as nw

    if not is_frame(like):
        return table
    try:
        backend = nw.from_native(like).implementation  # a lazy frame's answers are there already
    except TypeError:
        return table
    if backend.is_pyarrow():
        return table
    frame = nw.from_arrow(table, backend=backend).to_native()
    if backend.is_pandas():
        frame.index = like.index if len(like) == len(frame) else frame.index
        positions = {str(label): position for position, label in enumerate(like.columns)}
        if all(name in positions for name in frame.columns):  # labels that are no texts come back
            frame.columns = like.columns[[positions[name] for name in frame.columns]]
    return frame


def _array_rows(values: np.ndarray) -> Rows:
    names = array_names(values.shape[1])
    check_names(names, "the array", len(values))
    if np.iscomplexobj(values):
        raise DataError("Complex data not supported: split it into real and imaginary columns")
    if values.dtype.kind in "fiub":
        odd = not values.dtype.isnative or values.dtype.itemsize > 8  # Arrow and torch have none
        return ArrayRows(values.astype(np.float64) if odd else values, names)
    return ArrowRows(object_table({n: values[:, i] for i, n in enumerate(names)}))


def arrow_table(data: Any) -> pa.Table:
    """The frame as an Arrow table.

    Raises: DataError, ColumnTypeError.
    """
    import narwhals as nw
    import pyarrow as pa

    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.table(data)
    if nw.dependencies.is_pandas_dataframe(data):
        return pandas_table(data)
    try:
        frame = nw.from_native(data)
    except TypeError:
        return _arrow_stream(data)
    frame = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
    wide = [name for name, kind in frame.schema.items() if kind in (nw.Int128, nw.UInt128)]
    if wide:  # Arrow has no such type
        frame = frame.with_columns(nw.col(*wide).cast(nw.Float64))
    return frame.to_arrow()


def _without_views(table: pa.Table) -> pa.Table:
    """Texts without string views, for which Arrow has few functions."""
    import pyarrow as pa

    view = pa.types.is_string_view
    if not any(view(kind) for kind in table.schema.types):
        return table
    fields = [
        field.with_type(pa.string()) if view(field.type) else field for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _arrow_stream(data: Any) -> pa.Table:
    """The table that an `__arrow_c_stream__` gives."""
    import pyarrow as pa

    try:
        return pa.table(data)
    except (pa.ArrowInvalid, TypeError) as fault:
        raise DataError(
            f"{type(data).__name__} is no table: expected a frame with named columns; one column "
            "becomes a frame by to_frame()"
        ) from fault


def renamed(source: TableSource, names: list[str]) -> TableSource:
    """An array's source under the names of the columns that fit saw."""
    rows = source.held
    if isinstance(rows, ArrowRows):
        return TableSource(ArrowRows(rows.table.rename_columns(names)), source.name)
    kind = ArrayRows if isinstance(rows, ArrayRows) else SparseRows
    return TableSource(kind(rows.values, names), source.name)  # pyright: ignore


def container_of(X: Any, source: Any) -> str:
    """What fit was given: "array", "pandas", "polars", ... or "arrow"."""
    import narwhals as nw

    if isinstance(source, ImageSource):
        return "images"
    if not isinstance(source, TableSource):
        return "arrow"
    if not is_frame(X):
        return "array" if isinstance(source.held, ArrayRows) else "arrow"
    try:
        name = nw.from_native(X, eager_only=True).implementation.value
    except TypeError:
        return "arrow"
    return "arrow" if name == "pyarrow" else name


def as_container(table: Any, container: str) -> Any:
    """A table as the kind of container that fit was given."""
    import narwhals as nw

    if container == "array":
        return np.stack([column.to_numpy() for column in table.columns], 1)
    if container == "images":
        return as_images(table)
    if container == "arrow":
        return table
    backend: Any = container
    return nw.from_arrow(table, backend=backend).to_native()


def like_given(values: np.ndarray, names: Any, like: Any) -> Any:
    """Values (row, column) as an array where `like` is one, else as its kind of frame."""
    import pyarrow as pa

    if isinstance(like, np.ndarray | list) or sparse.issparse(like):
        return values
    return same_kind(pa.table(dict(zip(names, values.T, strict=True))), like)


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
        array = pa.Array.from_pandas(values)
    except UnicodeEncodeError as error:
        raise ColumnTypeError(
            f"column {name!r} holds {error.object!a:.60}, which is no valid Unicode text; decode "
            "such bytes in their own encoding, or exclude the column"
        ) from None
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return _object_array(name, values.to_numpy())
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


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

    objects = values.tolist()
    odd = next((v for v in objects if isinstance(v, dict | list | set | tuple | np.ndarray)), None)
    if odd is not None:
        raise ColumnTypeError(
            f"column {name!r} holds {odd!r:.60}: a cell must be a string or a number "
            "(argument must be a string or a real number)"
        )
    gaps = [
        v is None or type(v).__name__ in {"NAType", "NaTType"} or bool(v != v)  # noqa: PLR0124
        for v in objects
    ]
    objects = [None if gap else v for v, gap in zip(objects, gaps, strict=True)]
    try:
        return cast.plain(pa.array(objects))
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if v is None else str(v) for v in objects], pa.string())
