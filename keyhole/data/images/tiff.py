"""TIFF: stacks, tiles, 16 bits and floats, BigTIFF; plain pixels are mapped, others decoded."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import chain, product
from typing import Any, Self

import numpy as np

from keyhole.core.files import atomic_write, scratch_file
from keyhole.data.images.arrays import (
    AxisLayout,
    MappedArray,
    cached,
    layout_of,
    reserve,
    truncated,
)
from keyhole.data.images.image import (
    ImageFile,
    OpenOptions,
    WriteRows,
    check_dtype,
    optional,
    quiet,
)
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
        height, width, channels = self.layout.size
        return height * width * (channels + self.layout.alpha) * self.dtype.itemsize


class TiffFile(ImageFile):
    """The planes of every series of pages."""

    kind = "tiff"
    endings = (".tif", ".tiff", ".btf", ".tf8")
    series: list[Series]
    no_data: float | None = None

    @classmethod
    def opened(cls, path: str, options: OpenOptions) -> Self:
        """The file; its pages are checked against its length."""
        file = cls(path, options)
        file.series = []
        with opened_tiff(path) as tif:
            _check_chain(tif)
            all_series = tif.series
            if all_series:
                tags = tif.pages[0].tags
                file.orientation = int(tags.valueof(ORIENTATION, 1))
                with suppress(ValueError):
                    file.no_data = float(str(tags.valueof(NO_DATA)).strip("\0 "))
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
            series = file._of(plane)
            file.add(series.layout.size, series.dtype, name, alpha=series.layout.alpha > 0)
        for series in file.series:  # decode one pixel to check the codec
            if series.mapped is None:
                file.raw_window(series.first, slice(0, 1), slice(0, 1))
        return file

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
        whole, key = slice(None), (series.index, plane)
        return cached(self.path, key, lambda: self._decoded(series, plane, whole, whole))[y, x]

    def padded(self, plane: int, y: slice, x: slice, raw: np.ndarray) -> np.ndarray | None:
        """Pixels that GDAL marks as no data."""
        return None if self.no_data is None else raw == self.no_data

    @contextmanager
    def writing(self, path: str, note: str) -> Iterator[WriteRows]:
        """Overwrite mapped pixels in a copy of the file; collect and encode all others.

        A pyramid is encoded without its reduced levels: they would show the old pixels.
        """
        encoded = self.levels > 0 or any(series.mapped is None for series in self.series)
        scratch = scratch_file(path) if encoded else None
        with atomic_write(path) as temporary, scratch or nullcontext(temporary) as target:
            arrays: list[MappedArray] = []
            for series in self.series:
                mapped = series.mapped
                if encoded or mapped is None:
                    start = arrays[-1].end if arrays else 0
                    mapped = MappedArray(target, start, series.dtype, series.layout.shape)
                arrays.append(replace(mapped, path=target))
            if encoded:
                reserve(target, b"", arrays[-1].end)
            else:
                shutil.copyfile(self.path, target)

            def write_rows(plane: int, y: slice, rows: np.ndarray) -> None:
                series = self._of(plane)
                array = arrays[series.index].array(write=True)
                series.layout.write(array, plane - series.first, y, rows)

            yield write_rows
            if encoded:
                with quiet():
                    _encode(self.path, temporary, arrays)

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


def _series(series: Any, position: tuple[int, int], path: str, axes: str | None) -> Series:
    """The record of a series; `position` is its index and the index of its first plane."""
    key, dtype, file_axes = series.keyframe, np.dtype(series.dtype), str(series.axes)
    check_dtype(dtype)
    _refuse_palette(key)
    _check_length(series, os.path.getsize(path))
    known = len(set(file_axes)) == len(file_axes) and {"Y", "X"} <= set(file_axes)
    letters = axes or (file_axes if known else None)
    sample_axis = file_axes.find("S")
    colour = sample_axis >= 0 and series.shape[sample_axis] <= 4
    layout = layout_of(series.shape, letters, sample="" if axes else "S" if colour else "-")
    has_alpha = key.extrasamples and key.extrasamples[-1] in ALPHA
    if colour and layout.sample == sample_axis and has_alpha:
        layout = replace(layout, alpha=1)
    # pixels of other numbers of bits are packed, and cannot be mapped
    if series.dataoffset is not None and key.bitspersample == 8 * dtype.itemsize:
        file_dtype = dtype.newbyteorder(key.parent.byteorder)
        mapped = MappedArray(path, series.dataoffset, file_dtype, tuple(series.shape))
        mapped.check_size(os.path.getsize(path))
        return Series(*position, layout, dtype, mapped, ())
    return Series(*position, layout, dtype, None, _for_pillow(series, layout))


def _check_length(series: Any, size: int) -> None:
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
    """The pages that Pillow decodes if tifffile has no codec. Raises: DataError if none can."""
    import tifffile

    compression = series.keyframe.compression
    try:
        tifffile.TIFF.DECOMPRESSORS[compression]
    except (KeyError, ImportError) as fault:
        plane_axes = 2 if layout.sample is None else 3
        if layout.planes != len(series.pages) or layout.y != len(series.shape) - plane_axes:
            name = getattr(compression, "name", compression)
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
    if array.dtype != series.dtype or array.shape[2] != layout.size[2] + layout.alpha:
        raise DataError("its compression needs another library; pip install imagecodecs")
    return array


# Tags that the writer sets, takes as arguments, or that point into the old file: sizes, bits,
# compression, offsets and counts of strips and tiles, subfiles, Exif and GPS.
SET_BY_WRITER = {
    254, 255, 256, 257, 258, 259, 262, 266, 270, 273, 277, 278, 279, 282, 283, 284, 288, 289,
    296, 305, 306, 317, 320, 322, 323, 324, 325, 330, 338, 339, 347, 512, 513, 514, 530, 531, 532,
    32997, 32998, 34665, 34675, 34853, 40965,
}  # fmt: skip
DEFLATE = 8
BIG_BYTES = (1 << 32) - (32 << 20)  # larger files need BigTIFF


def _encode(source: str, target: str, arrays: Sequence[MappedArray]) -> None:
    import tifffile

    with tifffile.TiffFile(source) as tif:
        big = tif.is_bigtiff or arrays[-1].end > BIG_BYTES
        with tifffile.TiffWriter(target, bigtiff=big, byteorder=tif.byteorder) as writer:
            for series, mapped in zip(tif.series, arrays):
                _encode_series(writer, series, mapped)


def _encode_series(writer: Any, series: Any, mapped: MappedArray) -> None:
    """Write page by page, or at once if tifffile's description on the first has the shape."""
    pages = [series.keyframe if p is None else p.aspage() for p in series.pages]
    shape = (len(pages), *series.keyframe.shaped)
    parts = [_tiles(mapped, shape, number, page) for number, page in enumerate(pages)]
    dtype = mapped.dtype.newbyteorder(series.keyframe.parent.byteorder)
    description = _shape_text(pages[0])
    if description is None:
        for page, part in zip(pages, parts):
            settings = _page_settings(page) | _coding(page)
            writer.write(part, shape=page.shape, dtype=dtype, maxworkers=1, **settings)
        return
    settings = _page_settings(pages[0]) | _coding(pages[0])
    if str(settings["description"] or b"", "utf-8", "replace").startswith("{"):
        settings["description"] = None
    shape = description.pop("shape")
    settings["metadata"] = description
    tiles = chain.from_iterable(parts)
    writer.write(tiles, shape=shape, dtype=dtype, maxworkers=1, **settings)


