"""Copies of TIFF files with other pixels, every tag kept."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

import numpy as np

from keyhole.core.files import aside, beside
from keyhole.data.images.arrays import Layout, Raw, reserve
from keyhole.data.images.image import Put, quiet

Corner = tuple[int, int, int]  # depth, height, width
Place = tuple[int, Layout]  # the first plane of a series, and how its planes lie
# What the writer sets itself, or what points into the old file: sizes, bits, compression, offsets
# and counts of strips and tiles, subfiles, Exif and GPS; and what it takes as arguments.
SET_BY_WRITER = {
    254, 255, 256, 257, 258, 259, 262, 266, 270, 273, 277, 278, 279, 282, 283, 284, 288, 289,
    296, 305, 306, 317, 320, 322, 323, 324, 325, 330, 338, 339, 347, 512, 513, 514, 530, 531, 532,
    32997, 32998, 34665, 34675, 34853, 40965,
}  # fmt: skip
DEFLATE = 8
BIG_BYTES = (1 << 32) - (32 << 20)  # more than this needs BigTIFF


@contextmanager
def overwritten(source: str, path: str, parts: list[tuple[Place, Raw]]) -> Iterator[Put]:
    """The file, byte for byte, with other pixels in their place."""
    with aside(path) as temporary:
        shutil.copyfile(source, temporary)

        def put(plane: int, y: slice, rows: np.ndarray) -> None:
            (first, layout), raw = next(p for p in reversed(parts) if p[0][0] <= plane)
            layout.write(raw.array(write=True, path=temporary), plane - first, y, rows)

        yield put


@contextmanager
def rewritten(
    source: str, path: str, places: list[Place], dtypes: Sequence[np.dtype]
) -> Iterator[Put]:
    """Pages with the same tags, compressed and tiled as they were where the codec is there.

    Pixels are gathered in a scratch file, then encoded. Coarser levels are left out: they
    would still show the old pixels.
    """
    with aside(path) as temporary, beside(path) as scratch:
        raws: list[Raw] = []
        for (_, layout), dtype in zip(places, dtypes):
            raws.append(Raw(scratch, raws[-1].end if raws else 0, dtype, layout.shape))
        reserve(scratch, b"", raws[-1].end)

        def put(plane: int, y: slice, rows: np.ndarray) -> None:
            at = max(n for n, (first, _) in enumerate(places) if first <= plane)
            first, layout = places[at]
            layout.write(raws[at].array(write=True), plane - first, y, rows)

        yield put
        with quiet():
            _encode(source, temporary, raws)


def _encode(source: str, target: str, raws: Sequence[Raw]) -> None:
    import tifffile

    with tifffile.TiffFile(source) as tif:
        big = tif.is_bigtiff or raws[-1].end > BIG_BYTES
        with tifffile.TiffWriter(target, bigtiff=big, byteorder=tif.byteorder) as writer:
            for series, raw in zip(tif.series, raws):
                _encode_series(writer, series, raw)


def _encode_series(writer: Any, series: Any, raw: Raw) -> None:
    """Page after page; in one go where a text of tifffile's own on the first tells the shape."""
    pages = [series.keyframe if p is None else p.aspage() for p in series.pages]
    shape = (len(pages), *series.keyframe.shaped)
    parts = [_groups_of_rows(Part(raw, shape, number), page) for number, page in enumerate(pages)]
    dtype = raw.dtype.newbyteorder(series.keyframe.parent.byteorder)
    own = _shape_text(pages[0])
    if own is not None:
        said = _page_settings(pages[0]) | _coding(pages[0])
        said |= {"metadata": {name: value for name, value in own.items() if name != "shape"}}
        if str(said["description"] or b"", "utf-8", "replace").startswith("{"):
            said["description"] = None
        every = chain.from_iterable(parts)
        writer.write(every, shape=own["shape"], dtype=dtype, maxworkers=1, **said)
        return
    for page, part in zip(pages, parts):
        said = _page_settings(page) | _coding(page)
        writer.write(part, shape=page.shape, dtype=dtype, maxworkers=1, **said)


def _shape_text(page: Any) -> dict[str, Any] | None:
    """What tifffile notes of an array's shape in a description, where the page has that."""
    for text in (tag.value for tag in page.tags.getall(270, [])):
        if isinstance(text, str) and text.startswith("{") and '"shape":' in text:
            with suppress(ValueError):
                return json.loads(text)
    return None


@dataclass(frozen=True)
class Part:
    """A page among the gathered pixels: (sample plane, depth, height, width, sample)."""

    raw: Raw
    shape: tuple[int, ...]
    number: int

    def cut(self, plane: int, corner: Corner, size: Corner, dtype: np.dtype) -> np.ndarray:
        """A copy of a tile or strip; what was mapped for it is let go."""
        pages = self.raw.array().reshape(self.shape)
        z, y, x = (slice(start, start + long) for start, long in zip(corner, size))
        block = pages[self.number, plane, z, y, x]
        return np.array(block[0] if size[0] == 1 else block, dtype)


def _groups_of_rows(part: Part, page: Any) -> Iterator[Any]:
    """The tiles or encoded strips of a page, one at a time; strips of packed bits as a whole."""
    planes, depth, height, width, _ = page.shaped
    coding = _coding(page)
    dtype = part.raw.dtype.newbyteorder(page.parent.byteorder)
    if dtype.kind == "b" and not page.is_tiled:
        yield np.array(part.raw.array().reshape(part.shape)[part.number], dtype)
        return
    down, across = coding["tile"][-2:] if page.is_tiled else (coding["rowsperstrip"], width)
    size = (page.tiledepth if page.is_tiled else 1, down, across)
    starts = (range(0, end, step) for end, step in zip((depth, height, width), size))
    for plane, *corner in product(range(planes), *starts):
        cut = part.cut(plane, (corner[0], corner[1], corner[2]), size, dtype)
        yield cut if page.is_tiled else _encoded(cut, coding)


def _encoded(strip: np.ndarray, coding: dict[str, Any]) -> bytes:
    """A strip as its compression has it."""
    import tifffile

    if (coding.get("predictor") or 1) > 1:
        strip = tifffile.TIFF.PREDICTORS[coding["predictor"]](strip, axis=-2)
    if "compression" not in coding:
        return strip.tobytes()
    return tifffile.TIFF.COMPRESSORS[coding["compression"]](strip)


def _page_settings(page: Any) -> dict[str, Any]:
    """What the writer must be told so that a page comes out as it was."""
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
    """Tiles or strips, and the compression: deflate where the given one has no encoder."""
    import tifffile

    said: dict[str, Any] = {}
    if page.is_tiled:
        said["tile"] = (page.tilelength, page.tilewidth)
        if page.imagedepth > 1:
            said |= {"tile": (page.tiledepth, *said["tile"]), "volumetric": True}
    else:
        said["rowsperstrip"] = min(page.rowsperstrip, page.imagelength)
    if page.compression == 1:
        return said
    said["compression"], said["predictor"] = page.compression, page.predictor
    try:
        tifffile.TIFF.COMPRESSORS[page.compression]
        if page.predictor > 1:
            tifffile.TIFF.PREDICTORS[page.predictor]
    except (KeyError, ImportError):
        said["compression"], said["predictor"] = DEFLATE, None
    return said


def _raw_value(page: Any, tag: Any) -> bytes:
    """The value as it stands in the file: some are read as something else, such as ImageJ's."""
    handle = page.parent.filehandle
    handle.seek(tag.valueoffset)
    return handle.read(tag.valuebytecount)


def _as_bytes(text: Any) -> bytes | None:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
