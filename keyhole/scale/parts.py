"""The folder where the parts of a long answer gather until all are done.

It stands beside the output, under a hidden name, and survives a kill: the same command goes on
from it. One process at a time works in it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keyhole.core.files import faults_of, write_whole
from keyhole.core.locks import stands_at, try_lock
from keyhole.errors import FileError

RUN, LOCK = "run.json", "lock"


class Parts:
    """Parts by their place, each a Parquet file and what was counted while it was answered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, place: int) -> Path:
        """The file of a part."""
        return self.folder / f"{place:06}.parquet"

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
def claimed(out: str, fingerprint: str) -> Iterator[Parts]:
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
        yield Parts(folder)
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