def _shape_text(page: Any) -> dict[str, Any] | None:
    """The description in which tifffile writes an array's shape; None without one."""
    for text in (tag.value for tag in page.tags.getall(270, [])):
        if isinstance(text, str) and text.startswith("{") and '"shape":' in text:
            with suppress(ValueError):
                return json.loads(text)
    return None


def _tiles(mapped: MappedArray, shape: tuple[int, ...], number: int, page: Any) -> Iterator[Any]:
    """The tiles or encoded strips of a page, one by one; a page of packed bits as a whole.

    `shape` is (page, sample plane, depth, height, width, sample).
    """
    planes, depth, height, width, _ = page.shaped
    coding = _coding(page)
    dtype = mapped.dtype.newbyteorder(page.parent.byteorder)
    if dtype.kind == "b" and not page.is_tiled:
        yield np.array(mapped.array().reshape(shape)[number], dtype)
        return
    down, across = coding["tile"][-2:] if page.is_tiled else (coding["rowsperstrip"], width)
    size = (page.tiledepth if page.is_tiled else 1, down, across)
    starts = (range(0, end, step) for end, step in zip((depth, height, width), size))
    for plane, *corner in product(range(planes), *starts):
        z, y, x = (slice(start, start + length) for start, length in zip(corner, size))
        # A copy, so that the mapping is released.
        block = np.array(mapped.array().reshape(shape)[number, plane, z, y, x], dtype)
        block = block[0] if size[0] == 1 else block
        yield block if page.is_tiled else _encoded(block, coding)


