"""Atomic writes and advisory locks.

Files are written aside, synced and renamed: a reader sees the old one or the new one, and so does
the next process after a kill. What a kill leaves beside them is cleared by the next write to the
same path; reading never writes. A file system without locks is used without them.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from keyhole.errors import FileError, SettingError

WHY = {
    errno.ENOSPC: "the disk is full; free some space or write elsewhere",
    errno.EDQUOT: "the disk quota is used up; free some space or write elsewhere",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.EROFS: "the disk is read-only",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
}
MOST_NAME = 200  # bytes of a name that names beside it begin with; most disks take 255
NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF}  # of some file systems


def write_whole(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Replace a file by this content, whole or not at all.

    Raises: FileError that says what failed; what stood there before is unharmed.
    """
    with aside(path) as temporary, open(temporary, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def aside(path: str | os.PathLike[str], check: Callable[[], None] = lambda: None) -> Iterator[str]:
    """A temporary path beside `path`, which takes its place when the block ends well.

    A link is followed; a pipe or device such as /dev/null is written directly.
    `check` is called at the last moment, while no other writer can put a file there; what it
    raises keeps the old file.
    """
    target = place_of(path)
    with faults_of(target):
        if is_stream(target):
            yield str(target)
            return
        with _temporary(target) as temporary:
            yield str(temporary)
            sync(temporary)
            with _locked(target.parent):
                check()
                os.replace(temporary, target)
    _sync_folder(target)


@contextmanager
def beside(path: str | os.PathLike[str]) -> Iterator[str]:
    """A scratch file in the folder of `path`, where room is needed anyway; gone afterwards."""
    with _temporary(place_of(path)) as temporary:
        yield str(temporary)


@contextmanager
def folder_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder beside `path`, whose place it takes when the block ends well.

    A folder cannot be replaced in one step: the old one is moved aside first, and back where the
    second move fails.
    """
    target = place_of(path)
    with faults_of(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_dir():
            raise FileError(f"{target} is a file; give the name of a folder")
        with _temporary(target, folder=True) as temporary:
            yield temporary
            for file in temporary.iterdir():
                sync(file)
            sync(temporary)
            with _locked(target.parent):
                _swap(temporary, target)
    _sync_folder(target)


def place_of(path: str | os.PathLike[str]) -> Path:
    """Where a path leads, links followed.

    Raises: FileError for a path that can name no file, SettingError for what is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise SettingError(f"{type(path).__name__:.40} is not a path: give one, 'm.keyhole'")
    try:
        place = Path(os.path.realpath(path))
    except ValueError as fault:  # a NUL inside
        raise FileError(f"{os.fspath(path)!r:.80} is no path: {fault}") from fault
    if not os.fspath(path) or not place.name:
        raise FileError(f"{os.fspath(path)!r} names no file or folder that can be written")
    return place


def sync(path: Path) -> None:
    """Have the disk hold what was written."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_fault(path: Path, fault: OSError) -> FileError:
    """The error for a file that could not be written."""
    if isinstance(fault, FileError):
        return fault
    why = reason(fault)
    if fault.errno == errno.ENOENT:
        why = f"folder {path.parent} does not exist"
    return FileError(f"{path} cannot be written: {why}; nothing that existed was changed")


def reason(fault: OSError) -> str:
    """Why the operating system refused, and what to do where that is clear."""
    return WHY.get(fault.errno or 0, fault.strerror or str(fault))


def refuse_existing(path: str, force: bool) -> None:
    """Raises: FileError where the path exists and force was not asked for."""
    if not force and path != "-" and os.path.lexists(path):
        raise FileError(f"{path} exists already; write elsewhere or add --force to replace it")


def is_stream(path: Path) -> bool:
    """True for what can be written and is no file: a pipe, a terminal, /dev/null."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


@contextmanager
def faults_of(target: Path) -> Iterator[None]:
    """Have a fault of the disk name the file that is written.

    Raises: FileError, BrokenPipeError where the reader of a pipe has gone.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as fault:
        raise write_fault(target, fault) from fault


@contextmanager
def _temporary(target: Path, *, folder: bool = False) -> Iterator[Path]:
    """A new file or folder beside `target`, locked while it is in use and gone afterwards.

    What has such a name and no lock was left by a kill, and is cleared away.
    """
    temporary = _beside(target)
    handle = -1
    try:
        with _locked(target.parent):
            _clear_left(target)
            if folder:
                temporary.mkdir()
            else:
                temporary.touch(exist_ok=False)
            handle = os.open(temporary, os.O_RDONLY)
            lock(handle)
        yield temporary
    finally:
        if handle >= 0:
            os.close(handle)
        _remove(temporary)


def _swap(new: Path, target: Path) -> None:
    """Put the new folder in the place of the old; whatever fails, one of them stands there."""
    old = _beside(target)
    try:
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
    except BaseException:
        if old.exists() and not target.exists():
            os.replace(old, target)
        raise
    _remove(old)


def _beside(target: Path) -> Path:
    return target.with_name(f".{_short(target.name)}.{secrets.token_hex(4)}.tmp")


def _short(name: str) -> str:
    """The name, or what stands for one so long that a name beside it would be too long."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= MOST_NAME else hashlib.sha256(encoded).hexdigest()


def _clear_left(target: Path) -> None:
    ours = re.compile(re.escape(f".{_short(target.name)}.") + r"[0-9a-f]{8}\.tmp")
    names: list[str] = []
    with suppress(OSError):  # a folder that cannot be listed
        names = os.listdir(target.parent)
    for name in filter(ours.fullmatch, names):
        left = target.with_name(name)
        with suppress(OSError):  # in use, or not ours to remove
            handle = os.open(left, os.O_RDONLY)
            try:
                if try_lock(handle):
                    _remove(left)
            finally:
                os.close(handle)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time, where the folder can be locked; for moments only."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # it may be written but not listed
        yield
        return
    try:
        lock(handle)
        yield
    finally:
        os.close(handle)


def _sync_folder(target: Path) -> None:
    """Have the disk keep the new name, where the file system can be asked to."""
    try:
        sync(target.parent)
    except OSError as fault:
        if fault.errno not in NO_FOLDER_SYNC:
            raise FileError(
                f"{target} was written, but the disk does not confirm it: {fault.strerror}"
            ) from fault


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None


def lock(handle: int) -> bool:
    """True once the lock is this process's own; False where there are no locks."""
    return _lock_taken(handle, wait=True) is True


def try_lock(handle: int) -> bool | None:
    """True where the lock is now this process's own, False where another holds it.

    None where there are no locks.
    """
    return _lock_taken(handle, wait=False)


def stands_at(handle: int, path: Path) -> bool:
    """True where an open file is still the one at this path."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


@contextmanager
def changing(path: Path, waits: Callable[[], None]) -> Iterator[None]:
    """One process at a time changes a file that each of them reads first and replaces then.

    The file itself is locked, so nothing is left behind. `waits` is called where another process
    holds the lock. A file that is absent needs no lock.
    """
    handle = _own(path, waits)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _own(path: Path, waits: Callable[[], None]) -> int | None:
    """A handle with the lock of what stands at a path once the lock is ours."""
    while True:
        try:
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except OSError:
            return None
        if try_lock(handle) is False:
            waits()
            lock(handle)
        if stands_at(handle, path) or not path.exists():
            return handle
        os.close(handle)  # it was replaced while we waited: now wait for the new one


def _lock_taken(handle: int, *, wait: bool) -> bool | None:
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
