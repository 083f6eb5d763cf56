"""Images from an array, a list, a file, a folder or a glob; why other files are passed over."""

import glob
import os
import re
import secrets
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np

from keyhole.core.files import hint_of
from keyhole.data.images.arrays import ArrayFile, checked_axes
from keyhole.data.images.dicom import looks_like_dicom
from keyhole.data.images.image import (
    FORMATS,
    Image,
    ImageFile,
    NoImageError,
    OpenOptions,
    Skipped,
    quiet,
    read_error,
)
from keyhole.data.images.volumes import HEADERS
from keyhole.errors import (
    DataError,
    FileError,
    KeyholeError,
    KeyholeWarning,
    MissingExtraError,
    SettingError,
)

Bad = Literal["refuse", "skip"]
HIDDEN = "hidden"  # the only reason that is not worth a warning
DICOM_INDEX = "dicomdir"  # begins like a DICOM file, but only lists others
# First bytes of files without a known ending: (offset, bytes, kind).
FIRST_BYTES = (
    (0, b"\x89PNG\r\n\x1a\n", "pillow"), (0, b"\xff\xd8\xff", "pillow"), (0, b"GIF8", "pillow"),
    (0, b"II*\0", "tiff"), (0, b"MM\0*", "tiff"), (0, b"II+\0", "tiff"), (0, b"MM\0+", "tiff"),
    (0, b"\x93NUMPY", "npy"), (344, b"n+1\0", "nifti"), (8, b"WEBPVP8", "pillow"),
)  # fmt: skip
HEADER_BYTES = 352  # read to recognize a format
NO_FORMAT = re.compile(r"(\.\d*)?")  # no ending, or digits only, such as img.001
MAX_REASONS = 6  # in a message


@dataclass
class Tree:
    """Image files in order, and the number of entries passed over, by reason."""

    files: list[tuple[str, str]] = field(default_factory=list)  # path; name in messages and copies
    passed_over: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Images:
    """Images in the order of their files.

    `skipped` are damaged files that were left out; `passed_over` counts the other files of a
    folder by the reason why they are not images.
    """

    name: str
    files: Sequence[ImageFile]
    skipped: Sequence[Skipped] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)
    listed: bool = False
    images: list[Image] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", [image for file in self.files for image in file.images])

    @property
    def ignored(self) -> int:
        """The number of files in a folder that are not images, hidden files not counted."""
        return sum(self.passed_over.values()) - self.passed_over.get(HIDDEN, 0)

    def passed_over_in_words(self) -> str:
        """`3 files were passed over: ending .txt (2), hidden (1)`; empty if there are none."""
        return _in_words(self.passed_over)

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Image]:
        return iter(self.images)

    def __getitem__(self, index: int) -> Image:
        return self.images[index]


def open_images(data: Any, axes: str | None = None, bad: Bad = "refuse") -> Images:
    """The images in an array, a list of arrays, a file, a folder or a glob.

    `axes` has a letter for each axis: Y and X are the plane, C the channels, others count planes.
    Raises: FileError for a path that does not exist; DataError for a file that is not an image;
    if `bad` is "skip", only if no image is left.
    """
    if bad not in ("refuse", "skip"):
        raise SettingError(f"bad={bad!r} is unknown; choose 'refuse' or 'skip'")
    letters = checked_axes(axes)
    if isinstance(data, str | os.PathLike):
        return _opened(os.fspath(data), _tree_of(os.fspath(data)), letters, bad)
    if isinstance(data, list | tuple):
        if not data:
            raise DataError("no images were given: the list is empty")
        if all(isinstance(one, str | os.PathLike) for one in data):
            paths = [os.fspath(one) for one in data]
            return _opened(f"{len(paths)} files", _tree_of_list(paths), letters, bad)
        if any(np.ndim(one) > 1 for one in data) and not np.isscalar(data[0]):
            return _arrays(data, letters, listed=True)
    if hasattr(type(data), "columns"):
        kind = f"a {type(data).__name__} is a table, not images"
        raise DataError(f"expected an array, a list of arrays, or a path, got {kind}")
    return _arrays([data], letters, listed=False)


def is_images(data: Any) -> bool:
    """True for a path, folder or glob of image files; no pixel is read."""
    path = os.fspath(data) if isinstance(data, str | os.PathLike) else None
    if not isinstance(path, str) or "\0" in path or not path:
        return False
    if format_of(path) is not None:
        return True
    if os.path.exists(path):
        return os.path.isdir(path) and _holds_images(path)
    return any(
        _holds_images(match) if os.path.isdir(match) else format_of(match)
        for match in glob.iglob(path, recursive=True)
    )


def warn_passed_over(images: Images) -> None:
    """Warn of files of a folder that were passed over, unless all are hidden."""
    if images.ignored:
        message = f"{images.name}: {images.passed_over_in_words()}"
        warnings.warn(message, KeyholeWarning, stacklevel=3)


