"""Atomic writes and advisory locks.

Files are written to a temporary name, synced and renamed: a reader sees the old or the new file,
also after a kill. Temporary files that a kill leaves are removed by the next write to the same
path; reading never writes. A file system without locks is used without them.
"""

import difflib
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
MAX_NAME_BYTES = 200  # of a name that a temporary name contains; most disks take 255
NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF}  # of some file systems


def write_whole(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Atomically replace a file. Raises: FileError; the old file is unchanged."""
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_write(
    path: str | os.PathLike[str], check: Callable[[], None] = lambda: None
) -> Iterator[str]:
    """A temporary path that is renamed to `path` when the block ends without an error.

    A link is followed; a pipe or device such as /dev/null is written directly. `check` is called
    just before the rename, while other writers wait; if it raises, the old file stays.
    """
    target = resolve(path)
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
def scratch_file(path: str | os.PathLike[str]) -> Iterator[str]:
    """A temporary file in the folder of `path`, where space is needed anyway."""
    with _temporary(resolve(path)) as temporary:
        yield str(temporary)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder that is renamed to `path` in the end; if that fails, the old one is restored."""
    target = resolve(path)
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


def resolve(path: str | os.PathLike[str]) -> Path:
    """The absolute path, links followed. Raises: FileError, SettingError for an invalid type."""
    if not isinstance(path, str | os.PathLike):
        raise SettingError(f"expected a path such as 'm.keyhole', got {type(path).__name__:.40}")
    try:
        resolved = Path(os.path.realpath(path))
    except ValueError as fault:  # a NUL inside
        raise FileError(f"{os.fspath(path)!r:.80} is not a path: {fault}") from fault
    if not os.fspath(path) or not resolved.name:
        raise FileError(f"{os.fspath(path)!r} is not a file or folder that can be written")
    return resolved


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reason(fault: OSError) -> str:
    """Why the operating system refused, and a remedy if one is known."""
    return WHY.get(fault.errno or 0, fault.strerror or str(fault))


def hint_of(path: str) -> str:
    """`; did you mean ...?` with the closest name in the folder; empty if there is none."""
    folder = os.path.dirname(path)
    names = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
    close = difflib.get_close_matches(os.path.basename(path), names, 1)
    return f"; did you mean {os.path.join(folder, close[0])}?" if close else ""


def refuse_existing(path: str, force: bool) -> None:
    """Raises: FileError if the path exists, unless `force`."""
    if not force and path != "-" and os.path.lexists(path):
        raise FileError(f"{path} exists already; write elsewhere or add --force to replace it")


def is_stream(path: Path) -> bool:
    """True for a pipe, a terminal or a device such as /dev/null."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


@contextmanager
def faults_of(target: Path) -> Iterator[None]:
    """Raises: FileError that names the file; BrokenPipeError if the reader of a pipe has gone."""
    try:
        yield
    except (BrokenPipeError, FileError):
        raise
    except OSError as fault:
        absent = fault.errno == errno.ENOENT
        why = f"folder {target.parent} does not exist" if absent else reason(fault)
        raise FileError(
            f"{target} cannot be written: {why}; existing files are unchanged"
        ) from fault


@contextmanager
def _temporary(target: Path, *, folder: bool = False) -> Iterator[Path]:
    """A new file or folder beside `target`, locked while in use; an unlocked one is removed."""
    temporary = _beside(target)
    handle = -1
    try:
        with _locked(target.parent):
            with suppress(OSError):  # a folder that cannot be listed
                stem = re.escape(f".{_short(target.name)}.")
                remove_abandoned(target.parent, re.compile(stem + r"[0-9a-f]{8}\.tmp"))
            if folder:
                temporary.mkdir()
            else:
                temporary.touch(exist_ok=False)
            handle = os.open(temporary, os.O_RDONLY)
            try_lock(handle, wait=True)
        yield temporary
    finally:
        if handle >= 0:
            os.close(handle)
        _remove(temporary)


def _swap(new: Path, target: Path) -> None:
    """Replace the old folder by the new one; if that fails, the old one is restored."""
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
    """The name, or a hash of a name that is too long for a temporary name."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= MAX_NAME_BYTES else hashlib.sha256(encoded).hexdigest()


def remove_abandoned(folder: Path, pattern: re.Pattern[str], *, own_only: bool = False) -> None:
    """Remove unlocked files and folders of such names (of this user). Raises: OSError."""
    for name in filter(pattern.fullmatch, os.listdir(folder)):
        with suppress(OSError):  # in use, or not ours to remove
            handle = os.open(folder / name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            try:
                others = hasattr(os, "getuid") and os.fstat(handle).st_uid != os.getuid()
                if not (own_only and others) and try_lock(handle):
                    _remove(folder / name)
            finally:
                os.close(handle)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """A lock on the folder, if it can be locked; held for moments only."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # it may be written but not listed
        yield
        return
    try:
        try_lock(handle, wait=True)
        yield
    finally:
        os.close(handle)


def _sync_folder(target: Path) -> None:
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


def try_lock(handle: int, *, wait: bool = False) -> bool | None:
    """True if this process has the lock now, False if another has it; None without locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def stands_at(handle: int, path: Path) -> bool:
    """True if an open file is still the one at this path."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


@contextmanager
def changing(path: Path, waits: Callable[[], None]) -> Iterator[None]:
    """A lock on a file that is read and replaced; `waits` is called if another process has it."""
    handle = _locked_handle(path, waits)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _locked_handle(path: Path, waits: Callable[[], None]) -> int | None:
    while True:
        try:
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except OSError:
            return None
        if try_lock(handle) is False:
            waits()
            try_lock(handle, wait=True)
        if stands_at(handle, path) or not path.exists():
            return handle
        os.close(handle)  # it was replaced while we waited: now wait for the new one
