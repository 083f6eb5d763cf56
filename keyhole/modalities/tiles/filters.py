"""Classical filters, and how good a denoised image is, with and without the clean one.

A filter takes an image and its noise level. All work on the image scaled so that its noise has
the level the settings were tuned at: `f(a x, a sigma)` is `a f(x, sigma)`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, stats

from keyhole.core.environment import missing_extra
from keyhole.errors import DataError, SettingError
from keyhole.modalities.tiles.noise import NoiseModel

TUNED = 25 / 255  # the noise level at which the settings below were chosen
TV_WEIGHT, TV_STEPS = 0.08, 500
PATCH, REACH, NLM_STRENGTH = 5, 8, 0.6  # a window of 17x17
WAVELET, SHIFTS, LEVELS = "db2", 2, 5  # shifts: of 0 to 2 pixels along both axes
SMALL = 7  # below this side there is nothing to compare a patch with


def total_variation(x: np.ndarray, sigma: float) -> np.ndarray:
    """The image with flat areas and sharp edges: total variation by Chambolle's method."""
    tool = _restoration()
    # The default eps stops so early that more weight can mean less smoothing.
    denoised = tool.denoise_tv_chambolle(
        x * (TUNED / sigma), weight=TV_WEIGHT, eps=1e-6, max_num_iter=TV_STEPS, channel_axis=-1
    )
    return denoised * (sigma / TUNED)


def wavelets(x: np.ndarray, sigma: float) -> np.ndarray:
    """The mean over nine shifts of the image with its wavelet coefficients shrunk (BayesShrink).

    Source: Chang, Yu & Vetterli 2000; Coifman & Donoho 1995 for the shifts.
    """
    tool = _restoration()
    try:
        import pywt
    except ImportError as fault:
        raise missing_extra("PyWavelets", "filter images", "images") from fault
    most = pywt.dwtn_max_level(x.shape[:2], WAVELET)
    denoised = tool.cycle_spin(
        x * (TUNED / sigma), tool.denoise_wavelet, SHIFTS, workers=1, channel_axis=-1,
        func_kw={
            "sigma": TUNED, "wavelet": WAVELET, "wavelet_levels": max(1, min(most, LEVELS)),
            "method": "BayesShrink", "rescale_sigma": False, "channel_axis": -1,
        },
    )  # fmt: skip
    return denoised.reshape(x.shape) * (sigma / TUNED)


def non_local_means(x: np.ndarray, sigma: float) -> np.ndarray:
    """Each pixel as the mean of pixels whose surroundings look alike."""
    tool = _restoration()
    denoised = tool.denoise_nl_means(
        x * (TUNED / sigma), patch_size=PATCH, patch_distance=REACH, h=NLM_STRENGTH * TUNED,
        sigma=TUNED, fast_mode=True, channel_axis=-1,
    )  # fmt: skip
    return denoised.reshape(x.shape) * (sigma / TUNED)


FILTERS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "total variation": total_variation,
    "wavelets": wavelets,
    "non-local means": non_local_means,
}


def classical(x: np.ndarray, sigma: float, name: str) -> np.ndarray:
    """The image denoised by the filter `name`; gaps (NaN) stay gaps.

    An image too small for patches is drawn towards its mean, as far as its variance is noise.
    Raises: SettingError for an unknown filter.
    """
    if name not in FILTERS:
        raise SettingError(f"unknown filter {name!r}; choose from: {', '.join(FILTERS)}")
    image = np.asarray(x, float)
    if image.ndim not in {2, 3}:
        raise DataError(f"an image has two or three axes, got {image.ndim}")
    channels = image if image.ndim == 3 else image[..., None]
    known = np.isfinite(channels)
    if not sigma > 0 or not known.any():
        return image.copy()
    x, _ = filled(channels, channels[known].mean())
    small = min(x.shape[:2]) < SMALL
    x = _towards_mean(x, sigma) if small else FILTERS[name](x, sigma)
    return np.where(known, x, channels).reshape(image.shape)