def warn_infinite(images: Sequence[Image]) -> None:
    """Warn of infinite pixels: they count as missing and are written back unchanged."""
    counts = [image.infinite() for image in images]
    names = [image.name for image, count in zip(images, counts) if count]
    if names:
        pixels = f"{sum(counts):,} infinite pixels in {len(names):,} of {len(counts):,} images"
        warnings.warn(
            f"{pixels} ({names[0]}) are treated as missing", KeyholeWarning, stacklevel=3
        )


@dataclass(frozen=True)
class Given:
    """Images as they were given, an array or a list; `clipped` pixels did not fit the type."""

    images: Any
    clipped: int


def as_given(images: Images, planes: Sequence[np.ndarray]) -> Given:
    """These planes of real values with the axes and type of the arrays that were opened.

    Raises: SettingError for images from files (use `copy_to`), DataError if planes do not fit.
    """
    files = [file for file in images.files if isinstance(file, ArrayFile)]
    if len(files) != len(images.files):
        raise SettingError(f"{images.name} came from files; write copies with copy_to")
    if len(planes) != len(images):
        raise DataError(f"expected {len(images)} images, got {len(planes)}")
    rest = iter(planes)
    arrays, counts = zip(*(file.filled(list(islice(rest, len(file.images)))) for file in files))
    return Given(list(arrays) if images.listed else arrays[0], sum(counts))


def _arrays(data: Sequence[Any], axes: str | None, *, listed: bool) -> Images:
    files: list[ImageFile] = []
    for number, array in enumerate(data):
        options = OpenOptions(f"array {number}" if listed else "the array", axes)
        files.append(ArrayFile.of(array, options, sum(len(file.images) for file in files)))
    return Images(f"{len(data)} arrays" if listed else "the array", files, listed=listed)


def _opened(name: str, tree: Tree, axes: str | None, bad: Bad) -> Images:
    files: list[ImageFile] = []
    skipped: list[Skipped] = []
    passed_over = Counter(tree.passed_over)
    call = secrets.token_hex(16)
    for path, shown in tree.files:
        try:
            files.append(_open_file(path, OpenOptions(shown, axes, call)))
        except MissingExtraError as fault:
            raise MissingExtraError(f"{shown}: {fault}") from fault
        except NoImageError as fault:
            if len(tree.files) == 1:
                raise
            passed_over[fault.reason] += 1
        except KeyholeError as fault:
            if bad == "refuse":
                raise type(fault)(f'{fault}; bad="skip" leaves such files out') from fault
            skipped.append(Skipped(shown, str(fault).removeprefix(shown).lstrip(": ")))
    if not files and not skipped:
        raise DataError(f"{name} holds no images; {_in_words(passed_over)}")
    if not files:
        damage = f"all {len(skipped)} files are damaged"
        first = f"{skipped[0].name}: {skipped[0].why}"
        raise DataError(f"{name}: no image is left, {damage} ({first:.200})")
    return Images(name, files, skipped, passed_over)


def _open_file(path: str, options: OpenOptions) -> ImageFile:
    kind = format_of(path)
    if kind is None and os.access(path, os.R_OK):
        known = sorted({end for cls in FORMATS.values() for end in cls.endings})
        raise DataError(
            f"{options.name} is not an image: its file extension and its first bytes are "
            f"unknown; known extensions: {known}"
        )
    try:
        if not os.path.isdir(path):
            with open(path, "rb") as file:
                if not file.read(1):
                    raise DataError("it is empty: 0 bytes")
        with quiet():
            return FORMATS[kind or "dicom"].opened(path, options)
    except MemoryError:
        raise
    except Exception as fault:  # decoders raise anything
        raise read_error(options.name, fault) from fault


def _in_words(passed_over: Mapping[str, int]) -> str:
    total = sum(passed_over.values())
    if not total:
        return ""
    by_count = sorted(passed_over.items(), key=lambda pair: (-pair[1], pair[0]))
    reasons = [f"{reason} ({count:,})" for reason, count in by_count[:MAX_REASONS]]
    if rest := sum(count for _, count in by_count[MAX_REASONS:]):
        reasons.append(f"other reasons ({rest:,})")
    entries = "1 file was" if total == 1 else f"{total:,} files were"
    return f"{entries} passed over: {', '.join(reasons)}"


def format_of(path: str) -> str | None:
    """The image format by ending, else by first bytes; None if it is not an image."""
    low = path.lower().rstrip("/")
    if os.path.isdir(path):
        return "zarr" if _is_zarr(path) else None
    for kind, cls in FORMATS.items():
        if low.endswith(cls.endings) and (not os.path.exists(path) or not cls.folder):
            return kind
    if not os.path.isfile(path):
        return None
    start = b""
    with suppress(OSError), open(path, "rb") as file:
        start = file.read(HEADER_BYTES)
    unnamed = bool(NO_FORMAT.fullmatch(os.path.splitext(low)[1]))
    if looks_like_dicom(start, bare=unnamed):
        return "dicom"
    if not unnamed:
        return None
    return next((k for at, magic, k in FIRST_BYTES if start[at:].startswith(magic)), None)


