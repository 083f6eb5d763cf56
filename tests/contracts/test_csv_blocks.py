"""Text from a pipe, or that is not UTF-8, is cut after whole rows, and nothing in it changes."""

import csv
import io
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.data import csv as csv_source
from keyhole.data.csv import whole_rows
from keyhole.data.opening import _open_pipe, all_rows, open_source
from keyhole.errors import DataError

CELLS = st.text(st.sampled_from("ab\"',;\n\r é1"), max_size=8)


@given(
    rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=12),
    size=st.integers(8, 300),
    encoding=st.sampled_from(["utf8", "cp1252", "utf16"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_blocks_hold_whole_rows_and_nothing_is_lost(rows, size, encoding, end):
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end).writerows(rows)
    data = text.getvalue().encode(encoding)
    blocks = whole_rows(io.BytesIO(data).read, max(size, len(data) // 3), encoding, ",", "t")
    parts = [block.decode() for block in blocks]
    assert "".join(parts) == text.getvalue()
    read = [row for part in parts for row in csv.reader(io.StringIO(part, newline=""))]
    assert read == list(csv.reader(io.StringIO(text.getvalue(), newline="")))


def test_a_row_without_an_end_is_refused_before_it_fills_memory():
    endless = io.BytesIO(b'"' + b"a\n" * 100_000)
    with pytest.raises(DataError, match=r"a row is longer than .* is a quote left open"):
        list(whole_rows(endless.read, 1_000, "utf8", ",", "t.csv"))
    assert endless.tell() < 10_000


@pytest.mark.parametrize("encoding", ["utf8", "cp1252", "utf16"])
def test_a_file_and_a_pipe_give_the_same_rows_in_every_encoding(encoding, tmp_path, monkeypatch):
    monkeypatch.setattr(csv_source, "BLOCK_BYTES", 400)
    rows = [f'{i},"a ""quoted"", é\ntext {i}"' for i in range(200)]
    data = "\n".join(["n,text", *rows, ""]).encode(encoding)
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    from_file = all_rows(open_source(path)).arrow().to_pydict()
    assert from_file["n"] == [str(i) for i in range(200)]
    assert from_file["text"][7] == 'a "quoted", é\ntext 7'
    assert all_rows(_open_pipe(io.BytesIO(data), "pipe")).arrow().to_pydict() == from_file


def test_a_row_with_too_many_cells_is_counted_from_the_start_of_a_pipe(monkeypatch):
    monkeypatch.setattr(csv_source, "BLOCK_BYTES", 200)
    data = b"a,b\n" + b"1,2\n" * 500 + b"1,2,3\n"
    with pytest.raises(DataError, match=r"Row #502: Expected 2 columns, got 3"):
        all_rows(_open_pipe(io.BytesIO(data), "pipe"))


def test_blocks_that_are_given_up_early_do_not_wait_for_a_silent_pipe(monkeypatch):
    monkeypatch.setattr(csv_source, "BLOCK_BYTES", 64)
    reader, writer = os.pipe()
    os.write(writer, b"a,b\n" + b"1,2\n" * 100)
    late = threading.Timer(30, os.close, [writer])  # so that a failure ends, too
    late.start()
    with open(reader, "rb", buffering=0) as stream:
        blocks = _open_pipe(stream, "pipe").blocks(4)
        assert next(blocks).arrow().num_rows == 4
        blocks.close()
    assert late.is_alive()
    late.cancel()
    os.close(writer)
