"""Simple anomaly detectors for windows of a series, all with the same rule for the threshold.

A window has 32 steps at stride 1. The anomaly score of a step is that of the window that ends
there; the steps before the first window take its score. Channels are standardised by the training
part. The threshold is the 0.99 quantile of scores from 5-fold cross-fitting on the training part:
contiguous blocks, each scored by a detector whose training windows do not overlap the block.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors

STEPS, FOLDS, QUANTILE = 32, 5, 0.99
SPREAD_FLOOR = 1e-3  # of a channel's standard deviation: a stuck sensor has no spread
POWER_FLOOR = 1e-6  # of a channel's variance
BANDS, NEIGHBOURS, VARIANCE_SHARE = 4, 5, 0.9
LEVEL_SIGN = "="  # between a categorical channel and its level

Scorer = Callable[[np.ndarray], np.ndarray]
"""Anomaly scores of windows, an array of (window, step, channel)."""
Fit = Callable[[np.ndarray], Scorer]
"""A scorer fitted on training windows."""
Standardise = Callable[[np.ndarray], np.ndarray]


def windows_of(rows: np.ndarray) -> np.ndarray:
    """All windows of a series: (window, step, channel)."""
    return np.lib.stride_tricks.sliding_window_view(rows, STEPS, axis=0).transpose(0, 2, 1)


def standardiser(train: np.ndarray) -> Standardise:
    """Each column less its training mean, over its standard deviation; a constant's is 1."""
    center, scale = train.mean(0), train.std(0)
    scale = np.where(scale > 1e-9 * np.maximum(np.abs(center), 1), scale, 1)
    return lambda values: (values - center) / scale


def statistics(windows: np.ndarray) -> np.ndarray:
    """Mean, log standard deviation and slope of each channel."""
    time = np.linspace(-0.5, 0.5, STEPS)
    slope = np.einsum("wsc,s->wc", windows, time) / np.square(time).sum()
    spread = np.log(windows.std(1) + SPREAD_FLOOR)
    return np.concatenate([windows.mean(1), spread, slope], 1)


def spectra(windows: np.ndarray) -> np.ndarray:
    """Level and spread of each channel, and what its spectrum looks like.

    Log total power, entropy, flatness and centroid of the periodogram (Hann window, without the
    mean), and log powers of four bands whose edges are spaced geometrically.
    """
    level = windows.mean(1)
    tapered = (windows - level[:, None]) * np.hanning(STEPS)[None, :, None]
    power = np.square(np.abs(np.fft.rfft(tapered, axis=1)))[:, 1:] + POWER_FLOOR
    count = power.shape[1]
    share = power / power.sum(1, keepdims=True)
    entropy = -(share * np.log(share)).sum(1) / np.log(count)
    flatness = np.log(power).mean(1) - np.log(power.mean(1))
    centroid = np.einsum("wfc,f->wc", share, np.arange(1, count + 1) / count)
    edges = np.round(np.geomspace(1, count + 1, BANDS + 1)).astype(int) - 1
    bands = [np.log(power[:, a:b].mean(1)) for a, b in pairwise(edges)]
    spread = np.log(windows.std(1) + SPREAD_FLOOR)
    total = np.log(power.sum(1))
    return np.concatenate([level, spread, total, entropy, flatness, centroid, *bands], 1)


def flat(windows: np.ndarray) -> np.ndarray:
    """All values of a window in one row."""
    return windows.reshape(len(windows), -1)


def statistics_parts(train: np.ndarray) -> Scorer:
    """Squares of three standardised statistics, added for each channel."""
    standardise = standardiser(statistics(train))

    def parts(windows: np.ndarray) -> np.ndarray:
        squares = np.square(standardise(statistics(windows)))
        return squares.reshape(len(windows), 3, -1).sum(1)

    return parts


def pca_parts(train: np.ndarray) -> Scorer:
    """Squares of what the components with nine tenths of the variance leave, for each channel."""
    center = flat(train).mean(0)
    _, singular, axes = np.linalg.svd(flat(train) - center, full_matrices=False)
    share = np.cumsum(np.square(singular)) / np.square(singular).sum()
    axes = axes[: int((share < VARIANCE_SHARE).sum()) + 1]

    def parts(windows: np.ndarray) -> np.ndarray:
        values = flat(windows) - center
        residuals = values - values @ axes.T @ axes
        return np.square(residuals).reshape(windows.shape).sum(1)

    return parts


def length_of(fit_parts: Fit) -> Fit:
    """A detector whose score is the root of the sum over channels."""

    def fit(train: np.ndarray) -> Scorer:
        parts = fit_parts(train)
        return lambda windows: np.sqrt(parts(windows).sum(1))

    return fit


