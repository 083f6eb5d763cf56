"""Frames of answers, and filled frames, with the dtypes, labels and index of another frame.

Arrow has no intervals, periods, nullable integers or unused levels, so they are restored here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keyhole.data import arrow_types, cast, levels
from keyhole.data.frames import arrow_table, is_frame, level_array, pandas_array, same_kind

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
    positions = {str(label): position for position, label in enumerate(like.columns)}
    for position, name in enumerate(table.column_names):
        if name in positions:
            values = cast.plain(table.column(name))
            column = _pandas_like(frame.iloc[:, position], values, like.iloc[:, positions[name]])
            frame.isetitem(position, column)
    frame.columns = labels_like(table.column_names, like)
    return frame


def labels_like(names: Sequence[str], like: Any) -> Any:
    """The pandas labels of these names; one that `like` lacks is itself, or begins a tuple."""
    import pandas as pd

    known = {str(label): label for label in like.columns}
    labels = [known.get(name, name) for name in names]
    if all(name in known for name in names):
        positions = {str(label): position for position, label in enumerate(like.columns)}
        return like.columns[[positions[name] for name in names]]
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


def filled_frame(frame: Any, guessed: pa.Table) -> Any:
    """A copy of the frame, its gaps in the columns of `guessed` filled."""
    import narwhals as nw

    if nw.dependencies.is_pandas_dataframe(frame):
        return _filled_pandas(frame, guessed)
    if nw.dependencies.is_polars_lazyframe(frame):
        frame = frame.collect()
    if nw.dependencies.is_polars_dataframe(frame):
        return _filled_polars(frame, guessed)
    return same_kind(filled_table(arrow_table(frame), guessed), frame)


def filled_table(table: pa.Table, guessed: pa.Table) -> pa.Table:
    """The table, its gaps in the columns of `guessed` filled, every column in its own type."""
    for name in guessed.column_names:
        index = table.column_names.index(name)
        field = table.schema.field(index)
        values = filled(table.column(name), cast.plain(guessed.column(name)))
        field = field if values.type == field.type else field.with_type(values.type)
        table = table.set_column(index, field, values)
    return table


def filled(values: Any, guessed: Any, gaps: np.ndarray | None = None) -> Any:
    """The values (an array or chunks), gaps replaced by what was guessed, in the values' type.

    `gaps` are true where to write; None: where a cell is null or NaN.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_null(values.type):
        return guessed
    kind = values.type
    gaps = gaps_of(values) if gaps is None else gaps
    if not gaps.any():
        return values
    if pa.types.is_dictionary(kind):
        return _filled_levels(values, guessed, gaps)
    plain = cast.plain(values)
    fills = _of_type(guessed.filter(pa.array(gaps)), plain.type)
    # Each gap takes the next fill: functions that replace values have no kernel for some types.
    order = np.arange(len(plain))
    order[gaps] = len(plain) + np.arange(int(gaps.sum()))
    whole = pa.concat_arrays([plain, fills]).take(pa.array(order))
    return whole if whole.type == kind else pc.cast(whole, kind)


def gaps_of(values: Any) -> np.ndarray:
    """True where a cell is null or NaN."""
    import pyarrow.compute as pc
    import pyarrow.types as pt

    values = cast.plain(values)
    nan = pt.is_floating(values.type)
    return pc.is_null(values, nan_is_null=nan).to_numpy(zero_copy_only=False)  # pyright: ignore


