"""Exactly constant background, such as the zeros around a masked organ: it holds no noise."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from keyhole.noise.model import Noise

FLAT = (5, 5, 1)  # a square of background that is all of one value
REACH = 4  # pixels to each side that tell whether a pixel lies in such a square
LEAST, LEAST_SHARE = 64, 0.01  # pixels of a background
MOST_LOOSE = 0.1  # pixels of its value outside such squares, as a share of those inside
MOST_SPECKS = 0.002  # single other pixels in it: counts of dark areas have them, background not
NOISY = 0.25  # noise on its value against that elsewhere; where there is none, zeros are counts


def background_value(windows: Sequence[np.ndarray], noise: Noise) -> float | None:
    """The value of a background that is constant though the picture has noise; else None."""
    together = np.concatenate([np.ravel(window) for window in windows])
    together = together[np.isfinite(together)]
    if not len(together) or noise.kind == "none":
        return None
    values, counts = np.unique(together, return_counts=True)
    value, count = float(values[counts.argmax()]), int(counts.max())
    if count < max(LEAST, LEAST_SHARE * len(together)) or count == len(together):
        return None
    others = float(np.median(together[together != value]))
    if noise.level(value) < NOISY * noise.level(others):
        return None
    flat = specks = 0
    for window in windows:
        equal = window == value
        flat += int(background(window, value).sum())
        near = ndimage.convolve(equal.astype(np.uint8), np.ones((3, 3, 1), np.uint8))
        specks += int((~equal & (near >= 7)).sum())
    if flat < LEAST or count - flat > MOST_LOOSE * flat or specks > MOST_SPECKS * flat:
        return None
    return value


def background(x: np.ndarray, value: float) -> np.ndarray:
    """True for pixels (height, width, channel) of squares that hold this value alone."""
    edge = FLAT[0] // 2
    wide = np.pad(x == value, [(edge, edge), (edge, edge), (0, 0)], mode="edge")
    flat = ndimage.binary_opening(wide, np.ones(FLAT, bool))
    return flat[edge:-edge, edge:-edge]
