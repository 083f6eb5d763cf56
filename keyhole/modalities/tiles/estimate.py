"""Estimates of an image's noise: its variance against the value, stripes, correlation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keyhole.core.environment import threads_for
from keyhole.errors import DataError, SettingError
from keyhole.modalities.tiles.mixture import (
    NoiseEvidence,
    NoiseMixture,
    begin,
    fit,
    gather,
    scale_of,
    spectra,
)
from keyhole.modalities.tiles.noise import WHITE, Noise, impulse_scale

GROUPS, GROUP_SIZE = 12, 150
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


def variance_line(evidence: NoiseEvidence, mixture: NoiseMixture, line: Line) -> Line | None:
    """The line through the noise of each group of blocks; None where a constant will do.

    `mixture` was fitted to energies divided by `line`.
    """
    groups = _groups(evidence.means)
    level = line.at(evidence.means)
    values, points, sure = np.zeros((3, len(groups)))
    for i, group in enumerate(groups):
        typical = level[group].mean()
        even = evidence.energies[group] / level[group, None]
        scale, weight = scale_of(even, mixture, 1.0)
        values[i] = evidence.means[group].mean()
        points[i] = scale * typical * mixture.lags[0]
        sure[i] = weight / (typical * mixture.lags[0]) ** 2
    return _line(values, points, sure, surely=LINE_SURELY)


def _groups(means: np.ndarray) -> list[np.ndarray]:
    """Blocks of like brightness, as equal in number as can be."""
    count = min(GROUPS, len(means) // GROUP_SIZE)
    return np.array_split(np.argsort(means, kind="stable"), count) if count else []


def _line(
    values: np.ndarray, points: np.ndarray, sure: np.ndarray, *, surely: float
) -> Line | None:
    """The rising line through the points, outliers above it held at arm's length."""
    held = sure
    centre, height, slope = 0.0, 0.0, 0.0
    for _ in range(10):
        centre, height = np.average(values, weights=held), np.average(points, weights=held)
        spread = held @ (values - centre) ** 2
        slope = held @ ((values - centre) * (points - height)) / max(spread, 1e-300)
        off = (points - height - slope * (values - centre)) * np.sqrt(sure)
        typical = max(1.4826 * float(np.median(np.abs(off))), 1e-12)
        held = sure / np.maximum(np.abs(off) / (1.5 * typical), 1)
    error = typical / np.sqrt(max(held @ (values - centre) ** 2, 1e-300))
    ends = height + slope * (np.array([values.min(), values.max()]) - centre)
    rises = slope > surely * error and ends[1] > STEEP * max(ends[0], 0)
    if not rises:
        return None
    base = height - slope * centre
    if values.min() < 0:
        return Line(max(float(ends[0]), 0.0), float(slope), float(values.min()))
    if base < 3 * error * centre:  # a line through the origin is as good
        slope, base = held @ (values * points) / (held @ values**2), 0.0
    return Line(float(base), float(slope), 0.0)


GROUPS = 4  # parts of a row whose medians are compared: noise is in all of them, content rarely
LEAST_SIDE = 32  # pixels; of less there is nothing to tell stripes from
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
    products, score_stds = [np.zeros(0)], []
    for channel in channels:
        if min(channel.shape) < LEAST_SIDE:
            continue
        x = np.where(np.isfinite(channel), channel, np.nan)
        if np.isnan(x).mean() > 0.2:
            continue
        steps = x[1:-1] - (x[:-2] + x[2:]) / 2
        parts = np.array_split(steps, GROUPS, axis=1)
        middles = np.array([np.nanmedian(part, axis=1) for part in parts])
        pairs = [(i, j) for i in range(GROUPS) for j in range(i)]
        products.append(np.mean([middles[i] * middles[j] for i, j in pairs], 0))
        apart = [np.median(np.abs(middles[i] - middles[j])) for i, j in pairs]
        score_stds.append(float(np.median(apart)) ** 2)
    together = np.concatenate(products)
    together = together[np.isfinite(together)]
    if not len(together):
        return 0.0
    middle = float(np.median(together))
    error = float(np.mean(score_stds)) / np.sqrt(len(together))
    if middle <= STRIPES_SURELY * error or middle <= 0:
        return 0.0
    return float(np.sqrt(middle / (MEDIAN_SQUARE * OF_DIFFERENCE)))


REACH = 2  # noise is told from content only where it reaches no further than two pixels
TINY = 256  # pixels under which a mixture has nothing to hold on to
FEW = 4_000  # blocks on which white and correlated noise compete
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


def estimate(windows: Any) -> Noise:
    """The noise of one image, from the whole of it or from windows of it.

    Pixels that are gaps (NaN), clipped or empty background are left out. Without anything to
    tell it from (one pixel, a constant image) the noise is 0.
    """
    return estimate_many([windows] if isinstance(windows, np.ndarray) else list(windows))


