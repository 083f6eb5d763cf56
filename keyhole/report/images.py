"""Images on pages and in files: as PNG, beside their anomaly maps, before and after a denoiser."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from keyhole.core.files import write_whole
from keyhole.core.progress import clock, stage, while_time_is_left
from keyhole.data.image_rows import resized
from keyhole.data.images import Image, Images
from keyhole.errors import DataError, FileError
from keyhole.modalities.tiles.source import NoiseScaler
from keyhole.report.charts import learning_curve
from keyhole.report.facts import Fact, made_with, verdict, weight_count
from keyhole.report.words import count, fill, number, plain
from keyhole.tasks.denoiser import Denoiser, image_denoiser
from keyhole.tasks.detect.detector import AnomalyDetector
from keyhole.tasks.detect.scorer import ScoredBlock

STRETCH = 0.5  # per cent of the pixels at each end that may be clipped when shown
HOTTEST = 6.0  # times the usual: an anomaly map is brightest from here on
SHOWN, SHOWN_SIDE = 6, 320  # images on a denoiser's page; pixels of a side, from the middle
REACH = 3.0  # standard deviations of noise that a residual shows as black and white
ENLARGED_SIDE = 64  # pixels: smaller images are shown larger, their pixels as squares


def ends_of(x: np.ndarray) -> tuple[float, float]:
    """The values shown as black and white."""
    known = x[np.isfinite(x)]
    if not len(known):
        return 0.0, 1.0
    low, high = np.percentile(known, [STRETCH, 100 - STRETCH])
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def png(x: np.ndarray, ends: tuple[float, float] | None = None) -> str:
    """An image as the URL of an image element, grey or its first three channels."""
    tone = _tones(x, ends or ends_of(x))
    data = base64.b64encode(png_bytes(tone if tone.shape[2] == 3 else tone[..., 0]))
    return f"data:image/png;base64,{data.decode()}"


def _tones(x: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Tones from 0 to 1, (height, width, 1 or 3); the lower end where a value is missing."""
    low, high = ends
    tone = np.clip((np.nan_to_num(x, nan=low) - low) / (high - low), 0, 1)
    return tone[..., :3] if tone.shape[2] >= 3 else tone[..., :1]


