"""Images and anomaly maps as PNG: as data inside a page, or as files."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from keyhole.core.files import write_whole
from keyhole.data.image_rows import resized
from keyhole.errors import FileError
from keyhole.tasks.detect.anomaly_map import anomaly_map_of, check_maps
from keyhole.tasks.detect.detector import AnomalyDetector
from keyhole.tasks.detect.scorer import ScoredBlock

STRETCH = 0.5  # per cent of the pixels at each end that may be clipped when shown


def ends_of(x: np.ndarray) -> tuple[float, float]:
    """The values shown as black and white."""
    known = x[np.isfinite(x)]
    if not len(known):
        return 0.0, 1.0
    low, high = np.percentile(known, [STRETCH, 100 - STRETCH])
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def png(x: np.ndarray, ends: tuple[float, float] | None = None) -> str:
    """An image as the URL of an image element, grey or its first three channels."""
    low, high = ends or ends_of(x)
    tone = np.clip((np.nan_to_num(x, nan=low) - low) / (high - low), 0, 1)
    data = base64.b64encode(png_bytes(tone[..., :3] if tone.shape[2] >= 3 else tone[..., 0]))
    return f"data:image/png;base64,{data.decode()}"


def png_bytes(tone: np.ndarray) -> bytes:
    """A PNG of tones from 0 to 1, (height, width) or (height, width, 3)."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray((255 * tone + 0.5).astype(np.uint8)).save(buffer, "png", optimize=True)
    return buffer.getvalue()


HOTTEST = 6.0  # times the usual: the map is brightest from here on


class AnomalyMaps:
    """Writes one PNG an image into a folder: the image, and beside it its anomaly map.

    Dark is usual, bright is `HOTTEST` times the usual or more. `count` is how many were written.
    """

    def __init__(self, folder: str, detector: AnomalyDetector) -> None:
        """Raises: SettingError for the detector of a table."""
        check_maps(detector.scorer_)
        self.folder = folder
        self.detector = detector
        self.count = 0
        self.taken: set[str] = set()

    def places(self, judged: ScoredBlock) -> Int64[np.ndarray, " place"]:
        """None: a map needs no reasons."""
        return np.zeros(0, np.int64)

    def look(self, judged: ScoredBlock, reasons: Any) -> list[tuple[str, bytes]]:
        """The name and the PNG of each image of a block."""
        anomaly_maps = anomaly_map_of(self.detector.scorer_, judged.batch)
        modality = self.detector.autoencoder_.model_.modality
        images: Any = modality.images(judged.rows.arrow())
        names = _names(judged.rows, modality.id_column, judged.start)
        return [
            (name, beside(image, anomaly_map))
            for name, image, anomaly_map in zip(names, images, anomaly_maps, strict=True)
        ]

    def add(self, part: list[tuple[str, bytes]]) -> None:
        """Write the maps of a block. Raises: FileError."""
        for name, content in part:
            inside = _own_name(os.path.normpath(name), self.taken)
            if os.path.isabs(inside) or inside.startswith(".."):  # a table may name anything
                raise FileError(
                    f"{name!r:.80} points outside {self.folder}: its anomaly map is not written"
                )
            path = Path(self.folder, inside)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as fault:
                raise FileError(f"{path} cannot be written: {fault.strerror}") from fault
            write_whole(path, content)
            self.count += 1


def _own_name(name: str, taken: set[str]) -> str:
    """A unique file name for an image's map, ignoring case: `a.png.map.png`."""
    own, number = f"{name}.map.png", 1
    while own.casefold() in taken:
        number += 1
        own = f"{name}.{number}.map.png"
    taken.add(own.casefold())
    return own


def beside(image: np.ndarray, anomaly_map: np.ndarray) -> bytes:
    """A PNG of an image (height, width[, channel]) and its anomaly map (height, width)."""
    from matplotlib import colormaps

    image = image if image.ndim == 3 else image[..., None]
    if image.shape[:2] != anomaly_map.shape:
        image = resized(image[None].astype(np.float32), anomaly_map.shape)[0]
    low, high = ends_of(image)
    grey = np.clip((np.nan_to_num(image, nan=low) - low) / (high - low), 0, 1)
    grey = grey[..., :3] if grey.shape[2] >= 3 else np.repeat(grey[..., :1], 3, 2)
    warm = np.clip(np.nan_to_num(anomaly_map, nan=1.0) / HOTTEST, 0, 1)
    hot = np.asarray(colormaps["magma"](warm))[..., :3]
    return png_bytes(np.concatenate([grey, hot], 1))


def _names(rows: Any, id_column: str | None, start: int) -> list[str]:
    """The name of each image: its file, else its number."""
    if id_column in rows.names:
        return [str(name) for name in rows.column(id_column).to_pylist()]
    return [f"image {start + i + 1}" for i in range(len(rows))]
