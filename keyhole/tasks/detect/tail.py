"""How improbable are scores beyond the largest calibration score?

Ranks among n calibration scores say nothing below 1 / (n + 1). Beyond that, a generalised Pareto
distribution is fitted to the exceedances over a high threshold (Pickands 1975; Coles 2001,
chapter 4). Three things keep the extrapolation honest:

* Parameters are not plugged in: the survival is its upper 90 % credible bound over a grid of
  shapes and scales, so few exceedances give a heavier tail.
* Several thresholds are fitted, and the most cautious survival counts. Shapes below 0 (a tail
  with an end) are left out, since an end cannot be known.
* Two tests of fit, both against simulations: Anderson and Darling's statistic of the exceedances
  (Choulakian and Stephens 2001 use the same), and the largest score. Where they fail, there is no
  tail, and p-values stay ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHARES = (0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)  # of the scores, above each threshold
LEAST, MOST = 40, 500  # exceedances of a fit
MIN_FIT = 0.1  # p-value of Anderson and Darling's test: below, this threshold is not used
CREDIBLE = 0.9
MIN_MAXIMUM = 0.1  # chance of a score as large as the largest: below, the tail is refused
REACH = 100  # times less probable than the least rank: no further is extrapolated
SHAPES = np.linspace(0.0, 1.0, 26)
SCALES = np.exp(np.linspace(-1.5, 1.5, 61))  # times the mean exceedance
SIMULATIONS = 100
NEAR, FAR, POINTS = 1e-3, 1e4, 400  # grid of the survival, in mean exceedances


@dataclass(frozen=True)
class Tail:
    """The survival beyond the largest of n scores: `log_p` at the scores `grid`, both (point,).

    `exceedances` is how many scores the first of its fits rests on, `fit_p` that fit's p-value.
    """

    grid: np.ndarray
    log_p: np.ndarray
    exceedances: int
    fit_p: float

    @classmethod
    def fit(cls, scores: np.ndarray) -> Tail | None:
        """The tail of sorted, finite scores (row,); None where no tail passes both tests."""
        counts = {min(int(share * len(scores)), MOST) for share in SHARES}
        most_first = sorted((count for count in counts if count >= LEAST), reverse=True)
        fits = [fit for count in most_first if (fit := _fitted(scores, count))]
        if not fits:
            return None
        threshold, exceedances, fit_p = fits[0]
        steps = np.concatenate([[0.0], np.geomspace(NEAR, FAR, POINTS)])
        grid = threshold + steps * exceedances.mean()
        curves = [
            _log_survival(grid - start, above) + np.log((len(above) + 1) / (len(scores) + 1))
            for start, above, _ in fits
        ]
        tail = cls(grid, np.max(curves, axis=0), len(exceedances), fit_p)
        p_maximum = -np.expm1(len(scores) * np.log1p(-tail.p_value(scores[-1:])[0]))
        return tail if p_maximum >= MIN_MAXIMUM else None

    def p_value(self, scores: np.ndarray) -> np.ndarray:
        """The chance of a score at least this large, for scores beyond the largest one."""
        return np.minimum(np.exp(np.interp(scores, self.grid, self.log_p)), 1 - 1e-12)

    def scores_at(self, p_value: np.ndarray) -> np.ndarray:
        """The scores with these p-values."""
        return np.interp(-np.log(p_value), -self.log_p, self.grid)

    def score_at(self, p_value: float) -> float:
        """The score with this p-value."""
        return float(self.scores_at(np.array(p_value)))


def _fitted(scores: np.ndarray, count: int) -> tuple[float, np.ndarray, float] | None:
    """A threshold, the exceedances over it, and their fit's p-value; None for a bad fit."""
    threshold = float(scores[-count - 1])
    exceedances = scores[-count:] - threshold
    if exceedances[0] <= 0:  # tied with the threshold: not continuous there
        return None
    fit_p = goodness_of_fit(exceedances)
    return (threshold, exceedances, fit_p) if fit_p >= MIN_FIT else None


