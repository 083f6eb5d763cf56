"""Pairs: the row is given, its partner is asked for."""

from dataclasses import replace

from torch import Generator

from keyhole.core.layout import Layout
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.training.corruptions.base import Corruption, Question, counted


class Pairs(Corruption):
    """A noisy picture and its clean one, or two exposures of one scene.

    A second exposure teaches as much as a clean picture, since the mean of its noise is zero.
    Source: Lehtinen et al. 2018, section 3.
    """

    kind = "pairs"
    pictures = True

    def __init__(self) -> None:
        """Nothing to choose."""

    def ask(self, batch: Batch, layout: Layout, generator: Generator) -> Question:
        """The partner of each row. Raises: SettingError where rows have none."""
        if batch.partner is None:
            raise SettingError("these rows have no partners: give fit(noisy, clean)")
        return Question(batch, replace(batch, numbers=batch.partner), counted(batch.seen))
