"""The noise of images from small blocks: a scale mixture, fitted by expectation-maximisation.

The energy of a block's cosine coefficient f has expectation N(f) + t S(f): N is the noise, the
same in every block; S one of a few spectra of image content; t, from zero up over several
decades, how much of it is in this block. No block has to be flat, only t has to vary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import dct

SIDE, MIN_SIDE = 8, 4
BLOCKS = 10_000  # 640,000 pixels are measured, however large the images
SPARE = 2  # times as many are drawn, for those that gaps and clipped pixels spoil
HEAP = 4
MAX_FILLS = 4  # values that padding, background and both ends of a range may have
ENOUGH = 100  # blocks that must remain for a rule that drops some to hold


@dataclass(frozen=True)
class NoiseEvidence:
    """Blocks drawn from images.

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


def gather(images: Sequence[np.ndarray]) -> NoiseEvidence:
    """The evidence of all images together, each in proportion to its pixels."""
    planes = [p if p.ndim == 3 else p[..., None] for p in images if p.size]
    widest = max((min(p.shape[:2]) for p in planes), default=0)
    side = min(SIDE, widest)
    if side < MIN_SIDE:
        return NoiseEvidence(side, np.zeros(0), np.zeros((0, 1)))
    planes = [p for p in planes if min(p.shape[:2]) >= side]
    drawn = _drawn(planes, side)
    blocks, still = _usable(drawn)
    if not len(blocks):
        return NoiseEvidence(side, np.zeros(0), np.zeros((0, side**2 - 1)), still=still)
    basis = cosines(side)
    waves = (basis @ blocks @ basis.T).reshape(len(blocks), -1)
    apart = sum(p.size for p in planes) / side**2 * (len(blocks) / min(len(drawn), BLOCKS))
    fresh = min(apart / len(blocks), 1.0)
    return NoiseEvidence(side, waves[:, 0] / side, waves[:, 1:] ** 2, fresh, still)


def _drawn(planes: list[np.ndarray], side: int) -> np.ndarray:
    """Blocks (n, side, side) at places that are always the same for the same shapes."""
    random = np.random.default_rng(0)
    views = [sliding_window_view(p, (side, side), (0, 1)) for p in planes]
    sizes = np.array([np.prod(v.shape[:3]) for v in views])
    wanted = min(BLOCKS * SPARE, int(sizes.sum()))
    if len(views) > wanted:
        views = [views[i] for i in random.choice(len(views), wanted, replace=False)]
        sizes = np.ones(wanted, int)
    counts = np.maximum(np.floor(wanted * sizes / sizes.sum()), 1).astype(int)
    blocks = []
    for view, count in zip(views, counts, strict=True):
        size = int(np.prod(view.shape[:3]))
        few = size <= 8 * count
        place = random.permutation(size)[:count] if few else random.integers(0, size, count)
        blocks.append(np.asarray(view[np.unravel_index(place, view.shape[:3])], float))
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
    # A few values without noise are background, padding or clipped; many are a clean image.
    still = bool(flat.all() or (flat.mean() > 0.05 and len(values) > MAX_FILLS))
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

    The zeros of a dark count image are no such heap, its ones are nearly as common.
    """
    clipped = np.zeros(blocks.shape, bool)
    for end_of in (np.min, np.max):
        at_end = blocks == end_of(blocks)
        beside = np.sum(blocks == end_of(blocks[~at_end]))
        if at_end.mean() > 1e-3 and at_end.sum() > HEAP * beside:
            clipped |= at_end
    return clipped


AMOUNTS = 4.0 ** np.arange(-5, 4)
SHAPES = 3  # one for all directions, one that leans to rows, one to columns
LEAST = 1e-6  # energy of a component, as a share of the typical one
STEPS = 60  # of expectation-maximisation
# A content spectrum is drawn towards a power law as by so many blocks: a small image has too
# few of its own, and would call part of its noise content.
POWER, PRIOR = 2.5, 5.0


@dataclass(frozen=True)
class NoiseMixture:
    """A fitted mixture.

    `lags` are autocovariances, `noise` (f,) their spectrum, `content` (shape, f) the image's,
    `shares` (component,) how common each amount of each is; `nats` a block's log-likelihood.
    """

    lags: np.ndarray
    noise: np.ndarray
    content: np.ndarray
    shares: np.ndarray
    nats: float


def spectra(side: int, reach: int) -> np.ndarray:
    """The map (f, lag) from autocovariances of lags 0..`reach` to coefficient variances."""
    basis = cosines(side)
    own = np.array([(basis[:, : side - d] * basis[:, d:]).sum(1) for d in range(reach + 1)])
    own *= np.where(np.arange(reach + 1) > 0, 2, 1)[:, None]
    both = np.einsum("yi,xj->ijyx", own, own)
    return both.reshape(side**2, -1)[1:]


def components() -> tuple[np.ndarray, np.ndarray]:
    """Which content and what amount each component has; the last is noise alone."""
    shape = np.append(np.repeat(np.arange(SHAPES), len(AMOUNTS)), 0)
    return shape, np.append(np.tile(AMOUNTS, SHAPES), 0.0)


def expected(mixture: NoiseMixture, scale: float = 1.0) -> np.ndarray:
    """The energies (component, f) where the noise has `scale` times its usual variance."""
    shape, amount = components()
    return scale * mixture.noise + amount[:, None] * mixture.content[shape]


def _begin(energies: np.ndarray, design: np.ndarray) -> NoiseMixture:
    """A first guess: for white noise from the quietest frequencies, else from quiet blocks.

    Where noise is nearly all there is, the likelihood cannot tell it from content of constant
    amount; this start takes it for noise.
    """
    mean = energies.mean(0)
    if design.shape[1] == 1:
        quiet = np.sort(mean)[: max(len(mean) // 3, 1)]
        noise = np.full(len(mean), 0.7 * np.median(quiet))
    else:
        total = (energies / mean).mean(1)
        edge = np.quantile(total, 0.1)
        quiet = total <= edge
        observed = energies[quiet].mean(0) * edge / total[quiet].mean()
        lags = np.linalg.lstsq(design / observed[:, None], np.ones(len(observed)), rcond=None)[0]
        noise = np.maximum(design @ lags, 1e-2 * observed.max())
    down, right = _waves(len(mean))
    base, lean = np.maximum(mean - noise, 0.02 * mean), (down - right) / 4
    content = np.array([base, base * np.exp(-lean), base * np.exp(lean)])
    shares = np.full(SHAPES * len(AMOUNTS) + 1, 1 / (SHAPES * len(AMOUNTS) + 1))
    return NoiseMixture(np.zeros(design.shape[1]), noise, content, shares, -np.inf)


def _waves(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The waves down and to the right of each coefficient but the first."""
    down, right = np.divmod(np.arange(1, count + 1), int(np.sqrt(count + 1)))
    return down, right


