"""The noise of an image as a few numbers, and the transform that makes its variance 1."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from keyhole.errors import SettingError

WHITE = ((1.0,),)


@dataclass(frozen=True)
class Noise:
    """Noise whose variance is `sigma`² + `gain` · max(value − `offset`, 0).

    `kernel` is its autocorrelation: odd, square, 1 in the centre; `((1.0,),)` says that no two
    pixels share noise. `sigma` and `offset` are in the image's units, and so are `rows` and
    `columns`: standard deviations of further noise that all pixels of a row or a column share,
    which denoising leaves. `impulses` is the share of single pixels far from all around them.
    """

    sigma: float
    gain: float = 0.0
    offset: float = 0.0
    kernel: tuple[tuple[float, ...], ...] = WHITE
    rows: float = 0.0
    columns: float = 0.0
    impulses: float = 0.0

    def __post_init__(self) -> None:
        numbers = np.array([self.sigma, self.gain, self.offset])
        if not np.isfinite(numbers).all() or min(self.sigma, self.gain) < 0:
            raise SettingError(
                f"a noise needs finite numbers, sigma >= 0 and gain >= 0; given were sigma "
                f"{self.sigma}, gain {self.gain}, offset {self.offset}"
            )
        stripes = np.array([self.rows, self.columns, self.impulses])
        if not (np.isfinite(stripes) & (stripes >= 0)).all() or self.impulses > 1:
            raise SettingError("rows and columns of a noise are >= 0, impulses from 0 to 1")
        side = len(self.kernel)
        if side % 2 == 0 or any(len(row) != side for row in self.kernel):
            raise SettingError("the kernel of a noise must be square with an odd side")

    def level(self, value: Any) -> np.ndarray:
        """The standard deviation of the noise on a pixel whose true value is `value`."""
        above = np.maximum(np.asarray(value, float) - self.offset, 0)
        return np.sqrt(self.sigma**2 + self.gain * above)

    @property
    def kind(self) -> Literal["none", "gaussian", "poisson-gaussian"]:
        """The family: no noise, one level everywhere, or a level that grows with the value."""
        if self.gain > 0:
            return "poisson-gaussian"
        return "gaussian" if self.sigma > 0 else "none"

    @property
    def correlated(self) -> bool:
        """Whether neighbouring pixels share a part of their noise."""
        return len(self.kernel) > 1

    @property
    def neighbours(self) -> tuple[float, float]:
        """The correlation of a pixel's noise with the one below and the one to the right."""
        if not self.correlated:
            return 0.0, 0.0
        middle = len(self.kernel) // 2
        return self.kernel[middle + 1][middle], self.kernel[middle][middle + 1]

    def recipe(self) -> dict[str, Any]:
        """The noise as plain JSON; `Noise.of_recipe` reads it back."""
        return {
            "sigma": self.sigma,
            "gain": self.gain,
            "offset": self.offset,
            "kernel": [list(row) for row in self.kernel],
            "rows": self.rows,
            "columns": self.columns,
            "impulses": self.impulses,
        }

    @classmethod
    def of_recipe(cls, recipe: dict[str, Any]) -> "Noise":
        """The noise that `recipe` describes."""
        rows = tuple(tuple(float(feature) for feature in row) for row in recipe["kernel"])
        numbers = (float(recipe[name]) for name in ("sigma", "gain", "offset"))
        further = {name: float(recipe[name]) for name in ("rows", "columns", "impulses")}
        return cls(*numbers, kernel=rows, **further)

    def describe(self, span: float | None = 1.0) -> str:
        """One sentence for people; `span` is the range of its values, None if unknown."""
        if self.kind == "none":
            return "no noise that could be told from the image"
        level = f"standard deviation {self.sigma:.3g}"
        if span:
            level += f" ({100 * self.sigma / span:.1f} % of the range)"
        if self.gain > 0:
            zero = f" above {self.offset:.3g}" if self.offset else ""
            text = f"noise that grows with brightness: variance {self.gain:.3g} times the value"
            text = f"Poisson-Gaussian {text}{zero}, and Gaussian noise of {level} on top"
            text = text if self.sigma > 0 else text.rsplit(", and", 1)[0].replace("-Gaussian", "")
        else:
            text = f"Gaussian noise, {level}"
        if self.correlated:
            below, right = self.neighbours
            text += f", correlated with the pixel below by {below:.2f} and beside by {right:.2f}"
        elif not self.striped:
            text += ", not correlated between pixels"
        return "; ".join([text, *self._further()])

    @property
    def striped(self) -> bool:
        """Whether all pixels of a row, or of a column, share noise."""
        return max(self.rows, self.columns) > 0

    def _further(self) -> list[str]:
        """What is said of stripes and impulses."""
        pairs = [("row", self.rows), ("column", self.columns)]
        said = [
            f"pixels of a {name} share further noise of standard deviation {level:.3g}, which is "
            "not removed"
            for name, level in pairs
            if level > 0
        ]
        if self.impulses > 0:
            share = f"{100 * self.impulses:.2g} %"
            said.append(f"{share} of the pixels are impulses (hot or dead), taken for missing")
        return said

    def __str__(self) -> str:
        # A deviation over 1 is no image in [0, 1]; whoever knows the range calls `describe`.
        return self.describe(1.0 if self.sigma <= 1 else None)


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

    def forward(self, image: Any) -> np.ndarray:
        """The image in units of its own noise; it rises with the value everywhere."""
        x = _floating(image)
        if not self.gain:
            return x / x.dtype.type(self.sigma)
        counts = (x - self.offset) / self.gain
        # Below the tangent point the root would end or be too steep: the line goes on instead.
        foot = (3 / 8 + self.readout) / 4
        under = counts + (3 / 8 + self.readout)
        root = 2 * np.sqrt(np.maximum(under, foot))
        return (root + np.minimum(under - foot, 0) / np.sqrt(foot)).astype(x.dtype)

    def inverse(self, even: Any) -> np.ndarray:
        """The image whose noisy versions, once made even, have `even` as their mean."""
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
