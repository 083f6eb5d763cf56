"""What pictures tell about noise: small blocks, each as its mean and its cosine coefficients."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import dct

SIDE, LEAST_SIDE = 8, 4
BLOCKS = 10_000  # 640,000 pixels are looked at, however large the pictures
SPARE = 2  # drawn over that, for those that gaps and clipped pixels spoil
HEAP = 4
MOST_FILLS = 4  # values that padding, background and both ends of a range may have
ENOUGH = 100  # blocks that must remain for a rule that drops some to hold


@dataclass(frozen=True)
class Evidence:
    """Blocks drawn from pictures.

    `means` are (n,), `energies` (n, side² − 1) squared cosine coefficients without the first.
    `fresh` is the share of the blocks that would be as many without overlap. `still` says that
    flat areas of several values were found without a trace of noise.
    """

    side: int
    means: np.ndarray
    energies: np.ndarray
    fresh: float = 1.0
    still: bool = False


def cosines(side: int) -> np.ndarray:
    """The orthonormal cosine basis (wave, place) of a side."""
    return np.asarray(dct(np.eye(side), norm="ortho", axis=0))


def gather(pictures: Sequence[np.ndarray]) -> Evidence:
    """The evidence of all pictures together, each in proportion to its pixels."""
    planes = [p if p.ndim == 3 else p[..., None] for p in pictures if p.size]
    widest = max((min(p.shape[:2]) for p in planes), default=0)
    side = min(SIDE, widest)
    if side < LEAST_SIDE:
        return Evidence(side, np.zeros(0), np.zeros((0, 1)))
    planes = [p for p in planes if min(p.shape[:2]) >= side]
    drawn = _drawn(planes, side)
    found, still = _usable(drawn)
    kept = len(found) / min(len(drawn), BLOCKS)
    if not len(found):
        return Evidence(side, np.zeros(0), np.zeros((0, side**2 - 1)), still=still)
    basis = cosines(side)
    waves = (basis @ found @ basis.T).reshape(len(found), -1)
    apart = sum(p.size for p in planes) / side**2 * kept
    fresh = min(apart / len(found), 1.0)
    return Evidence(side, waves[:, 0] / side, waves[:, 1:] ** 2, fresh, still)


def _drawn(planes: list[np.ndarray], side: int) -> np.ndarray:
    """Blocks (n, side, side) at places that are always the same for the same shapes."""
    random = np.random.default_rng(0)
    views = [sliding_window_view(p, (side, side), (0, 1)) for p in planes]
    places = np.array([v.shape[0] * v.shape[1] * v.shape[2] for v in views])
    wanted = min(BLOCKS * SPARE, int(places.sum()))
    if len(views) > wanted:
        views = [views[i] for i in random.choice(len(views), wanted, replace=False)]
        places = np.ones(wanted, int)
    counts = np.maximum(np.floor(wanted * places / places.sum()), 1).astype(int)
    blocks = []
    for view, count in zip(views, counts, strict=True):
        h, w, c = view.shape[:3]
        if h * w * c <= 8 * count:
            place = random.permutation(h * w * c)[:count]
        else:
            place = random.integers(0, h * w * c, count)
        row, rest = np.divmod(place, w * c)
        blocks.append(np.asarray(view[row, rest // c, rest % c], float))
    together = np.concatenate(blocks)
    return together[random.permutation(len(together))]


def _usable(blocks: np.ndarray) -> tuple[np.ndarray, bool]:
    """Blocks without gaps, clipped pixels or empty background; and whether all is still."""
    blocks = blocks[np.isfinite(blocks).all((1, 2))]
    if not len(blocks):
        return blocks, False
    low, high = blocks.min((1, 2)), blocks.max((1, 2))
    flat = high - low <= 1e-9 * np.abs(blocks).max()
    values = np.unique(low[flat])
    # A few values without noise are background, padding or clipped; many are a clean picture.
    still = bool(flat.all() or (flat.mean() > 0.05 and len(values) > MOST_FILLS))
    blocks = blocks[~flat]
    if still or not len(blocks) or len(np.unique(blocks[:ENOUGH])) <= 4:
        return blocks[:0], True
    touched = _clipped(blocks).mean((1, 2))
    for most in (0.0, 0.1):
        if (touched <= most).sum() >= ENOUGH:
            return blocks[touched <= most][:BLOCKS], False
    return blocks[:BLOCKS], False


def _clipped(blocks: np.ndarray) -> np.ndarray:
    """Pixels at an end of the range where values heap up: far more than at the value beside.

    The zeros of a dark count picture are no such heap, its ones are nearly as common.
    """
    clipped = np.zeros(blocks.shape, bool)
    for end, beyond in ((blocks.min(), np.min), (blocks.max(), np.max)):
        at_end = blocks == end
        beside = np.sum(blocks == beyond(blocks[~at_end]))
        if at_end.mean() > 1e-3 and at_end.sum() > HEAP * beside:
            clipped |= at_end
    return clipped
