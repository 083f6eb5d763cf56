"""Dead leaves: synthetic pictures of things that hide each other, at all sizes.

Their edges and scales are distributed as those of photographs are, so they teach a net what edges
and flat parts look like where real pictures are too few to. Source: Lee, Mumford and Huang 2001;
for denoising, Achddou, Gousseau and Ladjal 2021.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import ndimage

from keyhole.training.corruptions.recorrupted import filtered

LEAST_RADIUS = 1.5
MOST_LEAVES = 4_000
BLUR = 0.5  # pixels: what a lens does to an edge
PICTURES, SIDE = 24, 128  # that are made once, and cut into crops
LEAST_CONTRAST, MOST_CONTRAST = -1.2, 0.5  # logarithms of a picture's contrast in that of the real


@dataclass
class Leaves:
    """Crops of dead leaves with fresh noise of standard deviation 1, or clean ones.

    `deviation` is that of the real pictures in units of their noise, `filter` what white noise
    goes through to be like theirs.
    """

    channels: int
    deviation: float
    filter: list[list[float]] | None
    clean: bool
    seed: int
    _pictures: dict[int, np.ndarray] = field(default_factory=dict)

    def crop(
        self, side: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Numbers, seen, taught and partner (the clean one) of a crop, as of a real picture."""
        picture = self._picture(int(rng.integers(PICTURES)))
        y, x = rng.integers(0, SIDE - side + 1, 2)
        contrast = self.deviation * np.exp(rng.uniform(LEAST_CONTRAST, MOST_CONTRAST))
        clean = (contrast * picture[y : y + side, x : x + side]).astype(np.float32)
        numbers = clean if self.clean else clean + self._noise(clean.shape, rng)
        seen = np.ones(clean.shape, bool)
        return numbers, seen, seen[..., 0], clean

    def _picture(self, place: int) -> np.ndarray:
        """One of the pictures, made when it is first asked for: all at once take ten seconds."""
        if place not in self._pictures:
            own = np.random.default_rng([self.seed, place])
            self._pictures[place] = dead_leaves(SIDE, self.channels, own)
        return self._pictures[place]

    def _noise(self, size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        noise = rng.standard_normal(size, np.float32)
        if self.filter is None:
            return noise
        return filtered(torch.from_numpy(noise)[None], self.filter)[0].numpy()


def dead_leaves(side: int, channels: int, rng: np.random.Generator) -> np.ndarray:
    """A picture (side, side, channels) of mean 0 and standard deviation 1.

    Discs and boxes from the front to the back, radii with density r^-3, each flat or shaded.
    """
    picture = np.zeros((side, side, channels))
    empty = np.ones((side, side), bool)
    rows, columns = np.mgrid[:side, :side].astype(float)
    low, high = LEAST_RADIUS**-2, (side / 3) ** -2
    for _ in range(MOST_LEAVES):
        if empty.mean() < 0.002:
            break
        radius = (low + rng.random() * (high - low)) ** -0.5
        y, x = rng.uniform(-radius, side + radius, 2)
        here = tuple(
            slice(int(max(at - 1.5 * radius, 0)), int(np.clip(at + 1.5 * radius + 1, 0, side)))
            for at in (y, x)
        )
        leaf = _shape(rows[here] - y, columns[here] - x, radius, rng) & empty[here]
        if leaf.any():
            shade = _shade(rows[here] - y, columns[here] - x, radius, channels, rng)
            picture[here][leaf] = shade[leaf]
            empty[here][leaf] = False
    picture = ndimage.gaussian_filter(picture, (BLUR, BLUR, 0))
    return ((picture - picture.mean()) / max(picture.std(), 1e-6)).astype(np.float32)


def _shape(
    down: np.ndarray, across: np.ndarray, radius: float, rng: np.random.Generator
) -> np.ndarray:
    """True within a disc, or a turned box of the same size."""
    if rng.random() < 0.5:
        return down**2 + across**2 < radius**2
    angle = rng.uniform(0, np.pi)
    one = np.abs(np.cos(angle) * down + np.sin(angle) * across)
    other = np.abs(np.cos(angle) * across - np.sin(angle) * down)
    return (one < radius) & (other < radius * rng.uniform(0.2, 1))


def _shade(
    down: np.ndarray,
    across: np.ndarray,
    radius: float,
    channels: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """A grey level or colour, shaded to one side or striped."""
    level = rng.random() + 0.2 * rng.standard_normal(channels) * (channels > 1)
    angle, how = rng.uniform(0, 2 * np.pi), rng.random()
    along = np.cos(angle) * down + np.sin(angle) * across
    if how < 0.4:
        tone = np.zeros_like(along)
    elif how < 0.8:
        tone = rng.normal(0, 0.2) * along / radius
    else:
        period = rng.uniform(3, 12)
        tone = rng.uniform(0.02, 0.2) * np.sin(2 * np.pi * along / period)
    return level + tone[..., None]
