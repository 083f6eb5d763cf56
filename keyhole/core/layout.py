"""The layout of features in a batch, nats per column and row, and rows as points of a space.

A column has one or more features, each with a slot. Number features come first (in
`Batch.numbers`), codes after them (in `Batch.codes`); `observed`, `log_prob` and every other
matrix of features use this order.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from keyhole.core.records import Batch

TREND, CLOCK = "trend", "clock"  # parts of a datetime: any, or one that rows follow in time
FAR = 1e30  # number features are clipped here: float32 overflows a little further out
MAX_LEVELS = 100_000  # of a code feature, with one more for all others
MAX_FLAG_WEIGHT = 25.0  # so that rare flags do not dominate the loss


@dataclass(frozen=True)
class Slot:
    """One feature of a row: its column, its likelihood, and where its values lie.

    `center` and `scale` are the typical value and spread of the feature as encoded, so that a net
    starts from the data; `nats_unobserved` is the least cost of a value absent from training.
    """

    column: str
    kind: str  # of column: "number", "category", ...
    head: str  # of likelihood: "student_t", "bernoulli", "counts", "categorical"
    part: str = ""  # which feature of the column, if it has several: "atom", "sin day"
    levels: int = 0  # codes run from 1 to levels; 0 is a masked or missing feature
    center: float = 0.0
    scale: float = 1.0
    nats_unobserved: float = 0.0
    shares: tuple[float, ...] = field(default=(), repr=False)  # of codes 1..levels in training
    unit: float = 1.0  # of the column, in one unit of the feature
    # Of a histogram: lower and upper edge, least and most value in it, share of the values.
    bins: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    step: float = 0.0  # from one value that can be stored to the next, as encoded; 0: any can
    ends: tuple[float, ...] = ()  # the least and the most that can be stored, as encoded
    transformed: bool = False  # close to a logarithm of the value: its tails are short

    @property
    def coded(self) -> bool:
        """True for a code feature, False for a number feature."""
        return self.levels > 0

    @property
    def weight(self) -> float:
        """The factor of the feature's nats in training, so that columns count alike.

        A standardised number counts 1. A flag's nats are divided by its variance, as a
        standardised number's square is; those of levels by their entropy if it is above 1.
        """
        if self.coded:
            return 1 / max(-sum(share * math.log(share) for share in self.shares), 1.0)
        if self.head == "bernoulli":
            return min(1 / max(self.scale**2, 1e-6), MAX_FLAG_WEIGHT)
        return 1.0

    @property
    def name(self) -> str:
        """The column, and which part of it."""
        return f"{self.column} ({self.part})" if self.part else self.column


@dataclass(frozen=True)
class Layout:
    """The slots of a row, number features first.

    For image nets: `grid` is the (height, width, channels) of a row that is an image (its
    features are numbers, in the order row, column, channel), `patch` the side of the square
    patches that are its columns.

    For nets of series: `steps` is the number of time steps of a row that is a window. All steps
    have the same slots, and both number features and code features are in the order step, slot.
    `patch` is the number of steps of a patch; the columns are patches of one channel each.

    For nets of items: `items` is the number of items of a catalogue. A row is a list of them, in
    `Batch.items`, and its one feature is the list: the number of its items.
    """

    slots: tuple[Slot, ...]
    grid: tuple[int, int, int] | None = None
    patch: int = 0
    steps: int = 0
    items: int = 0

    @classmethod
    def of(cls, slots: Sequence[Slot]) -> "Layout":
        """The layout of these slots, sorted so that number features come first."""
        return cls(tuple(sorted(slots, key=lambda slot: slot.coded)))

    def __len__(self) -> int:
        return len(self.slots)

    @cached_property
    def numbers(self) -> int:
        """The number of number features."""
        return sum(not slot.coded for slot in self.slots)

    @cached_property
    def codes(self) -> int:
        """The number of code features."""
        return len(self.slots) - self.numbers

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that have features, in the order of their first feature."""
        return tuple(dict.fromkeys(slot.column for slot in self.slots))

    def features(self, column: str) -> list[int]:
        """The indices of a column's features."""
        return self._indices.get(column, [])

    def with_head(self, head: str) -> list[int]:
        """The indices of the features that have this likelihood."""
        return [i for i, slot in enumerate(self.slots) if slot.head == head]

    @cached_property
    def _indices(self) -> dict[str, list[int]]:
        indices: dict[str, list[int]] = {}
        for i, slot in enumerate(self.slots):
            indices.setdefault(slot.column, []).append(i)
        return indices

    @cached_property
    def weights(self) -> np.ndarray:
        """The weight of each feature in training, float32."""
        return np.array([slot.weight for slot in self.slots], np.float32)

    @cached_property
    def column_of_feature(self) -> np.ndarray:
        """For each feature the index of its column in `columns`, int64."""
        indices = {name: i for i, name in enumerate(self.columns)}
        return np.array([indices[slot.column] for slot in self.slots], np.int64)


