"""Variance of the noise against the value under it: a constant, or a line that rises."""

from dataclasses import dataclass

import numpy as np

from keyhole.noise.evidence import Evidence
from keyhole.noise.mixture import Mixture, scale_of

GROUPS, GROUP_SIZE = 12, 150
SURELY = 5.0  # standard errors by which a slope must differ from none
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


def rough_line(evidence: Evidence) -> Line | None:
    """A first line, from the energy of high frequencies in the quieter blocks of each group."""
    groups = _groups(evidence.means)
    if len(groups) < 3:
        return None
    high = np.argsort(evidence.energies.mean(0))[: evidence.energies.shape[1] // 3]
    loud = evidence.energies[:, high].mean(1)
    points = np.array([np.quantile(loud[g], 0.2) for g in groups])
    values = np.array([evidence.means[g].mean() for g in groups])
    return _line(values, points, 1 / points**2, surely=1.0)


def variance_line(evidence: Evidence, mixture: Mixture, line: Line) -> Line | None:
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
    return _line(values, points, sure, surely=SURELY)


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
