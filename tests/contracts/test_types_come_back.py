"""What comes in goes out: seen cells, types, labels and index of a frame whose gaps are filled."""

import datetime as dt
import decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from keyhole import Autoencoder
from keyhole.errors import KeyholeError
from keyhole.tasks import Impute
from keyhole.training import TrainingConfig

ROWS = 48
GAPS = [3, 17, 30]
RNG = np.random.default_rng(0)
SMALL = RNG.integers(0, 100, ROWS)
DAYS = [dt.date(2024, 1, 1) + dt.timedelta(days=int(i)) for i in SMALL]
TIMES = [dt.datetime(2024, 1, 1) + dt.timedelta(hours=int(i)) for i in SMALL]
DECIMALS = [decimal.Decimal(int(i)) / 4 for i in SMALL]
LONG_LEVELS = (10**17 + SMALL % 4).tolist()
IDS = (10**18 + RNG.integers(0, 10**18, ROWS)).tolist()
LEVELS = np.array(["S", "M", "L"])[RNG.integers(0, 3, ROWS)]


def with_gaps(values):
    return [None if i in GAPS else v for i, v in enumerate(values)]


def without_gaps(values):
    if pa.types.is_string_view(values.type):  # Arrow cannot filter these
        return values.cast(pa.string()).drop_null().cast(values.type)
    return values if pa.types.is_null(values.type) else values.drop_null()


def fitted(frame):
    return Autoencoder(training=TrainingConfig(steps=4, members=1), random_state=0).fit(frame)


WHOLE = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(),
         pa.uint64()]  # fmt: skip
UNITS = ["s", "ms", "us", "ns"]
NANOS = 1_700_000_000_123_456_789 + SMALL * 1_000_000_007
ARROW = {
    **{str(t): pa.array(with_gaps(SMALL.tolist()), t) for t in WHOLE},
    **{f"float{t.bit_width}": pa.array(with_gaps(RNG.normal(size=ROWS)), pa.float64()).cast(t)
       for t in (pa.float16(), pa.float32(), pa.float64())},
    "decimal": pa.array(with_gaps(DECIMALS), pa.decimal128(9, 2)),
    "bool": pa.array(with_gaps((SMALL > 50).tolist())),
    **{str(t): pa.array(with_gaps(LEVELS.tolist())).cast(t)
       for t in (pa.string(), pa.large_string(), pa.string_view())},
    "binary": pa.array(with_gaps([s.encode() for s in LEVELS])),
    "date32": pa.array(with_gaps(DAYS)),
    "date64": pa.array(with_gaps(DAYS), pa.date64()),
    "time32": pa.array(with_gaps(SMALL.tolist()), pa.time32("s")),
    "time64": pa.array(with_gaps(SMALL.tolist()), pa.time64("ns")),
    **{f"timestamp {u}": pa.array(with_gaps(TIMES), pa.timestamp(u)) for u in UNITS},
    "zoned": pa.array(with_gaps(TIMES), pa.timestamp("us", "Europe/Berlin")),
    "nanoseconds": pa.array(with_gaps(NANOS.tolist()), pa.timestamp("ns")),
    **{f"duration {u}": pa.array(with_gaps(SMALL.tolist()), pa.duration(u)) for u in UNITS},
    "levels": pa.array(with_gaps(LEVELS.tolist())).dictionary_encode(),
    "levels of whole numbers": pa.array(with_gaps(LONG_LEVELS)).dictionary_encode(),
    "ordered": pa.DictionaryArray.from_arrays(
        pa.array(with_gaps((SMALL % 3).tolist()), pa.int8()), pa.array(["S", "M", "L", "XL"]),
        ordered=True),
    "null": pa.nulls(ROWS),
    "list": pa.array(with_gaps([[int(i)] for i in SMALL])),
    "struct": pa.array(with_gaps([{"a": int(i)} for i in SMALL])),
    "int64 at its end": pa.array(with_gaps((2**63 - 1 - SMALL * 7).tolist()), pa.int64()),
    "ids of 19 digits": pa.array(with_gaps(IDS)),
    "uint64 at its end": pa.array(
        with_gaps([2**64 - 1 - int(i) * 10**9 for i in SMALL]), pa.uint64()),
    "beyond year 9999": pa.array(with_gaps((2**40 + SMALL * 86_400).tolist()), pa.timestamp("s")),
    "end of time": pa.array(with_gaps((2**62 + SMALL * 2**50).tolist()), pa.timestamp("s")),
    "long durations": pa.array(with_gaps((2**62 + SMALL * 2**50).tolist()), pa.duration("s")),
}  # fmt: skip
OTHER = pa.array(RNG.normal(size=ROWS))


