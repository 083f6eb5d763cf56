"""NIfTI volumes: slices along the third axis, times and the like as further planes."""

import gzip
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from keyhole.core.files import aside, beside
from keyhole.errors import DataError
from keyhole.images.axes import Layout, layout_of
from keyhole.images.base import Asked, ImageFile, Put
from keyhole.images.faults import needed
from keyhole.images.held import HELD_BYTES, held
from keyhole.images.npy import plane_names
from keyhole.images.raw import Raw, reserve, truncated
from keyhole.images.stored import Limits, check_dtype, limits_of

BLOCK_BYTES = 1 << 20


class NiftiFile(ImageFile):
    """A volume whose header, extensions and affine go into a copy byte for byte."""

    kind = "nifti"
    endings = (".nii", ".nii.gz")

    def __init__(
        self, path: str, asked: Asked, *, raw: Raw, layout: Layout, scale: tuple[float, float]
    ) -> None:
        super().__init__(path, asked)
        self.raw = raw
        self.layout = layout
        self.slope, self.intercept = scale
        limits = scaled_limits(limits_of(raw.dtype), *scale)
        size = (layout.height, layout.width, layout.channels)
        for name in plane_names(self.name, layout.planes):
            self.add(size, raw.dtype, limits, name)

    @classmethod
    def opened(cls, path: str, asked: Asked) -> Self:
        """The volume; a packed one is read through once, for its checksum stands at its end."""
        try:
            import nibabel as nib
        except ImportError as fault:
            raise needed("nibabel", "medical") from fault
        proxy: Any = nib.load(path).dataobj  # pyright: ignore[reportAttributeAccessIssue]
        dtype, shape = np.dtype(proxy.dtype), tuple(int(n) for n in proxy.shape)
        check_dtype(dtype)
        axes = asked.axes or "XYZTUVW"[: len(shape)]
        layout = layout_of(shape, axes)
        raw = Raw(path, int(proxy.offset), dtype, shape, fortran=True)
        if packed(path):
            size = _unpacked_bytes(path)
            if size < raw.end:
                raise DataError(truncated(size, raw.end))
        else:
            raw.check_size()
        scale = (float(proxy.slope), float(proxy.inter))
        return cls(path, asked, raw=raw, layout=layout, scale=scale)

    def stored(self, plane: int, y: slice, x: slice) -> np.ndarray:
        """A window: mapped, or from the volume that was unpacked last."""
        if not packed(self.path):
            return self.layout.read(self.raw.array(), plane, y, x)
        if self.raw.end - self.raw.offset <= HELD_BYTES:
            whole = held(self.path, "volume", self._unpacked)
            return self.layout.read(whole, plane, y, x)
        return self.layout.read(_Streamed(self.raw), plane, y, x)

    def real(self, plane: int, stored: np.ndarray) -> np.ndarray:
        """Stored values, scaled by the header."""
        return scaled(stored, self.slope, self.intercept)

    def unreal(self, plane: int, values: np.ndarray) -> np.ndarray:
        """Real values as the header has them stored."""
        return unscaled(values, self.slope, self.intercept)

    @contextmanager
    def writing(self, path: str, note: str) -> Iterator[Put]:
        """Pixels go to their place in an unpacked file; it is packed where `path` asks for it."""
        with gzip.open(self.path) if packed(self.path) else open(self.path, "rb") as file:
            start = file.read(self.raw.offset)
        with aside(path) as temporary, _unpacked_beside(temporary, path) as place:
            reserve(place, start, self.raw.end)

            def put(plane: int, y: slice, rows: np.ndarray) -> None:
                self.layout.write(self.raw.array(write=True, path=place), plane, y, rows)

            yield put

    def _unpacked(self) -> np.ndarray:
        with gzip.open(self.path) as file:
            file.seek(self.raw.offset)
            content = file.read(self.raw.end - self.raw.offset)
        return np.frombuffer(content, self.raw.dtype).reshape(self.raw.shape, order="F")


class _Streamed:
    """A packed volume too large to hold, of which what is asked for is unpacked."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw

    def __getitem__(self, index: Any) -> np.ndarray:
        from nibabel.fileslice import fileslice

        with gzip.open(self.raw.path) as file:
            return fileslice(
                file, index, self.raw.shape, self.raw.dtype, self.raw.offset, order="F"
            )


def packed(path: str) -> bool:
    """True for a name that says gzip."""
    return path.lower().endswith(".gz")


def scaled(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """`stored * slope + intercept` as float32, computed in double."""
    if slope == 1 and intercept == 0:
        return np.array(stored, np.float32, order="C")
    return np.ascontiguousarray(stored * np.float64(slope) + intercept, np.float32)


def unscaled(values: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """The inverse of `scaled`."""
    if slope == 1 and intercept == 0:
        return values
    return (values.astype(np.float64) - intercept) / slope


def scaled_limits(limits: Limits | None, slope: float, intercept: float) -> Limits | None:
    """The real values of the stored limits; a falling scale turns them round."""
    if limits is None:
        return None
    ends = sorted(end * slope + intercept for end in limits)
    return ends[0], ends[1]


def _unpacked_bytes(path: str) -> int:
    """The length of what is packed; reading to the end checks its sum."""
    size = 0
    with gzip.open(path) as file:
        while block := file.read(BLOCK_BYTES):
            size += len(block)
    return size


@contextmanager
def _unpacked_beside(temporary: str, path: str) -> Iterator[str]:
    """A file to fill: `temporary` itself, or one that is packed into it at the end."""
    if not packed(path):
        yield temporary
        return
    with beside(path) as scratch:
        yield scratch
        with (
            open(scratch, "rb") as file,
            open(temporary, "wb") as target,
            gzip.GzipFile(fileobj=target, mode="wb", filename="", mtime=0) as packing,
        ):
            shutil.copyfileobj(file, packing, BLOCK_BYTES)
