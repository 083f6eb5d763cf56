"""Files are written aside, synced, and renamed: a reader sees the old one or the new one."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keyhole.errors import FileError


def write_whole(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Replace a file by this content, whole or not at all.

    Raises: FileError that says what failed; what stood there before is unharmed.
    """
    with aside(path) as temporary, open(temporary, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def aside(path: str | os.PathLike[str]) -> Iterator[str]:
    """A temporary path beside `path`, which takes its place when the block ends well."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield str(temporary)
        sync(temporary)
        os.replace(temporary, target)
        sync(target.parent)
    except OSError as fault:
        raise write_fault(target, fault) from fault
    finally:
        _remove(temporary)


@contextmanager
def folder_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder beside `path`, whose place it takes when the block ends well.

    A folder cannot be replaced in one step: the old one is moved aside first and removed after,
    and `settle_folder` puts it back where a kill fell between the two moves.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    old = old_folder(target)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.iterdir():
            sync(file)
        sync(temporary)
        settle_folder(target)
        if target.exists():
            os.replace(target, old)
        os.replace(temporary, target)
        sync(target.parent)
    except OSError as fault:
        settle_folder(target)
        raise write_fault(target, fault) from fault
    finally:
        _remove(temporary)
        _remove(old)


def old_folder(target: Path) -> Path:
    """Where the folder that is being replaced stands meanwhile."""
    return target.with_name(f".{target.name}.old")


def settle_folder(path: str | os.PathLike[str]) -> None:
    """Finish a replacement that was killed half-way: the old folder back, or away."""
    target = Path(path)
    old = old_folder(target)
    if not old.exists():
        return
    if target.exists():
        _remove(old)
    else:
        os.replace(old, target)


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
    why = {
        errno.ENOSPC: "the disk is full; free some space or write elsewhere",
        errno.EACCES: "permission is denied",
        errno.ENOENT: f"folder {path.parent} does not exist",
        errno.EROFS: "the disk is read-only",
    }.get(fault.errno or 0, fault.strerror or str(fault))
    return FileError(f"{path} cannot be written: {why}; nothing that existed was changed")


def refuse_existing(path: str, force: bool) -> None:
    """Raises: FileError where the path exists and force was not asked for."""
    if not force and path != "-" and os.path.lexists(path):
        raise FileError(f"{path} exists already; write elsewhere or add --force to replace it")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
