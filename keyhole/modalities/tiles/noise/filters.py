"""Classical filters: each takes an image and its noise level, nothing else.

All work on the image scaled so that its noise has the level the settings were tuned at, so the
answer does not depend on units: `f(a x, a sigma)` is `a f(x, sigma)`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

from keyhole.core.environment import missing_extra
from keyhole.errors import DataError, MissingExtraError, SettingError

TUNED = 25 / 255  # the noise level at which the settings below were chosen
TV_WEIGHT, TV_STEPS = 0.08, 500
PATCH, REACH, NLM_STRENGTH = 5, 8, 0.6  # a window of 17x17
WAVELET, SHIFTS, LEVELS = "db2", 2, 5  # shifts: of 0 to 2 pixels along both axes
SMALL = 7  # below this side there is nothing to compare a patch with


def total_variation(x: np.ndarray, sigma: float) -> np.ndarray:
    """The image with flat areas and sharp edges: total variation by Chambolle's method."""
    tool = _restoration()
    # The default eps stops so early that more weight can mean less smoothing.
    done = tool.denoise_tv_chambolle(
        x * (TUNED / sigma), weight=TV_WEIGHT, eps=1e-6, max_num_iter=TV_STEPS, channel_axis=-1
    )
    return done * (sigma / TUNED)


def wavelets(x: np.ndarray, sigma: float) -> np.ndarray:
    """The mean over nine shifts of the image with its wavelet coefficients shrunk (BayesShrink).

    Source: Chang, Yu & Vetterli 2000; Coifman & Donoho 1995 for the shifts.
    """
    tool, pywt = _restoration(), _pywt()
    most = pywt.dwtn_max_level(x.shape[:2], WAVELET)
    done = tool.cycle_spin(
        x * (TUNED / sigma), tool.denoise_wavelet, SHIFTS, workers=1, channel_axis=-1,
        func_kw={
            "sigma": TUNED, "wavelet": WAVELET, "wavelet_levels": max(1, min(most, LEVELS)),
            "method": "BayesShrink", "rescale_sigma": False, "channel_axis": -1,
        },
    )  # fmt: skip
    return done.reshape(x.shape) * (sigma / TUNED)


def non_local_means(x: np.ndarray, sigma: float) -> np.ndarray:
    """Each pixel as the mean of pixels whose surroundings look alike."""
    tool = _restoration()
    done = tool.denoise_nl_means(
        x * (TUNED / sigma),
        patch_size=PATCH,
        patch_distance=REACH,
        h=NLM_STRENGTH * TUNED,
        sigma=TUNED,
        fast_mode=True,
        channel_axis=-1,
    )
    return done.reshape(x.shape) * (sigma / TUNED)


FILTERS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "total variation": total_variation,
    "wavelets": wavelets,
    "non-local means": non_local_means,
}


def classical(x: np.ndarray, sigma: float, name: str) -> np.ndarray:
    """The image denoised by the filter `name`; gaps (NaN) stay gaps.

    An image too small for patches is drawn towards its mean, as far as its variance is noise.

    Raises:
        SettingError: No filter has that name.

    """
    if name not in FILTERS:
        raise SettingError(f"unknown filter {name!r}; there are: {', '.join(FILTERS)}")
    image = np.asarray(x, float)
    if image.ndim not in {2, 3}:
        raise DataError(f"an image has two or three axes, not {image.ndim}")
    whole = image if image.ndim == 3 else image[..., None]
    gaps = ~np.isfinite(whole)
    if not sigma > 0 or gaps.all():
        return image.copy()
    filled = _filled(whole, gaps)
    small = min(filled.shape[:2]) < SMALL
    done = _towards_mean(filled, sigma) if small else FILTERS[name](filled, sigma)
    done = np.where(gaps, whole, done)
    return done if image.ndim == 3 else done[..., 0]


def _filled(x: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """The image with each gap as its nearest pixel of the same channel."""
    if not gaps.any():
        return x
    out = np.full_like(x, x[~gaps].mean())
    for c in range(x.shape[2]):
        if not gaps[..., c].all():
            near = ndimage.distance_transform_edt(
                gaps[..., c], return_distances=False, return_indices=True
            )
            out[..., c] = x[..., c][tuple(np.asarray(near))]
    return out


def _towards_mean(x: np.ndarray, sigma: float) -> np.ndarray:
    mean = x.mean((0, 1), keepdims=True)
    spread = x.var((0, 1), keepdims=True)
    return mean + (x - mean) * np.maximum(1 - sigma**2 / np.maximum(spread, sigma**2), 0)


def _restoration() -> Any:
    try:
        from skimage import restoration
    except ImportError as missing:
        raise _needed("scikit-image") from missing
    return restoration


def _pywt() -> Any:
    try:
        import pywt
    except ImportError as missing:
        raise _needed("PyWavelets") from missing
    return pywt


def _needed(package: str) -> MissingExtraError:
    return missing_extra(package, "filter images", "images")
