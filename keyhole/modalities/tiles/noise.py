"""The noise of an image as a few numbers; its transform to variance 1; impulses, background."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from keyhole.errors import SettingError

WHITE = ((1.0,),)
SPECTRUM_SIDE = 64  # of the square in which a filter is computed


@dataclass(frozen=True)
class NoiseModel:
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
                "expected finite numbers with sigma >= 0 and gain >= 0, got sigma "
                f"{self.sigma}, gain {self.gain}, offset {self.offset}"
            )
        stripes = np.array([self.rows, self.columns, self.impulses])
        if not (np.isfinite(stripes) & (stripes >= 0)).all() or self.impulses > 1:
            raise SettingError(
                "rows and columns of a noise must be >= 0, and impulses from 0 to 1"
            )
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

    def recipe(self) -> dict[str, Any]:
        """The noise as plain JSON; `Noise.of_recipe` reads it back."""
        return {**asdict(self), "kernel": [list(row) for row in self.kernel]}

    @classmethod
    def of_recipe(cls, recipe: dict[str, Any]) -> "NoiseModel":
        """The noise that `recipe` describes."""
        numbers = {f.name: float(recipe[f.name]) for f in fields(cls) if f.name != "kernel"}
        return cls(**numbers, kernel=tuple(tuple(map(float, row)) for row in recipe["kernel"]))

    def describe(self, span: float | None = 1.0) -> str:
        """One sentence for people; `span` is the range of its values, None if unknown."""
        if self.kind == "none":
            return "no noise that can be separated from the image"
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
            middle = len(self.kernel) // 2
            below, right = self.kernel[middle + 1][middle], self.kernel[middle][middle + 1]
            text += f", correlated with the pixel below by {below:.2f} and beside by {right:.2f}"
        elif not self.striped:
            text += ", not correlated between pixels"
        for name, std in (("row", self.rows), ("column", self.columns)):
            if std > 0:
                text += f"; pixels of a {name} share noise of standard deviation {std:.3g}"
                text += ", which is not removed"
        if self.impulses > 0:
            share = f"{100 * self.impulses:.2g} %"
            text += f"; {share} of the pixels are impulses (hot or dead), treated as missing"
        return text

    @property
    def striped(self) -> bool:
        """Whether all pixels of a row, or of a column, share noise."""
        return max(self.rows, self.columns) > 0

    def __str__(self) -> str:
        # A deviation over 1 is no image in [0, 1]; whoever knows the range calls `describe`.
        return self.describe(1.0 if self.sigma <= 1 else None)


# An unbiased inverse reaches down to the expected value for a dark pixel without readout noise.
DARKEST = 2 * np.sqrt(3 / 8)
ROOT = np.sqrt(1.5)
DARKEST_SLOPE = DARKEST / 2 + (
    -ROOT / 4 / DARKEST**2 + 11 / 4 / DARKEST**3 - 15 / 8 * ROOT / DARKEST**4
)


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
    def of(cls, noise: NoiseModel) -> "Stabiliser":
        """The map for this noise; without noise, the identity."""
        sigma = 1.0 if noise.kind == "none" else noise.sigma
        return cls(float(sigma), float(noise.gain), float(noise.offset))

    @property
    def _readout(self) -> float:
        """The variance of the signal-independent part, in counts."""
        return (self.sigma / self.gain) ** 2

    def forward(self, image: Any) -> np.ndarray:
        """The image in units of its own noise; it rises with the value everywhere."""
        x = _floating(image)
        if not self.gain:
            return x / x.dtype.type(self.sigma)
        counts = (x - self.offset) / self.gain
        # Below the tangent point the root would end or be too steep: the line goes on instead.
        foot = (3 / 8 + self._readout) / 4
        under = counts + (3 / 8 + self._readout)
        root = 2 * np.sqrt(np.maximum(under, foot))
        return (root + np.minimum(under - foot, 0) / np.sqrt(foot)).astype(x.dtype)

    def inverse(self, even: Any) -> np.ndarray:
        """The image whose noisy versions, once made even, have `even` as their mean."""
        d = _floating(even)
        if not self.gain:
            return d * d.dtype.type(self.sigma)
        top = np.maximum(d, DARKEST).astype(float)
        # The closed form: the expected count whose root transform has mean `top`.
        tail = ROOT / 4 / top - 11 / 8 / top**2 + 5 / 8 * ROOT / top**3
        counts = top**2 / 4 + tail - 1 / 8 + DARKEST_SLOPE * np.minimum(d - DARKEST, 0)
        return (self.gain * (counts - self._readout) + self.offset).astype(d.dtype)


def _floating(x: Any) -> np.ndarray:
    """The array as floats of its own width, at least 32 bits."""
    array = np.asarray(x)
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)


def filter_of(noise: NoiseModel) -> list[list[float]] | None:
    """A filter that gives white noise this autocorrelation; None for white noise.

    The root of the noise's spectrum (Wiener-Khinchin); what is negative in it by error is none.
    """
    if not noise.correlated:
        return None
    kernel = np.array(noise.kernel)
    reach = len(kernel) // 2
    padded = np.pad(kernel, (0, SPECTRUM_SIDE - len(kernel)))
    spectrum = np.fft.fft2(np.roll(padded, (-reach, -reach), (0, 1))).real.clip(0)
    square = np.roll(np.fft.ifft2(np.sqrt(spectrum)).real, (2 * reach, 2 * reach), (0, 1))
    return square[: 4 * reach + 1, : 4 * reach + 1].tolist()


def filtered(
    noise: Float[Tensor, "image height width channel"], filter: list[list[float]]
) -> Float[Tensor, "image height width channel"]:
    """White noise through a filter, channel by channel; it wraps around at the edges."""
    count, height, width, channels = noise.shape
    weight = noise.new_tensor(filter)
    weight = weight / weight.square().sum().sqrt().clamp(min=1e-12)  # the deviation stays 1
    reach, planes = len(filter) // 2, noise.permute(0, 3, 1, 2).reshape(-1, 1, height, width)
    for axis in (2, 3):  # a small image is wrapped several times
        size = planes.shape[axis]
        indices = torch.arange(-reach, size + reach, device=noise.device) % size
        planes = planes.index_select(axis, indices)
    planes = functional.conv2d(planes, weight[None, None])
    return planes.reshape(count, channels, height, width).permute(0, 2, 3, 1)


FLAT = (5, 5, 1)  # a square of background that is all of one value
MIN_BACKGROUND, BACKGROUND_SHARE = 64, 0.01  # pixels of a background
MAX_LOOSE = 0.1  # pixels of its value outside such squares, as a share of those inside
MAX_SPECKS = 0.002  # single other pixels in it: counts of dark areas have them, background not
NOISY = 0.25  # noise on its value against that elsewhere; where there is none, zeros are counts


def background_value(windows: Sequence[np.ndarray], noise: NoiseModel) -> float | None:
    """The value of a background that is constant though the image has noise; else None."""
    pixels = np.concatenate([np.ravel(window) for window in windows])
    pixels = pixels[np.isfinite(pixels)]
    if not len(pixels) or noise.kind == "none":
        return None
    values, counts = np.unique(pixels, return_counts=True)
    value, count = float(values[counts.argmax()]), int(counts.max())
    if count < max(MIN_BACKGROUND, BACKGROUND_SHARE * len(pixels)) or count == len(pixels):
        return None
    others = float(np.median(pixels[pixels != value]))
    if noise.level(value) < NOISY * noise.level(others):
        return None
    flat = specks = 0
    for window in windows:
        equal = window == value
        flat += int(background(window, value).sum())
        near = ndimage.convolve(equal.astype(np.uint8), np.ones((3, 3, 1), np.uint8))
        specks += int((~equal & (near >= 7)).sum())
    scattered = count - flat > MAX_LOOSE * flat or specks > MAX_SPECKS * flat
    return None if flat < MIN_BACKGROUND or scattered else value


def background(x: np.ndarray, value: float) -> np.ndarray:
    """True for pixels (height, width, channel) of squares that hold this value alone."""
    edge = FLAT[0] // 2
    padded = np.pad(x == value, [(edge, edge), (edge, edge), (0, 0)], mode="edge")
    return ndimage.binary_opening(padded, np.ones(FLAT, bool))[edge:-edge, edge:-edge]


DEVIATIONS = 8.0  # of the noise: chance does not reach them
RANGES = 2.5  # of the neighbours' own range: edges and lines do not reach them
SPREAD, SLACK = 0.05, 1.5  # a neighbour's share of a point that light made, and noise on it
MIN_IMPULSES, MIN_IMPULSE_SHARE = 4, 1e-4  # fewer are as well points of the image
MAX_IMPULSE_SHARE = 0.1  # more are no rare event: the image is made so
REACH = 2  # pixels to each side that are compared
TO_DEVIATION = 1.4826 / 1.09  # of a pixel, from the median distance to the median of neighbours
NEAR = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
BESIDE = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]) / 4
RING = np.pad(np.zeros((3, 3), bool), 1, constant_values=True)


def impulse_scale(windows: Sequence[np.ndarray], *, sure: bool = False) -> tuple[float, float]:
    """The share of impulses in windows of an image, and the scale that `impulses` needs.

    Both are 0 where impulses are so few, or so many, that they are none; `sure` says that there
    are some, however few are in these windows.
    """
    planes = [_planes(window) for window in windows]
    near = [_near(p) for p in planes]
    distances = [np.abs(p - n[0])[np.isfinite(p)] for p, n in zip(planes, near, strict=True)]
    together = np.concatenate([np.zeros(0), *distances])
    scale = float(np.median(together)) * TO_DEVIATION if len(together) else 0.0
    if scale <= 0:
        return 0.0, 0.0
    count = sum(int(_impulses(p, n, scale).sum()) for p, n in zip(planes, near, strict=True))
    share = count / len(together)
    few = count < MIN_IMPULSES or share < MIN_IMPULSE_SHARE
    return (0.0, 0.0) if (few and not sure) or share > MAX_IMPULSE_SHARE else (share, scale)


def impulses(x: np.ndarray, scale: float) -> np.ndarray:
    """True for the impulses (hot and dead pixels) of an image whose noise has this scale.

    A lens spreads a star or a glint over neighbours, and an edge or a line goes on; an impulse
    does neither. So a pixel counts as one if it is far from its eight neighbours, measured both
    by the noise of the image and by how much those differ among themselves, and if its neighbours
    are no nearer to it than the ring around them is.
    """
    planes = _planes(x)
    return np.zeros(planes.shape, bool) if scale <= 0 else _impulses(planes, _near(planes), scale)


def _impulses(planes: np.ndarray, near: tuple[np.ndarray, ...], scale: float) -> np.ndarray:
    """The impulses of planes whose pixels have these medians, least and largest ones near."""
    if min(planes.shape[:2]) < 2 * REACH + 1:
        return np.zeros(planes.shape, bool)
    middle, low, high = near
    away = planes - middle
    far = np.abs(away) > np.maximum(DEVIATIONS * scale, RANGES * (high - low))
    if not far.any():
        return far
    ring = _by_channel(planes, lambda p: ndimage.median_filter(p, footprint=RING, mode="mirror"))
    beside = _by_channel(planes, lambda p: ndimage.convolve(p, BESIDE, mode="mirror"))
    lifted = (beside - ring) * np.sign(away)
    return far & (lifted <= np.maximum(SPREAD * np.abs(away), SLACK * scale))


def _planes(x: np.ndarray) -> np.ndarray:
    planes = np.asarray(x, np.float32)
    return planes if planes.ndim == 3 else planes[..., None]


def _near(planes: np.ndarray) -> tuple[np.ndarray, ...]:
    filters = (ndimage.median_filter, ndimage.minimum_filter, ndimage.maximum_filter)
    near = (partial(apply, footprint=NEAR, mode="mirror") for apply in filters)
    return tuple(_by_channel(planes, apply) for apply in near)


def _by_channel(planes: np.ndarray, apply: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A filter of each channel; gaps are the median of all pixels."""
    observed = np.isfinite(planes)
    if not observed.all():
        middle = float(np.median(planes[observed])) if observed.any() else 0.0
        planes = np.where(observed, planes, np.float32(middle))
    return np.stack([apply(planes[..., c]) for c in range(planes.shape[2])], -1)
