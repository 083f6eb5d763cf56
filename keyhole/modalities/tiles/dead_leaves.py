"""Synthetic images of dead leaves: objects of all sizes that hide each other.

They have the edges and scales of photographs, so they teach a net where real images are few.
Source: Lee, Mumford and Huang 2001; for denoising, Achddou, Gousseau and Ladjal 2021.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from keyhole.modalities.tiles.noise.correlated import correlated

LEAST_RADIUS = 1.5
MOST_LEAVES = 4_000
BLUR = 0.5  # pixels: what a lens does to an edge
IMAGES, SIDE = 24, 128  # generated once, then cut into crops
LEAST_CONTRAST, MOST_CONTRAST = -1.2, 0.5  # logarithms of an image's contrast over the real one


@dataclass
class DeadLeaves:
    """Crops of dead leaves with fresh noise of standard deviation 1, or clean ones.

    `deviation` is that of the real images in units of their noise. `filter` gives white noise the
    autocorrelation of theirs.
    """

    channels: int
    deviation: float
    filter: list[list[float]] | None
    clean: bool
    seed: int
    _images: dict[int, np.ndarray] = field(default_factory=dict)

    def crop(
        self, side: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Numbers, observed, train mask and target (the clean crop), as of a real image."""
        image = self._image(int(rng.integers(IMAGES)))
        y, x = rng.integers(0, SIDE - side + 1, 2)
        contrast = self.deviation * np.exp(rng.uniform(LEAST_CONTRAST, MOST_CONTRAST))
        clean = (contrast * image[y : y + side, x : x + side]).astype(np.float32)
        numbers = clean if self.clean else clean + self._noise(clean.shape, rng)
        observed = np.ones(clean.shape, bool)
        return numbers, observed, observed[..., 0], clean

    def _image(self, index: int) -> np.ndarray:
        """An image, generated at its first use: all at once take ten seconds."""
        if index not in self._images:
            rng = np.random.default_rng([self.seed, index])
            self._images[index] = dead_leaves(SIDE, self.channels, rng)
        return self._images[index]

    def _noise(self, size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        white = rng.standard_normal(size, np.float32)
        return white if self.filter is None else correlated(white, self.filter)


def dead_leaves(side: int, channels: int, rng: np.random.Generator) -> np.ndarray:
    """An image (side, side, channels) of mean 0 and standard deviation 1.

    Discs and boxes from the front to the back, radii with density r^-3, each flat or shaded.
    """
    image = np.zeros((side, side, channels))
    empty = np.ones((side, side), bool)
    rows, columns = np.mgrid[:side, :side].astype(float)
    low, high = LEAST_RADIUS**-2, (side / 3) ** -2
    for _ in range(MOST_LEAVES):
        if empty.mean() < 0.002:
            break
        radius = (low + rng.random() * (high - low)) ** -0.5
        y, x = rng.uniform(-radius, side + radius, 2)
        box = tuple(
            slice(int(max(at - 1.5 * radius, 0)), int(np.clip(at + 1.5 * radius + 1, 0, side)))
            for at in (y, x)
        )
        leaf = _shape(rows[box] - y, columns[box] - x, radius, rng) & empty[box]
        if leaf.any():
            shade = _shade(rows[box] - y, columns[box] - x, radius, channels, rng)
            image[box][leaf] = shade[leaf]
            empty[box][leaf] = False
    image = ndimage.gaussian_filter(image, (BLUR, BLUR, 0))
    return ((image - image.mean()) / max(image.std(), 1e-6)).astype(np.float32)


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
