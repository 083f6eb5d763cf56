"""Estimates of an image's noise: its variance against the value, stripes, correlation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keyhole.core.environment import threads_for
from keyhole.errors import DataError, SettingError
from keyhole.modalities.tiles import mixture
from keyhole.modalities.tiles.mixture import NoiseEvidence, NoiseMixture, spectra
from keyhole.modalities.tiles.noise import WHITE, NoiseModel, impulse_scale

MAX_LINE_GROUPS, LINE_GROUP_SIZE = 4, 150  # of blocks of like brightness
LINE_SURELY = 5.0  # standard errors by which a slope must differ from none
STEEP = 1.3  # and the factor between its ends: texture alone can feign less


@dataclass(frozen=True)
class Line:
    """Variance `base` + `slope` · max(value − `offset`, 0), in the units of the evidence."""

    base: float
    slope: float
    offset: float

    def at(self, values: np.ndarray | float) -> np.ndarray:
        """The variance at these values, never quite 0."""
        rise = self.base + self.slope * np.maximum(values - self.offset, 0)
        return np.maximum(rise, 0.02 * rise.mean() + 1e-12)


def rough_line(evidence: NoiseEvidence) -> Line | None:
    """A first line, from the energy of high frequencies in the quieter blocks of each group."""
    groups = _groups(evidence.means)
    if len(groups) < 3:
        return None
    high = np.argsort(evidence.energies.mean(0))[: evidence.energies.shape[1] // 3]
    loud = evidence.energies[:, high].mean(1)
    points = np.array([np.quantile(loud[g], 0.2) for g in groups])
    values = np.array([evidence.means[g].mean() for g in groups])
    return _line(values, points, 1 / points**2, surely=1.0)


def variance_line(evidence: NoiseEvidence, fitted: NoiseMixture, line: Line) -> Line | None:
    """The line through the noise of each group of blocks; None where a constant will do.

    The mixture was fitted to energies divided by `line`.
    """
    groups = _groups(evidence.means)
    level = line.at(evidence.means)
    values, points, sure = np.zeros((3, len(groups)))
    for i, group in enumerate(groups):
        scale, weight = mixture.scale_of(evidence.energies[group] / level[group, None], fitted)
        typical = level[group].mean()
        values[i] = evidence.means[group].mean()
        points[i] = scale * typical * fitted.lags[0]
        sure[i] = weight / (typical * fitted.lags[0]) ** 2
    return _line(values, points, sure, surely=LINE_SURELY)


def _groups(means: np.ndarray) -> list[np.ndarray]:
    """Blocks of like brightness, as equal in number as can be."""
    count = min(MAX_LINE_GROUPS, len(means) // LINE_GROUP_SIZE)
    return np.array_split(np.argsort(means, kind="stable"), count) if count else []


def _line(
    values: np.ndarray, points: np.ndarray, sure: np.ndarray, *, surely: float
) -> Line | None:
    """The rising line through the points by robust regression with Huber weights."""
    weight, centre, height, slope = sure, 0.0, 0.0, 0.0
    for _ in range(10):
        centre, height = np.average(values, weights=weight), np.average(points, weights=weight)
        spread = weight @ (values - centre) ** 2
        slope = weight @ ((values - centre) * (points - height)) / max(spread, 1e-300)
        off = (points - height - slope * (values - centre)) * np.sqrt(sure)
        typical = max(1.4826 * float(np.median(np.abs(off))), 1e-12)
        weight = sure / np.maximum(np.abs(off) / (1.5 * typical), 1)
    error = typical / np.sqrt(max(weight @ (values - centre) ** 2, 1e-300))
    ends = height + slope * (np.array([values.min(), values.max()]) - centre)
    if slope <= surely * error or ends[1] <= STEEP * max(ends[0], 0):
        return None
    if values.min() < 0:
        return Line(max(float(ends[0]), 0.0), float(slope), float(values.min()))
    base = height - slope * centre
    if base < 3 * error * centre:  # a line through the origin is as good
        slope, base = weight @ (values * points) / (weight @ values**2), 0.0
    return Line(float(base), float(slope), 0.0)


SEGMENTS = 4  # parts of a row whose medians are compared: noise is in all of them, content rarely
MIN_STRIPED_SIDE = 32  # pixels; of less there is nothing to tell stripes from
STRIPES_SURELY = 6.0  # standard errors
MEDIAN_SQUARE = 0.455  # the median of the square of a standard normal number
OF_DIFFERENCE = 1.5  # variance of a pixel less the mean of the two beside it, white noise of 1


def stripes(windows: Sequence[np.ndarray]) -> tuple[float, float]:
    """The standard deviations of the noise that rows share, and columns; 0 where none is sure."""
    planes = [w if w.ndim == 3 else w[..., None] for w in windows]
    channels = [np.asarray(p[..., c], float) for p in planes for c in range(p.shape[2])]
    return _rows(channels), _rows([channel.T for channel in channels])


def _rows(channels: list[np.ndarray]) -> float:
    """The deviation of what rows share.

    A row's medians over its segments, each less those of the rows beside it, agree where the row
    as a whole is shifted. Their products over pairs of segments have a median above zero then;
    an edge along a row makes few large ones, which a median does not see.
    """
    products, variances = [np.zeros(0)], []
    pairs = [(i, j) for i in range(SEGMENTS) for j in range(i)]
    for channel in channels:
        x = np.where(np.isfinite(channel), channel, np.nan)
        if min(x.shape) < MIN_STRIPED_SIDE or np.isnan(x).mean() > 0.2:
            continue
        steps = x[1:-1] - (x[:-2] + x[2:]) / 2
        medians = [np.nanmedian(part, axis=1) for part in np.array_split(steps, SEGMENTS, axis=1)]
        products.append(np.mean([medians[i] * medians[j] for i, j in pairs], 0))
        distances = [np.median(np.abs(medians[i] - medians[j])) for i, j in pairs]
        variances.append(float(np.median(distances)) ** 2)
    together = np.concatenate(products)
    together = together[np.isfinite(together)]
    if not len(together):
        return 0.0
    middle = float(np.median(together))
    error = float(np.mean(variances)) / np.sqrt(len(together))
    if middle <= STRIPES_SURELY * error or middle <= 0:
        return 0.0
    return float(np.sqrt(middle / (MEDIAN_SQUARE * OF_DIFFERENCE)))


REACH = 2  # noise is told from content only where it reaches no further than two pixels
MIN_PIXELS = 256  # of fewer the median difference is taken
SOME_BLOCKS = 4_000  # on which white and correlated noise compete
# Nats a block by which correlated noise must be likelier. Measured on fifteen images: at most
# 0.19 for white noise, at least 0.56 for noise blurred by a 3x3 box.
CLEARLY = 0.35
# The same for noise that grows with the value: at most 0.09 for noise that does not, at least
# 0.10 for counts, and there on an image of nearly one brightness.
RISING = 0.1
FREEDOM = (REACH + 1) ** 2 - 1  # numbers that correlated noise has over white
FAINT = 0.15  # a correlation between neighbours below this is called none
OBSERVED = 0.15  # of the noise of single pixels: fainter stripes cannot be seen in it
ROUNDING = 1e-6  # of the largest value
BROAD, CLOSE = 0.5, 0.15  # how much the amounts of content are smoothed: to decide, to measure


def estimate(windows: Any) -> NoiseModel:
    """The noise of one image, or of windows of it; 0 for one pixel, or a constant image.

    Pixels that are gaps (NaN), clipped or empty background are left out.
    """
    return estimate_many([windows] if isinstance(windows, np.ndarray) else list(windows))


@threads_for(0)
def estimate_many(images: Sequence[Any]) -> NoiseModel:
    """The one noise of many images of a kind, from their evidence together.

    Raises: DataError for an image without two or three axes, or not made of numbers.
    """
    arrays = [np.asarray(image) for image in images]
    for array in arrays:
        if array.ndim not in {2, 3} or array.dtype.kind not in "biuf":
            raise DataError(
                "expected an array of numbers with axes (row, column[, channel]), got "
                f"{array.dtype} of shape {array.shape}"
            )
    evidence = mixture.gather(arrays)
    if evidence.still:
        return NoiseModel(0.0)
    if len(evidence.means) * evidence.fresh * evidence.side**2 < MIN_PIXELS:
        return _of_differences(arrays)
    unit = float(np.median(evidence.energies.mean(0)))
    if unit <= 0:
        return NoiseModel(0.0)
    even = replace(evidence, energies=evidence.energies / unit)
    constant = _mixture(even)
    line, lags = _with_line(even, constant.nats)
    if line is None:
        line, lags = Line(float(constant.lags[0]), 0.0, 0.0), constant.lags
    sigma, gain = np.sqrt(line.base * unit), line.slope * unit
    noise = NoiseModel(float(sigma), float(gain), line.offset, _kernel(lags))
    largest = max(float(np.nanmax(np.abs(a), initial=0, where=np.isfinite(a))) for a in arrays)
    if float(noise.level(largest)) <= ROUNDING * largest:  # left of rounding to float32
        return NoiseModel(0.0)
    planes = [array if array.ndim == 3 else array[..., None] for array in arrays]
    middle = float(np.nanmedian(np.concatenate([plane.ravel() for plane in planes])))
    least = OBSERVED * float(noise.level(middle))
    rows, columns = (level if level > least else 0.0 for level in stripes(planes))
    return replace(noise, rows=rows, columns=columns, impulses=impulse_scale(planes)[0])


def _with_line(evidence: NoiseEvidence, least: float) -> tuple[Line | None, np.ndarray]:
    """Variance against value, and the autocovariances of noise made even by it.

    There is no line unless it makes the blocks clearly likelier than `least` nats.
    """
    line, lags, nats, fitted = rough_line(evidence), np.ones(1), least, None
    for _ in range(3):
        if line is None:
            return None, lags
        level = line.at(evidence.means)
        even = replace(evidence, energies=evidence.energies / level[:, None])
        fitted = _mixture(even, fitted)
        nats = fitted.nats - evidence.energies.shape[1] * float(np.log(level).mean()) / 2
        lags, line = fitted.lags, variance_line(evidence, fitted, line)
    if line is None:
        return None, lags
    mixed = line.base > line.at(evidence.means.max()) / 4  # so texture might feign
    return (line if nats > least + RISING * (2 if mixed else 1) else None), lags


def _mixture(evidence: NoiseEvidence, like: NoiseMixture | None = None) -> NoiseMixture:
    """The mixture with white noise, or with correlated noise where that is clearly likelier.

    One fitted to nearly the same evidence has settled which, and is the place to start from.
    """
    side, energies, fresh = evidence.side, evidence.energies, evidence.fresh
    white = spectra(side, 0)
    if like is not None:
        design = white if len(like.lags) == 1 else spectra(side, REACH)
        return mixture.fit(energies, design, like, smooth=CLOSE, fresh=fresh)
    if side > 2 * REACH + 1:
        design, some = spectra(side, REACH), energies[:SOME_BLOCKS]
        plain = mixture.fit(some, white, smooth=BROAD, fresh=fresh)
        bound = mixture.fit(some, design, smooth=BROAD, fresh=fresh)
        near = np.abs(bound.lags[[1, REACH + 1]]).max() / bound.lags[0]
        chance = FREEDOM / 2 / (fresh * len(some))  # what it gains on noise alone
        if bound.nats > plain.nats + CLEARLY + chance and near > FAINT:
            return mixture.fit(energies, design, bound, smooth=CLOSE, fresh=fresh)
    return mixture.fit(energies, white, smooth=CLOSE, fresh=fresh)


def _kernel(lags: np.ndarray) -> tuple[tuple[float, ...], ...]:
    if len(lags) == 1:
        return WHITE
    quarter = np.clip(lags / lags[0], -1, 1).reshape(REACH + 1, REACH + 1)
    lag = np.abs(np.arange(-REACH, REACH + 1))
    return tuple(tuple(map(float, row)) for row in quarter[np.ix_(lag, lag)])


def _of_differences(arrays: list[np.ndarray]) -> NoiseModel:
    """White noise from the median difference of neighbours: all that tiny images allow."""
    steps = [np.zeros(0)]
    for array in arrays:
        x = np.asarray(array[:64, :64], float)
        steps += [np.diff(x, axis=0).ravel(), np.diff(x, axis=1).ravel()]
    sizes = np.abs(np.concatenate(steps))
    sizes = sizes[np.isfinite(sizes)]
    return NoiseModel(float(np.median(sizes) / 0.6745 / np.sqrt(2)) if len(sizes) else 0.0)


def pooled(noises: Sequence[NoiseModel], weights: Sequence[float] | None = None) -> NoiseModel:
    """One noise for many images of a kind, from the noise of each.

    Variances are averaged, never standard deviations. `estimate_many` is better if the images
    are available: it pools the evidence. Raises: SettingError without a noise or a weight.
    """
    share = np.ones(len(noises)) if weights is None else np.asarray(weights, float)
    if len(share) != len(noises) or not share.sum() > 0 or share.min() < 0:
        raise SettingError(f"expected {len(noises)} weights, all zero or above and not all zero")
    share = share / share.sum()

    def column(name: str) -> np.ndarray:
        return np.array([getattr(noise, name) for noise in noises])

    gain = float(share @ column("gain"))
    offset = float((share * column("gain")) @ column("offset") / gain) if gain else 0.0
    side = max(len(n.kernel) for n in noises)
    total = np.zeros((side, side))
    for part, noise in zip(share, noises, strict=True):
        edge = (side - len(noise.kernel)) // 2
        total += part * np.pad(np.array(noise.kernel), edge)
    kernel = tuple(tuple(map(float, row)) for row in total)
    names = ("sigma", "rows", "columns")
    sigma, rows, columns = (float(np.sqrt(share @ column(name) ** 2)) for name in names)
    return NoiseModel(
        sigma, gain, offset, kernel, rows, columns, float(share @ column("impulses"))
    )