def _log_survival(distance: np.ndarray, exceedances: np.ndarray) -> np.ndarray:
    """Log survival at distances (point,) beyond the threshold, 0 before it.

    The larger of its posterior mean and its upper credible bound; flat prior over shapes in
    [0, 1] and over log scales.
    """
    scales, shapes, weight = _posterior(exceedances)
    scaled = np.maximum(distance, 0)[:, None] / scales  # (point, draw)
    flat = shapes == 0
    transformed = np.where(flat, 1.0, shapes)
    log_survival = np.where(flat, -scaled, -np.log1p(transformed * scaled) / transformed)
    order = np.argsort(log_survival, axis=1)
    place = (np.cumsum(weight[order], axis=1) < CREDIBLE).sum(1).clip(max=len(weight) - 1)
    points = np.arange(len(distance))
    bound = log_survival[points, order[points, place]]
    return np.maximum(bound, np.log(np.maximum(np.exp(log_survival) @ weight, 1e-300)))


def _posterior(exceedances: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scales, shapes and weights, each (draw,), of the grid's points that carry weight."""
    scales = SCALES * exceedances.mean()
    scaled = exceedances[:, None] / scales  # (exceedance, scale)
    log_post = np.empty((len(SHAPES), len(scales)))
    for i, shape in enumerate(SHAPES):
        power = scaled if shape == 0 else (1 / shape + 1) * np.log1p(shape * scaled)
        log_post[i] = -len(exceedances) * np.log(scales) - power.sum(0)
    weight = np.exp(log_post - log_post.max())
    weight /= weight.sum()
    i, j = np.nonzero(weight > 1e-6)
    return scales[j], SHAPES[i], weight[i, j] / weight[i, j].sum()


def goodness_of_fit(exceedances: np.ndarray) -> float:
    """The p-value of Anderson and Darling's test that sorted exceedances are generalised Pareto.

    Shape and scale are estimated, so the statistic is compared with that of samples drawn from
    the fit and estimated alike (a parametric bootstrap with a fixed seed).
    """
    shape, scale = _estimated(exceedances[None])
    observed = _anderson_darling(exceedances[None], shape, scale)[0]
    uniform = np.random.default_rng(0).random((SIMULATIONS, len(exceedances)))
    transformed = _nonzero(shape[0])
    drawn = np.sort((uniform**-transformed - 1) / transformed * scale[0], axis=1)
    drawn = np.maximum(drawn, 1e-12 * scale[0])
    simulated = _anderson_darling(drawn, *_estimated(drawn))
    return float((1 + (simulated >= observed).sum()) / (SIMULATIONS + 1))


def _estimated(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shape and scale of each sorted sample (sample, exceedance), both (sample,).

    Source: Zhang and Stephens 2009, equations 6 to 8 (their k is minus the shape).
    """
    count = samples.shape[1]
    points = 20 + int(np.sqrt(count))
    quartile = samples[:, max(int(count / 4 + 0.5) - 1, 0)][:, None]
    spaced = 1 - np.sqrt(points / (np.arange(1, points + 1) - 0.5))
    theta = 1 / samples[:, -1:] + spaced / (3 * quartile)  # (sample, point)
    shape = np.stack([np.log1p(-t[:, None] * samples).mean(1) for t in theta.T], 1)
    log_like = count * (np.log(-theta / shape) - shape - 1)
    weight = np.exp(log_like - log_like.max(1, keepdims=True))
    best = (theta * weight).sum(1) / weight.sum(1)
    shape = np.log1p(-best[:, None] * samples).mean(1)
    return shape, -shape / best


def _anderson_darling(samples: np.ndarray, shape: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The statistic of each sorted sample (sample, exceedance) under its own distribution."""
    transformed = _nonzero(shape)[:, None]
    inside = np.maximum(1 + transformed * samples / scale[:, None], 1e-12)
    log_above = np.minimum(-np.log(inside) / transformed, -1e-12)
    log_below = np.log(-np.expm1(log_above))
    count = samples.shape[1]
    odd = 2 * np.arange(1, count + 1) - 1
    return -count - (odd * (log_below + log_above[:, ::-1])).sum(1) / count


def _nonzero(shape: np.ndarray) -> np.ndarray:
    """The shapes, those so near 0 that they divide badly moved a little away."""
    return np.where(np.abs(shape) < 1e-8, 1e-8, shape)
