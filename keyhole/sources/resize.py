"""Pictures at another size: the mean of blocks, or smoothed and interpolated."""

import numpy as np


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pictures (picture, height, width, channel) at another size, smoothed where they shrink."""
    from scipy import ndimage

    x = pixels.astype(np.float32)
    for axis, wanted in ((1, size[0]), (2, size[1])):
        ratio = x.shape[axis] / wanted
        if ratio == 1:
            continue
        whole = round(ratio) if abs(ratio - round(ratio)) < 1e-9 and ratio > 1 else 0
        if whole:  # blocks of so many pixels: their mean
            shape = (*x.shape[:axis], wanted, whole, *x.shape[axis + 1 :])
            x = x.reshape(shape).mean(axis + 1)
            continue
        if ratio > 1:
            x = ndimage.gaussian_filter1d(x, (ratio - 1) / 2, axis=axis, mode="nearest")
        x = _interpolated(x, axis, wanted)
    return x


def _interpolated(x: np.ndarray, axis: int, wanted: int) -> np.ndarray:
    """Straight lines between the middles of pixels."""
    size = x.shape[axis]
    at = ((np.arange(wanted) + 0.5) * size / wanted - 0.5).clip(0, size - 1)
    low = np.floor(at).astype(int).clip(0, max(size - 2, 0))
    high = np.minimum(low + 1, size - 1)
    share = (at - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return x.take(low, axis) * (1 - share) + x.take(high, axis) * share
