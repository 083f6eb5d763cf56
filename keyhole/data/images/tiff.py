"""TIFF: stacks, tiles, 16 bits and floats, BigTIFF; plain pixels are mapped, others decoded."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from keyhole.data.images.arrays import Layout, Raw, held, layout_of, truncated
from keyhole.data.images.image import Asked, ImageFile, Put, check_dtype, limits_of, needed
from keyhole.data.images.tiff_copy import overwritten, rewritten
from keyhole.errors import DataError

PLANE_BYTES = 64 << 20  # a compressed plane up to this size is decoded whole and held
ALL_SERIES = {"generic", "uniform", "shaped", "imagej", "ome"}  # of others, the first is the scan
ORIENTATION = 274  # the tag
NO_DATA = 42113  # the tag by which GDAL names the value of pixels that hold nothing
ALPHA = {1, 2}  # ExtraSamples: associated and unassociated


@dataclass(frozen=True)
class Series:
    """One array of a file. Of it, `raw` is where it can be mapped; `first` is its first plane."""

    index: int
    first: int
    layout: Layout
    dtype: np.dtype
    raw: Raw | None
    pages: tuple[int, ...]  # those that Pillow must decode, where tifffile cannot

    @property
    def plane_bytes(self) -> int:
        """What a decoded plane takes."""
        size = self.layout.height * self.layout.width * self.dtype.itemsize
        return size * (self.layout.channels + self.layout.carried)


class TiffFile(ImageFile):
    """The planes of every series of pages."""

    kind = "tiff"
    endings = (".tif", ".tiff", ".btf", ".tf8")

    def __init__(self, path: str, asked: Asked) -> None:
        super().__init__(path, asked)
        self.series: list[Series] = []
        self.no_data: float | None = None

    @classmethod
    def opened(cls, path: str, asked: Asked) -> Self:
        """The file, its pages counted and compared with its length."""
        file = cls(path, asked)
        with opened_tiff(path) as tif:
            _check_chain(tif)
            found = tif.series
            file.orientation = int(tif.pages[0].tags.valueof(ORIENTATION, 1)) if found else 1
            file.no_data = _number(tif.pages[0].tags.valueof(NO_DATA)) if found else None
            file.levels = max((len(series.levels) - 1 for series in found), default=0)
            if found and found[0].kind not in ALL_SERIES:
                found = found[:1]
            first = 0
            for index, series in enumerate(found):
                file.series.append(_learnt(series, (index, first), path, asked.axes))
                first += file.series[-1].layout.planes
        if not first:
            raise DataError("it has no pages")
        for plane in range(first):
            series = file._of(plane)
            layout, dtype = series.layout, series.dtype
            name = f"{file.name}[{plane}]" if first > 1 else file.name
            size = (layout.height, layout.width, layout.channels)
            file.add(size, dtype, limits_of(dtype), name)
        for series in file.series:
            if series.raw is None:  # whether it can be decoded is known only when it was
                file.stored(series.first, slice(0, 1), slice(0, 1))
        return file

    def carries(self, plane: int) -> bool:
        """True where there is alpha."""
        return self._of(plane).layout.carried > 0

    def stored(self, plane: int, y: slice, x: slice) -> np.ndarray:
        """A window: mapped, cut from the plane decoded last, or by tiles and strips."""
        series = self._of(plane)
        plane -= series.first
        if series.raw is not None:
            return series.layout.read(series.raw.array(), plane, y, x)
        if series.pages:
            page = series.pages[plane]
            return held(self.path, page, lambda: _by_pillow(self.path, page, series))[y, x]
        if series.plane_bytes > PLANE_BYTES:
            return self._decoded(series, plane, y, x)
        every = slice(None)
        key = (series.index, plane)
        return held(self.path, key, lambda: self._decoded(series, plane, every, every))[y, x]

    def gaps(self, plane: int, y: slice, x: slice, stored: np.ndarray) -> np.ndarray | None:
        """What GDAL marks as no data, and what is infinite."""
        infinite = super().gaps(plane, y, x, stored)
        if self.no_data is None:
            return infinite
        empty = stored == self.no_data
        return empty if infinite is None else empty | infinite

    def writing(self, path: str, note: str) -> AbstractContextManager[Put]:
        """Plain pixels are overwritten in a copy of the file; others are encoded again.

        So are those of a pyramid, whose reduced levels would still show the old pixels.
        """
        layouts = [(series.first, series.layout) for series in self.series]
        raws = [series.raw for series in self.series if series.raw is not None]
        if len(raws) == len(self.series) and not self.levels:
            return overwritten(self.path, path, list(zip(layouts, raws)))
        dtypes = [series.dtype for series in self.series]
        return rewritten(self.path, path, layouts, dtypes)

    def _of(self, plane: int) -> Series:
        return next(s for s in reversed(self.series) if s.first <= plane)

    def _decoded(self, series: Series, plane: int, y: slice, x: slice) -> np.ndarray:
        try:
            import zarr
        except ImportError as fault:
            raise needed("zarr", "images") from fault
        with opened_tiff(self.path) as tif:
            store = tif.series[series.index].aszarr(level=0)
            try:
                return series.layout.read(zarr.open(store, mode="r"), plane, y, x).copy()
            finally:
                store.close()


@contextmanager
def opened_tiff(path: str) -> Iterator[Any]:
    """Tifffile's own view of a file."""
    try:
        import tifffile
    except ImportError as fault:
        raise needed("tifffile", "images") from fault
    with tifffile.TiffFile(path) as tif:
        yield tif


