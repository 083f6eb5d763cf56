"""How well scores and alarms find the anomalies, with bootstrap intervals over rows."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

RESAMPLES, LEVELS = 200, (0.025, 0.975)


def shares_of(
    truth: Bool[np.ndarray, " row"],
    scores: Float[np.ndarray, " row"],
    alarms: Bool[np.ndarray, " row"],
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """AUROC, average precision, precision and recall, and the 95 % interval of each.

    Rows come with falling scores. A resample draws anomalies and normal rows apart, so that each
    holds as many of both as the data; where it has no alarm, it tells nothing about precision.
    Source: Efron 1979, Bootstrap methods.
    """
    ends = np.append(scores[1:] != scores[:-1], True)  # of rows that tie
    rng, drawn = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        weights = np.zeros(len(truth))
        for places in (np.flatnonzero(truth), np.flatnonzero(~truth)):
            chosen = rng.integers(len(places), size=len(places))
            weights[places] = np.bincount(chosen, minlength=len(places))
        drawn.append(_shares(weights, truth, ends, alarms))
    shares = _shares(np.ones(len(truth)), truth, ends, alarms)
    intervals = {}
    for name in shares:
        values = np.array([one[name] for one in drawn])
        values = values[~np.isnan(values)]
        if len(values):
            low, high = np.quantile(values, LEVELS)
            intervals[name] = (float(low), float(high))
    return shares, intervals


def _shares(
    weights: np.ndarray, truth: np.ndarray, ends: np.ndarray, alarms: np.ndarray
) -> dict[str, float]:
    """The four shares, each row counted as often as its weight says."""
    true, false = weights * truth, weights * ~truth
    hits, misses = np.cumsum(true)[ends], np.cumsum(false)[ends]
    hits, misses = (np.concatenate([[0.0], part]) for part in (hits, misses))
    gained, rows = np.diff(hits), np.maximum((hits + misses)[1:], 1)
    area = float(np.sum(np.diff(misses) * (hits[1:] + hits[:-1]) / 2))
    raised, hit = float(weights[alarms].sum()), float(true[alarms].sum())
    shares = {
        "auroc": area / (hits[-1] * misses[-1]),
        "average_precision": float(np.sum(gained * hits[1:] / rows)) / hits[-1],
        "precision": hit / raised if raised else float("nan"),
        "recall": hit / hits[-1],
    }
    return {name: float(share) for name, share in shares.items()}
