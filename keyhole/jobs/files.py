"""From file to file: a block is read, answered and written before the next is read.

Parquet with more rows than a part is answered in parts of whole row groups. They are kept in a
hidden folder beside the output, one process at a time, until all are done: a run that was killed
answers only the parts that are missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, TypeVar, runtime_checkable

from keyhole.core.files import faults_of, stands_at, try_lock, write_whole
from keyhole.core.outputs import Scratch
from keyhole.data import Source
from keyhole.data.opening import ParquetSource
from keyhole.data.sinks import open_sink
from keyhole.errors import FileError

if TYPE_CHECKING:
    import pyarrow as pa

    from keyhole.data import Rows
    from keyhole.tasks.detect.counting import Draft


RUN, LOCK = "run.json", "lock"


class Parts:
    """Parts by their place, each a file and what was counted while it was answered."""

    def __init__(self, folder: Path, ending: str = ".parquet") -> None:
        self.folder = folder
        self.ending = ending

    def path(self, place: int) -> Path:
        """The file of a part."""
        return self.folder / f"{place:06}{self.ending}"

    def note(self, place: int) -> dict[str, Any] | None:
        """What was counted in a part; None where it is not done."""
        with suppress(OSError, ValueError):
            note = json.loads(self._note(place).read_text("utf8"))
            if isinstance(note, dict) and self.path(place).exists():
                return note
        return None

    def done(self, place: int, note: dict[str, Any]) -> None:
        """Keep what was counted in a part, after the part itself."""
        write_whole(self._note(place), json.dumps(note))

    def remove(self) -> None:
        """All parts are in the output."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _note(self, place: int) -> Path:
        return self.folder / f"{place:06}.json"


@contextmanager
def claimed(out: str, fingerprint: str, ending: str = ".parquet") -> Iterator[Parts]:
    """The parts of this very run, for one process alone; parts of another run are removed.

    Raises: FileError that names the process which writes to `out` already.
    """
    folder = Path(out).with_name(f".{Path(out).name}.parts")
    with faults_of(Path(out)):
        handle = _own(folder, out)
    try:
        if _run(folder).get("run") != fingerprint:
            for old in folder.iterdir():
                if old.name != LOCK:
                    old.unlink()
        since = datetime.now(UTC).isoformat(timespec="seconds")
        note = {"run": fingerprint, "pid": os.getpid(), "since": since}
        write_whole(folder / RUN, json.dumps(note))
        yield Parts(folder, ending)
    finally:
        os.close(handle)


def _own(folder: Path, out: str) -> int:
    """A handle with the lock of the folder, which is made where it is absent.

    A file in it is locked: the folder's own lock is taken for moments by each write into it.
    """
    while True:
        folder.mkdir(exist_ok=True)
        try:
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # the process that had it has just ended and removed it
            continue
        if try_lock(handle) is False:
            os.close(handle)
            run = _run(folder)
            raise FileError(
                f"{out} is being written by process {run.get('pid', '?')} since "
                f"{run.get('since', '?')}: wait until it ends, or write elsewhere"
            )
        if stands_at(handle, folder / LOCK):
            return handle
        os.close(handle)


def _run(folder: Path) -> dict[str, Any]:
    """Which run the folder is of, and who works in it."""
    with suppress(OSError, ValueError):
        note = json.loads((folder / RUN).read_text("utf8"))
        return note if isinstance(note, dict) else {}
    return {}


PART_ROWS = 1 << 20
GROUP_ROWS = 131_072  # of an output row group

Answerer = Callable[["Rows", int], "pa.Table"]
Progress = Callable[[int], None]
Block = TypeVar("Block", bound=Sized)
Answered = TypeVar("Answered")


@runtime_checkable
class Counting(Protocol):
    """An answerer that also counts, part by part, what all rows add up to."""

    def __call__(self, rows: Rows, start: int, /) -> pa.Table:
        """The answer for a block of rows whose first stands at `start`."""
        ...

    def end_part(self) -> dict[str, Any]:
        """The counts since the last part, as JSON."""
        ...

    def add_part(self, counts: dict[str, Any]) -> None:
        """Count in a part that an earlier run has answered."""
        ...


@runtime_checkable
class Deferring(Counting, Protocol):
    """A counting answerer whose answers may depend on all rows: they are drafted first."""

    @property
    def deferred(self) -> bool:
        """True if they do."""
        ...

    def draft(self, rows: Rows, start: int, /) -> Draft:
        """What is known of a block before all rows are."""
        ...

    def decide(self) -> None:
        """All rows are drafted and counted."""
        ...

    def finish(self, draft: Draft, start: int, /) -> pa.Table:
        """The answer for a block that was drafted."""
        ...


def _is_deferred(answer: Answerer) -> TypeGuard[Deferring]:
    return isinstance(answer, Deferring) and answer.deferred


