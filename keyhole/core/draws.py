"""Random numbers that are a pure function of a seed and a key: the same in every run."""

import numpy as np


def hash_of(seed: int, step: int) -> int:
    """A seed for one step, unlike that of any other: SplitMix64 (Steele et al. 2014)."""
    x = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % (1 << 64)
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % (1 << 64)
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % (1 << 64)
    return x ^ (x >> 31)


def draws(keys: np.ndarray, seed: int) -> np.ndarray:
    """A number in [0, 1) for each uint64 key: SplitMix64's finaliser."""
    x = keys + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % (1 << 64))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2**53
