"""Rows that a model made, as a frame of the dtypes and labels of another: that of fit, or given.

Arrow has no intervals, periods, nullable integers or levels that no row holds, so a table that
goes back through Arrow alone loses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keyhole.columns import cast
from keyhole.sources.filling import as_objects, periods
from keyhole.sources.frame import is_frame, same_kind

if TYPE_CHECKING:
    import pyarrow as pa


def template(data: Any) -> Any:
    """A pandas or polars frame without its rows: labels and dtypes; None for anything else."""
    import narwhals as nw

    if nw.dependencies.is_pandas_dataframe(data):
        return data.iloc[:0].copy()
    if nw.dependencies.is_polars_lazyframe(data):
        data = data.head(0).collect()
    return data.head(0) if nw.dependencies.is_polars_dataframe(data) else None


def restored(table: pa.Table, like: Any) -> Any:
    """The table as the kind of frame that `like` is, in its dtypes and labels.

    A column that `like` lacks, or values that its dtype cannot hold, stay as Arrow gives them.
    """
    import narwhals as nw

    if not is_frame(like):
        return table
    if nw.dependencies.is_polars_lazyframe(like):
        like = like.head(0).collect()
    frame = same_kind(table, like)
    if nw.dependencies.is_polars_dataframe(frame):
        return _polars_like(frame, like)
    if not nw.dependencies.is_pandas_dataframe(frame):
        return frame
    places = {str(label): place for place, label in enumerate(like.columns)}
    for place, name in enumerate(table.column_names):
        if name in places:
            values = cast.plain(table.column(name))
            column = _pandas_like(frame.iloc[:, place], values, like.iloc[:, places[name]])
            frame.isetitem(place, column)
    frame.columns = labels_like(table.column_names, like)
    return frame


def labels_like(names: Sequence[str], like: Any) -> Any:
    """The pandas labels of these names; one that `like` lacks is itself, or begins a tuple."""
    import pandas as pd

    known = {str(label): label for label in like.columns}
    labels = [known.get(name, name) for name in names]
    if all(name in known for name in names):
        places = {str(label): place for place, label in enumerate(like.columns)}
        return like.columns[[places[name] for name in names]]
    if isinstance(like.columns, pd.MultiIndex):
        blanks = [""] * (like.columns.nlevels - 1)
        tuples = [label if isinstance(label, tuple) else (label, *blanks) for label in labels]
        return pd.MultiIndex.from_tuples(tuples, names=like.columns.names)
    return pd.Index(labels, name=like.columns.name)


def _pandas_like(made: Any, values: Any, like: Any) -> Any:
    """A column of made values in the dtype of `like`; as it was made where that cannot hold it."""
    import pandas as pd

    dtype = like.dtype
    if made.dtype == dtype:
        return made
    if isinstance(dtype, pd.CategoricalDtype):
        objects = as_objects(values, dtype.categories)
        new = [v for v in dict.fromkeys(objects) if v is not None and v not in dtype.categories]
        whole = pd.CategoricalDtype([*dtype.categories, *new], dtype.ordered) if new else dtype
        return pd.Categorical(objects, dtype=whole)
    if isinstance(dtype, pd.IntervalDtype):
        objects = as_objects(values, pd.Index(like.dropna().unique(), dtype=object))
        if all(v is None or isinstance(v, pd.Interval) for v in objects):
            return pd.array(objects, dtype=dtype)
        return made
    if isinstance(dtype, pd.PeriodDtype):
        return periods(values, dtype)
    try:
        return made.array.astype(dtype)
    except (TypeError, ValueError, NotImplementedError):
        return made  # a dtype that cannot hold the values, such as one of another library


def _polars_like(frame: Any, like: Any) -> Any:
    import polars as pl

    for name, kind in like.schema.items():
        if name in frame.columns and frame[name].dtype != kind:
            column = frame[name]
            by_text = kind in (pl.Enum, pl.Categorical) or column.dtype in (
                pl.Enum, pl.Categorical
            )  # fmt: skip
            column = column.cast(pl.String) if by_text else column
            cast_column = column.cast(kind, strict=False)
            if cast_column.null_count() == column.null_count():
                frame = frame.with_columns(cast_column)
    return frame


def with_column(frame: Any, place: int, name: str, values: np.ndarray) -> Any:
    """The frame with one more column before the one at `place`; -1: after the last."""
    import narwhals as nw
    import pyarrow as pa

    width = frame.shape[1]
    place = width if place < 0 else place
    if nw.dependencies.is_pandas_dataframe(frame):
        names = [str(label) for label in frame.columns]
        labels = labels_like([*names[:place], name, *names[place:]], frame)
        copy = frame.copy()
        copy.columns = range(width)
        copy.insert(place, width, values)
        copy.columns = labels
        return copy
    if nw.dependencies.is_polars_dataframe(frame):
        import polars as pl

        return frame.clone().insert_column(place, pl.Series(name, values))
    return frame.add_column(place, name, pa.array(values))


def interleaved(frames: list[Any]) -> Any:
    """The rows of frames of one shape: the first of each, the second of each, ..."""
    import narwhals as nw
    import pyarrow as pa

    rows = len(frames[0])
    order = np.arange(len(frames) * rows).reshape(len(frames), -1).T.ravel()
    if nw.dependencies.is_pandas_dataframe(frames[0]):
        import pandas as pd

        return pd.concat(frames).iloc[order]
    if nw.dependencies.is_polars_dataframe(frames[0]):
        import polars as pl

        return pl.concat(frames, how="vertical_relaxed")[order]
    return pa.concat_tables(frames, promote_options="permissive").take(order)
