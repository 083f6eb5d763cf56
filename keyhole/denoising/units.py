"""A picture in units of its own noise: what a denoising net is given, and gives back."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy import ndimage

from keyhole.images import Picture
from keyhole.noise import Noise, Stabiliser

WINDOWS, WINDOW = 8, 512  # of a large picture that are looked at; its noise is the same all over


@dataclass(frozen=True)
class Unit:
    """To noise of standard deviation 1 around a picture's own middle, and back.

    A net without biases answers twice a picture with twice an answer, so one net serves every
    noise level once pictures come in units of theirs.
    """

    noise: Noise
    stabiliser: Stabiliser
    center: float

    @classmethod
    def of(cls, noise: Noise, windows: list[np.ndarray]) -> Self:
        """The unit of a picture with this noise, of which these windows are."""
        stabiliser = Stabiliser.of(noise)
        held = np.concatenate([stabiliser.forward(window).ravel() for window in windows])
        held = held[np.isfinite(held)]
        return cls(noise, stabiliser, float(held.mean()) if len(held) else 0.0)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Pixels in units of their noise, float32; a missing one (NaN) stays missing."""
        return (self.stabiliser.forward(x) - self.center).astype(np.float32)

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
