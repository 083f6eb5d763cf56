"""An image of any size through a net or a filter, a tile at a time: memory is a tile's.

A tile is read with a margin at least as wide as the net sees; what comes out of the margin is
thrown away, so that neighbours agree to the last digits and no seam need be blended. Classical
filters look at all of an image: they are given it whole, or in tiles as large as there is room
for, whose seams may show a little.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from keyhole.core.environment import pass_work, threads_for
from keyhole.core.records import Batch
from keyhole.data.images import Image
from keyhole.modalities.tiles.scaling import HALO, NoiseScaler, filled
from keyhole.model.nets.unet import MAX_SCALES, UNet
from keyhole.model.network import Network

TILE = 256  # pixels of a side, without the margin
PASS_FEATURES = 1 << 20  # of small images that go through together, margins counted
NEAR = 4  # pixels to each side that tell how good guesses are here
ALIGNED = 2 ** (MAX_SCALES - 1)
FILTER_TILE, FILTER_MARGIN = 2_048, 64  # an image up to this side is filtered whole


def image_batch(numbers: torch.Tensor, grid: tuple[int, int, int]) -> Batch:
    """Flat images (member, image, feature) of a size of their own, all pixels observed."""
    codes = torch.zeros((*numbers.shape[:-1], 0), dtype=torch.int64, device=numbers.device)
    return Batch(numbers, codes, torch.ones_like(numbers, dtype=torch.bool), grid=grid)


class Denoise:
    """What a net makes of images in units of their noise; `folds` turns and mirrorings of each.

    The mean over eight symmetries is worth a tenth of a decibel and costs eight passes. `level` is
    the noise of the images that it is given, usually 1. A `blind` net guesses each pixel from
    around it alone: what it says and what the pixel says itself are mixed by their variances, that
    of the guess told by how far pixels near by are from theirs (the mean of the posterior of Laine
    et al. 2019, section 3.1, with a variance that is measured).
    """

    tile = TILE

    def __init__(
        self,
        network: Network,
        net: UNet,
        folds: int = 8,
        *,
        blind: bool = False,
        level: float = 1.0,
    ) -> None:
        self.network, self.folds, self.blind, self.level = network, folds, blind, level
        self.step = net.step
        self.margin = net.reach + (-(-NEAR // net.step) * net.step if blind else 0)
        self.side = (network.shape.layout.grid or (0,))[0]  # of a training crop

    @torch.inference_mode()
    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Images whose sides are multiples of `step`."""
        device = next(self.network.parameters()).device
        planes = torch.from_numpy(np.ascontiguousarray(x)).to(device).permute(0, 3, 1, 2)
        planes = planes / self.level
        total = torch.zeros_like(planes)
        with threads_for(pass_work(self.network, planes.numel())):
            for fold in range(self.folds):
                total += _back(self._pass(_turned(planes, fold)), fold)
        found = total / self.folds
        if self.blind:
            found = _mixed(found, planes)
        return (self.level * found).permute(0, 2, 3, 1).cpu().numpy()

    def _pass(self, planes: torch.Tensor) -> torch.Tensor:
        """The mean that the network gives to images (B, C, H, W)."""
        images = planes.permute(0, 2, 3, 1).contiguous()  # (B, H, W, C)
        grid = (images.shape[1], images.shape[2], images.shape[3])
        mean = self.network(image_batch(images.flatten(1)[None], grid)).likelihood.mean
        return mean.numbers[0, 0].unflatten(-1, grid).permute(0, 3, 1, 2)