def pixels(slot: Slot, grid: tuple[int, int, int], patch: int) -> Layout:
    """The layout of an image of such pixels; its columns are square patches."""
    height, width, channels = grid
    slots = []
    for y, x, c in product(range(height), range(width), range(channels)):
        name = f"patch {y // patch * patch},{x // patch * patch}"
        part = f"{y},{x}" + (f" channel {c}" if c else "")
        slots.append(replace(slot, column=name, part=part))
    return Layout(tuple(slots), grid, min(patch, width))


@dataclass(frozen=True)
class Shape:
    """The input shape of a part: the width of the last axis, the features, the ensemble members.

    `members` nets are trained together in one stack of weights; a state is
    (*sample, member, batch, wide). `site` is the (height, width) of a state that holds one number
    for each feature of an image: a head takes it unchanged. `steps` is the number of steps of a
    state that holds equally many numbers for each step of a window: first one for each number
    feature, which its head takes unchanged, then some for codes, mapped for each step alone.
    """

    layout: Layout
    wide: int = 0
    members: int = 1
    site: tuple[int, ...] = ()
    steps: int = 0

    def widened(self, wide: int) -> "Shape":
        """The same shape with another width."""
        return replace(self, wide=wide)


def column_nats(
    log_prob: Float[Tensor, "batch feature"],
    observed: Bool[Tensor, "batch feature"],
    layout: Layout,
) -> tuple[Float[Tensor, "batch column"], Bool[Tensor, "batch column"]]:
    """Negative log-likelihood of each column in nats, and whether the column was observed.

    A feature that is missing while another of its column is observed does not apply (the value of
    a column at its point mass) and costs nothing.
    """
    if len(layout.columns) == len(layout):
        return -log_prob, observed
    column = torch.from_numpy(layout.column_of_feature).to(log_prob.device)
    nats = log_prob.new_zeros(log_prob.shape[0], len(layout.columns))
    nats.index_add_(1, column, torch.where(observed, -log_prob, 0.0))
    count = nats.new_zeros(nats.shape).index_add_(1, column, observed.to(nats.dtype))
    return nats, count > 0


def row_nats(
    nats: Float[Tensor, "batch column"],
    observed: Bool[Tensor, "batch column"],
    typical: Float[Tensor, " column"],
) -> Float[Tensor, " batch"]:
    """Negative log-likelihood of each row in nats; a missing column costs its typical value.

    `typical` is each column's mean held-out nats, so a gap neither raises nor lowers a row's
    score. Returns NaN for a row with no observed column.
    """
    total = torch.where(observed, nats, typical).sum(1)
    return torch.where(observed.any(1), total, torch.nan)


MAX_AXES = 2_048  # a covariance of more takes minutes
AXES_PER_COLUMN = 50  # for levels; rarer and unknown ones share one more
FARTHEST = 1e6  # a float32 squares no more without losing the near ones


def coordinates(batch: Batch, layout: Layout) -> Float[Tensor, "row axis"]:
    """Each row as a point, for distances between rows; NaN on the axes of a gap.

    A number has one axis, as encoded. Each level has an axis: two rows with different levels are
    as far apart (squared distance 2) as two independent standardised numbers.
    """
    gap = gaps(batch, layout)
    width = layout.numbers
    numbers = batch.numbers.clamp(-FARTHEST, FARTHEST).masked_fill(gap[:, :width], torch.nan)
    parts = [numbers]
    for i, slot in enumerate(layout.slots[width:]):
        limit = max(MAX_AXES - width, 2 * layout.codes) // layout.codes - 1
        count = min(slot.levels, AXES_PER_COLUMN, limit) + 1
        axis = (batch.codes[:, i] - 1).clamp(0, count - 1)
        axes = functional.one_hot(axis, count).to(numbers.dtype)
        parts.append(axes.masked_fill(gap[:, width + i, None], torch.nan))
    return torch.cat(parts, 1)


def gaps(batch: Batch, layout: Layout) -> Bool[Tensor, "row feature"]:
    """True for features of unobserved columns; a missing part of an observed one is no gap."""
    if len(layout.columns) == len(layout):
        return ~batch.observed
    column = torch.from_numpy(layout.column_of_feature).to(batch.observed.device)
    rows = batch.observed.shape[0]  # an exported graph would take `len` for a constant
    count = torch.zeros((rows, len(layout.columns)), device=batch.observed.device)
    count.index_add_(1, column, batch.observed.float())
    return (count == 0)[:, column]


def filled(batch: Batch, expected: Batch, layout: Layout) -> Batch:
    """The rows with their gaps filled from the expected rows."""
    gap = gaps(batch, layout)
    width = layout.numbers
    numbers = torch.where(gap[:, :width], expected.numbers, batch.numbers)
    codes = torch.where(gap[:, width:], expected.codes, batch.codes)
    return Batch(numbers, codes, batch.observed | gap, batch.weight)
