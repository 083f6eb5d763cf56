"""The noise of a picture as a few numbers."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from keyhole.errors import SettingError

WHITE = ((1.0,),)


@dataclass(frozen=True)
class Noise:
    """Noise whose variance is `sigma`² + `gain` · max(value − `offset`, 0).

    `kernel` is its autocorrelation: odd, square, 1 in the centre; `((1.0,),)` says that no two
    pixels share noise. `sigma` and `offset` are in the picture's units, and so are `rows` and
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
        rows = tuple(tuple(float(cell) for cell in row) for row in recipe["kernel"])
        numbers = (float(recipe[name]) for name in ("sigma", "gain", "offset"))
        further = {name: float(recipe[name]) for name in ("rows", "columns", "impulses")}
        return cls(*numbers, kernel=rows, **further)

    def describe(self, span: float | None = 1.0) -> str:
        """One sentence for people; `span` is the range of its values, None if unknown."""
        if self.kind == "none":
            return "no noise that could be told from the picture"
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
        # A deviation over 1 is no picture in [0, 1]; whoever knows the range calls `describe`.
        return self.describe(1.0 if self.sigma <= 1 else None)
