"""Temporary folders that are cleared even where the process that made them was killed."""

import os
import re
import secrets
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Self

from keyhole.core.locks import stands_at, try_lock
from keyhole.errors import FileError

OURS = re.compile(r"keyhole\.[0-9a-f]{16}\.tmp")


class Scratch:
    """A temporary folder for a block of code; made only once it is needed.

    It is locked while it is in use. A folder of this kind without a lock was left by a process
    that was killed: it is removed when the next one is made.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._handle >= 0:
            os.close(self._handle)
        self._folder, self._handle = None, -1

    def folder(self) -> str:
        """The folder, made at the first call.

        Raises: FileError where no folder for temporary files can be written.
        """
        if self._folder is None:
            try:
                parent = Path(tempfile.gettempdir())
                _clear_left(parent)
                self._make(parent)
            except OSError as fault:
                raise FileError(
                    f"no temporary folder can be made: {fault.strerror or fault}; "
                    "set TMPDIR to a folder that can be written"
                ) from fault
        return str(self._folder)

    def _make(self, parent: Path) -> None:
        while True:
            folder = parent / f"keyhole.{secrets.token_hex(8)}.tmp"
            folder.mkdir(mode=0o700)
            self._folder, self._handle = folder, os.open(folder, os.O_RDONLY)
            if try_lock(self._handle) is not False and stands_at(self._handle, folder):
                return
            os.close(self._handle)  # another process took it for one that was left


def _clear_left(parent: Path) -> None:
    """Remove folders of processes that were killed; those of other users stay."""
    for name in filter(OURS.fullmatch, os.listdir(parent)):
        left = parent / name
        with suppress(OSError):
            handle = os.open(left, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            try:
                ours = not hasattr(os, "getuid") or os.fstat(handle).st_uid == os.getuid()
                if ours and try_lock(handle):
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(handle)
