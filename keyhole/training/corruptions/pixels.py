"""Corruptions of images: pairs, blind spots, recorrupted noise."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from keyhole.core.layout import Layout
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.modalities.tiles.noise import filtered
from keyhole.training.corruptions.base import CorruptedBatch, Corruption, counted


class Pairs(Corruption):
    """A noisy image and its clean one, or two exposures of one scene.

    A second exposure teaches as much as a clean image, since the mean of its noise is zero.
    Source: Lehtinen et al. 2018, section 3.
    """

    kind = "pairs"
    images = True

    def __init__(self) -> None:
        """Nothing to choose."""

    def corrupt(self, batch: Batch, layout: Layout, generator: Generator) -> CorruptedBatch:
        """The second image of each row is the target. Raises: SettingError if there is none."""
        if batch.target is None:
            raise SettingError("these images have no second ones: give fit(noisy, clean)")
        return CorruptedBatch(batch, replace(batch, numbers=batch.target), counted(batch.observed))


class BlindSpot(Corruption):
    """A share of the pixels holds a random neighbour's value, and only those are asked for.

    A net that cannot see a pixel cannot copy its noise, so nothing need be known of the noise but
    that neighbours do not share it. Where they do, `reach` pixels to each side ([down, across])
    are hidden with it. Source: Krull et al. 2019; structured masks: Broaddus et al. 2020.
    """

    kind = "blind_spot"
    images = True
    blind = True

    def __init__(
        self, share: float = 0.08, *, radius: int = 2, reach: list[int] | None = None
    ) -> None:
        self.share = share
        self.radius = radius
        self.reach = reach

    def check(self) -> None:
        """Raises: SettingError for an invalid share, radius or reach."""
        if not 0 < self.share < 0.5 or self.radius < 1:
            raise SettingError(f"{self!r}: share is above 0 and below .5, radius at least 1")
        reach = self.reach or [0, 0]
        if len(reach) != 2 or any(not isinstance(r, int) or r < 0 for r in reach):
            raise SettingError(f"reach={self.reach!r:.40}: pixels down and across, such as [0, 2]")

    def corrupt(self, batch: Batch, layout: Layout, generator: Generator) -> CorruptedBatch:
        """The image with foreign pixels, where the true ones are asked for.

        Raises: SettingError for rows that are no images.
        """
        self.check()
        if layout.grid is None:
            raise SettingError("a blind spot is for images; these rows are none")
        height, width, channels = layout.grid
        planes = batch.numbers.reshape(-1, height, width, channels)
        down, across = self.reach or [0, 0]
        spots = torch.rand(planes.shape[:3], generator=generator) < self.share
        hidden = _spread(spots, down, across)
        far = [max(self.radius, down + self.radius), max(self.radius, across + self.radius)]
        foreign = _neighbours(planes, far, [down, across], generator)
        given = torch.where(hidden[..., None], foreign, planes).reshape(batch.numbers.shape)
        asked = spots[..., None].expand(planes.shape).reshape(batch.observed.shape)
        return CorruptedBatch(
            replace(batch, numbers=given), batch, counted(batch.observed & asked)
        )


def _spread(
    spots: Bool[Tensor, "image height width"], down: int, across: int
) -> Bool[Tensor, "image height width"]:
    """The spots and all pixels within reach of one."""
    if not down and not across:
        return spots
    size = (2 * down + 1, 2 * across + 1)
    near = torch.nn.functional.max_pool2d(
        spots[:, None].float(), size, stride=1, padding=(down, across)
    )
    return near[:, 0] > 0


def _neighbours(
    planes: Float[Tensor, "image height width channel"],
    far: list[int],
    near: list[int],
    generator: Generator,
) -> Float[Tensor, "image height width channel"]:
    """For each pixel one at most `far` away and outside `near`, by rows and columns; never it."""
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


def _moved(place: Tensor, step: Tensor, size: int) -> Tensor:
    """Places after a step, which goes the other way where it would lead over an edge."""
    there = place + step
    return torch.where((there < 0) | (there >= size), place - step, there).clamp(0, size - 1)


class Recorrupted(Corruption):
    """Noise is added to what is given, and taken from what is asked for: y + a n and y - n / a.

    Where n is like the noise that is in y already, both are the clean image with independent
    noise, so the best answer to the one is the clean image behind the other. Numbers are in
    units of their noise: n has standard deviation 1. `filter` is what white noise went through
    where neighbours share noise. Source: Pang et al. 2021, equations 6 and 7.
    """

    kind = "recorrupted"

    def __init__(self, a: float = 0.5, *, filter: list[list[float]] | None = None) -> None:
        self.a = a
        self.filter = filter

    def check(self) -> None:
        """Raises: SettingError for an invalid share of noise, or a filter that is not square."""
        if not 0 < self.a < 100:
            raise SettingError(f"a={self.a!r:.40}: it must be above zero, such as 0.5")
        rows = self.filter or [[1.0]]
        if len(rows) % 2 != 1 or any(len(row) != len(rows) for row in rows):
            raise SettingError(f"filter={rows!r:.60}: a square of odd sides")

    def corrupt(self, batch: Batch, layout: Layout, generator: Generator) -> CorruptedBatch:
        """The row with more noise; asked for, the row with as much noise of its own."""
        self.check()
        noise = torch.randn(batch.numbers.shape, generator=generator)
        if self.filter is not None:
            noise = _like_images(noise, self.filter, layout)
        given = Batch(batch.numbers + self.a * noise, batch.codes, batch.observed, batch.weight)
        target = Batch(batch.numbers - noise / self.a, batch.codes, batch.observed, batch.weight)
        return CorruptedBatch(given, target, counted(batch.observed))

    @property
    def noisier(self) -> float:
        """The standard deviation of the noise in what is given."""
        return (1 + self.a**2) ** 0.5


def _like_images(noise: Tensor, rows: list[list[float]], layout: Layout) -> Tensor:
    """The noise of flat rows through a filter. Raises: SettingError where they are no images."""
    if layout.grid is None:
        raise SettingError("filter is for images; these rows are none")
    return filtered(noise.reshape(-1, *layout.grid), rows).reshape(noise.shape)
