"""Training crops of noisy images and of synthetic ones; blocks of pixels are held out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import ndimage

from keyhole.core.environment import draws, hash_of
from keyhole.core.records import Batch
from keyhole.data.images import Image
from keyhole.modalities.tiles.filters import filled
from keyhole.modalities.tiles.noise import NoiseModel, filtered
from keyhole.modalities.tiles.source import NoiseScaler, corner

BLOCK = 8  # side of the squares that are held out, in pixels
MAX_RANKED_BLOCKS = 1_000_000  # more are held out evenly enough by chance
POOL_PIXELS = 1 << 25  # 128 MB of float32
WINDOW = 512  # side of the windows of a large image in a pool
MAX_STOPPING = 64  # crops that decide when to stop

Cut = tuple[np.ndarray, ...]  # numbers, observed, train mask and target of a square


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

    def cut(self, y: int, x: int, side: int) -> Cut:
        """A square; a smaller image is mirrored, and its mirror is not trained on."""
        box = (slice(y, y + side), slice(x, x + side))
        parts = (self.numbers, self.observed, self.train_mask, self.target)
        numbers, observed, train_mask, target = (part[box] for part in parts)
        edges = [(0, side - n) for n in train_mask.shape]
        if edges == [(0, 0), (0, 0)]:
            return numbers, observed, train_mask, target
        return (
            np.pad(numbers, [*edges, (0, 0)], "symmetric"),
            np.pad(observed, [*edges, (0, 0)]),
            np.pad(train_mask, edges),
            np.pad(target, [*edges, (0, 0)], "symmetric"),
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
    noise: NoiseModel = field(default_factory=lambda: NoiseModel(1.0))  # of all images together

    def __post_init__(self) -> None:
        """Rank the draws of the blocks, so that the share holds even if blocks are few."""
        self._limit = self.share  # many draws need no ranking
        sizes = [(-(-p.height // BLOCK), -(-p.width // BLOCK)) for p in self.images]
        if sum(rows * columns for rows, columns in sizes) <= MAX_RANKED_BLOCKS:
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


MIN_RADIUS = 1.5  # pixels
MAX_LEAVES = 4_000  # discs of one synthetic image
BLUR = 0.5  # pixels: what a lens does to an edge
IMAGES, SIDE = 24, 128  # generated once, then cut into crops
MIN_CONTRAST, MAX_CONTRAST = -1.2, 0.5  # logarithms of an image's contrast over the real one


@dataclass
class DeadLeaves:
    """Crops of synthetic images: objects of all sizes that hide each other.

    They have the edges and scales of photographs, so they teach a net where real images are few.
    Noise is fresh, of standard deviation 1, or there is none if they are `clean`. `deviation` is
    that of the real images in units of their noise. `filter` gives white noise the
    autocorrelation of theirs.
    Source: Lee, Mumford and Huang 2001; for denoising, Achddou, Gousseau and Ladjal 2021.
    """

    channels: int
    deviation: float
    filter: list[list[float]] | None
    clean: bool
    seed: int
    _images: dict[int, np.ndarray] = field(default_factory=dict)

    def crop(self, side: int, rng: np.random.Generator) -> Cut:
        """A crop as of a real image; the target is the clean crop."""
        image = self._image(int(rng.integers(IMAGES)))
        y, x = rng.integers(0, SIDE - side + 1, 2)
        contrast = self.deviation * np.exp(rng.uniform(MIN_CONTRAST, MAX_CONTRAST))
        clean = (contrast * image[y : y + side, x : x + side]).astype(np.float32)
        observed = np.ones(clean.shape, bool)
        if self.clean:
            return clean, observed, observed[..., 0], clean
        noise = rng.standard_normal(clean.shape, np.float32)
        if self.filter is not None:
            noise = filtered(torch.from_numpy(noise)[None], self.filter)[0].numpy()
        return clean + noise, observed, observed[..., 0], clean

    def _image(self, index: int) -> np.ndarray:
        """An image, generated at its first use: all at once take four seconds."""
        if index not in self._images:
            rng = np.random.default_rng([self.seed, index])
            self._images[index] = _dead_leaves(SIDE, self.channels, rng)
        return self._images[index]


def _dead_leaves(side: int, channels: int, rng: np.random.Generator) -> np.ndarray:
    """An image (side, side, channels) of mean 0 and standard deviation 1.

    Discs and boxes from the front to the back, radii with density r^-3, each flat or shaded.
    """
    image = np.zeros((side, side, channels))
    empty, left = np.ones((side, side), bool), side**2
    rows, columns = (axis.astype(float) for axis in np.ogrid[:side, :side])
    low, high = MIN_RADIUS**-2, (side / 3) ** -2
    for _ in range(MAX_LEAVES):
        if left < 0.002 * side**2:
            break
        radius = (low + rng.random() * (high - low)) ** -0.5
        y, x = (rng.random() * (side + 2 * radius) - radius for _ in range(2))
        height, width = _reached(y, radius, side), _reached(x, radius, side)
        outline, visible = _outline(radius, rng), empty[height, width]
        if not visible.any():  # most leaves, once a few hundred cover the image
            continue
        down, across = rows[height] - y, columns[:, width] - x
        leaf = outline(down, across) & visible
        if leaf.any():
            image[height, width][leaf] = _shade(down, across, radius, channels, rng)[leaf]
            visible[leaf] = False
            left -= int(leaf.sum())
    image = ndimage.gaussian_filter(image, (BLUR, BLUR, 0))
    return ((image - image.mean()) / max(image.std(), 1e-6)).astype(np.float32)


def _reached(middle: float, radius: float, side: int) -> slice:
    """The pixels of one axis that a leaf may reach."""
    first, last = middle - 1.5 * radius, middle + 1.5 * radius + 1
    return slice(int(first) if first > 0 else 0, int(last) if last < side else side)


def _outline(
    radius: float, rng: np.random.Generator
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A disc or a box: a function that says of offsets from its middle whether they are inside."""
    if rng.random() < 0.5:
        return lambda down, across: down**2 + across**2 < radius**2
    angle, flatness = np.pi * rng.random(), 0.2 + 0.8 * rng.random()
    cos, sin = math.cos(angle), math.sin(angle)

    def box(down: np.ndarray, across: np.ndarray) -> np.ndarray:
        one, other = np.abs(cos * down + sin * across), np.abs(cos * across - sin * down)
        return (one < radius) & (other < radius * flatness)

    return box