@threads_for(0)
def estimate_many(images: Sequence[Any]) -> Noise:
    """The one noise of many images of a kind, from their evidence together.

    Raises:
        DataError: An image has not two or three axes, or is not made of numbers.

    """
    arrays = [np.asarray(image) for image in images]
    for array in arrays:
        if array.ndim not in {2, 3} or array.dtype.kind not in "biuf":
            raise DataError(
                f"an image is an array of numbers with axes (row, column[, channel]); given was "
                f"{array.dtype} of shape {array.shape}"
            )
    evidence = gather(arrays)
    if evidence.still:
        return Noise(0.0)
    if len(evidence.means) * evidence.fresh * evidence.side**2 < TINY:
        return _of_differences(arrays)
    unit = float(np.median(evidence.energies.mean(0)))
    if unit <= 0:
        return Noise(0.0)
    even = replace(evidence, energies=evidence.energies / unit)
    constant = _mixture(even)
    line, lags = _with_line(even, constant.nats)
    if line is None:
        line, lags = Line(float(constant.lags[0]), 0.0, 0.0), constant.lags
    sigma, gain = np.sqrt(line.base * unit), line.slope * unit
    found = Noise(float(sigma), float(gain), line.offset, _kernel(lags))
    # What is left of rounding to float32 is no noise.
    largest = max(float(np.nanmax(np.abs(a), initial=0, where=np.isfinite(a))) for a in arrays)
    return (
        _with_rest(found, arrays)
        if float(found.level(largest)) > ROUNDING * largest
        else Noise(0.0)
    )


def _with_rest(noise: Noise, arrays: list[np.ndarray]) -> Noise:
    """The noise with impulses, and with stripes that stand out of it."""
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
        return fit(energies, design, like, smooth=CLOSE, fresh=fresh)
    if side > 2 * REACH + 1:
        design, few = spectra(side, REACH), energies[:FEW]
        plain = fit(few, white, begin(few, white), smooth=BROAD, fresh=fresh)
        bound = fit(few, design, begin(few, design), smooth=BROAD, fresh=fresh)
        near = np.abs(bound.lags[[1, REACH + 1]]).max() / bound.lags[0]
        chance = FREEDOM / 2 / (fresh * len(few))  # what it gains on noise alone
        if bound.nats > plain.nats + CLEARLY + chance and near > FAINT:
            return fit(energies, design, bound, smooth=CLOSE, fresh=fresh)
    return fit(energies, white, begin(energies, white), smooth=CLOSE, fresh=fresh)


def _kernel(lags: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """The autocorrelation as a square, from one quarter of it."""
    if len(lags) == 1:
        return WHITE
    quarter = np.clip(lags / lags[0], -1, 1).reshape(REACH + 1, REACH + 1)
    at = np.abs(np.arange(-REACH, REACH + 1))
    return tuple(tuple(float(feature) for feature in row) for row in quarter[np.ix_(at, at)])


def _of_differences(arrays: list[np.ndarray]) -> Noise:
    """White noise from the median difference of neighbours: all that tiny images allow."""
    steps = [np.zeros(0)]
    for array in arrays:
        x = np.asarray(array[:64, :64], float)
        steps += [np.diff(x, axis=0).ravel(), np.diff(x, axis=1).ravel()]
    found = np.concatenate(steps)
    found = np.abs(found[np.isfinite(found)])
    return Noise(float(np.median(found) / 0.6745 / np.sqrt(2)) if len(found) else 0.0)


def pooled(noises: Sequence[Noise], weights: Sequence[float] | None = None) -> Noise:
    """One noise for many images of a kind, from the noise of each.

    Variances are averaged, never standard deviations. Where the images are at hand,
    `estimate_many` is better: it pools what was seen, not what was made of it.

    Raises:
        SettingError: There is no noise, or no weight, to average.

    """
    share = np.ones(len(noises)) if weights is None else np.asarray(weights, float)
    if len(share) != len(noises) or not share.sum() > 0 or share.min() < 0:
        raise SettingError(f"{len(noises)} noises need as many weights, none below 0, not all 0")
    share = share / share.sum()
    sigma = np.sqrt(share @ np.array([n.sigma**2 for n in noises]))
    gain = float(share @ np.array([n.gain for n in noises]))
    weight = share * np.array([n.gain for n in noises])
    offset = float(weight @ np.array([n.offset for n in noises]) / gain) if gain else 0.0
    side = max(len(n.kernel) for n in noises)
    total = np.zeros((side, side))
    for part, noise in zip(share, noises, strict=True):
        edge = (side - len(noise.kernel)) // 2
        total += part * np.pad(np.array(noise.kernel), edge)
    kernel = tuple(tuple(map(float, row)) for row in total)
    rows, columns = (
        float(np.sqrt(share @ np.array([getattr(n, name) ** 2 for n in noises])))
        for name in ("rows", "columns")
    )
    impulses = float(share @ np.array([n.impulses for n in noises]))
    return Noise(float(sigma), gain, offset, kernel, rows, columns, impulses)