def _is_zarr(path: str) -> bool:
    has_ending = path.rstrip("/").lower().endswith(".zarr")
    return has_ending or any(os.path.exists(os.path.join(path, name)) for name in HEADERS[:3])


def _is_tree(path: str) -> bool:
    return os.path.isdir(path) and not _is_zarr(path)


def _holds_images(path: str) -> bool:
    """True for a folder with an image at any depth and no Parquet file at its top."""
    tables = any(entry.name.endswith((".parquet", ".pq")) for entry in _entries(path))
    return not tables and any(not reason for _, reason in _walked(path))


def _tree_of(path: str) -> Tree:
    """The image files of a file, a folder tree or a glob, named relative to its fixed part.

    Raises: FileError, DataError if there are none.
    """
    if "://" in path:
        raise FileError(f"{path}: only local paths are read; fetch the file first")
    if os.path.exists(path) and not _is_tree(path):
        if os.path.basename(path).lower() == DICOM_INDEX:
            raise DataError(f"{path} is an index of DICOM files; give its folder")
        return Tree([(path, os.path.basename(path.rstrip("/")))])
    if os.path.exists(path):
        tree = _collected([path], path)
        others = _in_words(tree.passed_over)
        message = f"folder {path} holds no images{others and f'; {others}'}"
    else:
        matches = sorted(glob.glob(path, recursive=True))
        if not matches:
            raise FileError(f"{path} does not exist{hint_of(path)}")
        parts = path.split(os.sep)  # up to the first wildcard
        first = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
        top = os.sep.join(parts[:first]) or (os.sep if path.startswith(os.sep) else "")
        tree = _collected(matches, top)
        message = f"none of the {len(matches)} files that match {path} is an image: "
        message += _in_words(tree.passed_over)
    if not tree.files:
        raise DataError(message)
    return tree


def _tree_of_list(paths: Sequence[str]) -> Tree:
    """The image files of a list of paths and folders, with the shortest names that differ."""
    tree = Tree()
    for path in paths:
        part = _collected([path], path) if _is_tree(path) else Tree([(path, "")])
        tree.files += part.files
        tree.passed_over += part.passed_over
    names = [os.path.basename(path.rstrip("/")) for path, _ in tree.files]
    if len(set(names)) < len(names):
        whole = [os.path.abspath(path) for path, _ in tree.files]
        top = os.path.commonpath([os.path.dirname(path) for path in whole])
        names = [os.path.relpath(path, top) for path in whole]
    tree.files = [(path, name) for (path, _), name in zip(tree.files, names, strict=True)]
    return tree


def _collected(paths: Sequence[str], top: str) -> Tree:
    tree, visited = Tree(), set()
    for start in paths:
        walked = _walked(start) if _is_tree(start) else [(start, _why_not(start))]
        for path, reason in walked:
            real = os.path.realpath(path)
            if len(paths) > 1 and real in visited:  # a glob may match a folder and its content
                continue
            visited.add(real)
            if reason:
                tree.passed_over[reason] += 1
            else:
                tree.files.append((path, os.path.relpath(path, top or ".")))
    return tree


def _walked(top: str) -> Iterator[tuple[str, str]]:
    """(path, "") of each image below a folder, (path, reason) of each entry passed over.

    A link is followed once if it leads out of the tree. A folder that cannot be listed is returned
    like an image, so that opening it raises the error.
    """
    root = os.path.realpath(top)
    visited, stack = {root}, [_entries(top)[::-1]]
    while stack:
        if not stack[-1]:
            stack.pop()
            continue
        entry = stack[-1].pop()
        if entry.name.startswith("."):
            yield entry.path, HIDDEN
        elif not _is_tree(entry.path):
            yield entry.path, _why_not(entry.path)
        else:
            real = os.path.realpath(entry.path)
            inside = os.path.commonpath([real, root]) in (real, root)  # one contains the other
            if real in visited or (entry.is_symlink() and inside):
                yield entry.path, "a link to a folder that was already read"
                continue
            visited.add(real)
            try:
                stack.append(_entries(entry.path)[::-1])
            except FileError:
                yield entry.path, ""


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda e: e.name)
    except OSError as fault:
        raise FileError(f"folder {path} cannot be read: {fault.strerror}") from fault


def _why_not(path: str) -> str:
    """The reason why an entry is not an image file; empty if it is one."""
    name = os.path.basename(path.rstrip("/"))
    if name.lower() == DICOM_INDEX:
        return "an index of DICOM files"
    if not os.path.exists(path):
        return "a broken link"
    if not os.path.isfile(path) and not os.path.isdir(path):
        return "not a regular file"
    if format_of(path) is not None:
        return ""
    ending = os.path.splitext(name)[1].lower()
    if NO_FORMAT.fullmatch(ending):
        return "no file extension, and its first bytes are not those of an image"
    return f"ending {ending:.12}"
