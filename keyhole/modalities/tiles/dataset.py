"""Noisy images in units of their noise, read by window; blocks of pixels are held out."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from keyhole.core.environment import draws
from keyhole.data.images import Image
from keyhole.modalities.tiles.noise import Noise
from keyhole.modalities.tiles.scaling import NoiseScaler, filled

BLOCK = 8  # side of the squares that are held out, in pixels
MOST_BLOCKS = 1_000_000  # whose draws are ranked


@dataclass(frozen=True)
class ScaledImage:
    """A window of an image in units of its noise; `train_mask` is True for training pixels."""

    numbers: np.ndarray  # (height, width, channel)
    observed: np.ndarray
    train_mask: np.ndarray  # (height, width)
    second: np.ndarray | None = None  # the clean image, or a second exposure

    @property
    def target(self) -> np.ndarray:
        """The second image, else the image itself."""
        return self.numbers if self.second is None else self.second

    def cut(self, y: int, x: int, side: int) -> tuple[np.ndarray, ...]:
        """Numbers, observed, train mask and target of a square, clipped at the edges."""
        box = (slice(y, y + side), slice(x, x + side))
        return tuple(
            part[box] for part in (self.numbers, self.observed, self.train_mask, self.target)
        )


@dataclass
class ImageDataset:
    """Images and their noise scalers, read by window; memory is that of a window.

    `share` of all pixels, in blocks, is held out of training. `clean` are the images that have
    no noise: "images", "partners" (the second ones), or neither.
    """

    images: Sequence[Image]
    scalers: list[NoiseScaler]
    seconds: Sequence[Image] | None
    share: float
    seed: int
    clean: str = ""
    noise: Noise = field(default_factory=lambda: Noise(1.0))  # of all images together

    def __post_init__(self) -> None:
        """Rank the draws of the blocks, so that the share holds even if blocks are few."""
        sizes = [(-(-p.height // BLOCK), -(-p.width // BLOCK)) for p in self.images]
        if sum(rows * columns for rows, columns in sizes) > MOST_BLOCKS:
            self._limit = self.share  # many draws need no ranking
            return
        block_draws = [
            self._draws(index, *(np.arange(n, dtype=np.uint64) for n in size)).ravel()
            for index, size in enumerate(sizes)
        ]
        self._limit = float(np.quantile(np.concatenate(block_draws), self.share))

    def window(self, index: int, y: int = 0, x: int = 0, size: int | None = None) -> ScaledImage:
        """A window of an image, or all of it."""
        image, scaler = self.images[index], self.scalers[index]
        height, width = (min(n, size or n) for n in (image.height - y, image.width - x))
        box = (slice(y, y + height), slice(x, x + width))
        numbers, observed = filled(self._scaled(scaler, image.window(*box), "images"))
        second = None
        if self.seconds is not None:
            pixels = self.seconds[index].window(*box)
            second, known = filled(self._scaled(scaler, pixels, "partners"))
            observed = observed & known
        train_mask = ~self.held_out(index, y, x, (height, width))
        return ScaledImage(numbers, observed, train_mask, second)

    def _scaled(self, scaler: NoiseScaler, pixels: np.ndarray, which: str) -> np.ndarray:
        return scaler.expected(pixels) if self.clean == which else scaler.forward(pixels)

    def held_out(self, index: int, y: int, x: int, size: tuple[int, int]) -> np.ndarray:
        """(height, width): True for pixels of held-out blocks."""
        blocks = [(start + np.arange(n)) // BLOCK for start, n in zip((y, x), size, strict=True)]
        (rows, down), (columns, across) = (np.unique(b, return_inverse=True) for b in blocks)
        return (self._draws(index, rows, columns) < self._limit)[down][:, across]

    def _draws(self, index: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """A number in [0, 1) for each block, the same in every run."""
        down, across = (n.astype(np.uint64) for n in (rows[:, None], columns[None, :]))
        keys = np.uint64(index << 40) + (down << np.uint64(20)) + across
        return draws(keys.ravel(), self.seed).reshape(keys.shape)

    @property
    def pixels(self) -> int:
        """Pixels of all images, each channel counted."""
        return sum(p.height * p.width * p.channels for p in self.images)
