"""Noise that all pixels of a row, or of a column, share: stripes."""

from collections.abc import Sequence

import numpy as np

SEGMENTS = 4  # parts of a row whose medians are compared: noise is in all of them, content rarely
LEAST_SIDE = 32  # pixels; of less there is nothing to tell stripes from
SURELY = 6.0  # standard errors
MEDIAN_SQUARE = 0.455  # the median of the square of a standard normal number
OF_DIFFERENCE = 1.5  # variance of a pixel less the mean of the two beside it, white noise of 1


def stripes(windows: Sequence[np.ndarray]) -> tuple[float, float]:
    """The standard deviations of the noise that rows share, and columns; 0 where none is sure."""
    planes = [w if w.ndim == 3 else w[..., None] for w in windows]
    channels = [np.asarray(p[..., c], float) for p in planes for c in range(p.shape[2])]
    return _rows(channels), _rows([channel.T for channel in channels])


def _rows(channels: list[np.ndarray]) -> float:
    """The deviation of what rows share.

    A row's medians over its segments, each less those of the rows beside it, agree where the row
    as a whole is shifted. Their products over pairs of segments have a median above zero then;
    an edge along a row makes few large ones, which a median does not see.
    """
    products, doubts = [np.zeros(0)], []
    for channel in channels:
        if min(channel.shape) < LEAST_SIDE:
            continue
        x = np.where(np.isfinite(channel), channel, np.nan)
        if np.isnan(x).mean() > 0.2:
            continue
        steps = x[1:-1] - (x[:-2] + x[2:]) / 2
        parts = np.array_split(steps, SEGMENTS, axis=1)
        middles = np.array([np.nanmedian(part, axis=1) for part in parts])
        pairs = [(i, j) for i in range(SEGMENTS) for j in range(i)]
        products.append(np.mean([middles[i] * middles[j] for i, j in pairs], 0))
        apart = [np.median(np.abs(middles[i] - middles[j])) for i, j in pairs]
        doubts.append(float(np.median(apart)) ** 2)
    together = np.concatenate(products)
    together = together[np.isfinite(together)]
    if not len(together):
        return 0.0
    middle = float(np.median(together))
    error = float(np.mean(doubts)) / np.sqrt(len(together))
    if middle <= SURELY * error or middle <= 0:
        return 0.0
    return float(np.sqrt(middle / (MEDIAN_SQUARE * OF_DIFFERENCE)))
