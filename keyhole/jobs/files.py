"""Answers for the rows of a file, written to another file block by block.

A large Parquet file is answered in parts of whole row groups. A hidden folder beside the output
holds the parts until all are done, so that a run after a kill answers only the missing ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from keyhole.core.files import faults_of, stands_at, try_lock, write_whole
from keyhole.data import Source
from keyhole.data.parquet import ParquetSource
from keyhole.data.sinks import Sink, open_sink
from keyhole.errors import FileError

if TYPE_CHECKING:
    import pyarrow as pa

    from keyhole.data import Rows


RUN, LOCK = "run.json", "lock"


class Parts:
    """Numbered parts, each a Parquet file and a note with the counts of its answerer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, index: int, ending: str = "parquet") -> Path:
        """The file of a part."""
        return self.folder / f"{index:06}.{ending}"

    def note(self, index: int) -> dict[str, Any] | None:
        """The counts of a part; None if it is not done."""
        note = _read_json(self.path(index, "json"))
        return note if self.path(index).exists() else None

    def done(self, index: int, note: dict[str, Any]) -> None:
        """Save the counts of a part, after the part itself."""
        write_whole(self.path(index, "json"), json.dumps(note))

    def copy_to(self, sink: Sink) -> None:
        """Write all parts to a sink."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        for path in sorted(self.folder.glob("[0-9]*.parquet")):
            with pq.ParquetFile(path, pre_buffer=False) as file:
                for batch in file.iter_batches(GROUP_ROWS):
                    sink.write(pa.Table.from_batches([batch]))

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def claimed(out: str, fingerprint: str) -> Iterator[Parts]:
    """The parts of this run, locked for one process; parts of another run are removed.

    Raises: FileError if another process writes to `out`.
    """
    folder = Path(out).with_name(f".{Path(out).name}.parts")
    with faults_of(Path(out)):
        handle = _locked(folder, out)
    try:
        if (_read_json(folder / RUN) or {}).get("run") != fingerprint:
            for old in folder.iterdir():
                if old.name != LOCK:
                    old.unlink()
        since = datetime.now(UTC).isoformat(timespec="seconds")
        note = {"run": fingerprint, "pid": os.getpid(), "since": since}
        write_whole(folder / RUN, json.dumps(note))
        yield Parts(folder)
    finally:
        os.close(handle)


def _locked(folder: Path, out: str) -> int:
    """A handle with the lock of the folder, which is created if it is absent.

    A file in the folder is locked, because each write into the folder locks the folder itself.
    """
    while True:
        folder.mkdir(exist_ok=True)
        try:
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # another process has just ended and removed it
            continue
        if try_lock(handle) is False:
            os.close(handle)
            run = _read_json(folder / RUN) or {}
            raise FileError(
                f"{out} is being written by process {run.get('pid', '?')} since "
                f"{run.get('since', '?')}: wait until it ends, or write elsewhere"
            )
        if stands_at(handle, folder / LOCK):
            return handle
        os.close(handle)


def _read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None if the file is absent or damaged."""
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text("utf8"))
        return content if isinstance(content, dict) else None
    return None


PART_ROWS = 1 << 20
GROUP_ROWS = 131_072  # of an output row group

Answerer = Callable[["Rows", int], "pa.Table"]  # a block of rows, and the index of its first
Progress = Callable[[int], None]


@runtime_checkable
class Counting(Protocol):
    """An answerer that also adds up counts over the rows of each part."""

    def __call__(self, rows: Rows, start: int, /) -> pa.Table:
        """The answer for a block of rows; `start` is the index of the first."""
        ...

    def end_part(self) -> dict[str, Any]:
        """The counts since the last part, as JSON."""
        ...

    def add_part(self, counts: dict[str, Any]) -> None:
        """Add the counts of a part that an earlier run has answered."""
        ...


