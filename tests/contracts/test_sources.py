"""Every container gives the same rows: frames, arrays, streams, files, folders and pipes."""

import datetime as dt
import decimal
import io
import os
import threading

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from keyhole.data import open_source
from keyhole.data.frames import same_kind
from keyhole.data.opening import _open_pipe, all_rows, random_access
from keyhole.errors import DataError
from keyhole.modalities import Schema, Tabular

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(30, 3)).round(3)
FRAME = pd.DataFrame(VALUES, columns=["x0", "x1", "x2"])


class Stream:
    """Something that only speaks Arrow's stream protocol."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


ARRAYS = {
    "an array": VALUES,
    "an array by columns": np.asfortranarray(VALUES),
    "a reversed view": VALUES[::-1].copy()[::-1],
    "a read-only array": read_only(VALUES),
    "big endian": VALUES.astype(">f8"),
    "long doubles": VALUES.astype(np.longdouble),
    "objects": VALUES.astype(object),
    "lists": VALUES.tolist(),
    "texts": VALUES.astype(str),
    "a sparse matrix": sparse.csr_matrix(VALUES),
    "a sparse array": sparse.coo_array(VALUES),
    "a sparse array by columns": sparse.csc_array(VALUES),
}
FRAMES = {
    "pandas": FRAME,
    "pandas on Arrow": FRAME.convert_dtypes(dtype_backend="pyarrow"),
    "pandas of objects": FRAME.astype(object),
    "polars": pl.from_pandas(FRAME),
    "polars, lazy": pl.from_pandas(FRAME).lazy(),
    "Arrow": pa.table(FRAME),
    "Arrow in chunks": pa.concat_tables([pa.table(FRAME[:7]), pa.table(FRAME[7:])]),
    "a record batch": pa.RecordBatch.from_pandas(FRAME),
    "a stream": Stream(pa.table(FRAME)),
}
EVERY = {**ARRAYS, **FRAMES}
CONTAINERS = pytest.mark.parametrize("data", EVERY.values(), ids=EVERY)


@CONTAINERS
def test_a_container_gives_the_same_numbers_whole_in_blocks_and_by_position(data):
    source = open_source(data)
    assert source.names == ["x0", "x1", "x2"]
    rows = all_rows(source)
    np.testing.assert_array_equal(np.array(rows.matrix(source.names), float), VALUES)
    blocks = [block.matrix(["x2", "x0"]) for block in source.blocks(7)]
    assert [len(block) for block in blocks] == [7, 7, 7, 7, 2]
    np.testing.assert_array_equal(np.concatenate(blocks).astype(float), VALUES[:, [2, 0]])
    picked = rows.take(np.array([3, 1])).column("x1")
    assert [float(v) for v in picked.to_pylist()] == VALUES[[3, 1], 1].tolist()
    assert rows.take(slice(0, 0)).matrix(source.names).shape == (0, 3)
    assert rows.matrix([]).shape == (30, 0)


@CONTAINERS
def test_a_container_encodes_to_the_same_batch(data):
    table, _ = Tabular.learn(open_source(data), Schema())
    wanted, _ = Tabular.learn(open_source(VALUES), Schema())
    found = table.encode(all_rows(open_source(data)))
    wanted = wanted.encode(all_rows(open_source(VALUES)))
    np.testing.assert_allclose(found.numbers, wanted.numbers, rtol=1e-6)


TYPED = pa.table(
    {
        "levels": pa.array([*"abcab"]).dictionary_encode(),
        "decimal": pa.array([decimal.Decimal(i) / 4 for i in range(5)], pa.decimal128(9, 2)),
        "large": pa.array([*"abcab"], pa.large_string()),
        "view": pa.array([*"abcab"], pa.string_view()),
        "day": pa.array([dt.date(2024, 1, 1 + i) for i in range(5)], pa.date32()),
        "day64": pa.array([dt.date(2024, 1, 1 + i) for i in range(5)], pa.date64()),
        "zoned": pa.array([i * 3_600_000 for i in range(5)], pa.timestamp("ms", "Europe/Paris")),
        "span": pa.array([0, 1, 2, 3, 5], pa.duration("ms")),
        "boolean": pa.array([True, None, False, True, False]),
        "half": pa.array(np.arange(5, dtype=np.float16)),
        "wide": pa.array([0, 1, 2, 3, 2**64 - 1], pa.uint64()),
        "null": pa.nulls(5),
        "struct": pa.array([{"a": 1}] * 5),
        "list": pa.array([[1, 2]] * 5),
        "bytes": pa.array([b"ab"] * 5),
        "time": pa.array([dt.time(1, 2, 3)] * 5),
    }
)
KIND = {
    "levels": "category", "decimal": "number", "large": "category", "view": "category",
    "day": "datetime", "day64": "datetime", "zoned": "datetime", "span": "number",
    "boolean": "boolean",
    "half": "number", "wide": "number", "null": "ignored", "struct": "ignored",
    "list[0]": "number", "list[1]": "number",
    "bytes": "ignored", "time": "ignored",
}  # fmt: skip


@pytest.mark.parametrize("through", ["arrow", "pandas", "parquet", "stream"])
def test_every_arrow_type_has_a_kind(through, tmp_path):
    data = TYPED
    if through == "pandas":
        data = TYPED.to_pandas(types_mapper=pd.ArrowDtype)
    elif through == "parquet":
        data = TYPED.drop_columns(["view"])
        pq.write_table(data, tmp_path / "t.parquet")
        data = tmp_path / "t.parquet"
    elif through == "stream":
        data = Stream(TYPED)
    source = open_source(data)
    table, _ = Tabular.learn(source, Schema())
    found = {name: column.kind for name, column in table.by_name.items()}
    assert found == {name: KIND[name] for name in source.names}
    assert table.encode(all_rows(source)).numbers.isfinite().all()


def test_mixed_objects_in_one_column_leave_the_others_as_they_are():
    frame = pd.DataFrame(
        {
            "mixed": [1, "a", None, "b", 2.5, 1, "a", "b", 1] * 3,
            "when": pd.date_range("2024", periods=27, freq="5h"),
        }
    )
    table, _ = Tabular.learn(open_source(frame), Schema())
    assert {n: c.kind for n, c in table.by_name.items()} == {
        "mixed": "category",
        "when": "datetime",
    }
    assert set(table.by_name["mixed"].levels) == {"1", "2.5", "a", "b"}


@pytest.mark.parametrize("like", [FRAME.set_index(FRAME.index + 5), pl.from_pandas(FRAME)])
def test_an_answer_is_the_kind_of_frame_that_came_in_with_its_index(like):
    answer = same_kind(pa.table({"code": np.arange(30)}), like)
    assert type(answer) is type(like)
    if isinstance(like, pd.DataFrame):
        assert answer.index.equals(like.index)


def folder_of(tmp_path, *frames):
    for i, frame in enumerate(frames):
        frame.to_parquet(tmp_path / f"{i}.parquet")
    return str(tmp_path)


def test_a_folder_of_parquet_files_with_other_columns_or_types_is_refused(tmp_path):
    path = folder_of(tmp_path, FRAME, FRAME.rename(columns={"x2": "y"}))
    with pytest.raises(DataError, match=r"1.parquet has different columns from .*: \['x2', 'y'\]"):
        all_rows(open_source(path))
    folder_of(tmp_path, FRAME, FRAME.assign(x2="x"))
    with pytest.raises(DataError, match=r"1.parquet: column 'x2' holds .*string, but double in"):
        all_rows(open_source(path))


def test_parquet_files_may_order_columns_and_store_numbers_and_levels_differently(tmp_path):
    first = FRAME.round().assign(city=pd.Categorical(["Rome", "Bonn"] * 15))
    second = first.astype({"x0": int, "x1": "float32", "city": str})[["city", "x2", "x1", "x0"]]
    found = all_rows(open_source(folder_of(tmp_path, first, second)))
    wanted = pd.concat([first, first]).astype({"city": str})
    assert found.names == list(wanted.columns)
    assert found.arrow().to_pydict() == wanted.to_dict("list")


TEXT = FRAME.to_csv(index=False).encode()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_standard_input_is_read_as_a_file_would_be(kind, monkeypatch):
    pq.write_table(pa.table(FRAME), parquet := io.BytesIO())
    content = TEXT if kind == "csv" else parquet.getvalue()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    found = all_rows(open_source("-")).arrow().to_pandas().astype(float)
    np.testing.assert_array_equal(found, VALUES)


def test_damaged_parquet_on_standard_input_says_so(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"PAR1 and no more")))
    with pytest.raises(DataError, match="standard input is damaged Parquet"):
        open_source("-")


def slowly(path_or_handle, content):
    """Write a few bytes at a time, as a pipe's other end may."""
    with open(path_or_handle, "wb", buffering=0) as stream:
        for start in range(0, len(content), 5):
            stream.write(content[start : start + 5])


