"""Pixels that stand in a file as they are in memory: mapped for a moment, read or written.

The plane that was decoded last: a compressed image is not decoded again for every window.

Which axes of an array are an image's height, width and channels, and which count images.

Images in memory: one array or a list of them, given back as they came.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from keyhole.data.images.image import Asked, Image, ImageFile, Put, check_dtype, limits_of
from keyhole.errors import DataError, SettingError


@dataclass(frozen=True)
class Raw:
    """An array in a file, from `offset` bytes on; a path of None is filled in by `at`."""

    path: str
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool = False

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize

    def array(self, *, write: bool = False, path: str | None = None) -> np.memmap:
        """The array, mapped. Drop it soon: pages that were touched count as memory while it lives.

        `path` may name a copy of the file.
        """
        return np.memmap(
            self.path if path is None else path,
            self.dtype,
            mode="r+" if write else "r",
            offset=self.offset,
            shape=self.shape,
            order="F" if self.fortran else "C",
        )

    def check_size(self) -> None:
        """Raises: DataError where the file ends before its pixels do."""
        size = os.path.getsize(self.path)
        if size < self.end:
            raise DataError(truncated(size, self.end))


def truncated(size: int, needed: int) -> str:
    """What is wrong with a file that is too short."""
    return f"it is truncated: {size:,} bytes, where its pixels need {needed:,}"


def reserve(path: str, start: bytes, size: int) -> None:
    """Write the start of a file and make it `size` bytes long; the rest is zeros."""
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(size)


HELD_BYTES = 512 << 20  # what is larger is decoded again

_last: list[tuple[Any, np.ndarray]] = []


def held(path: str, part: Any, decode: Callable[[], np.ndarray]) -> np.ndarray:
    """What `decode` gives for this part of a file, from memory where it was the last asked for."""
    state = os.stat(path)
    key = (os.path.abspath(path), state.st_mtime_ns, state.st_size, part)
    for known, array in tuple(_last):
        if known == key:
            return array
    _last.clear()  # before decoding: two planes are never held at once
    array = decode()
    array.flags.writeable = False
    if array.nbytes <= HELD_BYTES:
        _last[:] = [(key, array)]
    return array


def forget() -> None:
    """Let go of the plane that is held."""
    _last.clear()


COLOURS = (3, 4)  # a last axis this long is taken for channels where no axes are given


@dataclass(frozen=True)
class Layout:
    """The planes of an array: `y`, `x` and `sample` are places of axes, all others count planes.

    The last `carried` channels (alpha) are no colours: they are copied as they are.
    """

    shape: tuple[int, ...]
    y: int
    x: int
    sample: int | None = None
    carried: int = 0

    @property
    def height(self) -> int:
        """Rows of a plane."""
        return self.shape[self.y]

    @property
    def width(self) -> int:
        """Columns of a plane."""
        return self.shape[self.x]

    @property
    def channels(self) -> int:
        """Colours of a pixel, without those that are carried."""
        return 1 if self.sample is None else self.shape[self.sample] - self.carried

    @property
    def counted(self) -> tuple[int, ...]:
        """The lengths of the axes that count planes."""
        return tuple(n for at, n in enumerate(self.shape) if at not in self._plane_axes)

    @property
    def planes(self) -> int:
        """How many planes there are."""
        return math.prod(self.counted)

    def read(self, array: Any, plane: int, y: slice, x: slice) -> np.ndarray:
        """A window as (height, width, channel), carried ones included; a view where it can be."""
        held = np.asarray(array[self._index(plane, y, x)])
        if self.sample is None:
            return (held.T if self.y > self.x else held)[..., None]
        return held.transpose(self._order)

    def write(self, array: Any, plane: int, y: slice, rows: np.ndarray) -> None:
        """Put rows of (height, width, channel) where `read` would find them."""
        if self.sample is None:
            flat = rows[..., 0]
            placed = flat.T if self.y > self.x else flat
        else:
            placed = rows.transpose(tuple(np.argsort(self._order)))
        array[self._index(plane, y, slice(None))] = placed

    @property
    def _plane_axes(self) -> tuple[int, ...]:
        axes = (self.y, self.x) if self.sample is None else (self.y, self.x, self.sample)
        return tuple(sorted(axes))

    @property
    def _order(self) -> tuple[int, ...]:
        places = self._plane_axes
        return tuple(places.index(at) for at in (self.y, self.x, self.sample) if at is not None)

    def _index(self, plane: int, y: slice, x: slice) -> tuple[Any, ...]:
        counts = iter(np.unravel_index(plane, self.counted) if self.counted else ())
        wanted = {self.y: y, self.x: x, self.sample: slice(None)}
        return tuple(
            wanted[at] if at in self._plane_axes else int(next(counts))
            for at in range(len(self.shape))
        )


def checked_axes(axes: str | None) -> str | None:
    """The letters in capitals.

    Raises: SettingError where they cannot name axes.
    """
    if axes is None:
        return None
    letters = axes.upper() if isinstance(axes, str) else ""
    distinct = letters.isalpha() and len(set(letters)) == len(letters)
    if not distinct or not {"Y", "X"} <= set(letters):
        raise SettingError(
            f"axes={axes!r} cannot be used; give one letter for each axis, Y and X among them, "
            "such as 'ZYX' or 'YXC'"
        )
    return letters


def layout_of(
    shape: tuple[int, ...], axes: str | None = None, *, sample: str = "", carried: int = 0
) -> Layout:
    """The planes of an array of this shape; `sample` is the letter of its channels, C or else S.

    Raises: DataError where the letters do not fit the shape, or nothing is in it.
    """
    letters = _guessed(shape) if axes is None else axes
    if len(letters) != len(shape):
        raise DataError(
            f"axes={letters!r} names {len(letters)} axes, but the shape is {shape}; "
            f"give one letter for each, such as {_example(shape)!r}"
        )
    if 0 in shape:
        raise DataError(f"it is empty: its shape is {shape}")
    channel = sample or ("C" if "C" in letters else "S")
    at = letters.index(channel) if channel in letters else None
    return Layout(tuple(shape), letters.index("Y"), letters.index("X"), at, carried)


def _guessed(shape: tuple[int, ...]) -> str:
    """The axes of an array of which nothing is said."""
    if len(shape) < 2:
        raise DataError(f"shape {shape} is no image; give an array of (height, width) or more")
    if len(shape) == 3:
        colour = shape[2] in COLOURS and min(shape[:2]) > shape[2]
        return "YXC" if colour else "ZYX"
    if len(shape) > 4:
        raise DataError(
            f"the axes of shape {shape} are not clear; name them, such as axes={_example(shape)!r}"
        )
    if len(shape) == 4:
        return "ZYXC" if shape[3] in (1, *COLOURS) else "TZYX"
    return "YX"


def _example(shape: tuple[int, ...]) -> str:
    """Letters that would fit."""
    colour = len(shape) > 2 and shape[-1] in COLOURS
    letters = "NPQTZYX" + "C" * colour
    return letters[-len(shape) :] if 2 <= len(shape) <= len(letters) else "ZYX"


class ArrayFile(ImageFile):
    """An array in the place of a file."""

    kind = "array"
    endings = ()

    def __init__(self, array: np.ndarray, layout: Layout, asked: Asked) -> None:
        super().__init__("", asked)
        self.array = array
        self.layout = layout
        self.mask: np.ndarray | None = None  # True where a masked array has no value

    @classmethod
    def opened(cls, path: str, asked: Asked) -> Self:
        """Arrays are in no file."""
        raise SettingError("an array is handed over, not opened")

    @classmethod
    def of(cls, data: Any, asked: Asked, first: int = 0) -> Self:
        """The planes of an array, named from `image <first>` on."""
        try:
            array = np.asarray(data)
        except Exception as fault:  # whatever an object's own conversion raises
            raise DataError(f"{asked.name} is no array: {fault!s:.160}") from fault
        try:
            check_dtype(array.dtype)
            layout = layout_of(array.shape, asked.axes)
        except DataError as fault:
            raise DataError(f"{asked.name}: {fault}") from fault
        file = cls(array, layout, asked)
        if isinstance(data, np.ma.MaskedArray):
            file.mask = np.ma.getmaskarray(data)
        size = (layout.height, layout.width, layout.channels)
        for plane in range(layout.planes):
            limits = limits_of(array.dtype)
            file.add(size, array.dtype, limits, f"image {first + plane}")
        return file

    def stored(self, plane: int, y: slice, x: slice) -> np.ndarray:
        """A view."""
        return self.layout.read(self.array, plane, y, x)

    def gaps(self, plane: int, y: slice, x: slice, stored: np.ndarray) -> np.ndarray | None:
        """Masked values, and infinite ones."""
        infinite = super().gaps(plane, y, x, stored)
        if self.mask is None:
            return infinite
        masked = self.layout.read(self.mask, plane, y, x)
        return masked if infinite is None else masked | infinite

    @contextmanager
    def writing(self, path: str, note: str) -> Iterator[Put]:
        """Raises: SettingError; `as_given` is for arrays."""
        raise SettingError(f"{self.name} is an array, of which {path} is no copy; ask as_given")
        yield

    def filled(self, planes: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
        """An array like the given one with these planes, and how many pixels were clipped.

        A masked array has its mask, and under it what was there.
        """
        out = np.empty_like(self.array, subok=False)
        total = 0
        for image, values in zip(self.images, planes, strict=True):
            _check_shape(image, values)
            whole = slice(0, image.height)
            stored, clipped = self.stored_rows(image.plane, whole, values)
            self.layout.write(out, image.plane, slice(None), stored)
            total += clipped
        if isinstance(self.mask, np.ndarray):
            out = np.ma.MaskedArray(out, self.mask)
        return out, total


@dataclass(frozen=True)
class Given:
    """Images in the form in which they came: an array, or a list of arrays.

    `clipped` counts the pixels that did not fit the type.
    """

    images: Any
    clipped: int


def filled(files: Sequence[ArrayFile], planes: Sequence[np.ndarray], *, listed: bool) -> Given:
    """The planes in arrays like the given ones; a list where a list was given.

    Raises: DataError where the planes do not fit.
    """
    wanted = sum(len(file.images) for file in files)
    if len(planes) != wanted:
        raise DataError(f"{wanted} images were given and {len(planes)} came back")
    arrays, clipped, at = [], 0, 0
    for file in files:
        end = at + len(file.images)
        array, count = file.filled(planes[at:end])
        arrays.append(array)
        clipped += count
        at = end
    return Given(arrays if listed else arrays[0], clipped)


def _check_shape(image: Image, values: np.ndarray) -> None:
    size = (image.height, image.width, image.channels)
    if values.shape != size:
        raise DataError(f"{image.name} has shape {size}; {values.shape} came back")
