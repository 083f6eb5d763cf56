"""Planted faults: what sensors do wrong, put into windows that are good.

A score that cannot tell them from the windows they were put into tells nothing. Which questions
of a detector count is chosen by them, without labels; the amounts are in the channel's spread.
Source: synthetic anomalies as a criterion, e.g. Goswami et al. 2023, "Unsupervised model selection
for time series anomaly detection".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Window = Float[np.ndarray, "step channel"]
Windows = Float[np.ndarray, "window step channel"]
Draws = np.random.Generator
MIN_SPREAD = 1e-3  # of a channel that hardly moves
Fault = Callable[[Window, int, slice, Windows, Draws], None]  # changes the window in place


def spike(x: Window, channel: int, when: slice, others: Windows, rng: Draws) -> None:
    """One value 3 to 6 spreads off."""
    step = rng.integers(when.start, when.stop)
    x[step, channel] += rng.choice([-1, 1]) * rng.uniform(3, 6)


def drift(x: Window, channel: int, when: slice, others: Windows, rng: Draws) -> None:
    """A ramp that ends 2 to 4 spreads off."""
    size = when.stop - when.start
    x[when, channel] += rng.choice([-1, 1]) * np.linspace(0, rng.uniform(2, 4), size)


def stuck(x: Window, channel: int, when: slice, others: Windows, rng: Draws) -> None:
    """The same value again and again."""
    x[when, channel] = x[when.start, channel]


def noise(x: Window, channel: int, when: slice, others: Windows, rng: Draws) -> None:
    """Noise of 1 to 2 spreads."""
    x[when, channel] += rng.normal(0, rng.uniform(1, 2), when.stop - when.start)


def shift(x: Window, channel: int, when: slice, others: Windows, rng: Draws) -> None:
    """Another level, 1 to 3 spreads off."""
    x[when, channel] += rng.choice([-1, 1]) * rng.uniform(1, 3)


def broken(x: Window, channel: int, when: slice, others: Windows, rng: Draws) -> None:
    """The channel of another window: usual by itself, and not beside the others."""
    x[when, channel] = others[rng.integers(len(others)), when, channel]


def warp(x: Window, channel: int, when: slice, others: Windows, rng: Draws) -> None:
    """All channels at half or at twice the speed."""
    steps = np.arange(len(x))
    speed = float(rng.choice([0.5, 2.0]))
    places = (steps * speed) % (len(x) - 1)
    for i in range(x.shape[1]):
        x[:, i] = np.interp(places, steps, x[:, i])


FAULTS: dict[str, Fault] = {
    fault.__name__: fault for fault in (spike, drift, stuck, noise, shift, broken, warp)
}


def planted(windows: Windows, seed: int) -> dict[str, Windows]:
    """For each fault a copy of the windows, each with it in one channel from a step to its end."""
    spread, rng = windows.std((0, 1)).clip(MIN_SPREAD), np.random.default_rng(seed)
    return {
        name: _with_fault(windows / spread, fault, rng) * spread for name, fault in FAULTS.items()
    }


def _with_fault(scaled: Windows, fault: Fault, rng: Draws) -> Windows:
    others, (count, steps, channels) = scaled.copy(), scaled.shape
    for window in range(count):
        when = slice(int(rng.integers(0, steps // 2 + 1)), steps)
        fault(scaled[window], int(rng.integers(channels)), when, others, rng)
    return scaled
