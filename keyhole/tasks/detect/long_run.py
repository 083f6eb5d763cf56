"""How far means over a stretch of time stray in training.

Neighbouring windows of a series are alike, so the mean of some of them varies more than that of
as many independent ones. Its variance follows from the autocovariance of single windows; how well
that is known, from how many stretches of training share nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float, Int64

FARTHEST = 6.0  # standard deviations at which a window of training counts no more
BEYOND = 1.25  # times the farthest mean of training: less is no change
BARTLETT = 1.5  # degrees of freedom of a Bartlett sum at frequency 0, per window and lag
PRESENT = 0.9  # share of a stretch's windows by which its mean is known

PerFeature = Float[np.ndarray, " feature"]
PerLength = Float[np.ndarray, "length feature"]


@dataclass(frozen=True)
class LongRun:
    """The mean of each feature of windows, and how far means of new windows are from it.

    For each of the `lengths` (how many windows behind each other), `spread` is the standard
    deviation of the difference between a new mean and `center`, `freedom` its degrees of freedom,
    and `largest` the farthest mean of training.
    """

    center: PerFeature
    lengths: tuple[int, ...]
    spread: PerLength
    freedom: PerLength
    largest: PerLength

    @classmethod
    def of(
        cls,
        values: Float[np.ndarray, "window feature"],
        places: Int64[np.ndarray, " window"],
        lengths: tuple[int, ...],
        floor: PerFeature,
    ) -> Self:
        """Of windows of training at these places, counted in windows; NaN for no value.

        `floor` is the least standard deviation of a window.
        """
        features = [
            _Feature.of(column, places, lengths, least)
            for column, least in zip(values.T, floor, strict=True)
        ]
        per_length = (
            np.array([getattr(f, name) for f in features]).reshape(-1, len(lengths)).T
            for name in ("spread", "freedom", "largest")
        )
        return cls(np.array([f.center for f in features]), lengths, *per_length)

    def thresholds(self, p_value: float) -> PerLength:
        """The difference that a new mean exceeds to either side with this probability.

        As if means were Gaussian, and their variance known with these degrees of freedom.
        """
        from scipy.stats import t

        quantile = t.isf(p_value / 2, self.freedom)
        return np.maximum(quantile * self.spread, BEYOND * self.largest)


@dataclass(frozen=True)
class _Feature:
    center: float
    spread: list[float]
    freedom: list[float]
    largest: list[float]

    @classmethod
    def of(
        cls, x: np.ndarray, places: np.ndarray, lengths: tuple[int, ...], least: float
    ) -> _Feature:
        known = ~np.isnan(x)
        x, places = x[known], places[known]
        if len(x) < 2:
            none = [np.inf] * len(lengths)
            return cls(0.0, none, [1.0] * len(lengths), none)
        x = np.clip(x, *(x.mean() + FARTHEST * x.std() * np.array([-1, 1])))
        center = float(x.mean())
        grid, present = np.zeros(places[-1] + 1), np.zeros(places[-1] + 1)
        grid[places], present[places] = x - center, 1.0
        covariance, pairs = _autocovariance(grid, present)
        covariance[0] = max(covariance[0], least**2)
        uncorrected = covariance
        for _ in range(2):  # the mean of the same windows was taken away: add its variance
            together = correlation_length(covariance / covariance[0])
            of_center = covariance[0] * max(together / len(grid), 1 / len(x))
            covariance = uncorrected + of_center
        together = correlation_length(covariance / covariance[0])
        squares = present * (np.square(grid) - np.square(x - center).mean())
        squares = _autocovariance(squares, present)[0]
        spread, freedom, largest = [], [], []
        for length in lengths:
            variance = _variance_of_mean(covariance, length)
            spread.append(float(np.sqrt(variance + of_center)))
            usable = pairs[1 : length + 1].mean() if len(pairs) > length else 0.0
            known = usable * min(BARTLETT / length, 1 / together)
            excess = _excess(squares / covariance[0] ** 2, covariance / covariance[0], length)
            freedom.append(max(1 / (1 / max(known, 1e-9) + excess / (4 * excess + 6)), 1.0))
            largest.append(_largest_mean(grid, present, length))
        return cls(center, spread, freedom, largest)


def _autocovariance(
    grid: Float[np.ndarray, " place"], present: Float[np.ndarray, " place"]
) -> tuple[Float[np.ndarray, " lag"], Float[np.ndarray, " lag"]]:
    """The autocovariance up to half of the length, and how many pairs it rests on."""
    size = 2 * len(grid)
    lags = len(grid) // 2 + 1
    products, pairs = (
        np.fft.irfft(np.abs(np.fft.rfft(part, size)) ** 2, size)[:lags] for part in (grid, present)
    )
    pairs = np.rint(pairs)
    return products / np.maximum(pairs, 1), pairs


def correlation_length(correlation: Float[np.ndarray, " lag"]) -> float:
    """How many windows tell as much of a mean as one independent one would, at least 1.

    Sums of two neighbouring lags count up to the first that is not positive.
    Source: the initial positive sequence of Geyer (1992, section 3.3).
    """
    even = len(correlation) // 2 * 2
    pairs = correlation[:even].reshape(-1, 2).sum(1)
    positive = pairs > 0
    count = len(pairs) if positive.all() else int(positive.argmin())
    return max(float(2 * pairs[:count].sum() - 1), 1.0)


def _variance_of_mean(covariance: Float[np.ndarray, " lag"], length: int) -> float:
    """That of the mean of so many windows, at least that of as many independent ones."""
    lags = np.arange(1, min(length, len(covariance)))
    shared = 2 * ((1 - lags / length) * covariance[lags]).sum()
    return float(max(covariance[0] + shared, covariance[0]) / length)


def _excess(
    squares: Float[np.ndarray, " lag"], correlation: Float[np.ndarray, " lag"], length: int
) -> float:
    """The excess kurtosis of the mean of so many windows, as far as unrest comes in stretches.

    Where the variance of windows is itself random, and lasts, a mean is a mixture of Gaussians;
    `squares` is the autocovariance of squared windows. A t distribution with 4 + 6 / excess
    degrees of freedom has the same kurtosis.
    """
    gaussian = 2 * np.square(correlation)
    lags = np.arange(min(length, len(squares)))
    weights = np.where(lags, 2.0, 1.0) * (1 - lags / length) / length
    return float(max(3 * (weights * (squares - gaussian)[lags]).sum(), 0.0))


def _largest_mean(grid: np.ndarray, present: np.ndarray, length: int) -> float:
    """The farthest mean of so many windows; 0 where no stretch has most of them."""
    if len(grid) < length:
        return 0.0
    sums, counts = (np.convolve(part, np.ones(length), "valid") for part in (grid, present))
    usable = counts >= PRESENT * length
    return float(np.abs(sums[usable] / counts[usable]).max(initial=0.0))