def _shade(
    down: np.ndarray, across: np.ndarray, radius: float, channels: int, rng: np.random.Generator
) -> np.ndarray:
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


@dataclass
class Crops:
    """Batches of square crops, turned and mirrored, from the images that fit a pool.

    A share `synthetic` of the crops is of dead leaves. Images are drawn by the root of their
    area, so that small ones appear too. All is a pure function of seed and step.
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
        for index in np.resize(order, MAX_STOPPING * 2):
            image = self._pool[index]
            blocks = np.argwhere(~image.train_mask & image.observed.any(2))
            if len(blocks) and len(cuts) < MAX_STOPPING:
                start = blocks[rng.integers(len(blocks))] - self.side // 2
                last = np.array(image.train_mask.shape) - self.side
                y, x = start.clip(0, last.clip(0)).tolist()
                cuts.append(image.cut(y, x, self.side))
        if not cuts:  # too few pixels to hold any out: training pixels decide
            return stacked([self._crop(image, rng) for image in self._pool[:4]], training=True)
        return stacked(cuts, training=False)

    def _crop(self, image: ScaledImage, rng: np.random.Generator) -> Cut:
        y, x = (int(rng.integers(max(n - self.side, 0) + 1)) for n in image.train_mask.shape)
        cut = image.cut(y, x, self.side)
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        cut = tuple(np.rot90(part, turns) for part in cut)
        return tuple(part[:, ::-1] for part in cut) if mirrored else cut

    def _load_pool(self, index: int) -> None:
        """All images, or windows drawn by area until the pool is full."""
        if index == self._pool_index:
            return
        images, windows, pixels = self.dataset.images, [], 0
        if self.pools == 1:
            windows = [self.dataset.window(i) for i in range(len(images))]
            pixels = POOL_PIXELS
        rng = np.random.default_rng([self.seed, index])
        area = np.array([float(p.height * p.width) for p in images])
        while pixels < POOL_PIXELS:
            i = int(rng.choice(len(area), p=area / area.sum()))
            windows.append(self.dataset.window(i, *corner(images[i], WINDOW, rng), WINDOW))
            pixels += windows[-1].numbers.size
        weight = np.array([window.train_mask.size for window in windows], float) ** 0.5
        self._pool, self._share, self._pool_index = windows, weight / weight.sum(), index


def stacked(cuts: list[Cut], *, training: bool) -> Batch:
    """Cuts of one size with a member axis; training or held-out pixels count as observed."""
    parts = (torch.from_numpy(np.stack(part)) for part in zip(*cuts, strict=True))
    numbers, observed, train_mask, target = parts
    observed = observed & (train_mask if training else ~train_mask)[..., None]
    flat = (1, len(cuts), -1)
    codes = torch.zeros((1, len(cuts), 0), dtype=torch.int64)
    return Batch(numbers.reshape(flat), codes, observed.reshape(flat), target=target.reshape(flat))
