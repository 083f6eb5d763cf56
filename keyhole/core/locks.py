"""Advisory locks. The operating system frees them with the process, however that ends.

A file system without locks is used without them: nothing waits there, and nothing is refused.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None


def lock(handle: int) -> bool:
    """True once the lock is this process's own; False where there are no locks."""
    return _locked(handle, wait=True) is True


def try_lock(handle: int) -> bool | None:
    """True where the lock is now this process's own, False where another holds it.

    None where there are no locks.
    """
    return _locked(handle, wait=False)


def stands_at(handle: int, path: Path) -> bool:
    """True where an open file is still the one at this path."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


@contextmanager
def changing(folder: Path, waits: Callable[[], None]) -> Iterator[None]:
    """One process at a time changes a folder that each of them reads first and replaces then.

    The folder itself is locked, so nothing is left behind. `waits` is called where another
    process holds the lock. A folder that is absent needs no lock.
    """
    handle = _own(folder, waits)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _own(folder: Path, waits: Callable[[], None]) -> int | None:
    """A handle with the lock of what stands at a path once the lock is ours."""
    while True:
        try:
            handle = os.open(folder, os.O_RDONLY)
        except OSError:
            return None
        if try_lock(handle) is False:
            waits()
            lock(handle)
        if stands_at(handle, folder) or not folder.exists():
            return handle
        os.close(handle)  # it was replaced while we waited: now wait for the new one


def _locked(handle: int, *, wait: bool) -> bool | None:
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