def answer_file(
    answer: Answerer,
    source: Source,
    out: str,
    *,
    chunk: int,
    settings: Any = None,
    json_lines: bool = False,
    raw_text: bool = False,
    on_progress: Progress | None = None,
) -> int:
    """Write the answers for all rows of a source to `out`; returns how many rows there were.

    `answer` takes a block of rows and its place; `settings` is what its answers depend on, so
    that parts of another model are never taken for this one's. `on_progress` gets the number of
    rows answered since its last call. An answerer that counts gets the counts of parts that an
    earlier run has answered.
    """
    large = isinstance(source, ParquetSource) and (source.rows or 0) > PART_ROWS and out != "-"
    with ExitStack() as stack:
        if large:
            in_parts = _in_parts(answer, source, out, chunk, settings, on_progress)  # pyright: ignore
            tables = stack.enter_context(in_parts)
        elif _is_deferred(answer):
            path = Path(stack.enter_context(Scratch()).folder(), "drafts")
            _write_drafts(path, answer, source.blocks(chunk), 0, on_progress)
            tables = _finished(answer, [path])
        else:
            tables = _answers(answer, source.blocks(chunk), 0, on_progress)
        sink, rows = stack.enter_context(open_sink(out, json=json_lines, raw_text=raw_text)), 0
        for table in _grouped(tables):
            sink.write(table)
            rows += table.num_rows
        if isinstance(answer, Counting):
            answer.end_part()
    return rows


@contextmanager
def _in_parts(
    answer: Answerer,
    source: ParquetSource,
    out: str,
    chunk: int,
    settings: Any,
    on_progress: Progress | None,
) -> Iterator[Iterator[pa.Table]]:
    """The answers of all parts; those of an earlier run are not computed again."""
    deferred = _is_deferred(answer)
    ending = ".drafts" if deferred else ".parquet"
    with claimed(out, _fingerprint(source, settings, chunk), ending) as parts:
        paths = []
        for place, (groups, start, rows) in enumerate(_parts(source)):
            paths.append(parts.path(place))
            if _counted(answer, parts.note(place)):
                _tell(on_progress, rows)
                continue
            blocks = (block for group in groups for block in source.group_blocks(group, chunk))
            if deferred:
                _write_drafts(paths[-1], answer, blocks, start, on_progress)
            else:
                with open_sink(str(paths[-1])) as sink:
                    for table in _grouped(_answers(answer, blocks, start, on_progress)):
                        sink.write(table)
            parts.done(place, answer.end_part() if isinstance(answer, Counting) else {})
        yield _finished(answer, paths) if deferred else _written(paths)
        parts.remove()


def _written(paths: list[Path]) -> Iterator[pa.Table]:
    """The answers of parts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in paths:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(GROUP_ROWS):
                yield pa.Table.from_batches([batch])


def _write_drafts(
    path: Path, answer: Deferring, blocks: Iterator[Rows], start: int, on_progress: Progress | None
) -> None:
    with faults_of(path), open(path, "wb") as file:
        for draft in _answers(answer.draft, blocks, start, on_progress):
            draft.write(file)


def _finished(answer: Deferring, paths: list[Path]) -> Iterator[pa.Table]:
    """The answers of blocks that are all drafted."""
    answer.end_part()
    answer.decide()
    return _answers(answer.finish, _drafts(paths), 0, None)


def _drafts(paths: list[Path]) -> Iterator[Draft]:
    from keyhole.tasks.detect.counting import Draft

    for path in paths:
        with open(path, "rb") as file:
            while file.peek(1):
                yield Draft.read(file)


def _counted(answer: Answerer, note: dict[str, Any] | None) -> bool:
    """True for a part that an earlier run has answered, once what it counted is counted in."""
    if note is None:
        return False
    if isinstance(answer, Counting):
        try:
            answer.add_part(note)
        except (KeyError, TypeError, ValueError):
            return False
    return True


def _answers(
    answer: Callable[[Block, int], Answered],
    blocks: Iterator[Block],
    start: int,
    on_progress: Progress | None,
) -> Iterator[Answered]:
    """Answers in order, from as many workers as torch has threads, each using one of them.

    Nets of tables are small: two blocks on a core each are answered sooner than one on both.
    """
    import torch

    from keyhole.core.environment import one_thread_of_algebra

    workers = torch.get_num_threads()
    with (
        one_thread_of_algebra(),
        ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        waiting: deque[tuple[int, Future[Answered]]] = deque()
        try:
            for rows in blocks:
                waiting.append((len(rows), pool.submit(answer, rows, start)))
                start += len(rows)
                if len(waiting) >= workers:
                    yield _next(waiting, on_progress)
            while waiting:
                yield _next(waiting, on_progress)
        finally:
            for _, future in waiting:
                future.cancel()
            torch.set_num_threads(workers)


def _next(waiting: deque[tuple[int, Future[Answered]]], on_progress: Progress | None) -> Answered:
    rows, future = waiting.popleft()
    answered = future.result()
    _tell(on_progress, rows)
    return answered


def _grouped(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Tables of about a row group each: small ones gathered until there are enough rows."""
    import pyarrow as pa

    held, rows = [], 0
    for table in tables:
        held.append(table)
        rows += table.num_rows
        if rows >= GROUP_ROWS:
            yield pa.concat_tables(held)
            held, rows = [], 0
    if held:
        yield pa.concat_tables(held)


def _parts(source: ParquetSource) -> Iterator[tuple[list[int], int, int]]:
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
    said = json.dumps([files, source.names, settings, chunk, PART_ROWS], default=str)
    return hashlib.sha256(said.encode()).hexdigest()


def _tell(on_progress: Progress | None, rows: int) -> None:
    if on_progress is not None:
        on_progress(rows)
