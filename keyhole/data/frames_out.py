"""Answers and filled frames with another frame's dtypes, labels and index, which Arrow lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keyhole.data import cast, levels
from keyhole.data.frames import arrow_table, is_frame, level_array, pandas_array, same_kind
from keyhole.data.lazy import nw, pa, pc, pd, pl, pt


def template(data: Any) -> Any:
    """A pandas or polars frame without its rows, for its labels and dtypes; else None."""
    if nw.dependencies.is_pandas_dataframe(data):
        return data.iloc[:0].copy()
    if nw.dependencies.is_polars_lazyframe(data):
        data = data.head(0).collect()
    return data.head(0) if nw.dependencies.is_polars_dataframe(data) else None


def restored(table: pa.Table, like: Any) -> Any:
    """The table as a frame of the same kind as `like`, with its dtypes and labels.

    Columns that `like` lacks, and values that its dtype cannot hold, are those of Arrow.
    """
    if not is_frame(like):
        return table
    if nw.dependencies.is_polars_lazyframe(like):
        like = like.head(0).collect()
    frame = same_kind(table, like)
    if nw.dependencies.is_polars_dataframe(frame):
        return _polars_like(frame, like)
    if not nw.dependencies.is_pandas_dataframe(frame):
        return frame
    indices = {str(label): i for i, label in enumerate(like.columns)}
    for i, name in enumerate(table.column_names):
        if name in indices:
            values, column = cast.plain(table.column(name)), like.iloc[:, indices[name]]
            frame.isetitem(i, _pandas_like(frame.iloc[:, i], values, column))
    frame.columns = labels_like(table.column_names, like)
    return frame


def labels_like(names: Sequence[str], like: Any) -> Any:
    """The pandas labels with these names; of a new column, its name or a tuple of it."""
    indices = {str(label): i for i, label in enumerate(like.columns)}
    if all(name in indices for name in names):
        return like.columns[[indices[name] for name in names]]
    labels = [like.columns[indices[name]] if name in indices else name for name in names]
    if isinstance(like.columns, pd.MultiIndex):
        blanks = [""] * (like.columns.nlevels - 1)
        tuples = [label if isinstance(label, tuple) else (label, *blanks) for label in labels]
        return pd.MultiIndex.from_tuples(tuples, names=like.columns.names)
    return pd.Index(labels, name=like.columns.name)


def _pandas_like(column: Any, values: Any, like: Any) -> Any:
    """A pandas column, made from Arrow values, in the dtype of `like` if that can hold them."""
    dtype = like.dtype
    if column.dtype == dtype:
        return column
    if isinstance(dtype, pd.PeriodDtype):
        return _periods(values, dtype)
    if isinstance(dtype, pd.CategoricalDtype):
        objects = _objects(values, like)
        if new := _new_levels(objects, dtype):
            dtype = pd.CategoricalDtype([*dtype.categories, *new], dtype.ordered)
        return pd.Categorical(objects, dtype=dtype)
    try:
        if isinstance(dtype, pd.IntervalDtype):
            return pd.array(_objects(values, like), dtype=dtype)
        return column.array.astype(dtype)
    except (TypeError, ValueError, NotImplementedError):
        return column  # a dtype that cannot hold the values, such as one of another library


def _polars_like(frame: Any, like: Any) -> Any:
    categories = (pl.Enum, pl.Categorical)
    for name, dtype in like.schema.items():
        if name in frame.columns and frame[name].dtype != dtype:
            column = frame[name]
            if dtype in categories or column.dtype in categories:
                column = column.cast(pl.String)
            converted = column.cast(dtype, strict=False)
            if converted.null_count() == column.null_count():
                frame = frame.with_columns(converted)
    return frame


def with_column(frame: Any, index: int, name: str, values: np.ndarray) -> Any:
    """The frame with a new column before the one at `index`, or after the last if -1."""
    width = frame.shape[1]
    index = width if index < 0 else index
    if nw.dependencies.is_pandas_dataframe(frame):
        names = [str(label) for label in frame.columns]
        labels = labels_like([*names[:index], name, *names[index:]], frame)
        copy = frame.copy()
        copy.columns = range(width)
        copy.insert(index, width, values)
        copy.columns = labels
        return copy
    if nw.dependencies.is_polars_dataframe(frame):
        return frame.clone().insert_column(index, pl.Series(name, values))
    return frame.add_column(index, name, pa.array(values))


def interleaved(frames: list[Any]) -> Any:
    """The first row of each frame, then the second row of each, and so on."""
    order = np.arange(len(frames) * len(frames[0])).reshape(len(frames), -1).T.ravel()
    if nw.dependencies.is_pandas_dataframe(frames[0]):
        return pd.concat(frames).iloc[order]
    if nw.dependencies.is_polars_dataframe(frames[0]):
        return pl.concat(frames, how="vertical_relaxed")[order]
    return pa.concat_tables(frames, promote_options="permissive").take(order)


def filled_frame(frame: Any, guessed: pa.Table) -> Any:
    """A copy of the frame in which gaps in the columns of `guessed` are filled.

    Lists, whose numbers are columns of their own there, stay as they are.
    """
    if nw.dependencies.is_pandas_dataframe(frame):
        return _filled_pandas(frame, guessed)
    if nw.dependencies.is_polars_lazyframe(frame):
        frame = frame.collect()
    if nw.dependencies.is_polars_dataframe(frame):
        return _filled_polars(frame, guessed)
    table = arrow_table(frame)
    for name in guessed.column_names:
        if name not in table.column_names:
            continue
        index = table.column_names.index(name)
        values = filled(table.column(name), cast.plain(guessed.column(name)))
        field = table.schema.field(index).with_type(values.type)
        table = table.set_column(index, field, values)
    return same_kind(table, frame)


def filled(values: Any, guessed: Any, gaps: np.ndarray | None = None) -> Any:
    """The values (an array or chunks) in their type, with guessed values in the gaps.

    `gaps` are true where values are replaced; None: where they are null or NaN.
    """
    if pa.types.is_null(values.type):
        return guessed
    gaps = gaps_of(values) if gaps is None else gaps
    if not gaps.any():
        return values
    fills = guessed.filter(pa.array(gaps))
    if pa.types.is_dictionary(values.type):
        return _filled_levels(values, fills, gaps)
    plain = cast.plain(values)
    # Each gap takes the next fill: functions that replace values have no kernel for some types.
    indices = np.arange(len(plain))
    indices[gaps] = len(plain) + np.arange(len(fills))
    whole = pa.concat_arrays([plain, _of_type(fills, plain.type)]).take(pa.array(indices))
    return whole if whole.type == values.type else pc.cast(whole, values.type)


def gaps_of(values: Any) -> np.ndarray:
    """True where a value is null or NaN."""
    values = cast.plain(values)
    return pc.is_null(values, nan_is_null=pt.is_floating(values.type)).to_numpy(False)


def _of_type(guessed: Any, wanted: Any) -> Any:
    if guessed.type == wanted:
        return guessed
    if cast.is_text(wanted):
        return cast.short_texts(guessed).cast(wanted)
    if cast.is_numeric(wanted) and cast.is_numeric(guessed.type):
        return cast.of_numbers(cast.floats(guessed)[0], str(wanted))
    if pa.types.is_boolean(wanted):
        return pa.array([levels.value_key(t) == "1" for t in cast.texts(guessed).to_pylist()])
    if pa.types.is_temporal(wanted) and pa.types.is_temporal(guessed.type):
        return cast.of_seconds(cast.seconds(guessed)[0], str(wanted))
    try:
        return guessed.cast(wanted, safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.nulls(len(guessed), wanted)  # the gap stays


def _filled_levels(values: Any, fills: Any, gaps: np.ndarray) -> Any:
    """A dictionary array with its gaps filled; new levels come after the others."""
    if isinstance(values, pa.ChunkedArray):
        values = values.unify_dictionaries().combine_chunks()
        values = values.chunk(0) if isinstance(values, pa.ChunkedArray) else values
    dictionary = values.dictionary
    known = cast.texts(dictionary).to_pylist()
    new = [t for t in dict.fromkeys(cast.texts(fills).to_pylist()) if t is not None]
    new = [t for t in new if levels.indices(pa.array([t]), known)[0] == len(known)]
    if new:
        more = _of_type(pa.array(new, pa.string()), dictionary.type)
        dictionary, known = pa.concat_arrays([dictionary, more]), known + new
    indices = pc.fill_null(values.indices, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    indices[gaps] = levels.indices(fills, known)
    missing = (indices < 0) | (indices >= len(known))
    codes = pa.array(indices, pa.int64(), mask=missing).cast(values.type.index_type)
    return pa.DictionaryArray.from_arrays(codes, dictionary, ordered=values.type.ordered)


def _filled_polars(frame: Any, guessed: pa.Table) -> Any:
    for name in guessed.column_names:
        if name not in frame.columns:
            continue
        series = frame[name]
        gaps = gaps_of(arrow_table(frame.select(name)).column(0))
        if not gaps.any():
            continue
        plain = cast.plain(guessed.column(name))
        if series.dtype in (pl.Categorical, pl.Enum, pl.String):
            plain = cast.short_texts(plain)
        fills: Any = pl.from_arrow(plain)
        dtype = fills.dtype if series.dtype == pl.Null else series.dtype
        fills = fills.cast(dtype, strict=False)
        frame = frame.with_columns(fills.zip_with(pl.Series(gaps), series.cast(dtype)).alias(name))
    return frame


def _filled_pandas(frame: Any, guessed: pa.Table) -> Any:
    copy = frame.copy()
    for index, label in enumerate(frame.columns):
        if str(label) not in guessed.column_names:
            continue
        series = frame.iloc[:, index]
        gaps = gaps_of(pandas_array(str(label), series)) | series.isna().to_numpy()
        if gaps.any():
            fills = cast.plain(guessed.column(str(label)))
            copy.isetitem(index, _filled_series(series, fills, gaps))
    return copy


def _filled_series(series: Any, guessed: Any, gaps: np.ndarray) -> Any:
    dtype, fills = series.dtype, guessed.filter(pa.array(gaps))
    if isinstance(dtype, pd.ArrowDtype):
        array = filled(pa.array(series.array, type=dtype.pyarrow_dtype), guessed)
        return pd.arrays.ArrowExtensionArray(array)
    array = series.array.copy()
    if isinstance(dtype, pd.SparseDtype):
        array = series.to_numpy()
        array[gaps] = fills.to_pylist()
        return pd.array(array, dtype=dtype)
    if isinstance(dtype, pd.PeriodDtype):
        array[gaps] = _periods(fills, dtype)
        return array
    objects = _objects(fills, series)
    if isinstance(dtype, pd.CategoricalDtype):
        array = array.add_categories(_new_levels(objects, dtype))
    elif not pd.api.types.is_object_dtype(dtype):
        objects = pd.array(objects, dtype=dtype)
    array[gaps] = objects
    return array


def _periods(times: Any, dtype: Any) -> Any:
    """Arrow times as the pandas periods that contain them."""
    return pd.DatetimeIndex(times.to_pandas()).to_period(dtype.freq)


def _new_levels(objects: list[Any], dtype: Any) -> list[Any]:
    """The objects that are not categories of a pandas dtype, without duplicates."""
    return [v for v in dict.fromkeys(objects) if v is not None and v not in dtype.categories]


def _objects(values: Any, like: Any) -> list[Any]:
    """Arrow values as Python objects; a level or interval becomes the equal one of the column."""
    dtype = like.dtype
    if isinstance(dtype, pd.StringDtype):
        return cast.short_texts(values).to_pylist()
    if pd.api.types.is_integer_dtype(dtype) and not pa.types.is_integer(values.type):
        return [round(value) for value in cast.floats(values)[0].tolist()]
    if isinstance(dtype, pd.CategoricalDtype):
        known = dtype.categories
    elif isinstance(dtype, pd.IntervalDtype) or (
        pd.api.types.is_object_dtype(dtype) and cast.is_text(values.type)
    ):
        known = pd.Index(like.dropna().unique(), dtype=object)
    else:
        return values.to_pylist()
    indices = levels.indices(values, cast.texts(level_array(known)).to_pylist()).tolist()
    objects, pairs = known.tolist(), zip(indices, values.to_pylist(), strict=True)
    return [objects[i] if 0 <= i < len(objects) else value for i, value in pairs]
