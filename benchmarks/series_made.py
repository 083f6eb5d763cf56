"""Generated series: eight channels with known faults, and ten channels whose behaviour may change.

A series of eight channels mixes three oscillations (harmonics, a phase that wanders), a slow cycle
and autoregressive noise. Half of the channels also follow another one with a lag. In every other
series the last channel is a valve with three positions, which moves the level of two channels.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.signal import lfilter

CHANNELS, SOURCES, LONGEST_LAG = 8, 3, 5
TRAIN, FAULTY, CLEAN = 6_000, 6_000, 43_200  # steps of 1 s, one after the other
REPEATS = 2  # faults of each kind in a series
SHORTEST, LONGEST = 60, 180  # steps of a fault that is not a spike
POSITIONS = np.array(["closed", "half", "open"])
FACTORS, PERSISTENCE = 3, 0.5


@dataclass(frozen=True)
class Fault:
    """A fault from `start` to before `end`, in steps of the series."""

    kind: str
    channel: str
    start: int
    end: int


@dataclass(frozen=True)
class Series:
    """A clean first part, then faults, then a long clean part; one row a second."""

    frame: pd.DataFrame
    faults: list[Fault]

    @property
    def train(self) -> pd.DataFrame:
        """The clean first part."""
        return self.frame.iloc[:TRAIN]

    @property
    def judged(self) -> pd.DataFrame:
        """All that follows the first part."""
        return self.frame.iloc[TRAIN:]


def persistent(noise: np.ndarray, persistence: float) -> np.ndarray:
    """Autoregressive noise of the same variance from white noise, along the first axis."""
    innovations = np.sqrt(1 - persistence**2) * noise
    innovations[0] = noise[0]
    return np.asarray(lfilter([1], [1, -persistence], innovations, axis=0))


def oscillation(steps: int, rng: np.random.Generator) -> np.ndarray:
    """A sine with two harmonics and a wandering phase, of unit variance."""
    period = rng.uniform(15, 120)
    phase = 2 * np.pi * np.arange(steps) / period + np.cumsum(rng.normal(0, 0.01, steps))
    strengths = np.r_[1, rng.uniform(0, (0.6, 0.3))]
    shifts = rng.uniform(0, 2 * np.pi, len(strengths))
    parts = [a * np.sin((k + 1) * phase + s) for k, (a, s) in enumerate(zip(strengths, shifts))]
    wave = np.sum(parts, 0)
    return wave / wave.std()


def positions_of_valve(steps: int, rng: np.random.Generator) -> np.ndarray:
    """Codes of a valve's positions; it moves every 400 steps on average."""
    moves = rng.random(steps) < 1 / 400
    return np.cumsum(np.where(moves, rng.integers(1, 3, steps), 0)) % 3