def _check_chain(tif: Any) -> None:
    """Raises: DataError where the file names a page that is not in it."""
    count = len(tif.pages)
    handle = tif.filehandle
    handle.seek(tif.pages.next_page_offset)
    size = tif.tiff.offsetsize
    offset = int.from_bytes(handle.read(size), "little" if tif.byteorder == "<" else "big")
    if offset >= handle.size:
        raise DataError(f"it is truncated: after {count} pages the next lies beyond its end")


def _number(text: Any) -> float | None:
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None


def _learnt(series: Any, place: tuple[int, int], path: str, axes: str | None) -> Series:
    """What is kept of a series; `place` is its number and that of its first plane."""
    key = series.keyframe
    check_dtype(np.dtype(series.dtype))
    _refuse_palette(key)
    _check_length(series, os.path.getsize(path))
    given = str(series.axes)
    known = len(set(given)) == len(given) and {"Y", "X"} <= set(given)
    letters = axes or (given if known else None)
    at = given.find("S")
    colour = at >= 0 and series.shape[at] <= 4
    sample = "" if axes else "S" if colour else "-"
    layout = layout_of(series.shape, letters, sample=sample)
    if colour and layout.sample == at and key.extrasamples and key.extrasamples[-1] in ALPHA:
        layout = layout_of(series.shape, letters, sample=sample, carried=1)
    stored = np.dtype(series.dtype).newbyteorder(key.parent.byteorder)
    dtype = np.dtype(series.dtype)
    offset, raw, pages = series.dataoffset, None, ()
    # odd numbers of bits are packed, and only whole bytes can be mapped
    if offset is not None and key.bitspersample == 8 * dtype.itemsize:
        raw = Raw(path, offset, stored, tuple(series.shape))
        raw.check_size()
    else:
        pages = _for_pillow(series, layout)
    return Series(*place, layout, dtype, raw, pages)


def _check_length(series: Any, size: int) -> None:
    """Raises: DataError where a tile or strip lies beyond the end of the file."""
    for page in series.pages:
        if page is None or page.parent.filehandle.path != series.keyframe.parent.filehandle.path:
            continue
        pairs = zip(page.dataoffsets, page.databytecounts)
        end = max((offset + count for offset, count in pairs), default=0)
        if end > size:
            raise DataError(truncated(size, end))


def _refuse_palette(page: Any) -> None:
    """Raises: DataError for indices into colours; a ramp, as ImageJ writes it, is only a look."""
    colours = page.colormap if page.photometric == 3 else None
    if colours is None or page.is_imagej:
        return
    steps = np.diff(np.asarray(colours, np.int64))
    if not ((steps >= 0).all(1) | (steps <= 0).all(1)).all():
        raise DataError("its pixels are indices into a palette; convert it to RGB first")


def _for_pillow(series: Any, layout: Layout) -> tuple[int, ...]:
    """The pages that Pillow must decode, for lack of a codec.

    Raises: DataError where it cannot either.
    """
    import tifffile

    key = series.keyframe
    try:
        tifffile.TIFF.DECOMPRESSORS[key.compression]
    except (KeyError, ImportError) as fault:
        simple = layout.planes == len(series.pages) and layout.y == len(series.shape) - (
            2 if layout.sample is None else 3
        )
        if not simple:
            name = getattr(key.compression, "name", key.compression)
            raise DataError(
                f"its compression ({name}) needs another library; pip install imagecodecs"
            ) from fault
        return tuple(int(page.index) for page in series.pages)
    return ()


def _by_pillow(path: str, page: int, series: Series) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError as fault:
        raise needed("Pillow", "images") from fault
    layout = series.layout
    with Image.open(path, formats=["TIFF"]) as image:
        image.seek(page)
        array = np.array(image)
    array = array if array.ndim == 3 else array[..., None]
    if array.dtype != series.dtype or array.shape[2] != layout.channels + layout.carried:
        raise DataError("its compression needs another library; pip install imagecodecs")
    return array
