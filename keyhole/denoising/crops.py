"""Training crops of noisy images, a pure function of seed and step, and synthetic images.

Dead leaves (things that hide each other, at all sizes) have the edges and scales of photographs,
so they teach a net where real images are few. Source: Lee, Mumford and Huang 2001; for denoising,
Achddou, Gousseau and Ladjal 2021.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import ndimage

from keyhole.core.records import Batch
from keyhole.data.images import Image
from keyhole.modalities.tiles.noise import Noise
from keyhole.modalities.tiles.scaling import NoiseScaler, filled
from keyhole.training.corruptions.pixels import filtered
from keyhole.training.feed import hash_of
from keyhole.training.split import draws

LEAST_RADIUS = 1.5
MOST_LEAVES = 4_000
BLUR = 0.5  # pixels: what a lens does to an edge
IMAGES, SIDE = 24, 128  # that are made once, and cut into crops
LEAST_CONTRAST, MOST_CONTRAST = -1.2, 0.5  # logarithms of an image's contrast in that of the real


@dataclass
class DeadLeaves:
    """Crops of dead leaves with fresh noise of standard deviation 1, or clean ones.

    `deviation` is that of the real images in units of their noise, `filter` what white noise
    goes through to be like theirs.
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
        """Numbers, seen, taught and partner (the clean one) of a crop, as of a real image."""
        image = self._image(int(rng.integers(IMAGES)))
        y, x = rng.integers(0, SIDE - side + 1, 2)
        contrast = self.deviation * np.exp(rng.uniform(LEAST_CONTRAST, MOST_CONTRAST))
        clean = (contrast * image[y : y + side, x : x + side]).astype(np.float32)
        numbers = clean if self.clean else clean + self._noise(clean.shape, rng)
        observed = np.ones(clean.shape, bool)
        return numbers, observed, observed[..., 0], clean

    def _image(self, place: int) -> np.ndarray:
        """One of the images, made when it is first asked for: all at once take ten seconds."""
        if place not in self._images:
            own = np.random.default_rng([self.seed, place])
            self._images[place] = dead_leaves(SIDE, self.channels, own)
        return self._images[place]

    def _noise(self, size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        noise = rng.standard_normal(size, np.float32)
        if self.filter is None:
            return noise
        return filtered(torch.from_numpy(noise)[None], self.filter)[0].numpy()


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
        here = tuple(
            slice(int(max(at - 1.5 * radius, 0)), int(np.clip(at + 1.5 * radius + 1, 0, side)))
            for at in (y, x)
        )
        leaf = _shape(rows[here] - y, columns[here] - x, radius, rng) & empty[here]
        if leaf.any():
            shade = _shade(rows[here] - y, columns[here] - x, radius, channels, rng)
            image[here][leaf] = shade[leaf]
            empty[here][leaf] = False
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


BLOCK = 8  # side of the squares that are held out, in pixels
MOST_BLOCKS = 1_000_000  # whose draws are ranked
POOL_FEATURES = 1 << 25  # 128 MB of float32
WINDOW = 512  # side of what is read of a large image at once
MOST_ASKED = 64  # crops that tell when to stop


@dataclass(frozen=True)
class ScaledImage:
    """An image or a window of one in units of its noise; `taught` pixels are trained on."""

    numbers: np.ndarray  # (height, width, channel)
    observed: np.ndarray
    taught: np.ndarray  # (height, width)
    partner: np.ndarray | None = None

    def cut(self, y: int, x: int, side: int) -> tuple[np.ndarray, ...]:
        """Numbers, seen, taught and partner of a square, as far as it goes."""
        here = (slice(y, y + side), slice(x, x + side))
        partner = self.numbers if self.partner is None else self.partner
        return self.numbers[here], self.observed[here], self.taught[here], partner[here]


@dataclass
class ImageDataset:
    """Images and their units, of which planes are read; none but a pool is held.

    `share` of all pixels, in blocks, is held out of training. `clean` are the images that have
    no noise: "images", "partners", or neither.
    """

    images: Sequence[Image]
    units: list[NoiseScaler]
    partners: Sequence[Image] | None
    share: float
    seed: int
    clean: str = ""
    noise: Noise = field(default_factory=lambda: Noise(1.0))  # of all together

    def __post_init__(self) -> None:
        """Rank the blocks' draws, so that even of few blocks the share is held out."""
        sides = [(-(-p.height // BLOCK), -(-p.width // BLOCK)) for p in self.images]
        if sum(high * wide for high, wide in sides) > MOST_BLOCKS:
            self._limit = self.share  # so many draws need no ranking
            return
        drawn = [
            self._draws(place, *(np.arange(n, dtype=np.uint64) for n in size)).ravel()
            for place, size in enumerate(sides)
        ]
        self._limit = float(np.quantile(np.concatenate(drawn), self.share))

    def plane(self, place: int, y: int = 0, x: int = 0, size: int | None = None) -> ScaledImage:
        """A window of one image, or all of it."""
        image, unit = self.images[place], self.units[place]
        high, wide = (min(n, size or n) for n in (image.height - y, image.width - x))
        here = (slice(y, y + high), slice(x, x + wide))
        numbers, observed = filled(self._in_units(unit, image.window(*here), "images"))
        partner = None
        if self.partners is not None:
            other = self.partners[place].window(*here)
            partner, known = filled(self._in_units(unit, other, "partners"))
            observed = observed & known
        return ScaledImage(numbers, observed, ~self.held_out(place, y, x, (high, wide)), partner)

    def _in_units(self, unit: NoiseScaler, pixels: np.ndarray, which: str) -> np.ndarray:
        return unit.expected(pixels) if self.clean == which else unit.forward(pixels)

    def held_out(self, place: int, y: int, x: int, size: tuple[int, int]) -> np.ndarray:
        """(height, width): True for pixels of blocks that are held out."""
        blocks = [(at + np.arange(n)) // BLOCK for at, n in zip((y, x), size, strict=True)]
        (rows, down), (columns, across) = (np.unique(b, return_inverse=True) for b in blocks)
        held = self._draws(place, rows, columns) < self._limit
        return held[down][:, across]

    def _draws(self, place: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """A number in [0, 1) for each block, the same in every run."""
        down, across = (n.astype(np.uint64) for n in (rows[:, None], columns[None, :]))
        keys = np.uint64(place << 40) + (down << np.uint64(20)) + across
        return draws(keys.ravel(), self.seed).reshape(keys.shape)

    @property
    def cells(self) -> int:
        """Pixels of all images, channels counted."""
        return sum(p.height * p.width * p.channels for p in self.images)


@dataclass
class Crops:
    """Batches of square crops, turned and mirrored, from as many planes as a pool holds.

    A share of `leafy` crops is of dead leaves. Planes are drawn by the root of their area, so
    that small images are met too.
    """

    shelf: ImageDataset
    side: int
    seed: int
    leaves: DeadLeaves | None = None
    leafy: float = 0.0
    _place: int = -1
    _planes: list[ScaledImage] = field(default_factory=list)
    _share: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def rows(self) -> int:
        """How many crops it takes to cover all images."""
        channels = self.shelf.images[0].channels
        return max(1, self.shelf.cells // (self.side**2 * channels))

    @property
    def pools(self) -> int:
        """How many pools there are before all was met about once."""
        return max(1, -(-self.shelf.cells // POOL_FEATURES))

    def batch(self, step: int, size: int, steps_a_pool: int) -> tuple[Batch, torch.Generator]:
        """The crops of a step with a member axis, and the generator of its randomness."""
        self._turn_to(step // steps_a_pool if self.pools > 1 else 0)
        seed = hash_of(self.seed, step)
        rng = np.random.default_rng(seed)
        made = rng.binomial(size, self.leafy) if self.leaves is not None else 0
        chosen = rng.choice(len(self._planes), size - made, p=self._share)
        cuts = [self._crop(self._planes[place], rng) for place in chosen]
        if self.leaves is not None:
            cuts += [self.leaves.crop(self.side, rng) for _ in range(made)]
        return stacked(cuts, taught=True), torch.Generator().manual_seed(seed)

    def asked(self) -> Batch:
        """Crops around held-out blocks that tell when to stop: only those blocks are seen."""
        self._turn_to(0)
        rng, found = np.random.default_rng(self.seed), []
        order = rng.permutation(len(self._planes))
        for place in np.resize(order, MOST_ASKED * 2):
            plane = self._planes[place]
            blocks = np.argwhere(~plane.taught & plane.observed.any(2))
            if len(blocks) and len(found) < MOST_ASKED:
                at = blocks[rng.integers(len(blocks))] - self.side // 2
                y, x = (int(np.clip(a, 0, max(n - self.side, 0)))
                        for a, n in zip(at, plane.taught.shape, strict=True))  # fmt: skip
                found.append(padded(plane.cut(y, x, self.side), self.side))
        if not found:  # so few pixels that none are held out: all of them tell
            return stacked([self._crop(plane, rng) for plane in self._planes[:4]], taught=True)
        return stacked(found, taught=False)

    def _crop(self, plane: ScaledImage, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        y, x = (int(rng.integers(max(n - self.side, 0) + 1)) for n in plane.taught.shape)
        cut = padded(plane.cut(y, x, self.side), self.side)
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        cut = tuple(np.rot90(part, turns) for part in cut)
        return tuple(part[:, ::-1] for part in cut) if mirrored else cut

    def _turn_to(self, place: int) -> None:
        if place == self._place:
            return
        self._planes = self._whole() if self.pools == 1 else self._some(place)
        area = np.array([plane.taught.size for plane in self._planes], float) ** 0.5
        self._share, self._place = area / area.sum(), place

    def _whole(self) -> list[ScaledImage]:
        return [self.shelf.plane(place) for place in range(len(self.shelf.images))]

    def _some(self, place: int) -> list[ScaledImage]:
        """Windows drawn by area until the pool is full."""
        rng = np.random.default_rng([self.seed, place])
        area = np.array([float(p.height * p.width) for p in self.shelf.images])
        planes, held = [], 0
        while held < POOL_FEATURES:
            chosen = int(rng.choice(len(area), p=area / area.sum()))
            image = self.shelf.images[chosen]
            y, x = (int(rng.integers(max(n - WINDOW, 0) + 1))
                    for n in (image.height, image.width))  # fmt: skip
            planes.append(self.shelf.plane(chosen, y, x, WINDOW))
            held += planes[-1].numbers.size
        return planes


def padded(cut: tuple[np.ndarray, ...], side: int) -> tuple[np.ndarray, ...]:
    """A cut as large as asked for: a smaller image goes on as in a mirror, and is not taught."""
    high, wide = cut[0].shape[:2]
    if (high, wide) == (side, side):
        return cut
    room = [(0, side - high), (0, side - wide)]
    numbers, observed, taught, partner = cut
    return (
        np.pad(numbers, [*room, (0, 0)], mode="symmetric"),
        np.pad(observed, [*room, (0, 0)]),
        np.pad(taught, room),
        np.pad(partner, [*room, (0, 0)], mode="symmetric"),
    )


def stacked(cuts: list[tuple[np.ndarray, ...]], *, taught: bool) -> Batch:
    """Cuts of one size as a batch with a member axis; seen is what is taught, or what is not."""
    numbers, observed, train_mask, target = (
        torch.from_numpy(np.stack([cut[part] for cut in cuts])) for part in range(4)
    )
    observed = observed & (train_mask if taught else ~train_mask)[..., None]
    flat = (1, len(cuts), -1)
    none = torch.zeros((1, len(cuts), 0), dtype=torch.int64)
    return Batch(numbers.reshape(flat), none, observed.reshape(flat), partner=target.reshape(flat))
