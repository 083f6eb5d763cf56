"""Noise on continuous cells: the classical denoising question."""

import torch
from torch import Generator

from keyhole.core.layout import Layout
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.training.corruptions.base import Corruption, Question


class Noise(Corruption):
    """Normal noise of `scale` times each continuous cell's spread; the clean row is asked for.

    Source: Vincent et al. 2010, section 3.3. Levels, flags and counts stay as they are: for those
    there is `swapping`.
    """

    kind = "noise"

    def __init__(self, scale: float = 0.3) -> None:
        self.scale = scale

    def check(self) -> None:
        """Raises: SettingError for a scale below zero."""
        if not self.scale >= 0:
            raise SettingError(f"scale={self.scale!r}: it must be zero or above")

    @property
    def noisier(self) -> float:
        """The noise that is put on."""
        return self.scale

    def ask(self, batch: Batch, layout: Layout, generator: Generator) -> Question:
        """Noisy numbers in sight, every seen cell scored, none weighed."""
        self.check()
        slots = layout.slots[: layout.numbers]  # a picture of any size has none: its unit is 1
        reach = torch.tensor([s.scale * (s.head == "student_t") for s in slots] or [1.0])
        noise = torch.randn(batch.numbers.shape, generator=generator) * (self.scale * reach)
        seen = batch.seen[..., : batch.numbers.shape[-1]]
        given = Batch(batch.numbers + noise * seen, batch.codes, batch.seen, batch.weight)
        return Question(given, batch, batch.seen.to(batch.numbers.dtype))
