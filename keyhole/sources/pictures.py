"""Whole pictures of one shape as rows: of an array, or of a folder of image files.

A row is a column `image` (all its pixels: row, column, channel) and, of files, a column `file`.
The field's metadata says what shape the pictures have, so that it survives slices and Parquet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from keyhole.errors import DataError
from keyhole.sources.base import ArrowRows, Rows
from keyhole.sources.form import IMAGE, Form
from keyhole.sources.resize import resized

FILE = "file"
SMALLEST, MOST_CHANNELS = 4, 16
BLOCK_BYTES = 64 << 20


class Held(Protocol):
    """Pictures that can be read one after the other."""

    def __len__(self) -> int: ...

    def read(self, places: range) -> np.ndarray:
        """Some of them as they came, (picture, height, width, channel)."""
        ...

    @property
    def files(self) -> list[str] | None:
        """What each is called, where they are files."""
        ...


@dataclass(frozen=True)
class HeldArray:
    """Pictures in one array (picture, height, width, channel)."""

    values: np.ndarray
    files: list[str] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def read(self, places: range) -> np.ndarray:
        """A slice."""
        return self.values[places.start : places.stop]


@dataclass(frozen=True)
class HeldFiles:
    """Pictures in files, each read when it is wanted, and brought to one size."""

    pictures: Any
    size: tuple[int, int] | None = None  # None: all are of one

    @property
    def files(self) -> list[str]:
        """Their names."""
        return [picture.name for picture in self.pictures]

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, places: range) -> np.ndarray:
        """Some of them."""
        whole = (self.pictures[i].upright() for i in places)
        return np.stack(
            [x if self.size is None else resized(x[None], self.size)[0] for x in whole]
        )


@dataclass(frozen=True)
class PictureSource:
    """Rows that are pictures; they come in blocks of bounded memory."""

    held: Held
    form: Form
    name: str
    passed_over: str = ""  # which files of the folder were, in words

    @property
    def names(self) -> list[str]:
        """`image`, and `file` before it where pictures are files."""
        return [IMAGE] if self.held.files is None else [FILE, IMAGE]

    @property
    def rows(self) -> int | None:
        """How many pictures there are."""
        return len(self.held)

    @property
    def groups(self) -> int:
        """None can be read at random: they are held, or spooled, as they come."""
        return 0

    def group(self, place: int) -> Rows:
        """None is there."""
        raise IndexError

    def blocks(self, rows: int) -> Iterator[Rows]:
        """The pictures in order."""
        import pyarrow as pa

        a_picture = 4 * max(int(np.prod(self.form.original)), 1) * self.form.grid[2]
        step = max(1, min(rows, BLOCK_BYTES // a_picture))
        for start in range(0, len(self.held), step):
            places = range(start, min(start + step, len(self.held)))
            pixels = self.held.read(places)
            if pixels.shape[1:3] != self.form.grid[:2]:
                pixels = resized(pixels, self.form.grid[:2])
            columns, files = [self.form.column(pixels)], self.held.files
            fields = [self.form.field()]
            if files is not None:
                columns.insert(0, pa.array(files[places.start : places.stop], pa.string()))
                fields.insert(0, pa.field(FILE, pa.string()))
            yield ArrowRows(pa.table(columns, schema=pa.schema(fields)))

    def sized(self, size: tuple[int, int] | None, *, any_size: bool = False) -> PictureSource:
        """The same pictures at this size; with `any_size`, whatever size each of them has.

        Raises: DataError that names a picture of another size than the first.
        """
        held = self.held
        if isinstance(held, HeldFiles):
            first = held.pictures[0]
            odd = next((p for p in held.pictures if p.upright_size != first.upright_size), None)
            if odd is not None and not any_size:
                sizes = ["x".join(map(str, p.upright_size)) for p in (odd, first)]
                raise DataError(
                    f"{odd.name} is {sizes[0]}, and {first.name} is {sizes[1]}: "
                    "pictures of one size are needed; "
                    "PictureHints(size=(height, width)) resizes all"
                )
            form = self.form.sized(size)
            held = replace(held, size=form.grid[:2] if form.resized or odd is not None else None)
        return replace(self, held=held, form=self.form.sized(size))

    def like(self, form: Form, *, any_size: bool) -> PictureSource:
        """The same pictures as a model takes them; with `any_size`, whatever their own size.

        Raises: DataError for pictures of another shape, or grey ones where it takes colour.
        """
        if self.form.grid[2] != form.grid[2]:
            kinds = ["grey" if c == 1 else f"of {c} channels" for c in
                     (self.form.grid[2], form.grid[2])]  # fmt: skip
            raise DataError(
                f"{self.name} holds pictures that are {kinds[0]}; this model was fitted on "
                f"pictures that are {kinds[1]}"
            )
        (height, width), (wanted, across) = self.form.original, form.original
        if (height, width) != (wanted, across) and not any_size:
            raise DataError(
                f"{self.name} holds pictures of {height}x{width}; this model was fitted on "
                f"pictures of {wanted}x{across}; fit it with "
                "PictureHints(size=(height, width)) to have all sizes resized"
            )
        return self.sized(form.grid[:2], any_size=any_size)


def array_pictures(values: np.ndarray) -> PictureSource:
    """The source of an array (picture, height, width) or (picture, height, width, channel).

    Raises: DataError for what are no pictures.
    """
    shape = values.shape
    grid = (shape[1], shape[2], shape[3] if values.ndim == 4 else 1)
    if min(grid[:2]) < SMALLEST or not 1 <= grid[2] <= MOST_CHANNELS:
        raise DataError(
            f"Expected 2D array, got {values.ndim}D array instead, shape {shape}: Found array "
            f"with dim {values.ndim}. Pictures are (n, height, width) or (n, height, width, "
            f"channels), from {SMALLEST} pixels a side and up to {MOST_CHANNELS} channels"
        )
    whole = values.dtype.kind in "iub"
    info = np.iinfo(values.dtype if values.dtype.kind != "b" else np.uint8) if whole else None
    stored = "uint8" if values.dtype.kind == "b" else str(values.dtype)
    limits = None if info is None else (float(info.min), float(info.max))
    form = Form(grid, (grid[0], grid[1]), values.ndim == 3, stored if whole else "float32", limits)
    return PictureSource(HeldArray(values.reshape(len(values), *grid)), form, "the array")


def file_pictures(path: str) -> PictureSource:
    """The source of a folder, a glob or a file of pictures.

    Raises: DataError that names a picture with other channels than the first, FileError.
    """
    from keyhole.images import open_images, warn_infinite, warn_passed_over

    opened = open_images(path)
    warn_passed_over(opened)
    pictures = list(opened.pictures)
    warn_infinite(pictures)
    if not pictures:
        raise DataError(f"{path} holds 0 pictures: a minimum of 1 is required")
    first = pictures[0]
    odd = next((p for p in pictures if p.channels != first.channels), None)
    if odd is not None:
        said = [f"{p.name} has {p.channels} channel(s)" for p in (odd, first)]
        raise DataError(f"{said[0]}, and {said[1]}: give grey pictures, or colour ones")
    grid, kind = (*first.upright_size, first.channels), np.dtype(first.dtype)
    if min(grid[:2]) < SMALLEST:
        raise DataError(f"{first.name} is {grid[0]}x{grid[1]}: {SMALLEST} pixels a side at least")
    ends = first.limits if kind.kind in "iub" else None
    limits = None if ends is None else (float(ends[0]), float(ends[1]))
    stored = "uint8" if kind.kind == "b" else str(kind)
    form = Form(grid, grid[:2], first.channels == 1, stored, limits)
    passed_over = opened.passed_over_in_words() if opened.ignored else ""
    return PictureSource(HeldFiles(pictures), form, path, passed_over)