def _mixed(guess: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Guesses and pixels with noise of variance 1, each by the certainty of the other."""
    square = (given - guess).square()
    near = torch.nn.functional.avg_pool2d(
        square, 2 * NEAR + 1, stride=1, padding=NEAR, count_include_pad=False
    )
    score_std = (near - 1).clamp(min=0)  # of the guess; the pixel's own is 1
    return guess + score_std / (1 + score_std) * (given - guess)


class Filtered:
    """What a classical filter makes of images in units of their noise."""

    tile, margin, step, side = FILTER_TILE, FILTER_MARGIN, 1, 0

    def __init__(
        self, filter: Callable[[np.ndarray, float], np.ndarray], sigma: float = 1.0
    ) -> None:
        self.filter, self.sigma = filter, sigma

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Each by itself."""
        return np.stack([self.filter(one, self.sigma) for one in x])


def bands(
    image: Image, unit: NoiseScaler, answer: Denoise | Filtered, tile: int | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """(y, rows) from top to bottom: the denoised image in its own units, gaps as they were."""
    tile = tile or answer.tile
    for y in range(0, image.height, tile):
        high = min(tile, image.height - y)
        row = np.empty((high, image.width, image.channels), np.float32)
        for x in range(0, image.width, tile):
            wide = min(tile, image.width - x)
            row[:, x : x + wide] = cut(image, unit, answer, (y, x), (high, wide))
        yield y, row


def middle(
    image: Image, unit: NoiseScaler, answer: Denoise | Filtered, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """The middle of an image, at most `side` wide and high: as it is, and denoised."""
    here = middle_of(image, side)
    start, size = (here[0].start, here[1].start), tuple(part.stop - part.start for part in here)
    return image.window(*here), cut(image, unit, answer, start, size)  # pyright: ignore


def middle_of(image: Image, side: int) -> tuple[slice, slice]:
    """Where the middle of an image is; it starts where every net's coarsest scale does."""
    y, x = (max(n - side, 0) // 2 // ALIGNED * ALIGNED for n in (image.height, image.width))
    return slice(y, min(y + side, image.height)), slice(x, min(x + side, image.width))


def together(
    images: list[Image], units: list[NoiseScaler], answer: Denoise | Filtered
) -> list[np.ndarray]:
    """Small images of one size, denoised in one pass."""
    windows = [image.whole() for image in images]
    cut = [unit.forward(window) for window, unit in zip(windows, units, strict=True)]
    found = whole(np.stack(cut), answer)
    rows = zip(units, windows, found, strict=True)
    return [unit.answered(window, one) for unit, window, one in rows]


def whole(x: np.ndarray, answer: Denoise | Filtered) -> np.ndarray:
    """Images (image, height, width, channel) in noise units, denoised at once.

    What is missing (NaN) is guessed. What fits into a training crop is seen as in training:
    without a margin.
    """
    size = x.shape[1], x.shape[2]
    x = np.stack([filled(one)[0] for one in x])
    if max(size) <= answer.side:
        edges = [(0, answer.side - n) for n in size]
    else:
        edges = [_edge(0, n, n, answer) for n in size]
    wide = np.pad(x, [(0, 0), *edges, (0, 0)], "symmetric")
    return answer(wide)[:, edges[0][0] :, edges[1][0] :][:, : size[0], : size[1]]


def cut(
    image: Image,
    unit: NoiseScaler,
    answer: Denoise | Filtered,
    start: tuple[int, int],
    size: tuple[int, int],
) -> np.ndarray:
    """One tile: read with its margin, mirrored where the image ends, answered, cut out.

    It starts at multiples of the answer's step.
    """
    sides, margin = (image.height, image.width), answer.margin
    if max(sides) <= answer.side:
        window = image.whole()
        found = whole(unit.forward(window)[None], answer)[0]
        inside = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
        return unit.answered(window, found)[inside]
    here = [slice(max(a - margin, 0), min(a + n + margin, side))
            for a, n, side in zip(start, size, sides, strict=True)]  # fmt: skip
    # Read with a halo, so that impulses are told alike in every tile.
    read = [slice(max(s.start - HALO, 0), min(s.stop + HALO, side))
            for s, side in zip(here, sides, strict=True)]  # fmt: skip
    window = image.window(read[0], read[1])
    y, x_ = (slice(s.start - r.start, s.stop - r.start) for s, r in zip(here, read, strict=True))
    x, _ = filled(unit.forward(window)[y, x_])
    edges = [_edge(a, n, side, answer) for a, n, side in zip(start, size, sides, strict=True)]
    found = answer(np.pad(x, [*edges, (0, 0)], "symmetric")[None])[0]
    found = found[margin : margin + size[0], margin : margin + size[1]]
    inner = tuple(slice(a - r.start, a - r.start + n)
                  for a, n, r in zip(start, size, read, strict=True))  # fmt: skip
    whole_of = np.zeros_like(window)
    whole_of[inner] = found
    return unit.answered(window, whole_of)[inner]


def _edge(start: int, size: int, side: int, answer: Denoise | Filtered) -> tuple[int, int]:
    """Mirrored pixels before and after: as far as a margin leads beyond the image's edge."""
    before, after = (max(answer.margin - room, 0) for room in (start, side - start - size))
    return before, after + -(size + 2 * answer.margin) % answer.step


def _turned(planes: torch.Tensor, fold: int) -> torch.Tensor:
    planes = planes.flip(3) if fold >= 4 else planes
    return torch.rot90(planes, fold % 4, (2, 3))


def _back(planes: torch.Tensor, fold: int) -> torch.Tensor:
    planes = torch.rot90(planes, -(fold % 4), (2, 3))
    return planes.flip(3) if fold >= 4 else planes
