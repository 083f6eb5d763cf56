"""Checks of output paths before any work starts; temporary folders, cleared after a kill too."""

import errno
import fnmatch
import glob
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from keyhole.core.files import (
    is_stream,
    reason,
    refuse_existing,
    remove_abandoned,
    resolve,
    stands_at,
    try_lock,
)
from keyhole.errors import FileError


@dataclass(frozen=True)
class Output:
    """A path that is written to, and its name for the user, such as "--report".

    `images` are a folder that is replaced unless it `joins` an existing one; all others are
    files. A `state` may exist: a run continues from it.
    """

    option: str
    path: str
    kind: Literal["rows", "images", "model", "page", "state"]
    joins: bool = False

    @property
    def target(self) -> Path:
        """The absolute path, links followed."""
        return resolve(self.path)


def check_outputs(
    outputs: Sequence[Output],
    inputs: Mapping[str, str | None],
    *,
    model: str | None = None,
    force: bool = False,
) -> None:
    """Raises: FileError for outputs that would replace an input, each other, or existing files.

    `inputs` are paths, folders or globs by their names for the user; `model` is the path of the
    model that is read. Streams are not checked.
    """
    files = [o for o in outputs if o.path != "-" and not is_stream(Path(o.path))]
    for i, output in enumerate(files):
        for other in files[:i]:
            _check_pair(other, output)
        for name, path in inputs.items():
            if path is not None and path != "-":
                _check_input(output, name, path)
        if model is not None and output.kind != "model" and is_same(output.target, Path(model)):
            raise FileError(f"{output.option} {output.path} is the model itself: write elsewhere")
    for output in files:
        if output.kind != "state":
            refuse_existing(output.path, force)
        _check_writable(output)


def _check_pair(one: Output, other: Output) -> None:
    if is_same(one.target, other.target):
        raise FileError(
            f"{one.option} and {other.option} are both {other.path}: give each its own path"
        )
    for outer, inner in ((one, other), (other, one)):
        if outer.kind == "images" and not outer.joins and _inside(inner, outer.target):
            raise FileError(
                f"{inner.option} {inner.path} is inside {outer.option} {outer.path}, a folder "
                "that will be replaced: write elsewhere"
            )


def _check_input(output: Output, name: str, path: str) -> None:
    pattern = not os.path.lexists(path)
    for file in glob.glob(path) if pattern else [path]:
        if is_same(output.target, Path(file)):
            raise FileError(
                f"{output.option} {output.path} is {name} itself, which would be overwritten: "
                "write elsewhere"
            )
        if os.path.isdir(file) and _inside(output, resolve(file)) and _joins(output, file):
            raise FileError(
                f"{output.option} {output.path} is inside {name} {path}: the next run would read "
                "it as data; write elsewhere"
            )
    matches = fnmatch.fnmatch(os.path.abspath(output.path), os.path.abspath(path))
    if pattern and output.kind in {"rows", "images", "model"} and matches:
        raise FileError(
            f"{output.option} {output.path} fits {name} {path}: the next run would read it as "
            "data; write elsewhere"
        )


def _joins(output: Output, folder: str) -> bool:
    """True if an output in this folder would be read with it, or replace one of its files."""
    if output.kind == "images" or output.path.lower().endswith((".parquet", ".pq")):
        return True
    return any(is_same(output.target, file) for file in Path(folder).iterdir() if file.is_file())


def _check_writable(output: Output) -> None:
    try:
        os.lstat(output.path)
    except FileNotFoundError:
        pass
    except OSError as fault:
        raise FileError(f"{output.path} cannot be written: {reason(fault)}") from fault
    if output.kind != "images" and os.path.isdir(output.path):
        raise FileError(f"{output.path} is a folder; give the name of a file")
    parent = output.target.parent
    if output.kind in {"model", "images"}:  # whose folders are created
        parent = next(folder for folder in (parent, *parent.parents) if folder.exists())
    if not parent.is_dir():
        why = f"folder {parent} does not exist"
    elif not os.access(parent, os.W_OK):
        why = reason(PermissionError(errno.EACCES, ""))
    else:
        return
    raise FileError(f"{output.path} cannot be written: {why}; existing files are unchanged")


def is_same(one: Path, other: Path) -> bool:
    """True for two names of one file: links, hard links, and case where the disk ignores it."""
    with suppress(OSError):
        if os.path.samefile(one, other):
            return True
    one, other = Path(os.path.realpath(one)), Path(os.path.realpath(other))
    if one == other:
        return True
    return str(one).casefold() == str(other).casefold() and _ignores_case(one.parent)


def _ignores_case(folder: Path) -> bool:
    swapped = Path(str(folder).swapcase())
    with suppress(OSError):
        return swapped != folder and os.path.samefile(folder, swapped)
    return False


def _inside(output: Output, folder: Path) -> bool:
    return any(is_same(parent, folder) for parent in output.target.parents)


SCRATCH_NAME = re.compile(r"keyhole\.[0-9a-f]{16}\.tmp")


class Scratch:
    """A temporary folder for a block of code; created when it is first needed.

    It is locked while in use. An unlocked folder was left by a process that was killed: it is
    removed when the next one is created.
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
        """The folder, created at the first call. Raises: FileError if none can be written."""
        if self._folder is None:
            try:
                parent = Path(tempfile.gettempdir())
                remove_abandoned(parent, SCRATCH_NAME, own_only=True)
                self._create(parent)
            except OSError as fault:
                raise FileError(
                    f"no temporary folder can be made: {fault.strerror or fault}; "
                    "set TMPDIR to a folder that can be written"
                ) from fault
        return str(self._folder)

    def _create(self, parent: Path) -> None:
        while True:
            folder = parent / f"keyhole.{secrets.token_hex(8)}.tmp"
            folder.mkdir(mode=0o700)
            self._folder, self._handle = folder, os.open(folder, os.O_RDONLY)
            if try_lock(self._handle) is not False and stands_at(self._handle, folder):
                return
            os.close(self._handle)  # another process took it for an abandoned one
