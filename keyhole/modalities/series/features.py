"""What is compared of windows: features that methods without training have proven.

Level, spread and slope; power, entropy, flatness and bands of the spectrum; second differences;
correlations between channels. Source: the window statistics and spectral descriptors that lead
the TSB-AD leaderboard.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import combinations, pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Series = Float[Tensor, "window step channel"]
SMALL = 1e-3  # of a standardised channel: less is no spread
BANDS = 4  # of the spectrum, each twice as wide as the one before it, about
MAX_PAIRS = 300  # of channels whose correlation is compared


def filled(x: Series, observed: Bool[Tensor, "window step channel"]) -> Series:
    """The windows, gaps filled by the channel's mean in the window; NaN where all is a gap."""
    count = observed.sum(1, keepdim=True)
    mean = torch.where(observed, x, 0.0).sum(1, keepdim=True) / count.clamp(min=1)
    return torch.where(observed, x, torch.where(count > 0, mean, torch.nan))


def levels(x: Series, patch: int) -> Float[Tensor, "window axis"]:
    """The mean of each patch of each channel."""
    means = [part.mean(1) for part in x.split(patch, 1)]
    return torch.cat(means, 1)


def shares(codes: Int64[Tensor, "window step"], levels: int) -> Float[Tensor, "window level"]:
    """The share of steps that hold each level; code 0 is none."""
    one_hot = torch.nn.functional.one_hot(codes.clamp(max=levels), levels + 1)
    return one_hot[..., 1:].float().mean(1)


def shape(x: Series) -> Float[Tensor, "window axis"]:
    """Mean, logarithm of the spread, and slope over the window, of each channel."""
    steps = torch.linspace(-0.5, 0.5, x.shape[1], dtype=x.dtype)[:, None]
    slope = (x * steps).sum(1) / steps.square().sum()
    return torch.cat([x.mean(1), (spread(x) + SMALL).log(), slope], 1)


def roughness(x: Series) -> Float[Tensor, "window axis"]:
    """Logarithms of the largest and of the mean second difference of each channel."""
    second = (x[:, 2:] - 2 * x[:, 1:-1] + x[:, :-2]).abs()
    return torch.cat([(second.amax(1) + SMALL).log(), (second.mean(1) + SMALL).log()], 1)


def spread(x: Series) -> Float[Tensor, "window channel"]:
    """The standard deviation within each window."""
    return (x - x.mean(1, keepdim=True)).square().mean(1).sqrt()  # quiet where there is no window


def spectrum(x: Series) -> Float[Tensor, "window axis"]:
    """Log power, entropy, flatness, centroid and log band powers of each channel."""
    size = x.shape[1]
    hann = torch.hann_window(size, periodic=False, dtype=x.dtype)[:, None]
    x = (x - x.mean(1, keepdim=True)) * hann
    waves = torch.fft.rfft(x, dim=1) if len(x) else x[:, : size // 2 + 1]  # MKL wants a window
    power = waves.abs()[:, 1:].square()
    power = power + SMALL**2 * size
    total, count = power.sum(1), power.shape[1]
    share = power / total[:, None]
    entropy = -(share * share.log()).sum(1) / max(math.log(count), 1.0)
    flatness = power.log().mean(1) - power.mean(1).log()
    centroid = (share * torch.arange(1, count + 1, dtype=x.dtype)[:, None]).sum(1) / count
    edges = _edges(size)
    by_band = [power[:, first:last].mean(1).log() for first, last in pairwise(edges)]
    return torch.cat([total.log(), entropy, flatness, centroid, *by_band], 1)


def bands(window: int) -> int:
    """The number of bands of a window's spectrum."""
    return len(_edges(window)) - 1


@cache
def _edges(window: int) -> tuple[int, ...]:
    count = window // 2
    edges = np.round(np.geomspace(1, count + 1, BANDS + 1)).astype(int)
    return tuple((np.unique(edges) - 1).tolist())


def pairs(channels: int) -> list[tuple[int, int]]:
    """The pairs of channels that are compared: all, or `MAX_PAIRS` from all over."""
    every = list(combinations(range(channels), 2))
    if len(every) <= MAX_PAIRS:
        return every
    return [every[i] for i in np.linspace(0, len(every) - 1, MAX_PAIRS).astype(int)]


def relations(x: Series) -> Float[Tensor, "window pair"]:
    """The correlations of pairs of channels within the window."""
    offset = x - x.mean(1, keepdim=True)
    scaled = offset / (spread(x) + SMALL)[:, None]
    first, second = (list(part) for part in zip(*pairs(x.shape[2]), strict=True))
    return (scaled.mT @ scaled)[:, first, second] / x.shape[1]
