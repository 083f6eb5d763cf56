"""Arrays of images: in mapped files, in memory, a cache of the last decoded plane, and axes."""

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from keyhole.data.images.image import ImageFile, OpenOptions, WriteRows, check_dtype
from keyhole.errors import DataError, SettingError


@dataclass(frozen=True)
class MappedArray:
    """An array in a file, from `offset` bytes on."""

    path: str
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool = False

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize

    def array(self, *, write: bool = False) -> np.memmap:
        """The mapped array. Drop it soon: touched pages count as memory while it lives."""
        mode, order = "r+" if write else "r", "F" if self.fortran else "C"
        return np.memmap(self.path, self.dtype, mode, self.offset, self.shape, order)

    def check_size(self, size: int) -> None:
        """Raises: DataError if a file of this size is shorter than its pixels."""
        if size < self.end:
            raise DataError(truncated(size, self.end))


def truncated(size: int, expected: int) -> str:
    """The message for a file that is too short."""
    return f"it is truncated: {size:,} bytes, but its pixels need {expected:,}"


def reserve(path: str, start: bytes, size: int) -> None:
    """Write the start of a file of `size` bytes; the rest is zeros."""
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(size)


CACHE_BYTES = 512 << 20  # larger planes are decoded again for each window

_cache = threading.local()


def cached(path: str, part: Any, decode: Callable[[], np.ndarray]) -> np.ndarray:
    """The decoded part of a file; each thread caches the last one, by the file's time and size."""
    state = os.stat(path)
    key = (os.path.abspath(path), state.st_mtime_ns, state.st_size, part)
    if getattr(_cache, "key", None) == key:
        return _cache.array
    _cache.key = _cache.array = None  # before decoding, so that only one plane is in memory
    array = decode()
    array.flags.writeable = False
    if array.nbytes <= CACHE_BYTES:
        _cache.key, _cache.array = key, array
    return array


COLOURS = (3, 4)  # lengths of a last axis that mean channels if no axes are given


@dataclass(frozen=True)
class AxisLayout:
    """The planes of an array: `y`, `x` and `sample` are indices of axes, all others count planes.

    The last `alpha` channels (0 or 1) are not colours and are copied unchanged.
    """

    shape: tuple[int, ...]
    y: int
    x: int
    sample: int | None = None
    alpha: int = 0

    @property
    def size(self) -> tuple[int, int, int]:
        """Height, width, and the number of colours without alpha."""
        channels = 1 if self.sample is None else self.shape[self.sample] - self.alpha
        return self.shape[self.y], self.shape[self.x], channels

    @property
    def planes(self) -> int:
        """The number of planes."""
        return math.prod(self._counted)

    @property
    def _counted(self) -> tuple[int, ...]:
        return tuple(n for axis, n in enumerate(self.shape) if axis not in self._plane_axes)

    def read(self, array: Any, plane: int, y: slice, x: slice) -> np.ndarray:
        """A window (height, width, channel), alpha included; a view if possible."""
        window = np.asarray(array[self._index(plane, y, x)]).transpose(self._order)
        return window[..., None] if self.sample is None else window

    def write(self, array: Any, plane: int, y: slice, rows: np.ndarray) -> None:
        """Write rows (height, width, channel) where `read` finds them."""
        values = rows[..., 0] if self.sample is None else rows
        array[self._index(plane, y, slice(None))] = values.transpose(np.argsort(self._order))

    @property
    def _plane_axes(self) -> tuple[int, ...]:
        return tuple(axis for axis in (self.y, self.x, self.sample) if axis is not None)

    @property
    def _order(self) -> tuple[int, ...]:
        return tuple(sorted(self._plane_axes).index(axis) for axis in self._plane_axes)

    def _index(self, plane: int, y: slice, x: slice) -> tuple[Any, ...]:
        counts = iter(np.unravel_index(plane, self._counted) if self._counted else ())
        slices = dict(zip(self._plane_axes, (y, x, slice(None))))
        axes = range(len(self.shape))
        return tuple(slices[axis] if axis in slices else int(next(counts)) for axis in axes)


