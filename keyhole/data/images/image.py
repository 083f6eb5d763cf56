"""The interface of image files: planes read by window, and copies with other pixels."""

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from keyhole.core.environment import missing_extra
from keyhole.core.files import refuse_existing
from keyhole.errors import (
    DataError,
    FileError,
    KeyholeError,
    KeyholeWarning,
    MissingExtraError,
    SettingError,
)


class NoImageError(DataError):
    """A valid file without pixels, such as a DICOM report; files are counted by `reason`."""

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


def read_error(name: str, fault: Exception) -> KeyholeError:
    """The error that names the file, in one line, for an exception of a decoder."""
    if isinstance(fault, MissingExtraError):
        return fault
    if isinstance(fault, PermissionError):
        return FileError(f"{name} cannot be read: permission is denied")
    message = " ".join(str(fault).split()) or type(fault).__name__
    if isinstance(fault, OSError) and fault.strerror:
        return FileError(f"{name} cannot be read: {fault.strerror}")
    if isinstance(fault, NoImageError):
        return NoImageError(f"{name}: {message}", fault.reason)
    if isinstance(fault, KeyholeError):
        return type(fault)(f"{name}: {message}")
    return DataError(
        f"{name} is damaged, or its content does not match its file extension: {message:.160}"
    )


@contextmanager
def optional(library: str, extra: str) -> Iterator[None]:
    """Around the import of an optional library. Raises: MissingExtraError if it is missing."""
    try:
        yield
    except ImportError as fault:
        raise missing_extra(library, "read such files", extra) from fault


def quiet() -> warnings.catch_warnings:
    """Silence warnings of decoders that a user cannot act on: a date in a header, an odd tag."""
    return warnings.catch_warnings(action="ignore")


Limits = tuple[float, float]


def limits_of(dtype: np.dtype) -> Limits | None:
    """The smallest and largest value of a type; None for floats."""
    if dtype.kind not in "biu":
        return None
    ends = (False, True) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return float(ends[0]), float(ends[1])


def check_dtype(dtype: np.dtype) -> None:
    """Raises: DataError unless pixels are real numbers."""
    if dtype.kind not in "biuf":
        complex_ = "complex numbers; take their magnitude first"
        kind = complex_ if dtype.kind == "c" else f"{dtype}, not numbers"
        raise DataError(f"its pixels are {kind}")


def round_to_dtype(
    values: np.ndarray, dtype: np.dtype, limits: Limits | None
) -> tuple[np.ndarray, int]:
    """Values rounded to the type, and how many pixels were clipped.

    `limits` are in raw units. In an integer type, NaN becomes the value nearest to zero and
    counts as clipped.
    """
    if dtype.kind == "f":
        return _to_float(values, dtype)
    low, high = limits or limits_of(dtype) or (0.0, 1.0)
    rounded = np.rint(values)
    outside = ~((rounded >= low) & (rounded <= high))
    clipped = int(outside.any(-1).sum())
    if clipped or dtype.itemsize > 2:  # in single precision, 2**32 passes for the last uint32
        rounded = np.where(np.isnan(rounded), 0.0, rounded.astype(np.float64)).clip(low, high)
    if dtype.kind != "b" and dtype.itemsize == 8:  # a float near 2**63 may round past the end
        info = np.iinfo(dtype)
        over, under = rounded >= info.max, rounded <= info.min
        whole = np.where(over | under, 0, rounded).astype(dtype)
        return np.where(over, info.max, np.where(under, info.min, whole)).astype(dtype), clipped
    return rounded.astype(dtype), clipped


def _to_float(values: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, int]:
    top = np.finfo(dtype).max
    outside = np.isfinite(values) & (np.abs(values) > top)
    clipped = int(outside.any(-1).sum())
    if clipped:
        values = np.where(outside, np.copysign(top, values), values)
    return values.astype(dtype), clipped


WriteRows = Callable[[int, slice, np.ndarray], None]  # plane, its rows, their raw values
BAND_ROWS = 256  # read together when infinite values are counted
FIRST_TRANSPOSED = 5  # Exif orientations from 5 on exchange rows and columns
# Steps of rows and columns by Exif orientation, after the exchange.
UPRIGHT = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
FORMATS: dict[str, type["ImageFile"]] = {}


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class OpenOptions:
    """How a file is opened: its name in messages, its axes, and an id shared by one call."""

    name: str
    axes: str | None = None
    call: str = ""


