"""From what a user hands over to pictures: an array, a list, a file, a folder, a glob."""

import difflib
import glob
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keyhole.errors import DataError, FileError, KeyholeError, MissingExtraError, SettingError
from keyhole.images.arrays import ArrayFile, Given, filled
from keyhole.images.axes import checked_axes
from keyhole.images.base import FORMATS, Asked, ImageFile, Picture, Skipped, quiet, told
from keyhole.images.dicom import says_dicom

Bad = Literal["refuse", "skip"]
Named = tuple[str, str]  # a path, and the name that messages use
TABLES = (".parquet", ".pq")  # a folder of these holds a table, whatever pictures lie beside
NO_PICTURE = {"DICOMDIR"}  # an index of DICOM files that looks like one


@dataclass(frozen=True)
class Pictures:
    """Pictures in the order of their files; `ignored` counts files of other kinds in a folder."""

    name: str
    files: Sequence[ImageFile]
    skipped: Sequence[Skipped] = ()
    ignored: int = 0
    listed: bool = False
    pictures: list[Picture] = field(init=False)

    def __post_init__(self) -> None:
        planes = [picture for file in self.files for picture in file.pictures]
        object.__setattr__(self, "pictures", planes)

    def __len__(self) -> int:
        return len(self.pictures)

    def __iter__(self) -> Iterator[Picture]:
        return iter(self.pictures)

    def __getitem__(self, index: int) -> Picture:
        return self.pictures[index]


def open_images(data: Any, axes: str | None = None, bad: Bad = "refuse") -> Pictures:
    """The pictures in an array, a list of arrays, a file, a folder, or what a glob names.

    `axes` has a letter for each axis: Y and X are the plane, C the channels, others count planes.
    Raises: FileError for a path that leads nowhere; DataError for what is no picture, unless
    `bad` is "skip", then only where nothing else is left.
    """
    if bad not in ("refuse", "skip"):
        raise SettingError(f"bad={bad!r} is unknown; choose 'refuse' or 'skip'")
    letters = checked_axes(axes)
    if isinstance(data, str | os.PathLike):
        path = os.fspath(data)
        found, ignored = _found(path)
        return _opened(path, found, letters, bad, ignored=ignored)
    if isinstance(data, list | tuple) and data:
        if all(isinstance(one, str | os.PathLike) for one in data):
            paths = [os.fspath(one) for one in data]
            found = [(path, os.path.basename(path)) for path in paths]
            return _opened(f"{len(paths)} files", found, letters, bad)
        if any(np.ndim(one) > 1 for one in data) and not np.isscalar(data[0]):
            return _arrays(data, letters, listed=True)
    if isinstance(data, list | tuple) and not data:
        raise DataError("no pictures were given: the list is empty")
    return _arrays([data], letters, listed=False)


def is_images(data: Any) -> bool:
    """True for a path, folder or glob that names picture files; no pixel is read."""
    if not isinstance(data, str | os.PathLike):
        return False
    path = os.fspath(data)
    if not isinstance(path, str) or "\0" in path or not path:
        return False
    if _format_of(path) is not None:
        return True
    if os.path.isdir(path):
        inside = [entry.name for entry in _entries(path)]
        return not any(n.endswith(TABLES) for n in inside) and bool(_in_folder(path)[0])
    if os.path.isfile(path):
        return not os.path.splitext(path)[1] and says_dicom(path)
    return any(_format_of(one) for one in glob.iglob(path))


def as_given(pictures: Pictures, planes: Sequence[np.ndarray]) -> Given:
    """These planes of real values in the form, axes and type of the arrays that were opened.

    Raises: SettingError for pictures from files (`copy_to` is for those), DataError where the
    planes do not fit.
    """
    files = [file for file in pictures.files if isinstance(file, ArrayFile)]
    if len(files) != len(pictures.files):
        raise SettingError(f"{pictures.name} came from files; write copies of them by copy_to")
    return filled(files, planes, listed=pictures.listed)


def _arrays(data: Sequence[Any], axes: str | None, *, listed: bool) -> Pictures:
    files: list[ImageFile] = []
    first = 0
    for number, one in enumerate(data):
        asked = Asked(f"array {number}" if listed else "the array", axes)
        files.append(ArrayFile.of(one, asked, first))
        first += len(files[-1].pictures)
    return Pictures(f"{len(data)} arrays" if listed else "the array", files, listed=listed)


