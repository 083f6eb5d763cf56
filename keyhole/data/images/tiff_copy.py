"""Copies of TIFF files with other pixels and the same tags."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

import numpy as np

from keyhole.core.files import aside, beside
from keyhole.data.images.arrays import AxisLayout, MappedArray, reserve
from keyhole.data.images.image import WriteRows, quiet

Corner = tuple[int, int, int]  # depth, height, width
SeriesLayout = tuple[int, AxisLayout]  # the first plane of a series, and its layout
# Tags that the writer sets, takes as arguments, or that point into the old file: sizes, bits,
# compression, offsets and counts of strips and tiles, subfiles, Exif and GPS.
SET_BY_WRITER = {
    254, 255, 256, 257, 258, 259, 262, 266, 270, 273, 277, 278, 279, 282, 283, 284, 288, 289,
    296, 305, 306, 317, 320, 322, 323, 324, 325, 330, 338, 339, 347, 512, 513, 514, 530, 531, 532,
    32997, 32998, 34665, 34675, 34853, 40965,
}  # fmt: skip
DEFLATE = 8
BIG_BYTES = (1 << 32) - (32 << 20)  # larger files need BigTIFF


@contextmanager
def overwritten(
    source: str, path: str, parts: list[tuple[SeriesLayout, MappedArray]]
) -> Iterator[WriteRows]:
    """Copy the file byte for byte, then overwrite its pixels."""
    with aside(path) as temporary:
        shutil.copyfile(source, temporary)

        def write_rows(plane: int, y: slice, rows: np.ndarray) -> None:
            (first, layout), mapped = next(p for p in reversed(parts) if p[0][0] <= plane)
            layout.write(mapped.array(write=True, path=temporary), plane - first, y, rows)

        yield write_rows


@contextmanager
def rewritten(
    source: str, path: str, layouts: list[SeriesLayout], dtypes: Sequence[np.dtype]
) -> Iterator[WriteRows]:
    """Write pages with the same tags, tiles and, if the codec is installed, compression.

    Pixels are collected in a scratch file, then encoded. Reduced levels are left out: they
    would show the old pixels.
    """
    with aside(path) as temporary, beside(path) as scratch:
        arrays: list[MappedArray] = []
        for (_, layout), dtype in zip(layouts, dtypes):
            arrays.append(
                MappedArray(scratch, arrays[-1].end if arrays else 0, dtype, layout.shape)
            )
        reserve(scratch, b"", arrays[-1].end)

        def write_rows(plane: int, y: slice, rows: np.ndarray) -> None:
            index = max(i for i, (first, _) in enumerate(layouts) if first <= plane)
            first, layout = layouts[index]
            layout.write(arrays[index].array(write=True), plane - first, y, rows)

        yield write_rows
        with quiet():
            _encode(source, temporary, arrays)


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
    parts = [
        _groups_of_rows(Part(mapped, shape, number), page) for number, page in enumerate(pages)
    ]
    dtype = mapped.dtype.newbyteorder(series.keyframe.parent.byteorder)
    description = _shape_text(pages[0])
    if description is not None:
        settings = _page_settings(pages[0]) | _coding(pages[0])
        settings |= {
            "metadata": {name: value for name, value in description.items() if name != "shape"}
        }
        if str(settings["description"] or b"", "utf-8", "replace").startswith("{"):
            settings["description"] = None
        writer.write(
            chain.from_iterable(parts),
            shape=description["shape"],
            dtype=dtype,
            maxworkers=1,
            **settings,
        )
        return
    for page, part in zip(pages, parts):
        settings = _page_settings(page) | _coding(page)
        writer.write(part, shape=page.shape, dtype=dtype, maxworkers=1, **settings)


def _shape_text(page: Any) -> dict[str, Any] | None:
    """The description in which tifffile writes an array's shape; None without one."""
    for text in (tag.value for tag in page.tags.getall(270, [])):
        if isinstance(text, str) and text.startswith("{") and '"shape":' in text:
            with suppress(ValueError):
                return json.loads(text)
    return None


@dataclass(frozen=True)
class Part:
    """A page of the collected pixels: (sample plane, depth, height, width, sample)."""

    mapped: MappedArray
    shape: tuple[int, ...]
    number: int

    def cut(self, plane: int, corner: Corner, size: Corner, dtype: np.dtype) -> np.ndarray:
        """A copy of a tile or strip, so that the mapping is released."""
        pages = self.mapped.array().reshape(self.shape)
        z, y, x = (slice(start, start + long) for start, long in zip(corner, size))
        block = pages[self.number, plane, z, y, x]
        return np.array(block[0] if size[0] == 1 else block, dtype)


def _groups_of_rows(part: Part, page: Any) -> Iterator[Any]:
    """The tiles or encoded strips of a page, one by one; a page of packed bits as a whole."""
    planes, depth, height, width, _ = page.shaped
    coding = _coding(page)
    dtype = part.mapped.dtype.newbyteorder(page.parent.byteorder)
    if dtype.kind == "b" and not page.is_tiled:
        yield np.array(part.mapped.array().reshape(part.shape)[part.number], dtype)
        return
    down, across = coding["tile"][-2:] if page.is_tiled else (coding["rowsperstrip"], width)
    size = (page.tiledepth if page.is_tiled else 1, down, across)
    starts = (range(0, end, step) for end, step in zip((depth, height, width), size))
    for plane, *corner in product(range(planes), *starts):
        cut = part.cut(plane, (corner[0], corner[1], corner[2]), size, dtype)
        yield cut if page.is_tiled else _encoded(cut, coding)


def _encoded(strip: np.ndarray, coding: dict[str, Any]) -> bytes:
    """A compressed strip."""
    import tifffile

    if (coding.get("predictor") or 1) > 1:
        strip = tifffile.TIFF.PREDICTORS[coding["predictor"]](strip, axis=-2)
    if "compression" not in coding:
        return strip.tobytes()
    return tifffile.TIFF.COMPRESSORS[coding["compression"]](strip)


def _page_settings(page: Any) -> dict[str, Any]:
    """Arguments of the writer that preserve a page's tags."""
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
