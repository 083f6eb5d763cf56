"""What goes wrong while an image file is read, as one line for people.

Between what a file stores and real values: rounding, and a count of what does not fit.

An image, the file it stands in, and the copy of that file with other pixels.
"""

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
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
    """A sound file without pixels, such as a report in DICOM; `reason` is for counts."""

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


def told(name: str, fault: Exception) -> KeyholeError:
    """The error, in one line, for what came up while a file was read."""
    if isinstance(fault, MissingExtraError):
        return fault
    if isinstance(fault, PermissionError):
        return FileError(f"{name} cannot be read: permission is denied")
    said = " ".join(str(fault).split()) or type(fault).__name__
    if isinstance(fault, OSError) and fault.strerror:
        return FileError(f"{name} cannot be read: {fault.strerror}")
    if isinstance(fault, NoImageError):
        return NoImageError(f"{name}: {said}", fault.reason)
    if isinstance(fault, KeyholeError):
        return type(fault)(f"{name}: {said}")
    return DataError(f"{name} is damaged, or not what its ending says: {said:.160}")


def needed(library: str, extra: str) -> MissingExtraError:
    """The error for an optional library that is not installed."""
    return missing_extra(library, "read such files", extra)


@contextmanager
def quiet() -> Iterator[None]:
    """Readers warn of what a user cannot change: a date in a header, an odd tag."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


Limits = tuple[float, float]


def limits_of(dtype: np.dtype) -> Limits | None:
    """The least and the largest value that a type can hold; None for floats."""
    if dtype.kind == "b":
        return 0.0, 1.0
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return float(info.min), float(info.max)
    return None


def check_dtype(dtype: np.dtype) -> None:
    """Raises: DataError for what is no real number: complex, objects, texts, records."""
    if dtype.kind not in "biuf":
        what = {"c": "complex numbers; take their magnitude first"}.get(
            dtype.kind, f"{dtype} and not numbers"
        )
        raise DataError(f"its pixels are {what}")


def to_stored(
    values: np.ndarray, dtype: np.dtype, limits: Limits | None
) -> tuple[np.ndarray, int]:
    """Values as the type stores them, rounded to nearest, and how many pixels had to be clipped.

    `limits` are in stored units. A NaN has no place among integers: it is clipped to the value
    next to zero.
    """
    if dtype.kind == "f":
        return _to_float(values, dtype)
    low, high = limits or limits_of(dtype) or (0.0, 1.0)
    rounded = np.rint(values)
    wrong = ~((rounded >= low) & (rounded <= high))
    clipped = int(wrong.any(-1).sum())
    if clipped or dtype.itemsize > 2:  # in single precision, 2**32 passes for the last uint32
        rounded = np.where(np.isnan(rounded), 0.0, rounded.astype(np.float64)).clip(low, high)
    if dtype.kind != "b" and dtype.itemsize == 8:  # a float near 2**63 may round past the end
        info = np.iinfo(dtype)
        over, under = rounded >= info.max, rounded <= info.min
        whole = np.where(over | under, 0, rounded).astype(dtype)
        return np.where(over, info.max, np.where(under, info.min, whole)).astype(dtype), clipped
    return rounded.astype(dtype), clipped


def _to_float(values: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, int]:
    """Only half precision and the like can overflow; what was infinite or NaN stays so."""
    top = np.finfo(dtype).max
    wrong = np.isfinite(values) & (np.abs(values) > top)
    clipped = int(wrong.any(-1).sum())
    if clipped:
        values = np.where(wrong, np.copysign(top, values), values)
    return values.astype(dtype), clipped


Put = Callable[[int, slice, np.ndarray], None]  # plane, its rows, what to store there
BAND = 256  # rows that are looked at together
FIRST_TURNED = 5  # orientations from here on exchange rows and columns
# The direction of rows and columns of what is shown, by orientation, once they are exchanged.
UPRIGHT = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
FORMATS: dict[str, type["ImageFile"]] = {}


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Asked:
    """How a file is to be opened: the name that messages use, its axes, the call it is part of."""

    name: str
    axes: str | None = None
    call: str = ""


@dataclass(frozen=True, eq=False)
class Image:
    """One plane, grey or colour, in real values; read by window.

    `dtype` is the stored one, `limits` the real values that it can hold (None for floats).
    """

    name: str
    height: int
    width: int
    channels: int
    dtype: np.dtype
    limits: Limits | None
    file: "ImageFile"
    plane: int

    def window(self, y: slice, x: slice) -> np.ndarray:
        """A window as float32 (height, width, channels); edges are cut as numpy cuts them.

        A missing pixel (padding, masked, infinite) is NaN. Types wider than 24 bits are rounded
        to float32. Raises: DataError, FileError.
        """
        rows, columns = slice(*y.indices(self.height)), slice(*x.indices(self.width))
        try:
            with quiet():
                stored = self.file.stored(self.plane, rows, columns)[..., : self.channels]
                values = self.file.real(self.plane, stored)
                gaps = self.file.gaps(self.plane, rows, columns, stored)
                if gaps is not None:
                    values[gaps] = np.nan
                return values
        except (KeyholeError, MemoryError):
            raise
        except Exception as fault:  # decoders raise anything
            raise told(self.name, fault) from fault

    def whole(self) -> np.ndarray:
        """The whole plane as float32 (height, width, channels)."""
        return self.window(slice(None), slice(None))

    def infinite(self) -> int:
        """How many values are infinite; they are read as missing."""
        if self.dtype.kind != "f":
            return 0
        bands = (slice(y, y + BAND) for y in range(0, self.height, BAND))
        every = slice(0, self.width)
        parts = (self.file.stored(self.plane, band, every)[..., : self.channels] for band in bands)
        return sum(int(np.isinf(part).sum()) for part in parts)

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width of the image as it is shown, turned by its orientation tag."""
        if self.file.orientation >= FIRST_TURNED:
            return self.width, self.height
        return self.height, self.width

    def upright(self) -> np.ndarray:
        """The whole plane as it is shown, (height, width, channels): what its tag says is done."""
        pixels = self.whole()
        if self.file.orientation >= FIRST_TURNED:
            pixels = pixels.transpose(1, 0, 2)
        down, right = UPRIGHT.get(self.file.orientation, (1, 1))
        return np.ascontiguousarray(pixels[::down, ::right])


