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
from collections.abc import Callable, Iterator, Sized
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, TypeVar, runtime_checkable

from keyhole.core.files import faults_of, stands_at, try_lock, write_whole
from keyhole.core.outputs import Scratch
from keyhole.data import Source
from keyhole.data.lazy import pa, pq
from keyhole.data.opening import ParquetSource
from keyhole.data.sinks import open_sink
from keyhole.errors import DataError, FileError

if TYPE_CHECKING:
    from keyhole.data import Rows
    from keyhole.tasks.detect.counting import Detecting, Draft

RUN, LOCK = "run.json", "lock"
PART_ROWS = 1 << 20
GROUP_ROWS = 131_072  # of an output row group

Answerer = Callable[["Rows", int], "pa.Table"]
Progress = Callable[[int], None]
Block = TypeVar("Block", bound=Sized)
Answered = TypeVar("Answered")


class Parts:
    """Parts by their number, each a file and what was counted while it was answered."""

    def __init__(self, folder: Path, ending: str = ".parquet") -> None:
        self.folder = folder
        self.ending = ending

    def path(self, number: int) -> Path:
        """The file of a part."""
        return self.folder / f"{number:06}{self.ending}"

    def note(self, number: int) -> dict[str, Any] | None:
        """What was counted in a part; None where it is not done."""
        note = _read_note(self.folder / f"{number:06}.json")
        return note if self.path(number).exists() else None

    def done(self, number: int, note: dict[str, Any]) -> None:
        """Save what was counted in a part, after the part itself."""
        write_whole(self.folder / f"{number:06}.json", json.dumps(note))

    def remove(self) -> None:
        """All parts are in the output."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def claimed(out: str, fingerprint: str, ending: str = ".parquet") -> Iterator[Parts]:
    """The parts of this very run, for one process alone; parts of another run are removed.

    Raises: FileError that names the process which writes to `out` already.
    """
    folder = Path(out).with_name(f".{Path(out).name}.parts")
    with faults_of(Path(out)):
        handle = _own(folder, out)
    try:
        if (_read_note(folder / RUN) or {}).get("run") != fingerprint:
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
            run = _read_note(folder / RUN) or {}
            raise FileError(
                f"{out} is being written by process {run.get('pid', '?')} since "
                f"{run.get('since', '?')}: wait until it ends, or write elsewhere"
            )
        if stands_at(handle, folder / LOCK):
            return handle
        os.close(handle)


def _read_note(path: Path) -> dict[str, Any] | None:
    """The JSON object of a file; None where there is none."""
    with suppress(OSError, ValueError):
        note = json.loads(path.read_text("utf8"))
        return note if isinstance(note, dict) else None
    return None


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


def _is_deferred(answer: Any) -> TypeGuard[Detecting]:
    """True if answers depend on all rows, so that blocks are drafted first."""
    return getattr(answer, "deferred", False)


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

    `answer` takes a block of rows and the index of its first; `settings` is what its answers
    depend on, so that parts of another model are never used. `on_progress` gets the number of rows
    answered since its last call. An answerer that counts gets the counts of parts that an earlier
    run has answered. Raises: DataError for a source without rows.
    """
    job = _Job(answer, chunk, on_progress or (lambda rows: None))
    large = isinstance(source, ParquetSource) and (source.rows or 0) > PART_ROWS and out != "-"
    with ExitStack() as stack:
        if large:
            fingerprint = _fingerprint(source, settings, chunk)  # pyright: ignore
            in_parts = job.in_parts(source, out, fingerprint)  # pyright: ignore
            tables = stack.enter_context(in_parts)
        elif _is_deferred(answer):
            path = Path(stack.enter_context(Scratch()).folder(), "drafts")
            job.write(path, source.blocks(chunk), 0)
            tables = job.saved([path])
        else:
            tables = _answers(answer, source.blocks(chunk), 0, job.on_progress)
        sink, rows = stack.enter_context(open_sink(out, json=json_lines, raw_text=raw_text)), 0
        for table in _grouped(tables):
            sink.write(table)
            rows += table.num_rows
        if not rows:  # raised here, so that what `out` had is not replaced
            raise DataError(f"{source.name} has column names but no rows")
        if isinstance(answer, Counting):
            answer.end_part()
    return rows


