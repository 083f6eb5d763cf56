"""Image files of a path, a folder tree or a glob, and why other files are passed over."""

import difflib
import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from keyhole.data.images.dicom import looks_like_dicom
from keyhole.data.images.image import FORMATS
from keyhole.errors import DataError, FileError

NamedPath = tuple[str, str]  # a path, and its name in messages and copies
TABLES = (".parquet", ".pq")  # a folder with such files is a table, even if it also has images
ZARR_HEADERS = ("zarr.json", ".zgroup", ".zarray")
DICOM_INDEX = "dicomdir"  # begins like a DICOM file, but only lists others
# First bytes of files without a known ending: (offset, bytes, kind).
FIRST_BYTES = (
    (0, b"\x89PNG\r\n\x1a\n", "pillow"), (0, b"\xff\xd8\xff", "pillow"), (0, b"GIF8", "pillow"),
    (0, b"II*\0", "tiff"), (0, b"MM\0*", "tiff"), (0, b"II+\0", "tiff"), (0, b"MM\0+", "tiff"),
    (0, b"\x93NUMPY", "npy"), (344, b"n+1\0", "nifti"), (8, b"WEBPVP8", "pillow"),
)  # fmt: skip
HEADER_BYTES = 352  # read to recognize a format
NO_FORMAT = re.compile(r"(\.\d*)?")  # no ending, or digits only, such as img.001
MOST_REASONS = 6


@dataclass
class Tree:
    """Image files in order, and the number of entries passed over, by reason."""

    files: list[NamedPath] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


def in_words(passed_over: dict[str, int]) -> str:
    """`3 files were passed over: ending .txt (2), hidden (1)`; empty if there are none."""
    total = sum(passed_over.values())
    if not total:
        return ""
    by_count = sorted(passed_over.items(), key=lambda pair: (-pair[1], pair[0]))
    reasons = [f"{reason} ({count:,})" for reason, count in by_count[:MOST_REASONS]]
    rest = total - sum(count for _, count in by_count[:MOST_REASONS])
    reasons += [f"other reasons ({rest:,})"] if rest else []
    entries = "1 file was" if total == 1 else f"{total:,} files were"
    return f"{entries} passed over: {', '.join(reasons)}"


def format_of(path: str) -> str | None:
    """The image format by ending, else by first bytes; None if it is not an image."""
    low = path.lower().rstrip("/")
    is_folder = os.path.isdir(path)
    if is_folder:
        return "zarr" if is_zarr(path) else None
    for kind, cls in FORMATS.items():
        if low.endswith(cls.endings) and (not os.path.exists(path) or not cls.folder):
            return kind
    if not os.path.isfile(path):
        return None
    start = _first_bytes(path)
    unnamed = bool(NO_FORMAT.fullmatch(os.path.splitext(low)[1]))
    if looks_like_dicom(start, bare=unnamed):
        return "dicom"
    if not unnamed:
        return None
    return next((k for at, magic, k in FIRST_BYTES if start[at:].startswith(magic)), None)


def is_zarr(path: str) -> bool:
    """True for a folder that is one Zarr image."""
    has_ending = path.rstrip("/").lower().endswith(".zarr")
    return has_ending or any(os.path.exists(os.path.join(path, name)) for name in ZARR_HEADERS)


def holds_images(path: str) -> bool:
    """True for a folder with an image at any depth and no Parquet file at its top."""
    if any(entry.name.endswith(TABLES) for entry in _entries(path)):
        return False
    return next((True for _, reason in _walked(path) if not reason), False)


def tree_of(path: str) -> Tree:
    """The image files of a path: a file, a folder tree, or a glob.

    Names are relative to the folder, or to the part of the glob without wildcards.
    Raises: FileError, DataError if there are none.
    """
    if "://" in path:
        raise FileError(f"{path}: only local paths are read; fetch the file first")
    if os.path.isdir(path) and not is_zarr(path):
        tree = _collected([path], path)
        if not tree.files:
            others = in_words(tree.passed_over)
            raise DataError(f"folder {path} holds no images{others and f'; {others}'}")
        return tree
    if os.path.exists(path):
        if os.path.basename(path).lower() == DICOM_INDEX:
            raise DataError(f"{path} is an index of DICOM files; give its folder")
        return Tree([(path, os.path.basename(path.rstrip("/")))])
    matches = sorted(glob.glob(path, recursive=True))
    if not matches:
        raise FileError(f"{path} does not exist{hint_of(path)}")
    tree = _collected(matches, _fixed_part(path))
    if not tree.files:
        others = in_words(tree.passed_over)
        raise DataError(
            f"none of the {len(matches)} files that match {path} is an image: {others}"
        )
    return tree


def tree_of_list(paths: Sequence[str]) -> Tree:
    """The image files of a list of paths and folders, with the shortest names that differ."""
    tree = Tree()
    for path in paths:
        walked = os.path.isdir(path) and not is_zarr(path)
        part = _collected([path], path) if walked else Tree([(path, "")])
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
        is_folder = os.path.isdir(start) and not is_zarr(start)
        walked = _walked(start) if is_folder else iter([(start, _why_not(start))])
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

    A link to a folder outside the tree is followed once; a link to a folder inside, never. A
    folder that cannot be listed is returned like an image, so that opening it raises the error.
    """
    root = os.path.realpath(top)
    visited = {root}
    stack = [(top, _entries(top))]
    while stack:
        folder, entries = stack.pop()
        for i, entry in enumerate(entries):
            if entry.name.startswith("."):
                yield entry.path, "hidden"
                continue
            if not _is_folder(entry) or is_zarr(entry.path):
                yield entry.path, _why_not(entry.path)
                continue
            real = os.path.realpath(entry.path)
            if real in visited or (entry.is_symlink() and _inside(real, root)):
                yield entry.path, "a link to a folder that is read already"
                continue
            visited.add(real)
            try:
                inside = _entries(entry.path)
            except FileError:
                yield entry.path, ""
                continue
            stack += [(folder, entries[i + 1 :]), (entry.path, inside)]
            break


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a loop of links
        return False


def _inside(path: str, root: str) -> bool:
    """True if one path contains the other."""
    return os.path.commonpath([path, root]) in (path, root)


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda e: e.name)
    except OSError as fault:
        raise FileError(f"folder {path} cannot be read: {fault.strerror}") from fault


def _why_not(path: str) -> str:
    """Why an entry is not an image file; empty if it is one."""
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
        return "no ending, and its first bytes are not those of an image"
    return f"ending {ending:.12}"


def _first_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(HEADER_BYTES)
    except OSError:
        return b""


def _fixed_part(pattern: str) -> str:
    """The folder of a glob, up to its first wildcard."""
    parts = pattern.split(os.sep)
    first = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return os.sep.join(parts[:first]) or (os.sep if pattern.startswith(os.sep) else "")


def hint_of(path: str) -> str:
    """`; did you mean ...?` with the closest name in the folder; empty if there is none."""
    folder = os.path.dirname(path)
    names = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
    close = difflib.get_close_matches(os.path.basename(path), names, 1)
    return f"; did you mean {os.path.join(folder, close[0])}?" if close else ""
