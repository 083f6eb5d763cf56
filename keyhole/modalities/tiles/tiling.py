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
from keyhole.modalities.tiles.filters import filled
from keyhole.modalities.tiles.source import HALO, NoiseScaler
from keyhole.model.nets.unet import MAX_SCALES, UNet
from keyhole.model.network import Network

TILE = 256  # pixels of a side, without the margin
PASS_FEATURES = 1 << 20  # of small images that go through together, margins counted
NEAR = 4  # pixels to each side that show how good predictions are
ALIGNED = 2 ** (MAX_SCALES - 1)
FILTER_TILE, FILTER_MARGIN = 2_048, 64  # an image up to this side is filtered whole


def image_batch(numbers: torch.Tensor, grid: tuple[int, int, int]) -> Batch:
    """Flat images (member, image, feature) of a size of their own, all pixels observed."""
    codes = torch.zeros((*numbers.shape[:-1], 0), dtype=torch.int64, device=numbers.device)
    return Batch(numbers, codes, torch.ones_like(numbers, dtype=torch.bool), grid=grid)


class Denoise:
    """What a net makes of images in units of their noise; `folds` turns and mirrorings of each.

    The mean over eight symmetries is worth a tenth of a decibel and costs eight passes. `level` is
    the noise of the images that it is given, usually 1. A `blind` net predicts each pixel from
    its surroundings alone: prediction and pixel are mixed by their variances, that of the
    prediction measured by how far nearby pixels are from theirs (the mean of the posterior of
    Laine et al. 2019, section 3.1, with a variance that is measured).
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
                total += _turned_back(self._pass(_turned(planes, fold)), fold)
        mean = total / self.folds
        if self.blind:
            mean = _mixed(mean, planes)
        return (self.level * mean).permute(0, 2, 3, 1).cpu().numpy()

    def _pass(self, planes: torch.Tensor) -> torch.Tensor:
        """The mean that the network gives to images (B, C, H, W)."""
        images = planes.permute(0, 2, 3, 1).contiguous()  # (B, H, W, C)
        grid = (images.shape[1], images.shape[2], images.shape[3])
        mean = self.network(image_batch(images.flatten(1)[None], grid)).likelihood.mean
        return mean.numbers[0, 0].unflatten(-1, grid).permute(0, 3, 1, 2)


def _turned(planes: torch.Tensor, fold: int) -> torch.Tensor:
    return torch.rot90(planes.flip(3) if fold >= 4 else planes, fold % 4, (2, 3))


def _turned_back(planes: torch.Tensor, fold: int) -> torch.Tensor:
    planes = torch.rot90(planes, -(fold % 4), (2, 3))
    return planes.flip(3) if fold >= 4 else planes


def _mixed(predicted: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Predictions and pixels with noise of variance 1, each by the certainty of the other."""
    square = (given - predicted).square()
    near = torch.nn.functional.avg_pool2d(
        square, 2 * NEAR + 1, stride=1, padding=NEAR, count_include_pad=False
    )
    variance = (near - 1).clamp(min=0)  # of the prediction; the pixel's own is 1
    return predicted + variance / (1 + variance) * (given - predicted)


