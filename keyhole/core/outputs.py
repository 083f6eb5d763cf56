"""Checks of output paths before any work starts, and temporary folders.

Paths are compared with each other, the inputs and the model. Temporary folders are cleared even
if the process that made them was killed.
"""

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

from keyhole.core.files import is_stream, place_of, reason, refuse_existing, stands_at, try_lock
from keyhole.errors import FileError

PARQUET = (".parquet", ".pq")


@dataclass(frozen=True)
class Output:
    """A place that is written to; `option` is what names it to the user, such as "--report".

    `images` are a folder that is replaced as a whole unless it `joins` one that stands there; all
    others are files. A `state` may exist: a run goes on from it.
    """

    option: str
    path: str
    kind: Literal["rows", "images", "model", "page", "state"]
    joins: bool = False

    @property
    def place(self) -> Path:
        """Where the path leads, links followed."""
        return place_of(self.path)


def check_outputs(
    outputs: Sequence[Output],
    inputs: Mapping[str, str | None],
    *,
    model: str | None = None,
    force: bool = False,
) -> None:
    """Refuse outputs that would replace an input, another output, or what stands there already.

    `inputs` are paths, folders or globs by the name that the user knows them by; `model` is
    that of the model that is read. Streams are no places. Raises: FileError.
    """
    files = [o for o in outputs if o.path != "-" and not is_stream(Path(o.path))]
    for place, output in enumerate(files):
        for other in files[:place]:
            _check_pair(other, output)
        for name, path in inputs.items():
            if path is not None and path != "-":
                _check_input(output, name, path)
        if model is not None and output.kind != "model" and is_same(output.place, Path(model)):
            raise FileError(f"{output.option} {output.path} is the model itself: write elsewhere")
    for output in files:
        if output.kind != "state":
            refuse_existing(output.path, force)
        _check_writable(output)


def _check_pair(one: Output, other: Output) -> None:
    if is_same(one.place, other.place):
        raise FileError(
            f"{one.option} and {other.option} are both {other.path}: give each its own place"
        )
    for outer, inner in ((one, other), (other, one)):
        if outer.kind == "images" and not outer.joins and _inside(inner, outer.place):
            raise FileError(
                f"{inner.option} {inner.path} is inside {outer.option} {outer.path}, a folder "
                "that is written as a whole: write elsewhere"
            )


def _check_input(output: Output, name: str, path: str) -> None:
    pattern = not os.path.lexists(path)
    for file in glob.glob(path) if pattern else [path]:
        if is_same(output.place, Path(file)):
            raise FileError(
                f"{output.option} {output.path} is {name} itself, which would be lost: "
                "write elsewhere"
            )
        if os.path.isdir(file) and _inside(output, place_of(file)) and _joins(output, file):
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
    """True where an output in this folder would be read with it, or take a file's place."""
    if output.kind == "images" or output.path.lower().endswith(PARQUET):
        return True
    return any(is_same(output.place, file) for file in Path(folder).iterdir() if file.is_file())


def _check_writable(output: Output) -> None:
    """A name that the disk takes, in a folder that can be written to."""
    try:
        os.lstat(output.path)
    except FileNotFoundError:
        pass
    except OSError as fault:
        raise FileError(f"{output.path} cannot be written: {reason(fault)}") from fault
    if output.kind != "images" and os.path.isdir(output.path):
        raise FileError(f"{output.path} is a folder; give the name of a file")
    parent = output.place.parent
    if output.kind in {"model", "images"}:  # whose folders are made
        parent = next(folder for folder in (parent, *parent.parents) if folder.exists())
    if not parent.is_dir():
        why = f"folder {parent} does not exist"
    elif not os.access(parent, os.W_OK):
        why = reason(PermissionError(errno.EACCES, ""))
    else:
        return
    raise FileError(f"{output.path} cannot be written: {why}; nothing that existed was changed")


def is_same(one: Path, other: Path) -> bool:
    """True for two names of one file: links, hard links, and case where the disk ignores it."""
    try:
        if os.path.samefile(one, other):
            return True
    except OSError:
        pass
    one, other = Path(os.path.realpath(one)), Path(os.path.realpath(other))
    if one == other:
        return True
    return str(one).casefold() == str(other).casefold() and _ignores_case(one.parent)


def _ignores_case(folder: Path) -> bool:
    """True for a folder that is found under another case of its letters too."""
    turned = Path(str(folder).swapcase())
    try:
        return turned != folder and os.path.samefile(folder, turned)
    except OSError:
        return False


def _inside(output: Output, folder: Path) -> bool:
    """True for an output below a folder."""
    return any(is_same(parent, folder) for parent in output.place.parents)


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