def filled(x: np.ndarray, empty: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """An image (height, width, channel) with its nearest pixel in each gap; what is observed.

    A channel without any pixel is `empty`.
    """
    observed = np.isfinite(x)
    if observed.all():
        return x, observed
    image = np.full_like(x, empty)
    for c in range(x.shape[2]):
        if observed[..., c].any():
            nearest: Any = ndimage.distance_transform_edt(
                ~observed[..., c], return_distances=False, return_indices=True
            )
            image[..., c] = x[nearest[0], nearest[1], c]
    return image, observed


def _towards_mean(x: np.ndarray, sigma: float) -> np.ndarray:
    mean = x.mean((0, 1), keepdims=True)
    spread = x.var((0, 1), keepdims=True)
    return mean + (x - mean) * np.maximum(1 - sigma**2 / np.maximum(spread, sigma**2), 0)


def _restoration() -> Any:
    try:
        from skimage import restoration
    except ImportError as fault:
        raise missing_extra("scikit-image", "filter images", "images") from fault
    return restoration


LAGS = ((1, 0), (0, 1), (1, 1), (1, -1), (2, 0), (0, 2))
FAINT = 0.05  # a correlation below this is not worth a sentence


@dataclass(frozen=True)
class Residual:
    """What was taken away from an image, against what its noise should look like.

    `mean` and `deviation` are in the image's units. `below` and `beside` are correlations of
    neighbouring residuals; `white_p` is the p-value of "no more correlated than the noise is".
    `edges` and `brightness` are rank correlations of the residual's size, in units of the
    expected noise, with the denoised image's gradient and value. All would be near 0 if only
    noise was removed.
    """

    mean: float
    deviation: float
    expected: float
    below: float
    beside: float
    white_p: float
    edges: float
    brightness: float
    pixels: int

    def sentences(self) -> list[str]:
        """What the figures say, for people."""
        if self.pixels < 2:
            return ["The image is too small to judge the removed part."]
        sentences = [self._amount()]
        if abs(self.mean) > max(4 * self.deviation / np.sqrt(self.pixels), 0.02 * self.expected):
            sentences.append(f"The image was shifted by {self.mean:.3g} on average.")
        far = max(self.below, self.beside, key=abs)
        if self.white_p < 0.01 and abs(far) > FAINT:
            sentences.append(
                f"Neighbouring pixels of the removed part correlate by {far:.2f}: it is not "
                "only noise."
            )
        else:
            sentences.append("The removed part is as random from pixel to pixel as the noise.")
        if self.edges > FAINT:
            sentences.append(
                f"More was removed at edges (correlation {self.edges:.2f}): detail was lost."
            )
        if abs(self.brightness) > 2 * FAINT:
            where = "bright" if self.brightness > 0 else "dark"
            sentences.append(f"More was removed from {where} parts than the noise explains.")
        return sentences

    def _amount(self) -> str:
        if self.expected <= 0:
            return f"A deviation of {self.deviation:.3g} was removed where no noise was expected."
        ratio = self.deviation / self.expected
        more = "more than the noise: a part of the image was removed too"
        verdict = more if ratio > 1.1 else "as much as the noise"
        verdict = "less than the noise: some noise is left" if ratio < 0.9 else verdict
        amount = f"standard deviation {self.deviation:.3g}, expected {self.expected:.3g}"
        return f"The removed part has {amount}: {verdict}."


def residual_report(noisy: Any, denoised: Any, noise: NoiseModel) -> Residual:
    """The removed part of an image judged without the truth; gaps (NaN) are left out."""
    x, clean = _alike(noisy, denoised)
    removed = x - clean
    known = np.isfinite(removed)
    pixels = int(known.sum())
    if pixels < 2:
        return Residual(0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, pixels)
    level = noise.level(np.where(known, clean, 0.0))
    mean, deviation = float(removed[known].mean()), float(removed[known].std())
    scaled = (removed - mean) / np.where(level > 0, level, 1.0)
    smooth = ndimage.gaussian_filter(np.where(known, clean, np.nanmean(clean)), (1, 1, 0))
    flat = np.zeros_like(smooth)
    slopes = [np.gradient(smooth, axis=i) if x.shape[i] > 1 else flat for i in (0, 1)]
    size = stats.rankdata(np.abs(scaled[known]))
    return Residual(
        mean,
        deviation,
        float(np.sqrt(np.mean(level[known] ** 2))),
        *_whiteness(scaled, known, noise),
        edges=_correlation(size, stats.rankdata(np.hypot(slopes[0], slopes[1])[known])),
        brightness=_correlation(size, stats.rankdata(clean[known])),
        pixels=pixels,
    )


def _whiteness(
    scaled: np.ndarray, known: np.ndarray, noise: NoiseModel
) -> tuple[float, float, float]:
    correlations, total, used = {}, 0.0, 0
    middle = len(noise.kernel) // 2
    spread = np.sum(np.square(noise.kernel))  # what correlation takes off the pixel count
    for down, right in LAGS:
        both = _shifted(known, down, right) & _shifted(known, -down, -right)
        pair = (_shifted(scaled, down, right)[both], _shifted(scaled, -down, -right)[both])
        r = _correlation(*pair) if both.sum() > 2 else 0.0
        within = max(down, abs(right)) <= middle
        own = noise.kernel[middle + down][middle + right] if within else 0.0
        correlations[down, right] = r
        total += (r - own) ** 2 * both.sum() / spread
        used += both.sum() > 2
    p = float(stats.chi2.sf(total, used)) if used else 1.0
    return correlations[1, 0], correlations[0, 1], p


def _shifted(x: np.ndarray, down: int, right: int) -> np.ndarray:
    """The part of `x` that has a partner that far away; the negative shift is the partner."""
    height, width = x.shape[:2]
    rows, columns = (
        slice(max(down, 0), height + min(down, 0)),
        slice(max(right, 0), width + min(right, 0)),
    )
    return x[rows, columns]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt(np.sum(a**2) * np.sum(b**2))
    return float(np.sum(a * b) / scale) if scale > 0 else 0.0


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
    except ImportError as fault:
        raise missing_extra("scikit-image", "measure SSIM", "images") from fault
    a, b = _alike(truth, image)
    side = min(7, *a.shape[:2])
    side -= 1 - side % 2
    if side < 3:
        return float("nan")
    options: Any = {"win_size": side, "data_range": data_range, "channel_axis": -1}
    return float(structural_similarity(a, b, **options))  # pyright: ignore


def _alike(one: Any, other: Any) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(one, float), np.asarray(other, float)
    if a.shape != b.shape or a.ndim not in {2, 3}:
        raise DataError(f"expected two images of the same shape, got {a.shape} and {b.shape}")
    return (a, b) if a.ndim == 3 else (a[..., None], b[..., None])