class ImageFile(ABC):
    """An opened file of planes. It keeps no handle and no pixels, so it can be pickled.

    A subclass that names itself in `kind` is found by its `endings`.
    """

    kind: ClassVar[str]
    endings: ClassVar[tuple[str, ...]]
    folder: ClassVar[bool] = False  # the "file" is a folder
    orientation = 1  # as Exif numbers them: how the image is to be turned when it is shown
    levels = 0  # reduced ones beside the full image, a pyramid; copies have none
    lossy = False  # True where writing loses more than rounding does

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.endings:
            FORMATS[cls.kind] = cls

    def __init__(self, path: str, asked: Asked) -> None:
        self.path = path
        self.name = asked.name
        self.images: list[Image] = []

    @classmethod
    @abstractmethod
    def opened(cls, path: str, asked: Asked) -> Self:
        """The file, its header read and its length checked.

        Raises: DataError or anything that a decoder raises; the text needs not name the file.
        """

    @abstractmethod
    def stored(self, plane: int, y: slice, x: slice) -> np.ndarray:
        """A window as it is stored, (height, width, channels and what is carried along)."""

    @abstractmethod
    def writing(self, path: str, note: str) -> AbstractContextManager[Put]:
        """A copy of the file, which appears at `path` when the block ends well."""

    def real(self, plane: int, stored: np.ndarray) -> np.ndarray:
        """Stored values as real ones, a float32 copy."""
        return np.array(stored, np.float32, order="C")

    def unreal(self, plane: int, values: np.ndarray) -> np.ndarray:
        """Real values as stored ones, not rounded yet."""
        return values

    def gaps(self, plane: int, y: slice, x: slice, stored: np.ndarray) -> np.ndarray | None:
        """True for stored values of a window that measure nothing; None where there are none."""
        return np.isinf(stored) if stored.dtype.kind == "f" else None

    def stored_rows(self, plane: int, y: slice, rows: np.ndarray) -> tuple[np.ndarray, int]:
        """Real values as they are stored, and how many pixels were clipped.

        What is missing in the file and in the rows (NaN) is stored bit for bit as it was.
        """
        image = self.images[plane]
        values, missing = self.unreal(plane, np.asarray(rows)), np.isnan(rows)
        given = values
        if missing.any():
            every = slice(0, image.width)
            given = self.stored(plane, y, every)[..., : image.channels]
            gaps = self.gaps(plane, y, every, given)
            missing &= np.isnan(given) | (False if gaps is None else gaps)
            values = np.where(missing, 0, values)
        stored, clipped = to_stored(values, image.dtype, self.stored_limits(plane))
        if missing.any():
            stored[missing] = given[missing]
        return stored, clipped

    def stored_limits(self, plane: int) -> Limits | None:
        """The least and the largest stored value; None for floats."""
        return limits_of(self.images[plane].dtype)

    def carries(self, plane: int) -> bool:
        """True where alpha, or the like, is copied as it is."""
        return False

    def own_endings(self) -> tuple[str, ...]:
        """The endings that a copy of this very file may have."""
        return self.endings

    @contextmanager
    def copy_to(
        self, path: str | os.PathLike[str], *, note: str = "", force: bool = False
    ) -> Iterator["Copy"]:
        """A copy with other pixels: same format, type and metadata, whole or not at all.

        `note` is kept where the format has a place for it (DICOM). Raises: FileError where
        `path` exists and there is no `force`; DataError where rows are missing at the end.
        """
        target = os.fspath(path)
        others = {end for cls in FORMATS.values() for end in cls.endings}
        mine = self.own_endings()
        if mine and _ends(target, others) and not _ends(target, mine):
            raise SettingError(
                f"{target}: a copy of {self.name} has its format; let it end in {mine[0]!r}"
            )
        refuse_existing(target, force)
        if self.levels:
            warnings.warn(
                f"{self.name}: the copy has no pyramid; its {self.levels} reduced level(s) would "
                "still show the old pixels",
                KeyholeWarning,
                stacklevel=3,
            )
        with self.writing(target, note) as put:
            copy = Copy(self, put)
            yield copy
            copy.check_whole()

    def add(
        self, size: tuple[int, int, int], dtype: np.dtype, limits: Limits | None, name: str = ""
    ) -> None:
        """Append an image of (height, width, channels)."""
        plane = len(self.images)
        self.images.append(Image(name or self.name, *size, dtype, limits, self, plane))