def test_a_pipe_that_writes_slowly_loses_nothing():
    reader, writer = os.pipe()
    thread = threading.Thread(target=slowly, args=(writer, TEXT))
    thread.start()
    with open(reader, "rb", buffering=8) as stream:
        found = all_rows(_open_pipe(stream, "pipe")).arrow().to_pandas().astype(float)
    thread.join()
    np.testing.assert_array_equal(found, VALUES)


def test_a_named_pipe_is_read_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    thread = threading.Thread(target=slowly, args=(tmp_path / "pipe", TEXT))
    thread.start()
    found = all_rows(open_source(tmp_path / "pipe")).arrow().to_pandas().astype(float)
    thread.join()
    np.testing.assert_array_equal(found, VALUES)


@pytest.mark.parametrize("held_bytes", [1 << 30, 300])
def test_a_csv_is_held_in_memory_or_spooled_and_gives_the_same_groups(
    held_bytes, tmp_path, monkeypatch
):
    monkeypatch.setattr("keyhole.data.opening.MEMORY_BYTES", held_bytes)
    monkeypatch.setattr("keyhole.data.opening.SPOOL_ROWS", 8)
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    source = random_access(open_source(tmp_path / "t.csv"), lambda: str(tmp_path))
    spooled = held_bytes == 300
    assert (tmp_path / "spool.parquet").exists() == spooled
    assert (source.groups > 1) == spooled
    groups = [source.group(place).arrow() for place in range(source.groups)]
    whole = pa.concat_tables(groups).to_pandas().astype(float)
    np.testing.assert_array_equal(whole, VALUES)
    assert source.rows == 30
    assert source.name == str(tmp_path / "t.csv")