def _opened(
    name: str, found: list[Named], axes: str | None, bad: Bad, *, ignored: int = 0
) -> Pictures:
    """The files opened, the bad ones listed."""
    files: list[ImageFile] = []
    skipped: list[Skipped] = []
    call = secrets.token_hex(16)
    for path, shown in found:
        try:
            files.append(_open_file(path, Asked(shown, axes, call)))
        except MissingExtraError as fault:
            raise MissingExtraError(f"{shown}: {fault}") from fault
        except KeyholeError as fault:
            if bad == "refuse":
                hint = '; bad="skip" leaves such files out'
                raise type(fault)(f"{fault}{hint}") from fault
            skipped.append(Skipped(shown, str(fault).removeprefix(shown).lstrip(": ")))
    if not files:
        first = f"{skipped[0].name}: {skipped[0].why}"
        raise DataError(
            f"{name}: no picture is left, all {len(skipped)} files are bad ({first:.200})"
        )
    return Pictures(name, files, skipped, ignored)


def _open_file(path: str, asked: Asked) -> ImageFile:
    """Raises: KeyholeError that names the file."""
    kind = _format_of(path) or ("dicom" if says_dicom(path) else None)
    if kind is None and os.access(path, os.R_OK):
        known = sorted({end for cls in FORMATS.values() for end in cls.endings})
        raise DataError(f"{asked.name}: it is no picture by its ending; known are {known}")
    try:
        if not os.path.isdir(path):
            with open(path, "rb") as file:
                if not file.read(1):
                    raise DataError("it is empty: 0 bytes")
        with quiet():
            return FORMATS[kind or "dicom"].opened(path, asked)
    except MemoryError:
        raise
    except Exception as fault:  # decoders raise anything
        raise told(asked.name, fault) from fault


def _found(path: str) -> tuple[list[Named], int]:
    """The picture files that a path names, with names to show, and how many others lie there.

    Raises: FileError, DataError where there are none.
    """
    if "://" in path:
        raise FileError(f"{path}: only local paths are read; fetch the file first")
    if os.path.isdir(path) and not _is_zarr(path):
        found, ignored = _in_folder(path)
        if not found:
            others = f", only {ignored} other files" if ignored else ""
            raise DataError(f"folder {path} holds no pictures{others}")
        return found, ignored
    if os.path.exists(path):
        return [(path, os.path.basename(path.rstrip("/")))], 0
    named = sorted(glob.glob(path))
    if not named:
        folder = os.path.dirname(path)
        close: list[str] = []
        if os.path.isdir(folder or "."):
            close = difflib.get_close_matches(os.path.basename(path), os.listdir(folder or "."), 1)
        hint = f"; did you mean {os.path.join(folder, close[0])}?" if close else ""
        raise FileError(f"{path} does not exist{hint}")
    found = [(one, os.path.basename(one)) for one in named if _is_picture(one)]
    if not found:
        raise DataError(f"none of the {len(named)} files that {path} names is a picture")
    return found, len(named) - len(found)


def _in_folder(path: str) -> tuple[list[Named], int]:
    """The pictures in a folder and in the folders right inside it; hidden files are passed by."""
    found: list[Named] = []
    ignored = 0
    inside = _entries(path)
    for entry in inside:
        if entry.is_dir() and not _is_zarr(entry.path):
            entries = [e for e in _entries(entry.path) if e.is_file() or _is_zarr(e.path)]
        else:
            entries = [entry]
        for one in entries:
            if _is_picture(one.path):
                found.append((one.path, os.path.relpath(one.path, path)))
            else:
                ignored += 1
    return found, ignored


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            kept = [e for e in entries if not e.name.startswith(".")]
    except OSError as fault:
        raise FileError(f"folder {path} cannot be read: {fault.strerror}") from fault
    return sorted(kept, key=lambda e: e.name)


def _is_picture(path: str) -> bool:
    if os.path.basename(path) in NO_PICTURE:
        return False
    if os.path.isdir(path):
        return _is_zarr(path)
    return bool(_format_of(path)) or (not Path(path).suffix and says_dicom(path))


def _is_zarr(path: str) -> bool:
    headers = ("zarr.json", ".zgroup", ".zarray")
    return path.rstrip("/").lower().endswith(".zarr") or any(
        os.path.exists(os.path.join(path, name)) for name in headers
    )


def _format_of(path: str) -> str | None:
    """The kind of file, by its ending."""
    low = path.lower().rstrip("/")
    for kind, cls in FORMATS.items():
        if low.endswith(cls.endings) and (not os.path.isdir(path) or cls.folder):
            return kind
    if os.path.isdir(path) and _is_zarr(path):
        return "zarr"
    return None