def mixture(steps: int, rng: np.random.Generator) -> np.ndarray:
    """Channels of about unit size; each of the second half follows one of the first."""
    longer = steps + LONGEST_LAG
    sources = np.stack([oscillation(longer, rng) for _ in range(SOURCES)], 1)
    values = sources @ rng.normal(size=(SOURCES, CHANNELS))
    turn = 2 * np.pi * np.arange(longer) / rng.uniform(3_000, 5_000) + rng.uniform(0, 2 * np.pi)
    values += np.sin(turn)[:, None] * rng.uniform(0.3, 1, CHANNELS)
    for i in range(CHANNELS):
        noise = persistent(rng.normal(size=longer), rng.uniform(0.3, 0.9))
        values[:, i] += rng.uniform(0.2, 0.4) * noise
    for i in range(CHANNELS // 2):
        lagged = np.roll(values[:, i], rng.integers(1, LONGEST_LAG + 1))
        values[:, CHANNELS // 2 + i] += rng.uniform(0.4, 0.8) * lagged
    return values[LONGEST_LAG:]


def clean_series(seed: int) -> pd.DataFrame:
    """A series without a fault; the last channel is a valve where the seed is odd."""
    rng = np.random.default_rng([seed, 0])
    values = mixture(TRAIN + FAULTY + CLEAN, rng)
    steps, half = len(values), CHANNELS // 2
    names = [f"channel {i}" for i in range(CHANNELS)]
    units = rng.uniform(-100, 100, CHANNELS), np.exp(rng.uniform(-2, 4, CHANNELS))
    frame = pd.DataFrame(units[0] + units[1] * values, columns=names)
    if seed % 2:
        codes = positions_of_valve(steps, rng)
        effect = lfilter([0.1], [1, -0.9], codes - 1.0)
        frame[names[0]] += units[1][0] * effect
        frame[names[half]] += units[1][half] * effect
        frame[names[-1]] = pd.Categorical.from_codes(codes, POSITIONS)
    times = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(steps), unit="s")
    frame.insert(0, "datetime", times)
    return frame


Plant = Callable[[np.ndarray, int, int, float, np.random.Generator], np.ndarray]
"""New values of a channel from `start` to before `end`; `unit` is its standard deviation."""


def sign(rng: np.random.Generator) -> int:
    return int(rng.choice([-1, 1]))


def spike(values, start, end, unit, rng) -> np.ndarray:
    return values[start:end] + sign(rng) * rng.uniform(3, 6) * unit


def drift(values, start, end, unit, rng) -> np.ndarray:
    rise = np.linspace(0, rng.uniform(2, 4) * unit, end - start)
    return values[start:end] + sign(rng) * rise


def stuck(values, start, end, unit, rng) -> np.ndarray:
    return np.full(end - start, values[start])


def noise(values, start, end, unit, rng) -> np.ndarray:
    return values[start:end] + rng.normal(0, rng.uniform(1, 2) * unit, end - start)


def shift(values, start, end, unit, rng) -> np.ndarray:
    return values[start:end] + sign(rng) * rng.uniform(1, 3) * unit


def correlation(values, start, end, unit, rng) -> np.ndarray:
    """The channel's own values from another time, chosen so that there is no jump at the start."""
    places = rng.integers(0, TRAIN - LONGEST, 200)
    place = places[np.argmin(np.abs(values[places] - values[start]))]
    return values[place : place + end - start]


def warp(values, start, end, unit, rng) -> np.ndarray:
    """The channel at half or twice its speed."""
    places = start + np.arange(end - start) * rng.choice([0.5, 2.0])
    return np.interp(places, np.arange(len(values)), values)


KINDS: dict[str, Plant] = {
    "spike": spike, "drift": drift, "stuck": stuck, "noise": noise, "level shift": shift,
    "broken correlation": correlation, "time warp": warp,
}  # fmt: skip


def planted_series(seed: int) -> Series:
    """A series with two faults of each kind, each in one numeric channel, well apart."""
    frame, rng = clean_series(seed), np.random.default_rng([seed, 1])
    kinds = rng.permutation([kind for kind in KINDS for _ in range(REPEATS)])
    slot = FAULTY // len(kinds)
    numeric = frame.select_dtypes(float).columns
    clean, faults = frame.copy(), []
    for i, kind in enumerate(kinds):
        steps = 1 if kind == "spike" else int(rng.integers(SHORTEST, LONGEST + 1))
        start = TRAIN + i * slot + int(rng.integers(SHORTEST, slot - LONGEST - SHORTEST))
        channel = str(rng.choice(numeric))
        values = clean[channel].to_numpy()
        planted = KINDS[kind](values, start, start + steps, values[:TRAIN].std(), rng)
        frame.loc[start : start + steps - 1, channel] = planted
        faults.append(Fault(str(kind), channel, start, start + steps))
    return Series(frame, faults)


class World:
    """Ten correlated channels of unit variance, autoregressive; the same law for every stream."""

    def __init__(self, seed: int, channels: int = 10):
        weights = np.random.default_rng([seed, 2]).normal(size=(FACTORS, channels))
        self.weights = weights * np.sqrt(0.7 / np.square(weights).sum(0))
        self.channels = [f"channel {i}" for i in range(channels)]

    def rows(self, steps: int, rng: np.random.Generator) -> np.ndarray:
        """A new stream: seven tenths of a channel's variance is shared."""
        factors = persistent(rng.normal(size=(steps, FACTORS)), PERSISTENCE)
        own = persistent(rng.normal(size=(steps, len(self.channels))), PERSISTENCE)
        return factors @ self.weights + np.sqrt(0.3) * own

    def changed(self, kind: str, steps: int, at: int, rng: np.random.Generator) -> np.ndarray:
        """A stream in which one channel changes at a step.

        `kind` is "shift", by one standard deviation, or "correlation": from then on the channel
        is independent of the others, with the same margin and persistence.
        """
        rows, channel = self.rows(steps, rng), rng.integers(len(self.channels))
        if kind == "shift":
            rows[at:, channel] += sign(rng)
        else:
            rows[at:, channel] = self.rows(steps - at, rng)[:, channel]
        return rows

    def frames(self, rows: np.ndarray, batch: int) -> Iterator[pd.DataFrame]:
        """The rows in batches, with their times."""
        for first in range(0, len(rows), batch):
            frame = pd.DataFrame(rows[first : first + batch], columns=self.channels)
            seconds = pd.to_timedelta(np.arange(first, first + len(frame)), unit="s")
            frame.insert(0, "datetime", pd.Timestamp("2026-01-01") + seconds)
            yield frame
