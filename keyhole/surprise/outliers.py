"""Is one cell far beyond everything that its column held? Asked of each column by itself.

The other questions see a row as a whole, and one strange cell among a hundred is lost in it. Here
each number cell has the tails of its own column, so a long one does not hide a short one; a level
or flag that no remembered row has is as rare as such new values are. What counts is how rare a
row is whose rarest cell is as rare as this one's: that depends on how many columns there are, and
is read from the remembered rows.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from keyhole.core.coordinates import gaps
from keyhole.core.layout import CLOCK, TREND, Layout
from keyhole.core.records import Batch
from keyhole.surprise.tails import Tails

COMMON, RARE = 0.02, 0.005  # shares of rows between which a tail of rows is measured
LEAST_TAIL = 5  # rows beyond the first of the two
TOO_MANY = 20.0
PASS_CELLS = 1 << 21  # looked at at once
MOST_LOG = 50.0  # of a count


@dataclass(frozen=True)
class Rarity:
    """How far into its column's tail each cell is, and how rare that makes its row.

    `cells` is (row, column) -log of the share of rows as far out in that column, 0 for a usual
    value or a gap; `row` is -log of the share of rows with a cell as rare, 0 unless a cell is
    beyond all remembered ones, or among those that are too many for where they lie.
    """

    cells: Float[Tensor, "row column"]
    row: Float[Tensor, " row"]


@dataclass(frozen=True)
class Outliers:
    """The columns' tails and levels by the remembered rows.

    `numbers` and `levels` are the cells that are asked; `ends` the least, the second least, the
    second largest and the largest number of each; `apart` is where, above and below, counts
    begin that are more than their tail foresees: bad rows that were remembered. `counts` says how
    many rows hold each level, `new` which share of rows has a new level, in a column where new
    ones are as rare. `tail` are the nats that `COMMON` rows exceed, and by how many more an e-th
    of those do.
    """

    layout: Layout
    numbers: Int64[np.ndarray, " number"]
    levels: Int64[np.ndarray, " level"]
    above: Tails
    below: Tails
    ends: Float[np.ndarray, "4 number"]
    apart: Float[np.ndarray, "2 number"]
    counts: list[np.ndarray]
    new: Float[np.ndarray, " level"]
    tail: tuple[float, float]

    @classmethod
    def of(cls, batch: Batch, layout: Layout) -> "Outliers":
        """The tails and levels of these rows; of pictures none: their pixels are no columns."""
        slots = () if layout.grid is not None else layout.slots
        discrete = [slot.coded or slot.head == "bernoulli" for slot in slots]
        waves = [slot.kind == "moment" and slot.part not in (TREND, CLOCK) for slot in slots]
        numbers = np.flatnonzero(~np.array([*discrete], bool) & ~np.array([*waves], bool))
        levels = np.flatnonzero(np.array([*discrete], bool))
        x = _numbers(batch, layout, numbers)
        rows = (~gaps(batch, layout)).sum(0).numpy()[numbers].astype(float)
        bent = np.array([slots[cell].bent for cell in numbers], bool)
        ordered = np.sort(x, axis=0)  # gaps last
        last = np.isfinite(x).sum(0)
        ends = np.stack([_at(ordered, last, rank) for rank in (0, 1, last - 2, last - 1)])
        clock = np.array([slots[cell].part == CLOCK for cell in numbers], bool)
        first, last = np.where(np.isfinite(ends[[0, 3]][:, clock]), ends[[0, 3]][:, clock], 0.0)
        ends[:, clock] += np.outer(
            [-1, -1, 1, 1], (last - first) / 2
        )  # not all rows are remembered
        counts = [_count(batch, layout, int(cell)) for cell in levels]
        once = np.array([(count == 1).sum() for count in counts])
        new = np.array([(once[once <= few].sum() + 0.5) / max(len(batch), 1) for few in once])
        above, below = Tails.fit(x, rows, bent), Tails.fit(-x, rows, bent)
        counted = np.array([slots[cell].head == "counts" for cell in numbers], bool)
        apart = np.stack([_apart(x, above), _apart(-x, below)])
        apart[:, ~counted] = np.inf  # of measured numbers a tail may well have heaps
        bare = cls(layout, numbers, levels, above, below, ends, apart, counts, new, (0.0, 1.0))
        usual = x[~bare._is_apart(x).any(1)]
        low, step = exceeded(bare._tails(usual)[0].max(1)) if len(numbers) else (0.0, 1.0)
        return replace(bare, tail=(low, max(step, 1.0)))

    def rarity(self, batch: Batch, own: Int64[Tensor, " row"] | None = None) -> Rarity:
        """How rare each cell is, and each row; `own` as in Bank: those rows do not count."""
        step = max(PASS_CELLS // max(len(self.layout), 1), 1)
        parts = []
        for first in range(0, max(len(batch), 1), step):
            part = slice(first, first + step)
            mine = np.zeros(len(batch.seen[part]), bool) if own is None else own[part].numpy() >= 0
            parts.append(self._rarity(batch.take(part), mine))
        cells, row = (torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True))
        return Rarity(cells, row)

    def _rarity(self, batch: Batch, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, place = _numbers(batch, self.layout, self.numbers), self.layout.column_of_cell
        tails, beyond = self._tails(x, own)
        columns = np.zeros((len(batch), len(self.layout.columns)))
        for i, cell in enumerate(self.numbers):
            np.maximum(columns[:, place[cell]], tails[:, i], out=columns[:, place[cell]])
        row = np.zeros(len(batch))
        if len(self.numbers):
            far = np.where(beyond, tails, 0.0).max(1)
            low, unit = self.tail
            row = np.where(far > 0, (far - low) / unit - np.log(COMMON), 0.0).clip(0)
        for i, cell in enumerate(self.levels):
            codes = _codes(batch, self.layout, cell).clip(max=len(self.counts[i]) - 1)
            new = batch.seen[:, cell].numpy() & (self.counts[i][codes] <= own)
            nats = np.where(new, -np.log(self.new[i]), 0.0).clip(0)
            np.maximum(columns[:, place[cell]], nats, out=columns[:, place[cell]])
            np.maximum(row, nats, out=row)
        return columns, row

    def _tails(self, x: np.ndarray, own: np.ndarray | None = None) -> tuple[Any, Any]:
        """Nats of each number, and if it is apart or beyond all remembered rows but itself."""
        above, below = self.above.cost(x), self.below.cost(-x)
        own = np.zeros(len(x), bool) if own is None else own
        least, most = (np.where(own[:, None], *ends) for ends in (self.ends[1::-1], self.ends[2:]))
        beyond = (x > most) | (x < least)
        clock = np.array([self.layout.slots[cell].part == CLOCK for cell in self.numbers], bool)
        nats = np.where(
            beyond | ~clock, np.maximum(above, below), 0.0
        )  # a late row is no rare one
        return nats, beyond | self._is_apart(x)

    def _is_apart(self, x: Float[np.ndarray, "row number"]) -> Any:
        return (x >= self.apart[0]) | (-x >= self.apart[1])


def _apart(x: Float[np.ndarray, "row number"], tails: Tails) -> Float[np.ndarray, " number"]:
    """The least number of each column of which, with larger ones, there are too many.

    Too many are `TOO_MANY` times what the tail has there, which is fitted without its outermost
    tenth. Infinite where there are none.
    """
    falling = -np.sort(-x, axis=0)  # gaps last
    share = np.arange(1, len(x) + 1)[:, None] / np.maximum(np.isfinite(x).sum(0), 1)
    many = tails.cost(np.nan_to_num(falling, nan=-np.inf)) + np.log(share) > np.log(TOO_MANY)
    return np.where(many, falling, np.inf).min(0, initial=np.inf)


def _numbers(batch: Batch, layout: Layout, cells: np.ndarray) -> Float[np.ndarray, "row number"]:
    """These cells as numbers, NaN for a gap; counts as counts: their tails are not logarithms'."""
    x = batch.numbers.numpy()[:, cells].astype(float)
    for i, cell in enumerate(cells):
        if layout.slots[cell].head == "counts":
            x[:, i] = np.sign(x[:, i]) * np.expm1(np.abs(x[:, i]).clip(max=MOST_LOG))
    return np.where(batch.seen.numpy()[:, cells], x, np.nan)