def checked_axes(axes: str | None) -> str | None:
    """The letters in capitals. Raises: SettingError for invalid letters."""
    if axes is None:
        return None
    letters = axes.upper() if isinstance(axes, str) else ""
    distinct = letters.isalpha() and len(set(letters)) == len(letters)
    if not distinct or not {"Y", "X"} <= set(letters):
        raise SettingError(
            f"invalid axes={axes!r}; give one letter for each axis, including Y and X, "
            "such as 'ZYX' or 'YXC'"
        )
    return letters


def layout_of(shape: tuple[int, ...], axes: str | None = None, *, sample: str = "") -> AxisLayout:
    """The planes of an array of this shape; `sample` is the letter of its channels, C or else S.

    Raises: DataError if the letters do not fit the shape, or the array is empty.
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
    channel_axis = letters.index(channel) if channel in letters else None
    return AxisLayout(tuple(shape), letters.index("Y"), letters.index("X"), channel_axis)


def _guessed(shape: tuple[int, ...]) -> str:
    if len(shape) < 2:
        raise DataError(f"shape {shape} is not an image; give an array of (height, width) or more")
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
    colour = len(shape) > 2 and shape[-1] in COLOURS
    letters = "NPQTZYX" + "C" * colour
    return letters[-len(shape) :] if 2 <= len(shape) <= len(letters) else "ZYX"


class ArrayFile(ImageFile):
    """An array in memory, read like a file."""

    kind = "array"
    endings = ()
    array: np.ndarray
    layout: AxisLayout
    mask: np.ndarray | None = None  # True where a masked array is masked

    @classmethod
    def opened(cls, path: str, options: OpenOptions) -> Self:
        """Raises: SettingError; use `of`."""
        raise SettingError("an array has no path; use ArrayFile.of(array)")

    @classmethod
    def of(cls, data: Any, options: OpenOptions, first: int = 0) -> Self:
        """The planes of an array, named from `image <first>` on."""
        try:
            array = np.asarray(data)
        except Exception as fault:  # whatever an object's own conversion raises
            raise DataError(f"{options.name} is not an array: {fault!s:.160}") from fault
        file = cls("", options)
        try:
            check_dtype(array.dtype)
            file.array, file.layout = array, layout_of(array.shape, options.axes)
        except DataError as fault:
            raise DataError(f"{options.name}: {fault}") from fault
        if isinstance(data, np.ma.MaskedArray):
            file.mask = np.ma.getmaskarray(data)
        for plane in range(file.layout.planes):
            file.add(file.layout.size, array.dtype, f"image {first + plane}")
        return file

    def raw_window(self, plane: int, y: slice, x: slice) -> np.ndarray:
        """A view."""
        return self.layout.read(self.array, plane, y, x)

    def padded(self, plane: int, y: slice, x: slice, raw: np.ndarray) -> np.ndarray | None:
        """Masked values."""
        return None if self.mask is None else self.layout.read(self.mask, plane, y, x)

    @contextmanager
    def writing(self, path: str, note: str) -> Iterator[WriteRows]:
        """Raises: SettingError; use `as_given` for arrays."""
        raise SettingError(f"{self.name} is an array and cannot be copied to {path}; use as_given")
        yield

    def filled(self, planes: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
        """Such an array with these planes and the given mask; and how many pixels were clipped."""
        out, total = np.empty_like(self.array, subok=False), 0
        for image, values in zip(self.images, planes, strict=True):
            if values.shape != image.size:
                raise DataError(f"{image.name}: expected shape {image.size}, got {values.shape}")
            raw, clipped = self.raw_rows(image.plane, slice(0, image.height), values)
            self.layout.write(out, image.plane, slice(None), raw)
            total += clipped
        return out if self.mask is None else np.ma.MaskedArray(out, self.mask), total