def png_bytes(tone: np.ndarray) -> bytes:
    """A PNG of tones from 0 to 1, (height, width) or (height, width, 3)."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray((255 * tone + 0.5).astype(np.uint8)).save(buffer, "png", optimize=True)
    return buffer.getvalue()


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


def beside(image: np.ndarray, anomaly_map: np.ndarray) -> bytes:
    """A PNG of an image (height, width[, channel]) and its anomaly map (height, width)."""
    from matplotlib import colormaps

    image = image if image.ndim == 3 else image[..., None]
    if image.shape[:2] != anomaly_map.shape:
        image = resized(image[None].astype(np.float32), anomaly_map.shape)[0]
    tone = _tones(image, ends_of(image))
    tone = np.repeat(tone, 3 // tone.shape[2], 2)
    warm = np.clip(np.nan_to_num(anomaly_map, nan=1.0) / HOTTEST, 0, 1)
    hot = np.asarray(colormaps["magma"](warm))[..., :3]
    return png_bytes(np.concatenate([tone, hot], 1))


@dataclass(frozen=True)
class DenoisedExample:
    """An image on the page: before, after and residual as data, and sentences on it."""

    name: str
    before: str
    after: str
    residual: str
    sentences: list[str]
    width: int
    note: str


def write_denoising(
    path: str | os.PathLike[str], denoiser: Denoiser, images: Images, truth: Any = None
) -> None:
    """Atomically write the page; `truth` are the clean images, if known.

    Raises: FileError, DataError.
    """
    write_whole(path, render_denoising(denoiser, images, truth))


def render_denoising(denoiser: Denoiser, images: Images, truth: Any = None) -> str:
    """The page on a fitted denoiser, with some of these images; without any if time is over."""
    stage("writing the page")
    clean = None if truth is None else denoiser.open(truth).images
    if clean is not None and len(clean) != len(images):
        raise DataError(f"{len(images)} images and {len(clean)} true ones: give one each")
    estimates = image_denoiser(denoiser).estimates(images.images)
    # Spread over all; none if time is over.
    chosen = np.unique(np.linspace(0, len(images) - 1, SHOWN).astype(int)).tolist()
    chosen = chosen if clock().left() > 0 else []
    shown = [
        _shown(denoiser, image, estimates.unit(image), None if clean is None else clean[i])
        for i, image in while_time_is_left((i, images[i]) for i in chosen)
    ]
    fitted, comparison = denoiser.model_, denoiser.comparison_
    parts = {
        part: getattr(fitted.parts, part) for part in ("net", "corruption", "head", "training")
    }
    return fill(
        "denoising.html.j2",
        {
            "verdict": verdict(denoiser, good=comparison.ahead > 0),
            "name": plain(images.name, 120),
            "noise": str(denoiser.noise_.describe(None)),
            "facts": _facts(denoiser),
            "scores": _scores(denoiser),
            "held_out": comparison.held_out,
            "pixels": comparison.pixels,
            "shown": shown,
            "of": len(images),
            "hurried": len(shown) < min(len(images), SHOWN),
            "left_out": _left_out(images),
            "curve": learning_curve(fitted.history),
            "making": made_with(parts, fitted.fingerprint),
        },
    )


def _left_out(images: Images) -> list[tuple[str, str]]:
    """The unreadable files with the reason, then the number of files that are not images."""
    bad = [(plain(file.name), plain(file.why, 200)) for file in images.skipped]
    passed_over = plain(images.passed_over_in_words(), 400) if images.ignored else ""
    return bad + ([("No images", passed_over)] if passed_over else [])


def _facts(denoiser: Denoiser) -> list[Fact]:
    fitted, run = denoiser.model_, denoiser.model_.history
    kind = fitted.parts.corruption.kind.replace("_", " ")  # pyright: ignore
    return [
        Fact("images", f"{fitted.rows:,}", f"{denoiser.comparison_.training_pixels:,} pixels"),
        Fact("corruption", kind, "of the training inputs"),
        Fact("steps", f"{run.steps[-1] if run.steps else 0:,}", run.ended),
        Fact("weights", f"{weight_count(fitted):,}", "learned"),
    ]


def _scores(denoiser: Denoiser) -> list[tuple[str, str, str, float, bool]]:
    """The error of the net and each filter on held-out pixels, and its excess over the least."""
    comparison = denoiser.comparison_
    least = min(comparison.scores.values())
    most = max(comparison.scores.values()) - least or 1.0
    return [
        (
            name,
            number(score, 4),
            f"+{number(score - least, 4)}" if score > least else "least",
            100 * (score - least) / most,
            name == comparison.best,
        )
        for name, score in sorted(comparison.scores.items(), key=lambda pair: pair[1])
    ]


def _shown(
    denoiser: Denoiser, image: Image, scaler: NoiseScaler, clean: Image | None
) -> DenoisedExample:
    judgement = image_denoiser(denoiser).judged(image, scaler, clean)
    before, after = image_denoiser(denoiser).middle(image, scaler, SHOWN_SIDE)
    ends = ends_of(before)
    level = judgement.before.level(np.nan_to_num(after))
    residual = (before - after) / np.where(level > 0, level, 1.0)
    height, width = after.shape[:2]
    cut = f"the middle {height} x {width} of {image.height} x {image.width}"
    return DenoisedExample(
        name=plain(image.name),
        before=png(before, ends),
        after=png(after, ends),
        residual=png(residual, (-REACH, REACH)),
        sentences=[plain(text, 300) for text in judgement.sentences()],
        width=SHOWN_SIDE if max(height, width) > ENLARGED_SIDE else 192,
        note=cut if (height, width) != (image.height, image.width) else f"{height} x {width}",
    )


def in_words(denoiser: Denoiser) -> str:
    """The errors of the net and the filters, in a line."""
    scores, pixels = denoiser.comparison_.scores, count(denoiser.comparison_.pixels, "pixel")
    ordered = sorted(scores.items(), key=lambda pair: pair[1])
    texts = ", ".join(f"{name} {score:.4f}" for name, score in ordered)
    return f"error on {pixels} in noise variances, least first: {texts}"