@pytest.mark.parametrize("name", ARROW)
@pytest.mark.parametrize("gaps", [True, False])
def test_arrow_cells_and_types_come_back_and_fills_lie_within_what_was_met(name, gaps):
    column = ARROW[name] if gaps else without_gaps(ARROW[name])
    frame = pa.table({"x": column, "other": OTHER[: len(column)]})
    filled = Impute(fitted(frame)).answer(frame)
    assert filled.schema == frame.schema
    observed = column.is_valid()
    back = filled.column("x").combine_chunks()
    if pa.types.is_string_view(column.type):
        back, column = back.cast(pa.string()), column.cast(pa.string())
    assert back.filter(observed).equals(column.filter(observed))
    kind = column.type
    if not gaps or pa.types.is_nested(kind) or pa.types.is_null(kind):
        return
    fills = back.filter(pa.array(~np.array(observed))).drop_null()
    if pa.types.is_temporal(kind):
        whole = pa.int32() if kind.bit_width == 32 else pa.int64()
        fills, column = fills.cast(whole), column.cast(whole)
    known = [v for v in column.to_pylist() if v is not None]
    assert all(min(known) <= fill <= max(known) for fill in fills.to_pylist())


def stamps(values, **options):
    return pd.Series(pd.to_datetime(with_gaps(values), **options))


NUMBERS = pd.Series(with_gaps(SMALL.tolist()), dtype=object)
INTERVALS = pd.cut(NUMBERS.astype(float), [0, 30, 60, 100], right=False)
PANDAS = {
    **{name: pd.Series(SMALL).astype(name) for name in ("int8", "int64", "uint16", "bool")},
    **{name: NUMBERS.astype(float).astype(name) for name in ("float16", "float32", "float64")},
    **{name: pd.Series(with_gaps(SMALL.tolist()), dtype=name)
       for name in ("Int8", "Int64", "UInt32", "UInt64", "Float32", "Float64")},
    "ids": pd.Series(with_gaps(IDS), dtype="Int64"),
    "boolean": pd.Series(with_gaps((SMALL > 50).tolist()), dtype="boolean"),
    "string": pd.Series(with_gaps(LEVELS.tolist()), dtype="string"),
    "string[pyarrow]": pd.Series(with_gaps(LEVELS.tolist()), dtype="string[pyarrow]"),
    "str": pd.Series(with_gaps(LEVELS.tolist()), dtype="str"),
    "category": pd.Series(pd.Categorical(with_gaps(LEVELS.tolist()))),
    "ordered": pd.Series(
        pd.Categorical(with_gaps(LEVELS.tolist()), ["S", "M", "L", "XL"], ordered=True)),
    "intervals": INTERVALS,
    "tuples": pd.Series(pd.Categorical(with_gaps([("a", int(i) % 3) for i in SMALL]))),
    "dates as levels": pd.Series(
        pd.Categorical(with_gaps([dt.date(2024, 1, 1 + int(i) % 3) for i in SMALL]))),
    "whole levels": pd.Series(pd.Categorical(with_gaps(LONG_LEVELS))),
    **{f"datetime64[{u}]": stamps(TIMES).astype(f"datetime64[{u}]") for u in UNITS},
    "zoned": stamps(TIMES).dt.tz_localize("Europe/Berlin"),
    "timedelta": pd.Series(pd.to_timedelta(with_gaps(SMALL.tolist()), unit="ns")),
    "period": stamps(DAYS).dt.to_period("D"),
    "interval": pd.Series(INTERVALS.array.astype("interval")),
    "sparse": pd.Series(pd.arrays.SparseArray(NUMBERS.astype(float))),
    "objects of truth": pd.Series(with_gaps((SMALL > 50).tolist()), dtype=object),
    "objects of dates": pd.Series(with_gaps(DAYS), dtype=object),
    "objects of decimals": pd.Series(with_gaps(DECIMALS), dtype=object),
    "objects of text": pd.Series(with_gaps(LEVELS.tolist()), dtype=object),
    **{f"{kind}[pyarrow]": pd.Series(values, dtype=pd.ArrowDtype(values.type))
       for kind, values in ARROW.items()
       if kind in {"int64", "uint8", "double", "bool", "decimal", "date32", "zoned", "duration ns",
                   "levels"}},
}  # fmt: skip