def answer_file(
    answer: Answerer,
    source: Source,
    out: str,
    *,
    chunk: int,
    settings: Any = None,
    json_lines: bool = False,
    raw_text: bool = False,
    on_progress: Progress = lambda rows: None,
) -> int:
    """Write the answers for all rows of a source to `out`; returns the number of rows.

    `settings` are what answers depend on, so that parts of another model are not reused.
    `on_progress` is called with the number of rows of each answered block.
    """
    output = partial(open_sink, out, json=json_lines, raw_text=raw_text)
    if isinstance(source, ParquetSource) and (source.rows or 0) > PART_ROWS and out != "-":
        with claimed(out, _fingerprint(source, settings, chunk)) as parts:
            _answer_parts(answer, source, parts, chunk, on_progress)
            with output() as sink:
                parts.copy_to(sink)
            parts.remove()
        return source.rows or 0
    with output() as sink:
        rows = _write(answer, source.blocks(chunk), 0, sink, on_progress)
    if isinstance(answer, Counting):
        answer.end_part()
    return rows


def _answer_parts(
    answer: Answerer, source: ParquetSource, parts: Parts, chunk: int, on_progress: Progress
) -> None:
    """Answer the parts that are missing."""
    for index, (groups, start, rows) in enumerate(_ranges(source)):
        if _restored(answer, parts.note(index)):
            on_progress(rows)
            continue
        blocks = (block for group in groups for block in source.group_blocks(group, chunk))
        with open_sink(str(parts.path(index))) as sink:
            _write(answer, blocks, start, sink, on_progress)
        parts.done(index, answer.end_part() if isinstance(answer, Counting) else {})


def _restored(answer: Answerer, note: dict[str, Any] | None) -> bool:
    """True for a part of an earlier run; its counts are added to the answerer."""
    if note is not None and isinstance(answer, Counting):
        try:
            answer.add_part(note)
        except (KeyError, TypeError, ValueError):
            return False
    return note is not None


def _write(
    answer: Answerer, blocks: Iterator[Rows], start: int, sink: Sink, on_progress: Progress
) -> int:
    """Write the answers for blocks, about a row group at a time; returns the number of rows."""
    import pyarrow as pa

    tables, size, total = [], 0, 0
    for table in _answers(answer, blocks, start, on_progress):
        tables.append(table)
        size += table.num_rows
        total += table.num_rows
        if size >= GROUP_ROWS:
            sink.write(pa.concat_tables(tables))
            tables, size = [], 0
    if tables:
        sink.write(pa.concat_tables(tables))
    return total


def _answers(
    answer: Answerer, blocks: Iterator[Rows], start: int, on_progress: Progress
) -> Iterator[pa.Table]:
    """Answers in order, from one worker per thread of torch, with one thread each.

    Nets of tables are small: two blocks on one core each are faster than one after the other on
    two cores.
    """
    import torch

    from keyhole.core.environment import one_thread_of_algebra

    workers = torch.get_num_threads()
    with (
        one_thread_of_algebra(),
        ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        waiting: deque[tuple[int, Future[pa.Table]]] = deque()

        def first_answer() -> pa.Table:
            rows, future = waiting.popleft()
            table = future.result()
            on_progress(rows)
            return table

        try:
            for rows in blocks:
                waiting.append((len(rows), pool.submit(answer, rows, start)))
                start += len(rows)
                if len(waiting) >= workers:
                    yield first_answer()
            while waiting:
                yield first_answer()
        finally:
            for _, future in waiting:
                future.cancel()
            torch.set_num_threads(workers)


def _ranges(source: ParquetSource) -> Iterator[tuple[list[int], int, int]]:
    """Row groups, first row and number of rows of each part."""
    groups: list[int] = []
    start, rows = 0, 0
    for group, (_, _, size) in enumerate(source.places):
        groups.append(group)
        rows += size
        if rows >= PART_ROWS:
            yield groups, start, rows
            groups, start, rows = [], start + rows, 0
    if groups:
        yield groups, start, rows


def _fingerprint(source: ParquetSource, settings: Any, chunk: int) -> str:
    files = [(p, os.path.getsize(p), os.stat(p).st_mtime_ns) for p in source.paths]
    content = json.dumps([files, source.names, settings, chunk, PART_ROWS], default=str)
    return hashlib.sha256(content.encode()).hexdigest()
