"""The blind spot: some pixels are replaced by neighbours, and must be guessed from around them."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from keyhole.core.layout import Layout
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.training.corruptions.base import Corruption, Question, counted


class BlindSpot(Corruption):
    """A share of the pixels holds a random neighbour's value, and only those are asked for.

    A net that cannot see a pixel cannot copy its noise, so nothing need be known of the noise but
    that neighbours do not share it. Where they do, `reach` pixels to each side ([down, across])
    are hidden with it. Source: Krull et al. 2019; structured masks: Broaddus et al. 2020.
    """

    kind = "blind_spot"
    pictures = True
    blind = True

    def __init__(
        self, share: float = 0.08, *, radius: int = 2, reach: list[int] | None = None
    ) -> None:
        self.share = share
        self.radius = radius
        self.reach = reach

    def check(self) -> None:
        """Raises: SettingError for a share, a radius or a reach that is none."""
        if not 0 < self.share < 0.5 or self.radius < 1:
            raise SettingError(f"{self!r}: share is above 0 and below .5, radius at least 1")
        reach = self.reach or [0, 0]
        if len(reach) != 2 or any(not isinstance(r, int) or r < 0 for r in reach):
            raise SettingError(f"reach={self.reach!r:.40}: pixels down and across, such as [0, 2]")

    def ask(self, batch: Batch, layout: Layout, generator: Generator) -> Question:
        """The picture with foreign pixels, where the true ones are asked for.

        Raises: SettingError for rows that are no pictures.
        """
        self.check()
        if layout.grid is None:
            raise SettingError("a blind spot is for pictures; these rows are none")
        height, width, channels = layout.grid
        planes = batch.numbers.reshape(-1, height, width, channels)
        down, across = self.reach or [0, 0]
        spots = torch.rand(planes.shape[:3], generator=generator) < self.share
        hidden = _spread(spots, down, across)
        far = [max(self.radius, down + self.radius), max(self.radius, across + self.radius)]
        foreign = _neighbours(planes, far, [down, across], generator)
        given = torch.where(hidden[..., None], foreign, planes).reshape(batch.numbers.shape)
        asked = spots[..., None].expand(planes.shape).reshape(batch.seen.shape)
        return Question(replace(batch, numbers=given), batch, counted(batch.seen & asked))


def _spread(
    spots: Bool[Tensor, "picture height width"], down: int, across: int
) -> Bool[Tensor, "picture height width"]:
    """The spots and all pixels within reach of one."""
    if not down and not across:
        return spots
    size = (2 * down + 1, 2 * across + 1)
    near = torch.nn.functional.max_pool2d(
        spots[:, None].float(), size, stride=1, padding=(down, across)
    )
    return near[:, 0] > 0


def _neighbours(
    planes: Float[Tensor, "picture height width channel"],
    far: list[int],
    near: list[int],
    generator: Generator,
) -> Float[Tensor, "picture height width channel"]:
    """For each pixel one at most `far` away and outside `near`, by rows and columns; never it."""
    count, height, width, _ = planes.shape
    moves = [
        (y, x)
        for y in range(-far[0], far[0] + 1)
        for x in range(-far[1], far[1] + 1)
        if abs(y) > near[0] or abs(x) > near[1]
    ]
    drawn = torch.randint(len(moves), (count, height, width), generator=generator)
    step = torch.tensor(moves)[drawn]  # (picture, height, width, 2)
    rows = _moved(torch.arange(height)[:, None], step[..., 0], height)
    columns = _moved(torch.arange(width), step[..., 1], width)
    return planes[torch.arange(count)[:, None, None], rows, columns]


def _moved(place: Tensor, step: Tensor, size: int) -> Tensor:
    """Places after a step, which goes the other way where it would lead over an edge."""
    there = place + step
    return torch.where((there < 0) | (there >= size), place - step, there).clamp(0, size - 1)
