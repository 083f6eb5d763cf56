"""Impulse noise (hot and dead pixels), and exactly constant background, which has no noise.

A lens spreads a star or a glint over neighbours, and an edge or a line goes on; an impulse does
neither. So a pixel counts as one if it is far from its eight neighbours, measured both by the
noise of the image and by how much those differ among themselves, and if its neighbours are no
nearer to it than the ring around them is.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from keyhole.modalities.tiles.noise.model import Noise

FLAT = (5, 5, 1)  # a square of background that is all of one value
LEAST, BACKGROUND_SHARE = 64, 0.01  # pixels of a background
MOST_LOOSE = 0.1  # pixels of its value outside such squares, as a share of those inside
MOST_SPECKS = 0.002  # single other pixels in it: counts of dark areas have them, background not
NOISY = 0.25  # noise on its value against that elsewhere; where there is none, zeros are counts


def background_value(windows: Sequence[np.ndarray], noise: Noise) -> float | None:
    """The value of a background that is constant though the image has noise; else None."""
    together = np.concatenate([np.ravel(window) for window in windows])
    together = together[np.isfinite(together)]
    if not len(together) or noise.kind == "none":
        return None
    values, counts = np.unique(together, return_counts=True)
    value, count = float(values[counts.argmax()]), int(counts.max())
    if count < max(LEAST, BACKGROUND_SHARE * len(together)) or count == len(together):
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


DEVIATIONS = 8.0  # of the noise: chance does not reach them
RANGES = 2.5  # of the neighbours' own range: edges and lines do not reach them
SPREAD, SLACK = 0.05, 1.5  # a neighbour's share of a point that light made, and noise on it
LEAST_COUNT, LEAST_SHARE = 4, 1e-4  # fewer are as well points of the image
MOST_SHARE = 0.1  # more are no rare event: the image is made so
REACH = 2  # pixels to each side that are looked at
TO_DEVIATION = 1.4826 / 1.09  # of a pixel, from the median distance to the median of neighbours
NEAR = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
BESIDE = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]) / 4
RING = np.ones((5, 5), bool)
RING[1:4, 1:4] = False


def impulse_scale(windows: Sequence[np.ndarray], *, sure: bool = False) -> tuple[float, float]:
    """The share of impulses in windows of an image, and the scale that `impulses` needs.

    Both are 0 where impulses are so few, or so many, that they are none; `sure` says that there
    are some, however few are in these windows.
    """
    planes = [_planes(window) for window in windows]
    near = [_near(p) for p in planes]
    distances = [np.abs(p - n[0])[np.isfinite(p)] for p, n in zip(planes, near, strict=True)]
    together = np.concatenate([np.zeros(0), *distances])
    scale = float(np.median(together)) * TO_DEVIATION if len(together) else 0.0
    if scale <= 0:
        return 0.0, 0.0
    count = sum(int(_impulses(p, n, scale).sum()) for p, n in zip(planes, near, strict=True))
    share = count / len(together)
    few = count < LEAST_COUNT or share < LEAST_SHARE
    if (few and not sure) or share > MOST_SHARE:
        return 0.0, 0.0
    return share, scale


def impulses(x: np.ndarray, scale: float) -> np.ndarray:
    """True for the impulses of an image (height, width, channel) whose noise has this scale."""
    planes = _planes(x)
    return np.zeros(planes.shape, bool) if scale <= 0 else _impulses(planes, _near(planes), scale)


def _impulses(planes: np.ndarray, near: tuple[np.ndarray, ...], scale: float) -> np.ndarray:
    """The impulses of planes whose pixels have these medians, least and largest ones near."""
    if min(planes.shape[:2]) < 2 * REACH + 1:
        return np.zeros(planes.shape, bool)
    middle, low, high = near
    away = planes - middle
    far = np.abs(away) > np.maximum(DEVIATIONS * scale, RANGES * (high - low))
    if not far.any():
        return far
    filled = _filled(planes)
    ring = _each(filled, lambda p: ndimage.median_filter(p, footprint=RING, mode="mirror"))
    beside = _each(filled, lambda p: ndimage.convolve(p, BESIDE, mode="mirror"))
    lifted = (beside - ring) * np.sign(away)
    return far & (lifted <= np.maximum(SPREAD * np.abs(away), SLACK * scale))


def _planes(x: np.ndarray) -> np.ndarray:
    planes = np.asarray(x, np.float32)
    return planes if planes.ndim == 3 else planes[..., None]


def _near(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median, least and largest of the eight neighbours of each pixel."""
    filled = _filled(planes)
    middle = _each(filled, lambda p: ndimage.median_filter(p, footprint=NEAR, mode="mirror"))
    low = _each(filled, lambda p: ndimage.minimum_filter(p, footprint=NEAR, mode="mirror"))
    high = _each(filled, lambda p: ndimage.maximum_filter(p, footprint=NEAR, mode="mirror"))
    return middle, low, high


def _each(planes: np.ndarray, filter: object) -> np.ndarray:
    parts = [filter(planes[..., c]) for c in range(planes.shape[2])]  # pyright: ignore
    return np.stack(parts, -1)


def _filled(planes: np.ndarray) -> np.ndarray:
    """Gaps as the median of what is seen."""
    observed = np.isfinite(planes)
    if observed.all():
        return planes
    middle = float(np.median(planes[observed])) if observed.any() else 0.0
    return np.where(observed, planes, np.float32(middle))
