"""Training crops by seed and step: a pure function of both, so that a run can be resumed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from keyhole.core.records import Batch
from keyhole.denoising.leaves import Leaves
from keyhole.denoising.units import Unit, filled
from keyhole.images import Picture
from keyhole.noise import Noise
from keyhole.training.feed import hash_of
from keyhole.training.split import draws

BLOCK = 8  # side of the squares that are held out, in pixels
MOST_BLOCKS = 1_000_000  # whose draws are ranked
POOL_CELLS = 1 << 25  # 128 MB of float32
WINDOW = 512  # side of what is read of a large picture at once
MOST_ASKED = 64  # crops that tell when to stop


@dataclass(frozen=True)
class Plane:
    """A picture or a window of one in units of its noise; `taught` pixels are trained on."""

    numbers: np.ndarray  # (height, width, channel)
    seen: np.ndarray
    taught: np.ndarray  # (height, width)
    partner: np.ndarray | None = None

    def cut(self, y: int, x: int, side: int) -> tuple[np.ndarray, ...]:
        """Numbers, seen, taught and partner of a square, as far as it goes."""
        here = (slice(y, y + side), slice(x, x + side))
        partner = self.numbers if self.partner is None else self.partner
        return self.numbers[here], self.seen[here], self.taught[here], partner[here]


@dataclass
class Shelf:
    """Pictures and their units, of which planes are read; none but a pool is held.

    `share` of all pixels, in blocks, is held out of training. `clean` are the pictures that have
    no noise: "pictures", "partners", or neither.
    """

    pictures: Sequence[Picture]
    units: list[Unit]
    partners: Sequence[Picture] | None
    share: float
    seed: int
    clean: str = ""
    noise: Noise = field(default_factory=lambda: Noise(1.0))  # of all together

    def __post_init__(self) -> None:
        """Rank the blocks' draws, so that even of few blocks the share is held out."""
        sides = [(-(-p.height // BLOCK), -(-p.width // BLOCK)) for p in self.pictures]
        if sum(high * wide for high, wide in sides) > MOST_BLOCKS:
            self._limit = self.share  # so many draws need no ranking
            return
        drawn = [
            self._draws(place, *(np.arange(n, dtype=np.uint64) for n in size)).ravel()
            for place, size in enumerate(sides)
        ]
        self._limit = float(np.quantile(np.concatenate(drawn), self.share))

    def plane(self, place: int, y: int = 0, x: int = 0, size: int | None = None) -> Plane:
        """A window of one picture, or all of it."""
        picture, unit = self.pictures[place], self.units[place]
        high, wide = (min(n, size or n) for n in (picture.height - y, picture.width - x))
        here = (slice(y, y + high), slice(x, x + wide))
        numbers, seen = filled(self._in_units(unit, picture.window(*here), "pictures"))
        partner = None
        if self.partners is not None:
            other = self.partners[place].window(*here)
            partner, known = filled(self._in_units(unit, other, "partners"))
            seen = seen & known
        return Plane(numbers, seen, ~self.held_out(place, y, x, (high, wide)), partner)

    def _in_units(self, unit: Unit, pixels: np.ndarray, which: str) -> np.ndarray:
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
        """Pixels of all pictures, channels counted."""
        return sum(p.height * p.width * p.channels for p in self.pictures)


@dataclass
class Crops:
    """Batches of square crops, turned and mirrored, from as many planes as a pool holds.

    A share of `leafy` crops is of dead leaves. Planes are drawn by the root of their area, so
    that small pictures are met too.
    """

    shelf: Shelf
    side: int
    seed: int
    leaves: Leaves | None = None
    leafy: float = 0.0
    _place: int = -1
    _planes: list[Plane] = field(default_factory=list)
    _share: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def rows(self) -> int:
        """How many crops it takes to cover all pictures."""
        channels = self.shelf.pictures[0].channels
        return max(1, self.shelf.cells // (self.side**2 * channels))

    @property
    def pools(self) -> int:
        """How many pools there are before all was met about once."""
        return max(1, -(-self.shelf.cells // POOL_CELLS))

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
            blocks = np.argwhere(~plane.taught & plane.seen.any(2))
            if len(blocks) and len(found) < MOST_ASKED:
                at = blocks[rng.integers(len(blocks))] - self.side // 2
                y, x = (int(np.clip(a, 0, max(n - self.side, 0)))
                        for a, n in zip(at, plane.taught.shape, strict=True))  # fmt: skip
                found.append(padded(plane.cut(y, x, self.side), self.side))
        if not found:  # so few pixels that none are held out: all of them tell
            return stacked([self._crop(plane, rng) for plane in self._planes[:4]], taught=True)
        return stacked(found, taught=False)

    def _crop(self, plane: Plane, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
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

    def _whole(self) -> list[Plane]:
        return [self.shelf.plane(place) for place in range(len(self.shelf.pictures))]

    def _some(self, place: int) -> list[Plane]:
        """Windows drawn by area until the pool is full."""
        rng = np.random.default_rng([self.seed, place])
        area = np.array([float(p.height * p.width) for p in self.shelf.pictures])
        planes, held = [], 0
        while held < POOL_CELLS:
            chosen = int(rng.choice(len(area), p=area / area.sum()))
            picture = self.shelf.pictures[chosen]
            y, x = (int(rng.integers(max(n - WINDOW, 0) + 1))
                    for n in (picture.height, picture.width))  # fmt: skip
            planes.append(self.shelf.plane(chosen, y, x, WINDOW))
            held += planes[-1].numbers.size
        return planes


def padded(cut: tuple[np.ndarray, ...], side: int) -> tuple[np.ndarray, ...]:
    """A cut as large as asked for: a smaller picture goes on as in a mirror, and is not taught."""
    high, wide = cut[0].shape[:2]
    if (high, wide) == (side, side):
        return cut
    room = [(0, side - high), (0, side - wide)]
    numbers, seen, taught, partner = cut
    return (
        np.pad(numbers, [*room, (0, 0)], mode="symmetric"),
        np.pad(seen, [*room, (0, 0)]),
        np.pad(taught, room),
        np.pad(partner, [*room, (0, 0)], mode="symmetric"),
    )


def stacked(cuts: list[tuple[np.ndarray, ...]], *, taught: bool) -> Batch:
    """Cuts of one size as a batch with a member axis; seen is what is taught, or what is not."""
    numbers, seen, learnt, partner = (
        torch.from_numpy(np.stack([cut[part] for cut in cuts])) for part in range(4)
    )
    seen = seen & (learnt if taught else ~learnt)[..., None]
    flat = (1, len(cuts), -1)
    none = torch.zeros((1, len(cuts), 0), dtype=torch.int64)
    return Batch(numbers.reshape(flat), none, seen.reshape(flat), partner=partner.reshape(flat))
