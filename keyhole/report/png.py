"""Images as PNG, alone or beside their anomaly maps."""

from __future__ import annotations

import base64
import io

import numpy as np

from keyhole.data.image_rows import resized

STRETCH = 0.5  # per cent of the pixels at each end that may be clipped when shown
HOTTEST = 6.0  # anomaly score from which an anomaly map is brightest; 1 is typical


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
    return png_url(png_bytes(tone if tone.shape[2] == 3 else tone[..., 0]))


def png_url(content: bytes) -> str:
    """The bytes of a PNG as the URL of an image element."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


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
