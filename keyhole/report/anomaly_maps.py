"""Anomaly maps of images, as files in a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from keyhole.core.files import write_whole
from keyhole.errors import FileError
from keyhole.report.png import beside
from keyhole.tasks.detect.detector import AnomalyDetector
from keyhole.tasks.detect.scorer import ScoredBlock


class AnomalyMaps:
    """Writes one PNG an image into a folder: the image, and beside it its anomaly map.

    Dark is usual, bright is `HOTTEST` times the usual or more. `count` is how many were written.
    """

    def __init__(self, folder: str, detector: AnomalyDetector) -> None:
        """Raises: SettingError for the detector of a table."""
        detector.scorer_.check_maps()
        self.folder = folder
        self.detector = detector
        self.count = 0
        self.taken: set[str] = set()

    def places(self, judged: ScoredBlock) -> Int64[np.ndarray, " place"]:
        """None: a map needs no reasons."""
        return np.zeros(0, np.int64)

    def look(self, judged: ScoredBlock, reasons: Any) -> list[tuple[str, bytes]]:
        """The name and the PNG of each image of a block."""
        anomaly_maps = self.detector.scorer_.anomaly_map(judged.batch)
        modality = self.detector.autoencoder_.model_.modality
        images: Any = modality.images(judged.rows.arrow())
        if modality.id_column in judged.rows.names:  # the file of each
            names = map(str, judged.rows.column(modality.id_column).to_pylist())
        else:
            names = (f"image {judged.start + i + 1}" for i in range(len(judged.rows)))
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
