"""Pictures in memory: one array or a list of them, given back as they came."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from keyhole.errors import DataError, SettingError
from keyhole.images.axes import Layout, layout_of
from keyhole.images.base import Asked, ImageFile, Picture, Put
from keyhole.images.stored import check_dtype, limits_of


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
        for picture, values in zip(self.pictures, planes, strict=True):
            _check_shape(picture, values)
            whole = slice(0, picture.height)
            stored, clipped = self.stored_rows(picture.plane, whole, values)
            self.layout.write(out, picture.plane, slice(None), stored)
            total += clipped
        if isinstance(self.mask, np.ndarray):
            out = np.ma.MaskedArray(out, self.mask)
        return out, total


@dataclass(frozen=True)
class Given:
    """Pictures in the form in which they came: an array, or a list of arrays.

    `clipped` counts the pixels that did not fit the type.
    """

    images: Any
    clipped: int


def filled(files: Sequence[ArrayFile], planes: Sequence[np.ndarray], *, listed: bool) -> Given:
    """The planes in arrays like the given ones; a list where a list was given.

    Raises: DataError where the planes do not fit.
    """
    wanted = sum(len(file.pictures) for file in files)
    if len(planes) != wanted:
        raise DataError(f"{wanted} pictures were given and {len(planes)} came back")
    arrays, clipped, at = [], 0, 0
    for file in files:
        end = at + len(file.pictures)
        array, count = file.filled(planes[at:end])
        arrays.append(array)
        clipped += count
        at = end
    return Given(arrays if listed else arrays[0], clipped)


def _check_shape(picture: Picture, values: np.ndarray) -> None:
    size = (picture.height, picture.width, picture.channels)
    if values.shape != size:
        raise DataError(f"{picture.name} has shape {size}; {values.shape} came back")