def spectral_mahalanobis(train: np.ndarray) -> Scorer:
    """Mahalanobis distance of spectral features, with a covariance shrunk by Ledoit and Wolf."""
    features = spectra(train)
    standardise = standardiser(features)
    covariance = LedoitWolf().fit(standardise(features))
    return lambda windows: np.sqrt(covariance.mahalanobis(standardise(spectra(windows))))


def nearest_windows(train: np.ndarray) -> Scorer:
    """Mean distance to the five nearest training windows; a training window is its own first."""
    index = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(flat(train))
    return lambda windows: index.kneighbors(flat(windows))[0].mean(1)


def isolation_forest(train: np.ndarray) -> Scorer:
    forest = IsolationForest(random_state=0).fit(flat(train))
    return lambda windows: -forest.score_samples(flat(windows))


def pyod_autoencoder(train: np.ndarray) -> Scorer:
    """PyOD's AutoEncoder at its defaults."""
    np.random.seed(0)
    torch.manual_seed(0)
    made = import_module("pyod.models.auto_encoder").AutoEncoder(random_state=0, verbose=0)
    fitted = made.fit(flat(train))
    return lambda windows: fitted.decision_function(flat(windows))


PARTS: dict[str, Fit] = {"window statistics": statistics_parts, "window PCA": pca_parts}
"""Detectors whose score is a sum over channels; their scorers give (window, channel)."""
METHODS: dict[str, Fit] = {
    "window statistics": length_of(statistics_parts),
    "spectral Mahalanobis": spectral_mahalanobis,
    "window PCA": length_of(pca_parts),  # Sub-PCA
    "nearest windows": nearest_windows,
    "IsolationForest": isolation_forest,
    "PyOD AutoEncoder": pyod_autoencoder,
}


def cross_fitted(fit: Fit, rows: np.ndarray) -> np.ndarray:
    """Scores of the windows within each block, by a detector fitted on windows outside it."""
    windows, starts = windows_of(rows), np.arange(len(rows) - STEPS + 1)
    edges = np.linspace(0, len(rows), FOLDS + 1).astype(int)
    scores = []
    for first, end in pairwise(edges):
        inside = (starts >= first) & (starts + STEPS <= end)
        outside = (starts + STEPS <= first) | (starts >= end)
        standardise = standardiser(np.delete(rows, np.s_[first:end], axis=0))
        score = fit(standardise(windows[outside]))
        scores.append(score(standardise(windows[inside])))
    return np.concatenate(scores)


@dataclass(frozen=True)
class WindowDetector:
    """A baseline fitted on the rows of a series, with its threshold."""

    standardise: Standardise
    score: Scorer
    threshold: float

    @classmethod
    def fit(cls, fit: Fit, rows: np.ndarray, quantile: float = QUANTILE) -> "WindowDetector":
        """Fitted on clean rows, one a time stamp."""
        standardise = standardiser(rows)
        score = fit(windows_of(standardise(rows)))
        return cls(standardise, score, float(np.quantile(cross_fitted(fit, rows), quantile)))

    def anomaly_scores(self, rows: np.ndarray) -> np.ndarray:
        """One score a row."""
        scores = self.score(windows_of(self.standardise(rows)))
        return np.r_[np.full(STEPS - 1, scores[0]), scores]


def channels_of(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame's channels as numbers: without times, a categorical one as a column for each level.

    The levels are those of the column's kind, so that all parts of a series have the same.
    """
    channels = frame.drop(columns=["datetime"])
    return pd.get_dummies(channels, prefix_sep=LEVEL_SIGN, dtype=float).astype(float)


def baseline_events(fit_parts: Fit, train: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Events of a baseline: runs of steps above every cross-fitted training score.

    Runs that are closer than a window are one event. Its channel has the largest part of the score
    at the event's peak.
    """
    rows, channels = channels_of(train).to_numpy(), channels_of(frame)
    detector = WindowDetector.fit(length_of(fit_parts), rows, quantile=1.0)
    scores = detector.anomaly_scores(channels.to_numpy())
    parts_of = fit_parts(windows_of(detector.standardise(rows)))
    steps = np.flatnonzero(scores > detector.threshold)
    events = []
    for run in np.split(steps, np.flatnonzero(np.diff(steps) > STEPS) + 1) if len(steps) else []:
        peak = run[np.argmax(scores[run])]
        low = max(peak - STEPS + 1, 0)
        window = detector.standardise(channels.to_numpy()[low : low + STEPS])
        channel = channels.columns[int(parts_of(window[None])[0].argmax())]
        times = frame["datetime"].iloc[[run[0], run[-1], peak]]
        events.append((*times, channel.split(LEVEL_SIGN)[0]))
    return pd.DataFrame(events, columns=["start", "end", "peak", "channel"])
