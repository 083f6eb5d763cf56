"""Training crops of noisy images, a pure function of seed and step."""

from dataclasses import dataclass, field

import numpy as np
import torch

from keyhole.core.environment import hash_of
from keyhole.core.records import Batch
from keyhole.modalities.tiles.dataset import ImageDataset, ScaledImage
from keyhole.modalities.tiles.dead_leaves import DeadLeaves

POOL_PIXELS = 1 << 25  # 128 MB of float32
WINDOW = 512  # side of the windows of a large image in a pool
MOST_STOPPING = 64  # crops that decide when to stop


@dataclass
class Crops:
    """Batches of square crops, turned and mirrored, from the images that fit a pool.

    A share `synthetic` of the crops is of dead leaves. Images are drawn by the root of their
    area, so that small ones appear too.
    """

    dataset: ImageDataset
    side: int
    seed: int
    leaves: DeadLeaves | None = None
    synthetic: float = 0.0
    _pool_index: int = -1
    _pool: list[ScaledImage] = field(default_factory=list)
    _share: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def rows(self) -> int:
        """The number of crops that cover all images once."""
        channels = self.dataset.images[0].channels
        return max(1, self.dataset.pixels // (self.side**2 * channels))

    @property
    def pools(self) -> int:
        """The number of pools after which every pixel was seen about once."""
        return max(1, -(-self.dataset.pixels // POOL_PIXELS))

    def batch(self, step: int, size: int, steps_a_pool: int) -> tuple[Batch, torch.Generator]:
        """The crops of a step with a member axis, and the generator of its randomness."""
        self._load_pool(step // steps_a_pool if self.pools > 1 else 0)
        seed = hash_of(self.seed, step)
        rng = np.random.default_rng(seed)
        synthetic = rng.binomial(size, self.synthetic) if self.leaves is not None else 0
        indices = rng.choice(len(self._pool), size - synthetic, p=self._share)
        cuts = [self._crop(self._pool[index], rng) for index in indices]
        if self.leaves is not None:
            cuts += [self.leaves.crop(self.side, rng) for _ in range(synthetic)]
        return stacked(cuts, training=True), torch.Generator().manual_seed(seed)

    def stopping(self) -> Batch:
        """Crops around held-out blocks that decide when to stop: only the blocks are observed."""
        self._load_pool(0)
        rng, cuts = np.random.default_rng(self.seed), []
        order = rng.permutation(len(self._pool))
        for index in np.resize(order, MOST_STOPPING * 2):
            image = self._pool[index]
            blocks = np.argwhere(~image.train_mask & image.observed.any(2))
            if len(blocks) and len(cuts) < MOST_STOPPING:
                corner = blocks[rng.integers(len(blocks))] - self.side // 2
                last = np.array(image.train_mask.shape) - self.side
                y, x = corner.clip(0, last.clip(0)).tolist()
                cuts.append(padded(image.cut(y, x, self.side), self.side))
        if not cuts:  # too few pixels to hold any out: training pixels decide
            return stacked([self._crop(image, rng) for image in self._pool[:4]], training=True)
        return stacked(cuts, training=False)

    def _crop(self, image: ScaledImage, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        y, x = (int(rng.integers(max(n - self.side, 0) + 1)) for n in image.train_mask.shape)
        cut = padded(image.cut(y, x, self.side), self.side)
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        cut = tuple(np.rot90(part, turns) for part in cut)
        return tuple(part[:, ::-1] for part in cut) if mirrored else cut

    def _load_pool(self, index: int) -> None:
        if index == self._pool_index:
            return
        self._pool = self._all_images() if self.pools == 1 else self._some_windows(index)
        weight = np.array([image.train_mask.size for image in self._pool], float) ** 0.5
        self._share, self._pool_index = weight / weight.sum(), index

    def _all_images(self) -> list[ScaledImage]:
        return [self.dataset.window(index) for index in range(len(self.dataset.images))]

    def _some_windows(self, pool_index: int) -> list[ScaledImage]:
        """Windows drawn by area until the pool is full."""
        rng = np.random.default_rng([self.seed, pool_index])
        area = np.array([float(p.height * p.width) for p in self.dataset.images])
        windows, pixels = [], 0
        while pixels < POOL_PIXELS:
            index = int(rng.choice(len(area), p=area / area.sum()))
            image = self.dataset.images[index]
            y, x = (int(rng.integers(max(n - WINDOW, 0) + 1))
                    for n in (image.height, image.width))  # fmt: skip
            windows.append(self.dataset.window(index, y, x, WINDOW))
            pixels += windows[-1].numbers.size
        return windows


def padded(cut: tuple[np.ndarray, ...], side: int) -> tuple[np.ndarray, ...]:
    """A cut of the full side: a smaller image is mirrored, and its mirror is not trained on."""
    height, width = cut[0].shape[:2]
    if (height, width) == (side, side):
        return cut
    margins = [(0, side - height), (0, side - width)]
    numbers, observed, train_mask, target = cut
    return (
        np.pad(numbers, [*margins, (0, 0)], mode="symmetric"),
        np.pad(observed, [*margins, (0, 0)]),
        np.pad(train_mask, margins),
        np.pad(target, [*margins, (0, 0)], mode="symmetric"),
    )


def stacked(cuts: list[tuple[np.ndarray, ...]], *, training: bool) -> Batch:
    """Cuts of one size with a member axis; training or held-out pixels count as observed."""
    numbers, observed, train_mask, target = (
        torch.from_numpy(np.stack([cut[part] for cut in cuts])) for part in range(4)
    )
    observed = observed & (train_mask if training else ~train_mask)[..., None]
    flat = (1, len(cuts), -1)
    codes = torch.zeros((1, len(cuts), 0), dtype=torch.int64)
    return Batch(numbers.reshape(flat), codes, observed.reshape(flat), target=target.reshape(flat))
