"""The layout of features in a batch, and nats per column and per row.

A column has one or more features, each with a slot. Number features come first (in
`Batch.numbers`), codes after them (in `Batch.codes`); `observed`, `log_prob` and every other
matrix of features use this order.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

TREND, CLOCK = "trend", "clock"  # parts of a moment: any, or one that rows follow in time
FAR = 1e30  # number features are clipped here: float32 overflows a little further out
MOST_LEVELS = 100_000  # of a code feature, with one more for all others
MOST_WEIGHT = 25.0  # a flag that is hardly ever set teaches little, however loud


@dataclass(frozen=True)
class Slot:
    """One cell of a row: its column, the likelihood it has, and where its values lie.

    `center` and `scale` are the typical value and spread of the cell as encoded, so that a net
    starts from the data; `nats_unseen` is what a value never met in training costs at least.
    """

    column: str
    kind: str  # of column: "number", "category", ...
    head: str  # of likelihood: "student_t", "bernoulli", "counts", "categorical"
    part: str = ""  # which cell of the column, where it has several: "atom", "sin day"
    levels: int = 0  # codes run from 1 to levels; 0 is a hidden or missing cell
    center: float = 0.0
    scale: float = 1.0
    nats_unobserved: float = 0.0
    shares: tuple[float, ...] = field(default=(), repr=False)  # of codes 1..levels in training
    unit: float = 1.0  # of the column, in one unit of the cell
    # Of a histogram: lower and upper edge, least and most value in it, share of the values.
    bins: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    step: float = 0.0  # from one value that can be stored to the next, as encoded; 0: any can
    ends: tuple[float, ...] = ()  # the least and the most that can be stored, as encoded
    transformed: bool = False  # the cell is close to a logarithm of the value: its tails are short

    @property
    def coded(self) -> bool:
        """True for a code cell, False for a number cell."""
        return self.levels > 0

    @property
    def weight(self) -> float:
        """What the cell's nats are multiplied by in training, so that columns count alike.

        A standardised number counts 1. A flag's nats are divided by its variance, as a
        standardised number's square is; those of levels by their entropy, where it is above 1.
        """
        if self.coded:
            return 1 / max(-sum(share * math.log(share) for share in self.shares), 1.0)
        if self.head == "bernoulli":
            return min(1 / max(self.scale**2, 1e-6), MOST_WEIGHT)
        return 1.0

    @property
    def name(self) -> str:
        """The cell's name: its column, and which part of it."""
        return f"{self.column} ({self.part})" if self.part else self.column


@dataclass(frozen=True)
class Layout:
    """The slots of a row, number cells first.

    For nets of images alone: `grid` is the (height, width, channels) of a row that is an image
    (its cells are numbers, in the order row, column, channel), `patch` the side of the square
    patches that are its columns.
    """

    slots: tuple[Slot, ...]
    grid: tuple[int, int, int] | None = None
    patch: int = 0

    @classmethod
    def of(cls, slots: Sequence[Slot]) -> "Layout":
        """The layout of these slots, sorted so that number cells come first."""
        return cls(tuple(sorted(slots, key=lambda slot: slot.coded)))

    def __len__(self) -> int:
        return len(self.slots)

    @cached_property
    def numbers(self) -> int:
        """How many cells are numbers."""
        return sum(not slot.coded for slot in self.slots)

    @cached_property
    def codes(self) -> int:
        """How many cells are codes."""
        return len(self.slots) - self.numbers

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that have cells, in the order of their first cell."""
        return tuple(dict.fromkeys(slot.column for slot in self.slots))

    def features(self, column: str) -> list[int]:
        """The positions of a column's cells."""
        return self._places.get(column, [])

    def with_head(self, head: str) -> list[int]:
        """The positions of the cells that have this likelihood."""
        return [i for i, slot in enumerate(self.slots) if slot.head == head]

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        for i, slot in enumerate(self.slots):
            places.setdefault(slot.column, []).append(i)
        return places

    @cached_property
    def column_of_feature(self) -> np.ndarray:
        """For each cell the position of its column in `columns`, int64."""
        place = {name: i for i, name in enumerate(self.columns)}
        return np.array([place[slot.column] for slot in self.slots], np.int64)


def pixels(slot: Slot, grid: tuple[int, int, int], patch: int) -> Layout:
    """The layout of an image whose every pixel is like this slot, in square patches.

    A patch is the image's column: it is hidden, guessed and explained as one.
    """
    height, width, channels = grid
    slots = []
    for y in range(height):
        for x in range(width):
            name = f"patch {y // patch * patch},{x // patch * patch}"
            slots += [
                replace(slot, column=name, part=f"{y},{x}" + (f" channel {c}" if c else ""))
                for c in range(channels)
            ]
    return Layout(tuple(slots), grid, min(patch, width))


@dataclass(frozen=True)
class Shape:
    """What a part must know of its input: the last axis' width, the cells, the nets side by side.

    `members` nets are trained together in one stack of weights; a state is
    (*sample, member, batch, wide). `site` is the (height, width) of a state that holds one number
    for each cell of an image: a head takes it as it is.
    """

    layout: Layout
    wide: int = 0
    members: int = 1
    site: tuple[int, ...] = ()

    def widened(self, wide: int) -> "Shape":
        """The same shape with another width."""
        return replace(self, wide=wide)


def column_nats(
    log_prob: Float[Tensor, "batch feature"],
    observed: Bool[Tensor, "batch feature"],
    layout: Layout,
) -> tuple[Float[Tensor, "batch column"], Bool[Tensor, "batch column"]]:
    """Negative log-likelihood of each column in nats, and whether the column was observed.

    A cell that is unseen while another of its column is seen does not apply there (the value of
    a column that stands at its atom) and costs nothing.
    """
    if len(layout.columns) == len(layout):
        return -log_prob, observed
    place = torch.from_numpy(layout.column_of_feature).to(log_prob.device)
    nats = log_prob.new_zeros(log_prob.shape[0], len(layout.columns))
    nats.index_add_(1, place, torch.where(observed, -log_prob, 0.0))
    count = nats.new_zeros(nats.shape).index_add_(1, place, observed.to(nats.dtype))
    return nats, count > 0


def row_nats(
    nats: Float[Tensor, "batch column"],
    observed: Bool[Tensor, "batch column"],
    typical: Float[Tensor, " column"],
) -> Float[Tensor, " batch"]:
    """Negative log-likelihood of each row in nats, gaps counted as typical columns.

    `typical` is each column's mean held-out nats, so a gap makes a row neither calm nor loud.
    A row with no observed column is NaN: nothing was asked of it.
    """
    total = torch.where(observed, nats, typical).sum(1)
    return torch.where(observed.any(1), total, torch.nan)
