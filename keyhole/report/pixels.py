"""Pictures as PNG: in a page as data, or as a file."""

from __future__ import annotations

import base64
import io

import numpy as np

STRETCH = 0.5  # per cent of the pixels at either end that may be cut off when shown


def ends_of(x: np.ndarray) -> tuple[float, float]:
    """The values shown as black and white."""
    known = x[np.isfinite(x)]
    if not len(known):
        return 0.0, 1.0
    low, high = np.percentile(known, [STRETCH, 100 - STRETCH])
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def png(x: np.ndarray, ends: tuple[float, float] | None = None) -> str:
    """A picture as the data of an image element, grey or its first three channels."""
    low, high = ends or ends_of(x)
    tone = np.clip((np.nan_to_num(x, nan=low) - low) / (high - low), 0, 1)
    data = base64.b64encode(png_bytes(tone[..., :3] if tone.shape[2] >= 3 else tone[..., 0]))
    return f"data:image/png;base64,{data.decode()}"


def png_bytes(tone: np.ndarray) -> bytes:
    """A PNG of tones from 0 to 1, (height, width) or (height, width, 3)."""
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray((255 * tone + 0.5).astype(np.uint8)).save(held, "png", optimize=True)
    return held.getvalue()
