"""TIFF: stacks, tiles, 16 bits and floats, BigTIFF; plain pixels are mapped, others decoded."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from keyhole.data.images.arrays import AxisLayout, MappedArray, cached, layout_of, truncated
from keyhole.data.images.image import (
    ImageFile,
    OpenOptions,
    WriteRows,
    check_dtype,
    limits_of,
    optional,
)
from keyhole.data.images.tiff_copy import overwritten, rewritten
from keyhole.errors import DataError

PLANE_BYTES = 64 << 20  # compressed planes up to this size are decoded whole and cached
ALL_SERIES = {"generic", "uniform", "shaped", "imagej", "ome"}  # other kinds: the first only
ORIENTATION = 274  # the tag
NO_DATA = 42113  # the tag in which GDAL writes the value of missing pixels
ALPHA = {1, 2}  # ExtraSamples: associated and unassociated


@dataclass(frozen=True)
class Series:
    """One array of a file; `first` is its first plane, `mapped` is None if it cannot be mapped."""

    index: int
    first: int
    layout: AxisLayout
    dtype: np.dtype
    mapped: MappedArray | None
    pages: tuple[int, ...]  # pages that Pillow decodes because tifffile cannot

    @property
    def plane_bytes(self) -> int:
        """The size of a decoded plane."""
        size = self.layout.height * self.layout.width * self.dtype.itemsize
        return size * (self.layout.channels + self.layout.alpha)


class TiffFile(ImageFile):
    """The planes of every series of pages."""

    kind = "tiff"
    endings = (".tif", ".tiff", ".btf", ".tf8")

    def __init__(self, path: str, options: OpenOptions) -> None:
        super().__init__(path, options)
        self.series: list[Series] = []
        self.no_data: float | None = None

    @classmethod
    def opened(cls, path: str, options: OpenOptions) -> Self:
        """The file; its pages are checked against its length."""
        file = cls(path, options)
        with opened_tiff(path) as tif:
            _check_chain(tif)
            all_series = tif.series
            file.orientation = int(tif.pages[0].tags.valueof(ORIENTATION, 1)) if all_series else 1
            file.no_data = _number(tif.pages[0].tags.valueof(NO_DATA)) if all_series else None
            file.levels = max((len(series.levels) - 1 for series in all_series), default=0)
            if all_series and all_series[0].kind not in ALL_SERIES:
                all_series = all_series[:1]
            first = 0
            for index, series in enumerate(all_series):
                file.series.append(_series(series, (index, first), path, options.axes))
                first += file.series[-1].layout.planes
        if not first:
            raise DataError("it has no pages")
        for plane, name in enumerate(file.plane_names(first)):
            layout, dtype = file._of(plane).layout, file._of(plane).dtype
            file.add(layout.size, dtype, limits_of(dtype), name)
        for series in file.series:
            if series.mapped is None:  # decode one pixel to check the codec
                file.raw_window(series.first, slice(0, 1), slice(0, 1))
        return file

    def has_alpha(self, plane: int) -> bool:
        """True for a series with alpha."""
        return self._of(plane).layout.alpha > 0

    def raw_window(self, plane: int, y: slice, x: slice) -> np.ndarray:
        """A window: mapped, cut from the cached plane, or decoded from its tiles or strips."""
        series = self._of(plane)
        plane -= series.first
        if series.mapped is not None:
            return series.layout.read(series.mapped.array(), plane, y, x)
        if series.pages:
            page = series.pages[plane]
            return cached(self.path, page, lambda: _by_pillow(self.path, page, series))[y, x]
        if series.plane_bytes > PLANE_BYTES:
            return self._decoded(series, plane, y, x)
        every = slice(None)
        key = (series.index, plane)
        return cached(self.path, key, lambda: self._decoded(series, plane, every, every))[y, x]

    def padded(self, plane: int, y: slice, x: slice, raw: np.ndarray) -> np.ndarray | None:
        """Pixels that GDAL marks as no data."""
        return None if self.no_data is None else raw == self.no_data

    def writing(self, path: str, note: str) -> AbstractContextManager[WriteRows]:
        """Overwrite mapped pixels in a copy of the file; encode others again.

        A pyramid is encoded again too: its reduced levels would show the old pixels.
        """
        layouts = [(series.first, series.layout) for series in self.series]
        arrays = [series.mapped for series in self.series if series.mapped is not None]
        if len(arrays) == len(self.series) and not self.levels:
            return overwritten(self.path, path, list(zip(layouts, arrays)))
        dtypes = [series.dtype for series in self.series]
        return rewritten(self.path, path, layouts, dtypes)

    def _of(self, plane: int) -> Series:
        return next(s for s in reversed(self.series) if s.first <= plane)

    def _decoded(self, series: Series, plane: int, y: slice, x: slice) -> np.ndarray:
        with optional("zarr", "images"):
            import zarr
        with opened_tiff(self.path) as tif:
            store = tif.series[series.index].aszarr(level=0)
            try:
                return series.layout.read(zarr.open(store, mode="r"), plane, y, x).copy()
            finally:
                store.close()


@contextmanager
def opened_tiff(path: str) -> Iterator[Any]:
    """The file opened by tifffile."""
    with optional("tifffile", "images"):
        import tifffile
    with tifffile.TiffFile(path) as tif:
        yield tif


def _check_chain(tif: Any) -> None:
    """Raises: DataError if the next page lies beyond the end of the file."""
    count = len(tif.pages)
    handle = tif.filehandle
    handle.seek(tif.pages.next_page_offset)
    size = tif.tiff.offsetsize
    offset = int.from_bytes(handle.read(size), "little" if tif.byteorder == "<" else "big")
    if offset >= handle.size:
        raise DataError(f"it is truncated: the page after the first {count} lies beyond its end")


def _number(text: Any) -> float | None:
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None


def _series(series: Any, position: tuple[int, int], path: str, axes: str | None) -> Series:
    """The record of a series; `position` is its index and the index of its first plane."""
    key = series.keyframe
    check_dtype(np.dtype(series.dtype))
    _refuse_palette(key)
    _check_length(series, os.path.getsize(path))
    given = str(series.axes)
    known = len(set(given)) == len(given) and {"Y", "X"} <= set(given)
    letters = axes or (given if known else None)
    sample_axis = given.find("S")
    colour = sample_axis >= 0 and series.shape[sample_axis] <= 4
    sample = "" if axes else "S" if colour else "-"
    layout = layout_of(series.shape, letters, sample=sample)
    if (
        colour
        and layout.sample == sample_axis
        and key.extrasamples
        and key.extrasamples[-1] in ALPHA
    ):
        layout = layout_of(series.shape, letters, sample=sample, alpha=1)
    file_dtype = np.dtype(series.dtype).newbyteorder(key.parent.byteorder)
    dtype = np.dtype(series.dtype)
    offset, mapped, pages = series.dataoffset, None, ()
    # pixels of other numbers of bits are packed, and cannot be mapped
    if offset is not None and key.bitspersample == 8 * dtype.itemsize:
        mapped = MappedArray(path, offset, file_dtype, tuple(series.shape))
        mapped.check_size()
    else:
        pages = _for_pillow(series, layout)
    return Series(*position, layout, dtype, mapped, pages)


def _check_length(series: Any, size: int) -> None:
    """Raises: DataError if a tile or strip lies beyond the end of the file."""
    for page in series.pages:
        if page is None or page.parent.filehandle.path != series.keyframe.parent.filehandle.path:
            continue
        pairs = zip(page.dataoffsets, page.databytecounts)
        end = max((offset + count for offset, count in pairs), default=0)
        if end > size:
            raise DataError(truncated(size, end))


def _refuse_palette(page: Any) -> None:
    """Raises: DataError for palette indices; a monotonic colour map is only a display setting."""
    colours = page.colormap if page.photometric == 3 else None
    if colours is None or page.is_imagej:
        return
    steps = np.diff(np.asarray(colours, np.int64))
    if not ((steps >= 0).all(1) | (steps <= 0).all(1)).all():
        raise DataError("its pixels are indices into a palette; convert it to RGB first")


def _for_pillow(series: Any, layout: AxisLayout) -> tuple[int, ...]:
    """The pages that Pillow decodes because tifffile has no codec.

    Raises: DataError if Pillow cannot decode them either.
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
    layout = series.layout
    with optional("Pillow", "images"):
        from PIL import Image
    with Image.open(path, formats=["TIFF"]) as image:
        image.seek(page)
        array = np.array(image)
    array = array if array.ndim == 3 else array[..., None]
    if array.dtype != series.dtype or array.shape[2] != layout.channels + layout.alpha:
        raise DataError("its compression needs another library; pip install imagecodecs")
    return array