@dataclass(frozen=True)
class _Job:
    """An answerer, the rows of a block, and what hears of answered rows."""

    answer: Answerer
    chunk: int
    on_progress: Progress

    @contextmanager
    def in_parts(
        self, source: ParquetSource, out: str, fingerprint: str
    ) -> Iterator[Iterator[pa.Table]]:
        """The answers of all parts; those of an earlier run are not computed again."""
        ending = ".drafts" if _is_deferred(self.answer) else ".parquet"
        with claimed(out, fingerprint, ending) as parts:
            paths = []
            for number, (groups, start, rows) in enumerate(_parts(source)):
                paths.append(parts.path(number))
                if self._is_counted(parts.note(number)):
                    self.on_progress(rows)
                    continue
                blocks = (b for group in groups for b in source.group_blocks(group, self.chunk))
                self.write(paths[-1], blocks, start)
                counts = self.answer.end_part() if isinstance(self.answer, Counting) else {}
                parts.done(number, counts)
            yield self.saved(paths)
            parts.remove()

    def write(self, path: Path, blocks: Iterator[Rows], start: int) -> None:
        """Save the answers of a part, or its drafts."""
        if _is_deferred(self.answer):
            with faults_of(path), open(path, "wb") as file:
                for draft in _answers(self.answer.draft, blocks, start, self.on_progress):
                    draft.write(file)
        else:
            with open_sink(str(path)) as sink:
                for table in _grouped(_answers(self.answer, blocks, start, self.on_progress)):
                    sink.write(table)

    def saved(self, paths: list[Path]) -> Iterator[pa.Table]:
        """The answers of parts that are all saved, or drafted."""
        if not _is_deferred(self.answer):
            return _read(paths)
        self.answer.end_part()
        self.answer.decide()
        return _answers(self.answer.finish, _drafts(paths), 0, lambda rows: None)

    def _is_counted(self, note: dict[str, Any] | None) -> bool:
        """True for a part that an earlier run has answered, once its counts are added."""
        if note is None:
            return False
        if isinstance(self.answer, Counting):
            try:
                self.answer.add_part(note)
            except (KeyError, TypeError, ValueError):
                return False
        return True


def _read(paths: list[Path]) -> Iterator[pa.Table]:
    for path in paths:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(GROUP_ROWS):
                yield pa.Table.from_batches([batch])


def _drafts(paths: list[Path]) -> Iterator[Draft]:
    from keyhole.tasks.detect.counting import Draft

    for path in paths:
        with open(path, "rb") as file:
            while file.peek(1):
                yield Draft.read(file)


def _answers(
    answer: Callable[[Block, int], Answered],
    blocks: Iterator[Block],
    start: int,
    on_progress: Progress,
) -> Iterator[Answered]:
    """Answers in order, from as many workers as torch has threads, each using one of them."""
    from keyhole.core.environment import side_by_side

    parts = _numbered(blocks, start)
    for rows, answered in side_by_side(lambda part: (len(part[0]), answer(*part)), parts):
        on_progress(rows)
        yield answered


def _numbered(blocks: Iterator[Block], start: int) -> Iterator[tuple[Block, int]]:
    """The blocks, each with the place of its first row."""
    for rows in blocks:
        yield rows, start
        start += len(rows)


def _grouped(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Tables of about a row group each: small ones gathered until there are enough rows."""
    gathered, rows = [], 0
    for table in tables:
        gathered.append(table)
        rows += table.num_rows
        if rows >= GROUP_ROWS:
            yield pa.concat_tables(gathered)
            gathered, rows = [], 0
    if gathered:
        yield pa.concat_tables(gathered)


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
    text = json.dumps([files, source.names, settings, chunk, PART_ROWS], default=str)
    return hashlib.sha256(text.encode()).hexdigest()