@pytest.mark.parametrize("name", PANDAS)
def test_pandas_cells_dtypes_labels_and_index_come_back(name):
    index = pd.Index(range(100, 100 + ROWS), name="row")
    frame = pd.DataFrame({0: PANDAS[name].array, 7: OTHER.to_numpy()}, index=index)
    before = frame.copy()
    filled = Impute(fitted(frame)).answer(frame)
    pd.testing.assert_frame_equal(frame, before)
    assert filled[0].dtype == frame[0].dtype
    pd.testing.assert_index_equal(filled.columns, frame.columns)
    pd.testing.assert_index_equal(filled.index, frame.index)
    observed = frame[0].notna()
    pd.testing.assert_series_equal(filled[0][observed], frame[0][observed])
    assert filled[0].notna().all()
    assert frame.fillna(filled).notna().all().all()


POLARS = {
    **{str(t): pl.Series(with_gaps(SMALL.tolist())).cast(t)
       for t in (pl.Int8, pl.Int64, pl.UInt32, pl.UInt64, pl.Int128, pl.Float32, pl.Float64)},
    "bool": pl.Series(with_gaps((SMALL > 50).tolist())),
    **{str(t): pl.Series(with_gaps(LEVELS.tolist())).cast(t)
       for t in (pl.String, pl.Categorical, pl.Enum(["XL", "S", "M", "L"]), pl.Binary)},
    "date": pl.Series(with_gaps(DAYS)),
    "zoned": pl.Series(with_gaps(TIMES), dtype=pl.Datetime("ns", "Europe/Berlin")),
    "duration": pl.Series(with_gaps([dt.timedelta(hours=int(i)) for i in SMALL])),
    "time": pl.Series(with_gaps([dt.time(int(i) % 24) for i in SMALL])),
    "decimal": pl.Series(with_gaps([decimal.Decimal(int(i)) for i in SMALL])),
    "list": pl.Series(with_gaps([[int(i)] for i in SMALL])),
    "null": pl.Series([None] * ROWS),
}  # fmt: skip


@pytest.mark.parametrize("name", POLARS)
def test_polars_cells_and_dtypes_come_back(name):
    frame = pl.DataFrame({"x": POLARS[name], "other": OTHER.to_numpy()})
    filled = Impute(fitted(frame)).answer(frame)
    assert filled.schema == frame.schema
    observed = frame["x"].is_not_null()
    assert filled["x"].filter(observed).equals(frame["x"].filter(observed))


def test_labels_of_several_levels_come_back():
    labels = pd.MultiIndex.from_tuples([("a", 1), ("a", 2)], names=["u", "v"])
    frame = pd.DataFrame(RNG.normal(size=(ROWS, 2)), columns=labels)
    frame.iloc[GAPS, 0] = np.nan
    model = fitted(frame)
    pd.testing.assert_index_equal(Impute(model).answer(frame).columns, labels)


@pytest.mark.parametrize("values", [
    [1, "a"] * 24, [1j] * 48, [object()] * 48, [{"a": 1}] * 48, [2**70, 1] * 24, [b"\xff"] * 48,
])  # fmt: skip
def test_objects_of_any_type_are_learned_set_aside_or_refused_by_our_own_error(values):
    frame = pd.DataFrame({"x": pd.Series(values, dtype=object), "other": OTHER.to_numpy()})
    try:
        filled = Impute(fitted(frame)).answer(frame)
    except KeyholeError:
        return
    pd.testing.assert_frame_equal(filled, frame)