def _of_type(guessed: Any, wanted: Any) -> Any:
    """Guesses cast to the type of the column that they fill, rounded where it is coarser."""
    import pyarrow as pa

    if guessed.type == wanted:
        return guessed
    if cast.is_text(wanted):
        return _texts(guessed).cast(wanted)
    if cast.is_numeric(wanted) and cast.is_numeric(guessed.type):
        return arrow_types.of_numbers(cast.floats(guessed)[0], str(wanted))
    if pa.types.is_boolean(wanted):
        return pa.array([levels.value_key(t) == "1" for t in cast.texts(guessed).to_pylist()])
    if pa.types.is_temporal(wanted) and pa.types.is_temporal(guessed.type):
        return arrow_types.of_seconds(cast.seconds(guessed)[0], str(wanted))
    try:
        return guessed.cast(wanted, safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.nulls(len(guessed), wanted)  # the gap stays


def _texts(guessed: Any) -> Any:
    """Guesses as a text file would write them: numbers with six digits."""
    import pyarrow as pa

    if not pa.types.is_floating(guessed.type):
        return cast.texts(guessed)
    numbers = guessed.to_numpy(zero_copy_only=False)
    return pa.array([None if np.isnan(n) else f"{n:.6g}" for n in numbers], pa.string())


def _filled_levels(values: Any, guessed: Any, gaps: np.ndarray) -> Any:
    """A dictionary array with its gaps filled; its levels keep their order, new ones come last."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(values, pa.ChunkedArray):
        values = values.unify_dictionaries().combine_chunks()
        values = values.chunk(0) if isinstance(values, pa.ChunkedArray) else values
    known = cast.texts(values.dictionary).to_pylist()
    fills = guessed.filter(pa.array(gaps))
    new = [t for t in dict.fromkeys(cast.texts(fills).to_pylist()) if t is not None]
    new = [t for t in new if levels.indices(pa.array([t]), known)[0] == len(known)]
    dictionary = values.dictionary
    if new:
        more = _of_type(pa.array(new, pa.string()), dictionary.type)
        dictionary, known = pa.concat_arrays([dictionary, more]), known + new
    indices = pc.fill_null(values.indices, 0).to_numpy(zero_copy_only=False).astype(np.int64)  # pyright: ignore
    indices[gaps] = levels.indices(fills, known)
    missing = (indices < 0) | (indices >= len(known))
    kind = values.type.index_type
    codes = pa.array(indices, pa.int64(), mask=missing).cast(kind)
    return pa.DictionaryArray.from_arrays(codes, dictionary, ordered=values.type.ordered)


def _filled_polars(frame: Any, guessed: pa.Table) -> Any:
    import polars as pl

    for name in guessed.column_names:
        series = frame[name]
        gaps = gaps_of(arrow_table(frame.select(name)).column(0))
        if not gaps.any():
            continue
        plain = cast.plain(guessed.column(name))
        plain = _texts(plain) if series.dtype in (pl.Categorical, pl.Enum, pl.String) else plain
        fills: Any = pl.from_arrow(plain)
        kind = fills.dtype if series.dtype == pl.Null else series.dtype
        fills = fills.cast(kind, strict=False)
        frame = frame.with_columns(fills.zip_with(pl.Series(gaps), series.cast(kind)).alias(name))
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
    """The column's array with its gaps filled, of its own dtype."""
    import pandas as pd
    import pyarrow as pa

    dtype, fills = series.dtype, guessed.filter(pa.array(gaps))
    if isinstance(dtype, pd.CategoricalDtype):
        array = series.array.copy()
        objects = as_objects(fills, dtype.categories)
        new = [v for v in dict.fromkeys(objects) if v is not None and v not in dtype.categories]
        array = array.add_categories(new) if new else array
    elif isinstance(dtype, pd.SparseDtype):
        array, objects = series.to_numpy(), fills.to_pylist()
    elif isinstance(dtype, pd.ArrowDtype):
        whole = filled(pa.array(series.array, type=dtype.pyarrow_dtype), guessed)
        return pd.arrays.ArrowExtensionArray(whole)
    elif isinstance(dtype, pd.PeriodDtype):
        array, objects = series.array.copy(), periods(fills, dtype)
    else:
        array = series.array.copy()
        objects = _plain_objects(series, fills)
    array[gaps] = pd.array(objects, dtype=dtype) if _typed(dtype) else objects
    return pd.array(array, dtype=dtype) if isinstance(dtype, pd.SparseDtype) else array


def periods(fills: Any, dtype: Any) -> Any:
    """Moments as the periods in which they lie."""
    import pandas as pd

    return pd.DatetimeIndex(fills.to_pandas()).to_period(dtype.freq)


def _typed(dtype: Any) -> bool:
    """True for dtypes whose arrays take arrays of the same dtype."""
    import pandas as pd

    told = (pd.CategoricalDtype, pd.SparseDtype, pd.PeriodDtype)
    return not (pd.api.types.is_object_dtype(dtype) or isinstance(dtype, told))


def _plain_objects(series: Any, fills: Any) -> list[Any]:
    """Fills as Python values that the column can hold."""
    import pandas as pd
    import pyarrow as pa

    if isinstance(series.dtype, pd.StringDtype):
        return _texts(fills).to_pylist()
    if isinstance(series.dtype, pd.IntervalDtype) or (
        series.dtype == object and cast.is_text(fills.type)
    ):
        return as_objects(fills, pd.Index(series.dropna().unique(), dtype=object))
    if pd.api.types.is_integer_dtype(series.dtype) and not pa.types.is_integer(fills.type):
        return [round(value) for value in cast.floats(fills)[0].tolist()]
    return fills.to_pylist()


def as_objects(fills: Any, known: Any) -> list[Any]:
    """Fills as those of the known values that they mean; the fill itself where it means none."""
    objects, texts = known.tolist(), cast.texts(level_array(known)).to_pylist()
    places = levels.indices(fills, texts)
    own = fills.to_pylist()
    return [objects[p] if 0 <= p < len(objects) else own[i] for i, p in enumerate(places)]
