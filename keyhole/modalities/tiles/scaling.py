"""Images in units of their own noise, and the noise estimates of many images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from scipy import ndimage

from keyhole.data.images import Image
from keyhole.modalities.tiles.noise import (
    Noise,
    Stabiliser,
    background_value,
    estimate_many,
    impulse_scale,
)
from keyhole.modalities.tiles.noise.estimate import estimate
from keyhole.modalities.tiles.noise.impulses import background, impulses

HALO = 4  # pixels around a pixel that tell whether it is an impulse, or background
WINDOWS, WINDOW = 8, 512  # of a large image that are looked at; its noise is the same all over


@dataclass(frozen=True)
class NoiseScaler:
    """To noise of standard deviation 1 around an image's own middle, and back.

    A net without biases answers twice an image with twice an answer, so one net serves every
    noise level once images come in units of theirs. Impulses are missing to the net, which
    guesses them; so is a constant `background`, which stays as it is. `impulse_scale` is 0 where
    an image has no impulses.
    """

    noise: Noise
    stabiliser: Stabiliser
    center: float
    impulse_scale: float = 0.0
    background: float | None = None

    @classmethod
    def of(cls, noise: Noise, windows: list[np.ndarray]) -> Self:
        """The scaler of an image with this noise; `windows` are parts of the image."""
        scale = impulse_scale(windows, sure=noise.impulses > 0)[1]
        unit = cls(noise, Stabiliser.of(noise), 0.0, scale, background_value(windows, noise))
        held = np.concatenate([unit.forward(window).ravel() for window in windows])
        held = held[np.isfinite(held)].astype(np.float64)
        return replace(unit, center=float(held.mean()) if len(held) else 0.0)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Pixels in units of their noise, float32; missing ones, impulses and background are NaN.

        Of a part of an image, pixels nearer than `HALO` to its edge may be taken for neither.
        """
        even = (self.stabiliser.forward(x) - self.center).astype(np.float32)
        if self.impulse_scale:
            even[impulses(x, self.impulse_scale)] = np.nan
        if self.background is not None:
            even[background(x, self.background)] = np.nan
        return even

    def expected(self, x: np.ndarray) -> np.ndarray:
        """What noisy versions of clean pixels are in these units, on average.

        A mean of roots is not the root of a mean: it is what `inverse` leads back from.
        """
        if not self.stabiliser.gain:
            return self.forward(x)
        d = self.stabiliser.forward(x)
        low, high = float(np.nanmin(d)), float(np.nanmax(d))
        grid = np.linspace(low - 2, high + 2, 20_001)
        return (np.interp(x, self.stabiliser.inverse(grid), grid) - self.center).astype(np.float32)

    def inverse(self, x: np.ndarray) -> np.ndarray:
        """Denoised pixels in the image's own units."""
        return self.stabiliser.inverse(x.astype(np.float64) + self.center).astype(np.float32)

    def answered(self, window: np.ndarray, found: np.ndarray) -> np.ndarray:
        """A denoised window in the image's units; gaps and background are as they were."""
        stays = ~np.isfinite(window)
        if self.background is not None:
            stays |= background(window, self.background)
        return np.where(stays, window, self.inverse(found)).astype(np.float32)


def windows_of(image: Image) -> list[np.ndarray]:
    """The image, or where it is large some windows spread over it; (height, width, channel)."""
    if image.height * image.width <= WINDOWS * WINDOW**2:
        return [image.whole()]
    rng = np.random.default_rng(0)
    found = []
    for _ in range(WINDOWS):
        y, x = (int(rng.integers(max(n - WINDOW, 0) + 1)) for n in (image.height, image.width))
        found.append(image.window(slice(y, y + WINDOW), slice(x, x + WINDOW)))
    return found


def filled(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An image (height, width, channel) with its nearest pixel in each gap; what was seen."""
    observed = np.isfinite(x)
    if observed.all():
        return x, observed
    if not observed.any():
        return np.zeros_like(x), observed
    out = x.copy()
    for channel in range(x.shape[2]):
        here = observed[..., channel]
        if here.any() and not here.all():
            near: Any = ndimage.distance_transform_edt(
                ~here, return_distances=False, return_indices=True
            )
            out[..., channel] = x[near[0], near[1], channel]
    return np.nan_to_num(out), observed


SMALL = 100 * 100  # pixels; smaller images are measured together with others
LEAST = 50 * 50  # pixels of small images that tell their noise better than training does
MOST_SMALL = 500  # that are looked at together
SIZE = 64  # of the square in which a filter is found


@dataclass
class NoiseEstimates:
    """The units of images of one call: small ones are measured together, in whatever order.

    `told` is the noise of all where it is known; `learned`, that of small ones too few to
    tell.
    """

    images: Sequence[Image]
    told: Noise | None
    learned: Noise | None = None

    @cached_property
    def of_small(self) -> Noise | None:
        """The one noise of all small images; None where each must tell its own."""
        small = [p for p in self.images if is_small(p)]
        if sum(p.height * p.width for p in small) < LEAST and self.learned is not None:
            return self.learned
        some = np.linspace(0, len(small) - 1, min(len(small), MOST_SMALL)).astype(int)
        return estimate_many([small[int(place)].whole() for place in some])

    def unit(self, image: Image) -> NoiseScaler:
        """The unit of one of the images, by the noise that is told or found in it."""
        windows, noise = windows_of(image), self.told
        if noise is None and is_small(image):
            noise = self.of_small
        return NoiseScaler.of(estimate(windows) if noise is None else noise, windows)


def is_small(image: Image) -> bool:
    """True for an image that tells little of its noise by itself."""
    return image.height * image.width < SMALL


def filter_of(noise: Noise) -> list[list[float]] | None:
    """A filter that gives white noise this autocorrelation; None for white noise.

    The root of the noise's spectrum (Wiener-Khinchin); what is negative in it by error is none.
    """
    if not noise.correlated:
        return None
    kernel = np.array(noise.kernel)
    reach = len(kernel) // 2
    wide = np.zeros((SIZE, SIZE))
    wide[: len(kernel), : len(kernel)] = kernel
    wide = np.roll(wide, (-reach, -reach), (0, 1))
    spectrum = np.fft.fft2(wide).real.clip(0)
    found = np.fft.ifft2(np.sqrt(spectrum)).real
    found = np.roll(found, (2 * reach, 2 * reach), (0, 1))[: 4 * reach + 1, : 4 * reach + 1]
    return found.tolist()