@dataclass(frozen=True, eq=False)
class Image:
    """One plane, grey or colour, in real values: raw ones times a slope plus an intercept."""

    name: str
    height: int
    width: int
    channels: int
    dtype: np.dtype  # of the raw values
    file: "ImageFile"
    plane: int
    raw_limits: Limits | None  # the least and the most that can be stored; None for floats
    scale: tuple[float, float]  # slope and intercept
    alpha: bool  # True if a last channel is alpha, which is copied unchanged

    @property
    def limits(self) -> Limits | None:
        """The ends of the raw values as real values; None for floats."""
        if self.raw_limits is None:
            return None
        first, second = (end * self.scale[0] + self.scale[1] for end in self.raw_limits)
        return min(first, second), max(first, second)

    def real(self, raw: np.ndarray) -> np.ndarray:
        """Raw values as real values: a float32 copy, computed in float64."""
        if self.scale == (1, 0):
            return np.array(raw, np.float32, order="C")
        return np.ascontiguousarray(raw * np.float64(self.scale[0]) + self.scale[1], np.float32)

    def raw(self, values: np.ndarray) -> np.ndarray:
        """Real values as raw values, not rounded yet."""
        if self.scale == (1, 0):
            return values
        return (values.astype(np.float64) - self.scale[1]) / self.scale[0]

    def window(self, y: slice, x: slice) -> np.ndarray:
        """A window as float32 (height, width, channels), sliced as NumPy slices.

        A missing pixel (padding, masked, infinite) is NaN. Integers wider than 24 bits are rounded
        to float32. Raises: DataError, FileError.
        """
        rows, columns = slice(*y.indices(self.height)), slice(*x.indices(self.width))
        try:
            with quiet():
                raw = self.file.raw_window(self.plane, rows, columns)[..., : self.channels]
                values = self.real(raw)
                gaps = self.file.gaps(self.plane, rows, columns, raw)
                if gaps is not None:
                    values[gaps] = np.nan
                return values
        except (KeyholeError, MemoryError):
            raise
        except Exception as fault:  # decoders raise anything
            raise read_error(self.name, fault) from fault

    @property
    def size(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.height, self.width, self.channels

    def whole(self) -> np.ndarray:
        """The whole plane as float32 (height, width, channels)."""
        return self.window(slice(None), slice(None))

    def infinite(self) -> int:
        """The number of infinite values; they are read as missing."""
        if self.dtype.kind != "f":
            return 0
        count, every = 0, slice(0, self.width)
        for y in range(0, self.height, BAND_ROWS):
            band = self.file.raw_window(self.plane, slice(y, y + BAND_ROWS), every)
            count += int(np.isinf(band[..., : self.channels]).sum())
        return count

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width after the rotation of the orientation tag."""
        transposed = self.file.orientation >= FIRST_TRANSPOSED
        return (self.width, self.height) if transposed else (self.height, self.width)

    def upright(self) -> np.ndarray:
        """The whole plane (height, width, channels), rotated by its orientation tag."""
        pixels = self.whole()
        if self.file.orientation >= FIRST_TRANSPOSED:
            pixels = pixels.transpose(1, 0, 2)
        down, right = UPRIGHT.get(self.file.orientation, (1, 1))
        return np.ascontiguousarray(pixels[::down, ::right])


class ImageFile(ABC):
    """An opened file of planes, without a handle, so it can be pickled; found by its `endings`."""

    kind: ClassVar[str]
    endings: tuple[str, ...]  # also those that a copy may have
    folder: ClassVar[bool] = False  # the "file" is a folder
    orientation = 1  # Exif orientation, 1 to 8
    levels = 0  # reduced levels of a pyramid; copies have none
    lossy = False  # True if writing loses more than rounding does

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.endings:
            FORMATS[cls.kind] = cls

    def __init__(self, path: str, options: OpenOptions) -> None:
        self.path, self.name, self.call = path, options.name, options.call
        self.images: list[Image] = []

    @classmethod
    @abstractmethod
    def opened(cls, path: str, options: OpenOptions) -> Self:
        """The file; its header is read and its length checked.

        Raises: DataError, or any exception of a decoder; the caller adds the file's name.
        """

    @abstractmethod
    def raw_window(self, plane: int, y: slice, x: slice) -> np.ndarray:
        """The raw values of a window (height, width, channels), alpha included."""

    @abstractmethod
    def writing(self, path: str, note: str) -> AbstractContextManager[WriteRows]:
        """Write a copy of the file, which appears at `path` when the block ends without error."""

    def gaps(self, plane: int, y: slice, x: slice, raw: np.ndarray) -> np.ndarray | None:
        """True for raw values of a window that are missing; None if none can be."""
        padding = self.padded(plane, y, x, raw)
        if raw.dtype.kind != "f":
            return padding
        return np.isinf(raw) if padding is None else padding | np.isinf(raw)

    def padded(self, plane: int, y: slice, x: slice, raw: np.ndarray) -> np.ndarray | None:
        """True for finite raw values that the file marks as missing; None if it marks none."""
        return None

    def raw_rows(self, plane: int, y: slice, rows: np.ndarray) -> tuple[np.ndarray, int]:
        """Real values as rounded raw values, and how many pixels were clipped.

        Where a value is missing in the file and in the rows (NaN), its raw value is unchanged.
        """
        image = self.images[plane]
        values, missing = image.raw(np.asarray(rows)), np.isnan(rows)
        given = values
        if missing.any():
            every = slice(0, image.width)
            given = self.raw_window(plane, y, every)[..., : image.channels]
            gaps = self.gaps(plane, y, every, given)
            missing &= np.isnan(given) | (False if gaps is None else gaps)
            values = np.where(missing, 0, values)
        raw, clipped = round_to_dtype(values, image.dtype, image.raw_limits)
        if missing.any():
            raw[missing] = given[missing]
        return raw, clipped

    @contextmanager
    def copy_to(
        self, path: str | os.PathLike[str], *, note: str = "", force: bool = False
    ) -> Iterator["Copy"]:
        """Atomically write a copy with other pixels: same format, type and metadata.

        `note` describes the change, in formats that have a field for it (DICOM).
        Raises: FileError if `path` exists and not `force`; DataError if rows were not written.
        """
        target = os.fspath(path)
        others = {end for cls in FORMATS.values() for end in cls.endings}
        name, allowed = target.lower().rstrip("/"), self.endings
        if allowed and name.endswith(tuple(others)) and not name.endswith(allowed):
            raise SettingError(
                f"{target}: a copy of {self.name} keeps its format; use the file extension "
                f"{allowed[0]!r}"
            )
        refuse_existing(target, force)
        if self.levels:
            warnings.warn(
                f"{self.name}: the copy has no pyramid; its {self.levels} reduced level(s) would "
                "still show the old pixels",
                KeyholeWarning,
                stacklevel=3,
            )
        with self.writing(target, note) as write_rows:
            copy = Copy(self, write_rows)
            yield copy
            copy.check_whole()

    def add(
        self, size: Sequence[int], dtype: np.dtype, name: str = "", *,
        limits: Limits | None = None, scale: tuple[float, float] = (1.0, 0.0), alpha: bool = False,
    ) -> None:  # fmt: skip
        """Append an image of (height, width, channels); `limits` are of raw values."""
        height, width, channels = size
        plane, limits = len(self.images), limits or limits_of(dtype)
        self.images.append(
            Image(
                name or self.name,
                height,
                width,
                channels,
                dtype,
                self,
                plane,
                limits,
                scale,
                alpha,
            )
        )

    def plane_names(self, planes: int) -> list[str]:
        """The file's name, with the plane's number if there are several."""
        return [self.name] if planes == 1 else [f"{self.name}[{i}]" for i in range(planes)]


class Copy:
    """A copy being written: bands of real values, top to bottom, plane after plane.

    `clipped` counts the pixels that did not fit the raw type; `lossy` is True if the format
    loses more than rounding does.
    """

    def __init__(self, file: ImageFile, write_rows: WriteRows) -> None:
        self.clipped = 0
        self.lossy = file.lossy
        self._file = file
        self._write_rows = write_rows
        self._next = (0, 0)

    def write(self, plane_index: int, y: int, rows: np.ndarray) -> None:
        """Write rows (height, width, channels) of a plane, from row `y` on."""
        if (plane_index, y) != self._next:
            raise SettingError(
                f"{self._file.name}: expected plane {self._next[0]}, row {self._next[1]}; "
                f"got plane {plane_index}, row {y}"
            )
        image = self._file.images[plane_index]
        end = y + rows.shape[0]
        if rows.shape[1:] != (image.width, image.channels) or end > image.height:
            raise SettingError(
                f"{image.name}: rows {y} to {end} of shape {rows.shape} do not fit the image's "
                f"shape {image.size}"
            )
        band = slice(y, end)
        raw, clipped = self._file.raw_rows(plane_index, band, rows)
        self.clipped += clipped
        if image.alpha:
            given = self._file.raw_window(plane_index, band, slice(0, image.width))
            raw = np.concatenate([raw, given[..., image.channels :]], -1)
        self._write_rows(plane_index, band, raw)
        self._next = (plane_index + 1, 0) if end == image.height else (plane_index, end)

    def check_whole(self) -> None:
        """Raises: DataError if rows were not written."""
        if self._next != (len(self._file.images), 0):
            plane, row = self._next
            raise DataError(
                f"the copy of {self._file.name} is incomplete: plane {plane} lacks rows from "
                f"{row} on; no file was written"
            )
