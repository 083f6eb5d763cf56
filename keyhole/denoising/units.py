"""A picture in units of its own noise: what a denoising net is given, and gives back."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from scipy import ndimage

from keyhole.images import Picture
from keyhole.noise import (
    Noise,
    Stabiliser,
    background,
    background_value,
    impulse_scale,
    impulses,
)

HALO = 4  # pixels around a pixel that tell whether it is an impulse, or background
WINDOWS, WINDOW = 8, 512  # of a large picture that are looked at; its noise is the same all over


@dataclass(frozen=True)
class Unit:
    """To noise of standard deviation 1 around a picture's own middle, and back.

    A net without biases answers twice a picture with twice an answer, so one net serves every
    noise level once pictures come in units of theirs. Impulses are missing to the net, which
    guesses them; so is a constant `background`, which stays as it is. `impulse_scale` is 0 where
    a picture has no impulses.
    """

    noise: Noise
    stabiliser: Stabiliser
    center: float
    impulse_scale: float = 0.0
    background: float | None = None

    @classmethod
    def of(cls, noise: Noise, windows: list[np.ndarray]) -> Self:
        """The unit of a picture with this noise, of which these windows are."""
        scale = impulse_scale(windows, sure=noise.impulses > 0)[1]
        unit = cls(noise, Stabiliser.of(noise), 0.0, scale, background_value(windows, noise))
        held = np.concatenate([unit.forward(window).ravel() for window in windows])
        held = held[np.isfinite(held)].astype(np.float64)
        return replace(unit, center=float(held.mean()) if len(held) else 0.0)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Pixels in units of their noise, float32; missing ones, impulses and background are NaN.

        Of a part of a picture, pixels nearer than `HALO` to its edge may be taken for neither.
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
        """Denoised pixels in the picture's own units."""
        return self.stabiliser.inverse(x.astype(np.float64) + self.center).astype(np.float32)

    def answered(self, window: np.ndarray, found: np.ndarray) -> np.ndarray:
        """A denoised window in the picture's units; gaps and background are as they were."""
        stays = ~np.isfinite(window)
        if self.background is not None:
            stays |= background(window, self.background)
        return np.where(stays, window, self.inverse(found)).astype(np.float32)


def windows_of(picture: Picture) -> list[np.ndarray]:
    """The picture, or where it is large some windows spread over it; (height, width, channel)."""
    if picture.height * picture.width <= WINDOWS * WINDOW**2:
        return [picture.whole()]
    rng = np.random.default_rng(0)
    found = []
    for _ in range(WINDOWS):
        y, x = (int(rng.integers(max(n - WINDOW, 0) + 1)) for n in (picture.height, picture.width))
        found.append(picture.window(slice(y, y + WINDOW), slice(x, x + WINDOW)))
    return found


def filled(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture (height, width, channel) with its nearest pixel in each gap; what was seen."""
    seen = np.isfinite(x)
    if seen.all():
        return x, seen
    if not seen.any():
        return np.zeros_like(x), seen
    out = x.copy()
    for channel in range(x.shape[2]):
        here = seen[..., channel]
        if here.any() and not here.all():
            near: Any = ndimage.distance_transform_edt(
                ~here, return_distances=False, return_indices=True
            )
            out[..., channel] = x[near[0], near[1], channel]
    return np.nan_to_num(out), seen
