"""How good a denoised image is: with the truth at hand, and without."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, stats

from keyhole.core.environment import missing_extra
from keyhole.errors import DataError
from keyhole.modalities.tiles.noise.model import Noise

LAGS = ((1, 0), (0, 1), (1, 1), (1, -1), (2, 0), (0, 2))
FAINT = 0.05  # a correlation below this is not worth a sentence


@dataclass(frozen=True)
class Residual:
    """What was taken away from an image, against what its noise should look like.

    `mean` and `deviation` are in the image's units. `below` and `beside` are correlations of
    neighbouring residuals; `white_p` is the p-value of «no more correlated than the noise is».
    `edges` and `brightness` are rank correlations of the residual's size, in units of the
    expected noise, with the denoised image's gradient and value; `leak` is the residual's
    own correlation with the denoised image. All would be near 0 if only noise was removed.
    """

    mean: float
    deviation: float
    expected: float
    below: float
    beside: float
    white_p: float
    edges: float
    brightness: float
    leak: float
    pixels: int

    def sentences(self) -> list[str]:
        """What the figures say, for people."""
        if self.pixels < 2:
            return ["The image is too small to judge what was removed."]
        said = [_amount(self)]
        if abs(self.mean) > max(4 * self.deviation / np.sqrt(self.pixels), 0.02 * self.expected):
            said.append(f"The image was shifted by {self.mean:.3g} on average.")
        far = max(self.below, self.beside, key=abs)
        if self.white_p < 0.01 and abs(far) > FAINT:
            said.append(f"Neighbours in what was removed correlate by {far:.2f}: not only noise.")
        else:
            said.append("What was removed is as random from pixel to pixel as the noise.")
        if self.edges > FAINT:
            said.append(f"More was removed at edges (correlation {self.edges:.2f}): detail went.")
        if abs(self.brightness) > 2 * FAINT:
            where = "bright" if self.brightness > 0 else "dark"
            said.append(f"More was removed from {where} parts than the noise explains.")
        return said


def _amount(residual: Residual) -> str:
    if residual.expected <= 0:
        return f"A deviation of {residual.deviation:.3g} was removed where no noise was expected."
    share = residual.deviation / residual.expected
    verdict = "as much as there is noise"
    if share < 0.9:
        verdict = "less than the noise: some is left"
    elif share > 1.1:
        verdict = "more than the noise: some of the image went with it"
    return (
        f"What was removed has standard deviation {residual.deviation:.3g}, expected "
        f"{residual.expected:.3g}: {verdict}."
    )


def residual_report(noisy: Any, denoised: Any, noise: Noise) -> Residual:
    """The removed part of an image judged without the truth; gaps (NaN) are left out."""
    x, clean = _alike(noisy, denoised)
    removed = x - clean
    kept = np.isfinite(removed)
    if kept.sum() < 2:
        return Residual(0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, int(kept.sum()))
    level = noise.level(np.where(kept, clean, 0.0))
    expected = float(np.sqrt(np.mean(level[kept] ** 2)))
    mean, deviation = float(removed[kept].mean()), float(removed[kept].std())
    even = (removed - mean) / np.where(level > 0, level, 1.0)
    below, beside, white_p = _whiteness(even, kept, noise)
    size = np.abs(even[kept])
    smooth = ndimage.gaussian_filter(np.where(kept, clean, np.nanmean(clean)), (1, 1, 0))
    steep = np.hypot(_slope(smooth, 0), _slope(smooth, 1))
    return Residual(
        mean,
        deviation,
        expected,
        below,
        beside,
        white_p,
        edges=_rank_correlation(size, steep[kept]),
        brightness=_rank_correlation(size, clean[kept]),
        leak=_correlation(removed[kept], clean[kept]),
        pixels=int(kept.sum()),
    )


def _whiteness(even: np.ndarray, kept: np.ndarray, noise: Noise) -> tuple[float, float, float]:
    """Correlations below and beside, and the p-value of no more than the noise's own."""
    found, total, used = {}, 0.0, 0
    middle = len(noise.kernel) // 2
    for down, right in LAGS:
        here, there = _shifted(even, down, right), _shifted(even, -down, -right)
        both = _shifted(kept, down, right) & _shifted(kept, -down, -right)
        r = _correlation(here[both], there[both]) if both.sum() > 2 else 0.0
        own = 0.0
        if max(down, abs(right)) <= middle:
            own = noise.kernel[middle + down][middle + right]
        found[down, right] = r
        spread = np.sum(np.square(noise.kernel))  # what correlation takes off the pixel count
        total += (r - own) ** 2 * both.sum() / spread
        used += both.sum() > 2
    p = float(stats.chi2.sf(total, used)) if used else 1.0
    return found[1, 0], found[0, 1], p


def _shifted(x: np.ndarray, down: int, right: int) -> np.ndarray:
    """The part of `x` that has a partner that far away; the negative shift is the partner."""
    h, w = x.shape[:2]
    rows = slice(max(down, 0), h + min(down, 0))
    columns = slice(max(right, 0), w + min(right, 0))
    return x[rows, columns]


def _slope(x: np.ndarray, axis: int) -> np.ndarray:
    return np.gradient(x, axis=axis) if x.shape[axis] > 1 else np.zeros_like(x)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt(np.sum(a**2) * np.sum(b**2))
    return float(np.sum(a * b) / scale) if scale > 0 else 0.0


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return _correlation(stats.rankdata(a), stats.rankdata(b))


def psnr(truth: Any, image: Any, data_range: float) -> float:
    """Peak signal-to-noise ratio in decibels, over the pixels known in both; inf if equal."""
    a, b = _alike(truth, image)
    error = np.nanmean((a - b) ** 2)
    return float(10 * np.log10(data_range**2 / error)) if error > 0 else float("inf")


def ssim(truth: Any, image: Any, data_range: float) -> float:
    """Mean structural similarity, 1 for equal images; colours are averaged.

    The window is 7x7, less where the image is smaller. NaN below 3x3.
    """
    try:
        from skimage.metrics import structural_similarity
    except ImportError as missing:
        raise missing_extra("scikit-image", "measure SSIM", "images") from missing
    a, b = _alike(truth, image)
    side = min(7, *a.shape[:2])
    side -= 1 - side % 2
    if side < 3:
        return float("nan")
    said: Any = structural_similarity(a, b, win_size=side, data_range=data_range, channel_axis=-1)
    return float(said)


def _alike(one: Any, other: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as (h, w, c) floats."""
    a, b = np.asarray(one, float), np.asarray(other, float)
    if a.shape != b.shape or a.ndim not in {2, 3}:
        raise DataError(f"two images of one shape are compared; given: {a.shape}, {b.shape}")
    return (a, b) if a.ndim == 3 else (a[..., None], b[..., None])