def fit(
    energies: np.ndarray,
    design: np.ndarray,
    start: NoiseMixture | None = None,
    *,
    smooth: float,
    fresh: float,
) -> NoiseMixture:
    """The mixture that makes the energies (n, f) likely, from `start` or a first guess on.

    `smooth` is the share of each amount that neighbouring amounts get: content that has the same
    amount in every block is not content. `fresh` blocks of one stand apart, the others overlap.
    """
    now = _begin(energies, design) if start is None else start
    for _ in range(STEPS):
        count, mean, nats = _by_component(energies, now.shares, expected(now))
        before = now.nats
        noise, content, lags = _spectra_of(mean, count * fresh, now, design)
        now = NoiseMixture(lags, noise, content, _smoothed(count / count.sum(), smooth), nats)
        if abs(nats - before) < 2e-5:
            break
    return now


def scale_of(energies: np.ndarray, mixture: NoiseMixture) -> tuple[float, float]:
    """How much noise these blocks have, in units of the mixture's, and how surely (Fisher)."""
    shares, scale, sure = mixture.shares, 1.0, 0.0
    for _ in range(25):
        spread = expected(mixture, scale)
        count, mean, _ = _by_component(energies, shares, spread)
        weight = count[:, None] * mixture.noise / spread**2
        sure = float((weight * mixture.noise).sum())
        over = mean - (spread - scale * mixture.noise)
        scale = max(float((weight * over).sum()) / sure, 1e-3 * scale)
        shares = _smoothed(count / count.sum(), 0.15)
    return scale, sure / 2


def _by_component(
    energies: np.ndarray, shares: np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """How many blocks each component has, their mean energies; the mean log-likelihood."""
    nats = np.log(shares) - np.log(spread).sum(1) / 2 - energies @ (0.5 / spread).T
    top = nats.max(1, keepdims=True)
    probability = np.exp(nats - top)
    total = probability.sum(1, keepdims=True)
    probability = probability / total
    count = probability.sum(0) + 1e-9
    mean = (probability.T @ energies) / count[:, None]
    return count, mean, float((top + np.log(total)).mean())


def _smoothed(shares: np.ndarray, smooth: float) -> np.ndarray:
    grid = shares[:-1].reshape(SHAPES, -1)
    padded = np.pad(grid, ((0, 0), (1, 1)), mode="edge")
    grid = (1 - smooth) * grid + smooth / 2 * (padded[:, :-2] + padded[:, 2:])
    shares = np.maximum(np.append(grid.ravel(), shares[-1]), 1e-8)
    return shares / shares.sum()


def _spectra_of(
    mean: np.ndarray, count: np.ndarray, now: NoiseMixture, design: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise, content and lags by weighted least squares on each component's mean energies."""
    shape, amount = components()
    noise, content, lags = now.noise, now.content.copy(), now.lags
    typical = count @ mean / count.sum()
    for _ in range(2):
        signal = amount[:, None] * content[shape]
        weight = count[:, None] / (noise + signal) ** 2
        sure = weight.sum(0)
        aim, root = (weight * (mean - signal)).sum(0) / sure, np.sqrt(sure)
        lags = np.linalg.lstsq(design * root[:, None], aim * root, rcond=None)[0]
        if lags[0] <= LEAST * typical.min():
            lags = np.append(LEAST * typical.min(), np.zeros(len(lags) - 1))
        noise = np.maximum(design @ lags, 1e-3 * (design @ lags).max())
        for j in range(SHAPES):
            own = shape == j
            part = amount[own, None]
            weight = count[own, None] * part / (noise + part * content[j]) ** 2
            sure = (weight * part).sum(0)
            spectrum = (weight * (mean[own] - noise)).sum(0) / sure
            content[j] = np.maximum(_towards_power_law(spectrum, sure), LEAST * typical)
    return noise, content, lags


def _towards_power_law(spectrum: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """A spectrum whose less certain frequencies are drawn to a power law through the others."""
    law = np.hypot(*_waves(len(spectrum))) ** -POWER
    law *= max(float((sure * law) @ spectrum / (sure @ law**2)), 0.0)
    blocks = sure * np.maximum(spectrum, law) ** 2
    return (blocks * spectrum + PRIOR * law) / (blocks + PRIOR)
