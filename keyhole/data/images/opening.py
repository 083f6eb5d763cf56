"""Open images from an array, a list, a file, a folder or a glob."""

import glob
import os
import secrets
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from keyhole.data.images.arrays import ArrayFile, Given, checked_axes, filled
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
from keyhole.data.images.tree import Tree, format_of, holds_images, in_words, tree_of, tree_of_list
from keyhole.errors import DataError, KeyholeError, KeyholeWarning, MissingExtraError, SettingError

Bad = Literal["refuse", "skip"]
HIDDEN = "hidden"  # the only reason that is not worth a warning


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
        planes = [image for file in self.files for image in file.images]
        object.__setattr__(self, "images", planes)

    @property
    def ignored(self) -> int:
        """The number of files in a folder that are not images, hidden files not counted."""
        return sum(count for reason, count in self.passed_over.items() if reason != HIDDEN)

    def passed_over_in_words(self) -> str:
        """How many files of a folder are not images, and why; empty if there are none."""
        return in_words(dict(self.passed_over))

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
        path = os.fspath(data)
        return _opened(path, tree_of(path), letters, bad)
    if isinstance(data, list | tuple) and data:
        if all(isinstance(one, str | os.PathLike) for one in data):
            paths = [os.fspath(one) for one in data]
            return _opened(f"{len(paths)} files", tree_of_list(paths), letters, bad)
        if any(np.ndim(one) > 1 for one in data) and not np.isscalar(data[0]):
            return _arrays(data, letters, listed=True)
    if isinstance(data, list | tuple) and not data:
        raise DataError("no images were given: the list is empty")
    if hasattr(type(data), "columns"):
        raise DataError(
            f"a {type(data).__name__} is a table, not images: give an array, a list of "
            "arrays, or a path"
        )
    return _arrays([data], letters, listed=False)


def is_images(data: Any) -> bool:
    """True for a path, folder or glob of image files; no pixel is read."""
    if not isinstance(data, str | os.PathLike):
        return False
    path = os.fspath(data)
    if not isinstance(path, str) or "\0" in path or not path:
        return False
    if format_of(path) is not None:
        return True
    if os.path.isdir(path):
        return holds_images(path)
    return not os.path.exists(path) and any(
        holds_images(one) if os.path.isdir(one) else format_of(one)
        for one in glob.iglob(path, recursive=True)
    )


def warn_passed_over(images: Images) -> None:
    """Warn of files of a folder that were passed over, unless all are hidden."""
    if images.ignored:
        message = f"{images.name}: {images.passed_over_in_words()}"
        warnings.warn(message, KeyholeWarning, stacklevel=3)


def warn_infinite(images: Sequence[Image]) -> None:
    """Warn of infinite pixels: they count as missing and are written back unchanged."""
    counts = [image.infinite() for image in images]
    if any(counts):
        affected = sum(count > 0 for count in counts)
        first = next(p.name for p, count in zip(images, counts, strict=True) if count)
        pixels = f"{sum(counts):,} infinite pixels in {affected:,} of {len(counts):,} images"
        warnings.warn(f"{pixels} ({first}) are taken for missing", KeyholeWarning, stacklevel=3)


def as_given(images: Images, planes: Sequence[np.ndarray]) -> Given:
    """These planes of real values with the axes and type of the arrays that were opened.

    Raises: SettingError for images from files (use `copy_to`), DataError if planes do not fit.
    """
    files = [file for file in images.files if isinstance(file, ArrayFile)]
    if len(files) != len(images.files):
        raise SettingError(f"{images.name} came from files; write copies with copy_to")
    return filled(files, planes, listed=images.listed)


def _arrays(data: Sequence[Any], axes: str | None, *, listed: bool) -> Images:
    files: list[ImageFile] = []
    first = 0
    for number, one in enumerate(data):
        options = OpenOptions(f"array {number}" if listed else "the array", axes)
        files.append(ArrayFile.of(one, options, first))
        first += len(files[-1].images)
    return Images(f"{len(data)} arrays" if listed else "the array", files, listed=listed)


def _opened(name: str, tree: Tree, axes: str | None, bad: Bad) -> Images:
    """Open the files; damaged ones are listed or refused."""
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
                hint = '; bad="skip" leaves such files out'
                raise type(fault)(f"{fault}{hint}") from fault
            skipped.append(Skipped(shown, str(fault).removeprefix(shown).lstrip(": ")))
    if not files and not skipped:
        raise DataError(f"{name} holds no images; {in_words(passed_over)}")
    if not files:
        first = f"{skipped[0].name}: {skipped[0].why}"
        raise DataError(
            f"{name}: no image is left, all {len(skipped)} files are damaged ({first:.200})"
        )
    return Images(name, files, skipped, passed_over)


def _open_file(path: str, options: OpenOptions) -> ImageFile:
    """Raises: KeyholeError that names the file."""
    kind = format_of(path)
    if kind is None and os.access(path, os.R_OK):
        known = sorted({end for cls in FORMATS.values() for end in cls.endings})
        raise DataError(
            f"{options.name}: neither its ending nor its first bytes are those of an image; "
            f"known endings are {known}"
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
