"""Features as points of a space: where distances between rows are measured.

A number stands on an axis as encoded; a level has an axis of its own, so that two rows with
different levels are as far apart (squared distance 2) as two independent standardised numbers.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from keyhole.core.layout import Layout
from keyhole.core.records import Batch

MOST_AXES = 2_048  # a covariance of more takes minutes
MOST_LEVELS = 50  # of a column that have an axis of their own; rarer and unseen ones share one
FARTHEST = 1e6  # a float32 squares no more without losing the near ones


def coordinates(batch: Batch, layout: Layout) -> Float[Tensor, "row axis"]:
    """The point of each row; NaN on the axes of a gap."""
    gap = gaps(batch, layout)
    wide = layout.numbers
    numbers = batch.numbers.clamp(-FARTHEST, FARTHEST).masked_fill(gap[:, :wide], torch.nan)
    if not layout.codes:
        return numbers
    room = max(MOST_AXES - wide, 2 * layout.codes) // layout.codes
    parts = [numbers]
    for i, slot in enumerate(layout.slots[wide:]):
        own = min(slot.levels, MOST_LEVELS, room - 1) + 1
        place = (batch.codes[:, i] - 1).clamp(0, own - 1)
        axes = functional.one_hot(place, own).to(numbers.dtype)
        parts.append(axes.masked_fill(gap[:, wide + i, None], torch.nan))
    return torch.cat(parts, 1)


def gaps(batch: Batch, layout: Layout) -> Bool[Tensor, "row feature"]:
    """The cells of columns that were not observed.

    A cell that is unseen while another of its column is seen does not apply, and is no gap.
    """
    if len(layout.columns) == len(layout):
        return ~batch.observed
    place = torch.from_numpy(layout.column_of_feature).to(batch.observed.device)
    count = torch.zeros((len(batch), len(layout.columns)), device=batch.observed.device)
    count.index_add_(1, place, batch.observed.float())
    return (count == 0)[:, place]


def filled(batch: Batch, expected: Batch, layout: Layout) -> Batch:
    """The rows with their gaps taken from the rows expected in their place."""
    gap = gaps(batch, layout)
    wide = layout.numbers
    numbers = torch.where(gap[:, :wide], expected.numbers, batch.numbers)
    codes = torch.where(gap[:, wide:], expected.codes, batch.codes)
    return Batch(numbers, codes, batch.observed | gap, batch.weight)
