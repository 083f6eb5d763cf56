"""Noise made even: after `forward` its standard deviation is 1, whatever the value."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keyhole.noise.model import Noise

# An unbiased inverse reaches down to the expected value for a dark pixel without readout noise.
DARKEST = 2 * np.sqrt(3 / 8)


@dataclass(frozen=True)
class Stabiliser:
    """The map that gives every pixel noise of standard deviation 1, and the way back.

    Gaussian noise is only scaled. Where it grows with the value, `forward` is the generalised
    Anscombe transform and `inverse` the closed form of its exact unbiased inverse: a denoiser
    returns means of transformed values, and a mean of roots is not the root of a mean.
    Source: Makitalo & Foi 2013, doi:10.1109/TIP.2012.2202675.
    """

    sigma: float
    gain: float = 0.0
    offset: float = 0.0

    @classmethod
    def of(cls, noise: Noise) -> "Stabiliser":
        """The map for this noise; without noise, the identity."""
        sigma = 1.0 if noise.kind == "none" else noise.sigma
        return cls(float(sigma), float(noise.gain), float(noise.offset))

    @property
    def readout(self) -> float:
        """The variance of the signal-independent part, in counts."""
        return (self.sigma / self.gain) ** 2

    def forward(self, picture: Any) -> np.ndarray:
        """The picture in units of its own noise; it rises with the value everywhere."""
        x = _floating(picture)
        if not self.gain:
            return x / x.dtype.type(self.sigma)
        counts = (x - self.offset) / self.gain
        # Below the tangent point the root would end or be too steep: the line goes on instead.
        foot = (3 / 8 + self.readout) / 4
        under = counts + (3 / 8 + self.readout)
        root = 2 * np.sqrt(np.maximum(under, foot))
        return (root + np.minimum(under - foot, 0) / np.sqrt(foot)).astype(x.dtype)

    def inverse(self, even: Any) -> np.ndarray:
        """The picture whose noisy versions, once made even, have `even` as their mean."""
        d = _floating(even)
        if not self.gain:
            return d * d.dtype.type(self.sigma)
        top = np.maximum(d, DARKEST).astype(float)
        counts = _counts(top) + _slope(DARKEST) * np.minimum(d - DARKEST, 0)
        return (self.gain * (counts - self.readout) + self.offset).astype(d.dtype)

    def recipe(self) -> dict[str, float]:
        """The map as plain JSON; `Stabiliser.of_recipe` reads it back."""
        return {"sigma": self.sigma, "gain": self.gain, "offset": self.offset}

    @classmethod
    def of_recipe(cls, recipe: dict[str, float]) -> "Stabiliser":
        """The map that `recipe` describes."""
        return cls(*(float(recipe[name]) for name in ("sigma", "gain", "offset")))


def _counts(d: np.ndarray) -> np.ndarray:
    """The closed form: the expected count whose root transform has mean `d`."""
    tail = np.sqrt(1.5) / 4 / d - 11 / 8 / d**2 + 5 / 8 * np.sqrt(1.5) / d**3
    return d**2 / 4 + tail - 1 / 8


def _slope(d: float) -> float:
    """The derivative of the closed form."""
    tail = -np.sqrt(1.5) / 4 / d**2 + 11 / 4 / d**3 - 15 / 8 * np.sqrt(1.5) / d**4
    return float(d / 2 + tail)


def _floating(x: Any) -> np.ndarray:
    """The array as floats of its own width, at least 32 bits."""
    array = np.asarray(x)
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)