class Filtered:
    """What a classical filter makes of images in units of their noise."""

    tile, margin, step, side = FILTER_TILE, FILTER_MARGIN, 1, 0

    def __init__(
        self, filter: Callable[[np.ndarray, float], np.ndarray], sigma: float = 1.0
    ) -> None:
        self.filter, self.sigma = filter, sigma

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Each by itself."""
        return np.stack([self.filter(image, self.sigma) for image in x])


def bands(
    image: Image, scaler: NoiseScaler, method: Denoise | Filtered, tile: int | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """(y, rows) from top to bottom: the denoised image in its own units, gaps as they were."""
    tile = tile or method.tile
    for y in range(0, image.height, tile):
        high = min(tile, image.height - y)
        tiles = [
            _tile(image, scaler, method, (y, x), (high, min(tile, image.width - x)))
            for x in range(0, image.width, tile)
        ]
        yield y, np.concatenate(tiles, 1)


def middle(
    image: Image, scaler: NoiseScaler, method: Denoise | Filtered, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """The middle of an image, at most `side` pixels wide and high: noisy and denoised."""
    rows, columns = middle_of(image, side)
    size = (rows.stop - rows.start, columns.stop - columns.start)
    denoised = _tile(image, scaler, method, (rows.start, columns.start), size)
    return image.window(rows, columns), denoised


def middle_of(image: Image, side: int) -> tuple[slice, slice]:
    """Where the middle of an image is; it starts where every net's coarsest scale does."""
    y, x = (max(n - side, 0) // 2 // ALIGNED * ALIGNED for n in (image.height, image.width))
    return slice(y, min(y + side, image.height)), slice(x, min(x + side, image.width))


def together(
    images: list[Image], scalers: list[NoiseScaler], method: Denoise | Filtered
) -> list[np.ndarray]:
    """Small images of one size, denoised in one pass."""
    pairs = [(image.whole(), scaler) for image, scaler in zip(images, scalers, strict=True)]
    denoised = whole(np.stack([scaler.forward(window) for window, scaler in pairs]), method)
    return [scaler.restored(window, x) for (window, scaler), x in zip(pairs, denoised)]


def whole(x: np.ndarray, method: Denoise | Filtered) -> np.ndarray:
    """Images (image, height, width, channel) in noise units, denoised at once.

    What is missing (NaN) is predicted. What fits into a training crop is seen as in training:
    without a margin.
    """
    size = x.shape[1], x.shape[2]
    x = np.stack([filled(image)[0] for image in x])
    if max(size) <= method.side:
        edges = [(0, method.side - n) for n in size]
    else:
        edges = [_edge(0, n, n, method) for n in size]
    padded = np.pad(x, [(0, 0), *edges, (0, 0)], "symmetric")
    return method(padded)[:, edges[0][0] :, edges[1][0] :][:, : size[0], : size[1]]


def _tile(
    image: Image,
    scaler: NoiseScaler,
    method: Denoise | Filtered,
    start: tuple[int, int],
    size: tuple[int, int],
) -> np.ndarray:
    """One tile: read with its margin, mirrored where the image ends, denoised, cut out.

    It starts at multiples of the method's step.
    """
    sides, margin = (image.height, image.width), method.margin
    if max(sides) <= method.side:
        window = image.whole()
        denoised = whole(scaler.forward(window)[None], method)[0]
        box = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
        return scaler.restored(window, denoised)[box]
    spans = list(zip(start, size, sides, strict=True))
    given = [slice(max(a - margin, 0), min(a + n + margin, side)) for a, n, side in spans]
    # Read with a halo, so that impulses are recognised alike in every tile.
    halos = [(max(s.start - HALO, 0), s.stop + HALO) for s in given]
    window = image.window(*(slice(a, min(b, side)) for (a, b), side in zip(halos, sides)))
    inside = tuple(slice(s.start - a, s.stop - a) for s, (a, _) in zip(given, halos))
    edges = [_edge(*span, method) for span in spans]
    x = np.pad(filled(scaler.forward(window)[inside])[0], [*edges, (0, 0)], "symmetric")
    denoised = np.zeros_like(window)
    box = tuple(slice(a - first, a - first + n) for (a, n, _), (first, _) in zip(spans, halos))
    denoised[box] = method(x[None])[0, margin : margin + size[0], margin : margin + size[1]]
    return scaler.restored(window, denoised)[box]


def _edge(start: int, size: int, side: int, method: Denoise | Filtered) -> tuple[int, int]:
    """Mirrored pixels before and after: as far as a margin leads beyond the image's edge."""
    before, after = (max(method.margin - room, 0) for room in (start, side - start - size))
    return before, after + -(size + 2 * method.margin) % method.step