def _codes(batch: Batch, layout: Layout, cell: int) -> Int64[np.ndarray, " row"]:
    """The codes of a cell; those of a flag are 0, 1, and 2 for any other value."""
    if layout.slots[cell].coded:
        return batch.codes[:, cell - layout.numbers].numpy()
    return batch.numbers[:, cell].numpy().astype(np.int64)


def _count(batch: Batch, layout: Layout, cell: int) -> Int64[np.ndarray, " code"]:
    """In how many rows each code stands."""
    codes = _codes(batch, layout, cell)[batch.seen[:, cell].numpy()]
    return np.bincount(codes, minlength=max(layout.slots[cell].levels + 1, 3))


def _at(ordered: np.ndarray, count: np.ndarray, rank: Any) -> np.ndarray:
    """The number of this rank in each column, infinite where it has no two."""
    column = np.arange(ordered.shape[1])
    if len(ordered) < 2:
        return np.full(len(column), np.inf)
    return np.where(count > 1, ordered[np.maximum(rank, 0), column], np.inf)


def exceeded(values: np.ndarray) -> tuple[float, float]:
    """What `COMMON` of these values exceed, and by how much more an e-th of those do.

    Where values are few, both are read farther inside and continued.
    """
    if not len(values):
        return 0.0, 1.0
    share = min(max(COMMON, LEAST_TAIL / len(values)), 1.0)
    low, high = np.quantile(values, (1 - share, 1 - share * RARE / COMMON))
    step = float(high - low) / np.log(COMMON / RARE)
    return float(low) + step * float(np.log(share / COMMON)), step