class Copy:
    """A copy being written: bands of real values, top to bottom, plane after plane.

    `clipped` counts the pixels that did not fit the stored type; `lossy` is True where the
    format loses more than rounding does.
    """

    def __init__(self, file: ImageFile, put: Put) -> None:
        self.clipped = 0
        self.lossy = file.lossy
        self._file = file
        self._put = put
        self._next = (0, 0)

    def write(self, plane_index: int, y: int, rows: np.ndarray) -> None:
        """Store rows of (height, width, channels) from row `y` of a plane on."""
        if (plane_index, y) != self._next:
            raise SettingError(
                f"{self._file.name}: plane {plane_index}, row {y} was written where plane "
                f"{self._next[0]}, row {self._next[1]} comes next"
            )
        image = self._file.images[plane_index]
        end = y + rows.shape[0]
        if rows.shape[1:] != (image.width, image.channels) or end > image.height:
            raise SettingError(
                f"{image.name}: rows {y} to {end} of shape {rows.shape} were written into a "
                f"image of {(image.height, image.width, image.channels)}"
            )
        band = slice(y, end)
        stored, clipped = self._file.stored_rows(plane_index, band, rows)
        self.clipped += clipped
        if self._file.carries(plane_index):
            given = self._file.stored(plane_index, band, slice(0, image.width))
            stored = np.concatenate([stored, given[..., image.channels :]], -1)
        self._put(plane_index, band, stored)
        self._next = (plane_index + 1, 0) if end == image.height else (plane_index, end)

    def check_whole(self) -> None:
        """Raises: DataError where rows have not been written."""
        if self._next != (len(self._file.images), 0):
            plane, row = self._next
            raise DataError(
                f"the copy of {self._file.name} is not complete: plane {plane} lacks its rows "
                f"from {row} on; nothing was written"
            )


def _ends(path: str, endings: set[str] | tuple[str, ...]) -> bool:
    return path.lower().rstrip("/").endswith(tuple(endings))