def _encoded(strip: np.ndarray, coding: dict[str, Any]) -> bytes:
    import tifffile

    if (coding.get("predictor") or 1) > 1:
        strip = tifffile.TIFF.PREDICTORS[coding["predictor"]](strip, axis=-2)
    if "compression" not in coding:
        return strip.tobytes()
    return tifffile.TIFF.COMPRESSORS[coding["compression"]](strip)


def _page_settings(page: Any) -> dict[str, Any]:
    tags = page.tags
    x, y = tags.valueof(282), tags.valueof(283)
    return {
        "photometric": page.photometric,
        "planarconfig": page.planarconfig if page.samplesperpixel > 1 else None,
        "extrasamples": page.extrasamples or None,
        "subfiletype": page.subfiletype,
        "colormap": page.colormap,
        "iccprofile": tags.valueof(34675),
        "description": _as_bytes(tags.valueof(270)),
        "software": _as_bytes(tags.valueof(305)) or False,
        "datetime": tags.valueof(306),
        "resolution": (x, y) if x and y else None,
        "resolutionunit": tags.valueof(296) if x and y else None,
        "metadata": None,
        "extratags": [
            (tag.code, tag.dtype, tag.count, _raw_value(page, tag), True)
            for tag in tags
            if tag.code not in SET_BY_WRITER
        ],
    }


def _coding(page: Any) -> dict[str, Any]:
    """Tiles or strips, and the compression: deflate if the given one has no encoder."""
    import tifffile

    coding: dict[str, Any] = {}
    if page.is_tiled:
        coding["tile"] = (page.tilelength, page.tilewidth)
        if page.imagedepth > 1:
            coding |= {"tile": (page.tiledepth, *coding["tile"]), "volumetric": True}
    else:
        coding["rowsperstrip"] = min(page.rowsperstrip, page.imagelength)
    if page.compression == 1:
        return coding
    coding["compression"], coding["predictor"] = page.compression, page.predictor
    try:
        tifffile.TIFF.COMPRESSORS[page.compression]
        if page.predictor > 1:
            tifffile.TIFF.PREDICTORS[page.predictor]
    except (KeyError, ImportError):
        coding["compression"], coding["predictor"] = DEFLATE, None
    return coding


def _raw_value(page: Any, tag: Any) -> bytes:
    """The bytes of the value in the file: tifffile parses some, such as ImageJ's."""
    handle = page.parent.filehandle
    handle.seek(tag.valueoffset)
    return handle.read(tag.valuebytecount)


def _as_bytes(text: Any) -> bytes | None:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
