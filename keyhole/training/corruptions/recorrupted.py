"""Recorrupted noise: two noisy pictures of one, whose noises know nothing of each other."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional

from keyhole.core.layout import Layout
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.training.corruptions.base import Corruption, Question, counted


class Recorrupted(Corruption):
    """Noise is added to what is given, and taken from what is asked for: y + a n and y - n / a.

    Where n is like the noise that is in y already, both are the clean picture with independent
    noise, so the best answer to the one is the clean picture behind the other. Numbers are in
    units of their noise: n has standard deviation 1. `filter` is what white noise went through
    where neighbours share noise. Source: Pang et al. 2021, equations 6 and 7.
    """

    kind = "recorrupted"

    def __init__(self, a: float = 0.5, *, filter: list[list[float]] | None = None) -> None:
        self.a = a
        self.filter = filter

    def check(self) -> None:
        """Raises: SettingError for a share of noise that is none, a filter that is no square."""
        if not 0 < self.a < 100:
            raise SettingError(f"a={self.a!r:.40}: it must be above zero, such as 0.5")
        rows = self.filter or [[1.0]]
        if len(rows) % 2 != 1 or any(len(row) != len(rows) for row in rows):
            raise SettingError(f"filter={rows!r:.60}: a square of odd sides")

    def ask(self, batch: Batch, layout: Layout, generator: Generator) -> Question:
        """The row with more noise; asked for, the row with as much noise of its own."""
        self.check()
        noise = torch.randn(batch.numbers.shape, generator=generator)
        if self.filter is not None:
            noise = _like_pictures(noise, self.filter, layout)
        given = Batch(batch.numbers + self.a * noise, batch.codes, batch.seen, batch.weight)
        target = Batch(batch.numbers - noise / self.a, batch.codes, batch.seen, batch.weight)
        return Question(given, target, counted(batch.seen))

    @property
    def noisier(self) -> float:
        """The standard deviation of the noise in what is given."""
        return (1 + self.a**2) ** 0.5


def _like_pictures(noise: Tensor, rows: list[list[float]], layout: Layout) -> Tensor:
    """The noise of flat rows through a filter. Raises: SettingError where they are no pictures."""
    if layout.grid is None:
        raise SettingError("filter is for pictures; these rows are none")
    return filtered(noise.reshape(-1, *layout.grid), rows).reshape(noise.shape)


def filtered(
    noise: Float[Tensor, "picture height width channel"], rows: list[list[float]]
) -> Float[Tensor, "picture height width channel"]:
    """White noise through a filter, channel by channel; it goes on beyond the edges."""
    count, height, width, channels = noise.shape
    weight = noise.new_tensor(rows)
    weight = weight / weight.square().sum().sqrt().clamp(min=1e-12)  # the deviation stays 1
    around, planes = len(rows) // 2, noise.permute(0, 3, 1, 2).reshape(-1, 1, height, width)
    for axis in (2, 3):  # as often round as a small picture needs
        size = planes.shape[axis]
        places = torch.arange(-around, size + around, device=noise.device) % size
        planes = planes.index_select(axis, places)
    made = functional.conv2d(planes, weight[None, None])
    return made.reshape(count, channels, height, width).permute(0, 2, 3, 1)
