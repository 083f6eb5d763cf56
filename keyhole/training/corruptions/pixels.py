"""Corruptions of images: pairs, blind spots, recorrupted noise."""

from dataclasses import KW_ONLY, dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn.functional import max_pool2d

from keyhole.core.layout import Layout
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.modalities.tiles.noise import filtered
from keyhole.training.corruptions.base import CorruptedBatch, Corruption, counted

Spots = Bool[Tensor, "image height width"]
Planes = Float[Tensor, "image height width channel"]


class Pairs(Corruption):
    """A noisy image and its clean one, or two exposures of one scene.

    A second exposure teaches as much as a clean image, since the mean of its noise is zero.
    Source: Lehtinen et al. 2018, section 3.
    """

    kind = "pairs"
    images = True

    def corrupt(self, batch: Batch, layout: Layout, generator: Generator) -> CorruptedBatch:
        """The second image of each row is the target. Raises: SettingError if there is none."""
        if batch.target is None:
            raise SettingError("these images have no second images: use fit(noisy, clean)")
        return CorruptedBatch(batch, replace(batch, numbers=batch.target), counted(batch.observed))


@dataclass(eq=False, repr=False)
class BlindSpot(Corruption):
    """A share of the pixels holds a random neighbour's value, and only those are predicted.

    A net that cannot see a pixel cannot copy its noise; it is enough that neighbours do not share
    their noise. If they do, `reach` pixels to each side ([down, across]) are masked with it.
    Source: Krull et al. 2019; structured masks: Broaddus et al. 2020.
    """

    kind = "blind_spot"
    images = True
    blind = True

    share: float = 0.08
    _: KW_ONLY
    radius: int = 2
    reach: list[int] | None = None

    def check(self) -> None:
        """Raises: SettingError for an invalid share, radius or reach."""
        if not 0 < self.share < 0.5 or self.radius < 1:
            raise SettingError(f"{self!r}: share must be above 0 and below 0.5, radius at least 1")
        reach = self.reach or [0, 0]
        if len(reach) != 2 or any(not isinstance(r, int) or r < 0 for r in reach):
            raise SettingError(
                f"reach={self.reach!r:.40}: expected pixels down and across, such as [0, 2]"
            )

    def corrupt(self, batch: Batch, layout: Layout, generator: Generator) -> CorruptedBatch:
        """The image with foreign pixels; the target holds the true ones. Raises: SettingError."""
        self.check()
        if layout.grid is None:
            raise SettingError("a blind spot is for images, but these rows are not images")
        height, width, channels = layout.grid
        planes = batch.numbers.reshape(-1, height, width, channels)
        down, across = self.reach or [0, 0]
        spots = torch.rand(planes.shape[:3], generator=generator) < self.share
        masked = _spread(spots, down, across)
        far = [down + self.radius, across + self.radius]
        foreign = _neighbours(planes, far, [down, across], generator)
        numbers = torch.where(masked[..., None], foreign, planes).reshape(batch.numbers.shape)
        predicted = spots[..., None].expand(planes.shape).reshape(batch.observed.shape)
        weight = counted(batch.observed & predicted)
        return CorruptedBatch(replace(batch, numbers=numbers), batch, weight)


def _spread(spots: Spots, down: int, across: int) -> Spots:
    """The spots and all pixels within reach of one."""
    if not down and not across:
        return spots
    size = (2 * down + 1, 2 * across + 1)
    near = max_pool2d(spots[:, None].float(), size, stride=1, padding=(down, across))
    return near[:, 0] > 0


def _neighbours(planes: Planes, far: list[int], near: list[int], generator: Generator) -> Planes:
    """For each pixel another one, at most `far` away and outside `near`, by rows and columns."""
    count, height, width, _ = planes.shape
    moves = [
        (y, x)
        for y in range(-far[0], far[0] + 1)
        for x in range(-far[1], far[1] + 1)
        if abs(y) > near[0] or abs(x) > near[1]
    ]
    drawn = torch.randint(len(moves), (count, height, width), generator=generator)
    step = torch.tensor(moves)[drawn]  # (image, height, width, 2)
    rows = _moved(torch.arange(height)[:, None], step[..., 0], height)
    columns = _moved(torch.arange(width), step[..., 1], width)
    return planes[torch.arange(count)[:, None, None], rows, columns]


def _moved(position: Tensor, step: Tensor, size: int) -> Tensor:
    """Positions after a step, which goes the other way if it would cross an edge."""
    moved = position + step
    outside = (moved < 0) | (moved >= size)
    return torch.where(outside, position - step, moved).clamp(0, size - 1)


@dataclass(eq=False, repr=False)
class Recorrupted(Corruption):
    """Noise is added to the input and subtracted from the target: y + a n and y - n / a.

    If n is like the noise that y already has, both are the clean image with independent noise, so
    the best prediction of the one is the clean image behind the other. Numbers are in units of
    their noise: n has standard deviation 1. `filter` gives n the correlation of neighbours' noise.
    Source: Pang et al. 2021, equations 6 and 7.
    """

    kind = "recorrupted"

    a: float = 0.5
    _: KW_ONLY
    filter: list[list[float]] | None = None

    def check(self) -> None:
        """Raises: SettingError for an invalid share of noise, or a filter that is not square."""
        if not 0 < self.a < 100:
            raise SettingError(f"a={self.a!r:.40}: it must be above zero, such as 0.5")
        rows = self.filter or [[1.0]]
        if len(rows) % 2 != 1 or any(len(row) != len(rows) for row in rows):
            raise SettingError(f"filter={rows!r:.60}: expected a square with an odd side")

    def corrupt(self, batch: Batch, layout: Layout, generator: Generator) -> CorruptedBatch:
        """The row with more noise; the target has independent noise."""
        self.check()
        noise = torch.randn(batch.numbers.shape, generator=generator)
        if self.filter is not None:
            if layout.grid is None:
                raise SettingError("filter is for images, but these rows are not images")
            images = noise.reshape(-1, *layout.grid)
            noise = filtered(images, self.filter).reshape(noise.shape)
        noisier = Batch(batch.numbers + self.a * noise, batch.codes, batch.observed, batch.weight)
        target = Batch(batch.numbers - noise / self.a, batch.codes, batch.observed, batch.weight)
        return CorruptedBatch(noisier, target, counted(batch.observed))

    @property
    def noisier(self) -> float:
        """The standard deviation of the input's noise."""
        return (1 + self.a**2) ** 0.5
