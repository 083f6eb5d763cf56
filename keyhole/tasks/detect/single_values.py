"""The upper tails of columns: which share of rows lies at least as far out, beyond all rows too.

A generalised Pareto distribution (Pickands 1975; Davison and Smith 1990) over the outer 5 % of a
column's values. Scale and shape are not chosen but averaged over, by their posterior on a grid,
so that a tail is not taken for short because a few rows look like it. The outermost tenth of a
tail counts only as "beyond the others" (a censored likelihood): a few bad rows do not stretch it.
Values on a grid, such as counts, are intervals of the grid's width.

Is one cell far beyond everything that its column held? Asked of each column by itself.

The other questions see a row as a whole, and one strange cell among a hundred is lost in it. Here
each number cell has the tails of its own column, so a long one does not hide a short one; a level
or flag that no reference row has is as rare as such new values are. What counts is how rare a
row is whose rarest cell is as rare as this one's: that depends on how many columns there are, and
is read from the reference rows.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from keyhole.core.layout import CLOCK, TREND, Layout, gaps
from keyhole.core.records import Batch

SHARE = 0.05  # of the values are the tail
MIN_TAIL, MAX_SHARE = 20, 0.25  # where that is fewer, so many values, up to this share
MIN_VALUES = 8  # without them nothing is known about a tail
CENSORED = 0.1  # share of a tail
POINTS = 64  # values, evenly by rank, that stand for a tail
# Shapes are negative for a tail that ends, 0 for an exponential one, positive for a heavy one.
# Mean and deviation; a bent column's is a logarithm's.
PRIOR, PRIOR_TRANSFORMED = (0.0, 0.15), (-0.1, 0.1)
SHAPES = np.linspace(-0.9, 1.2, 15)
SCALES = np.geomspace(0.15, 6.0, 21)  # in mean excesses
NEAR_SHAPES = np.linspace(-0.32, 0.32, 17)  # around the best of those
NEAR_SCALES = np.geomspace(0.72, 1 / 0.72, 17)
RIDGE = 0.8  # a shape higher by one goes with a log scale lower by this
STEP, KNOTS = 0.15, 64  # of log(1 + excess / mean excess), where the nats are tabulated
PASS_TAILS = 128  # that are fitted at once
TINY = 1e-300

Columns = Float[np.ndarray, " column"]


@dataclass(frozen=True)
class Tails:
    """Where the tail of each column starts, and what being as far out costs, in nats.

    `start` is infinite for a column without a tail; `grain` is the distance between values,
    `unit` the mean excess, and `nats` (knot, column) -log of the share of rows.
    """

    start: Columns
    grain: Columns
    unit: Columns
    nats: Float[np.ndarray, "knot column"]

    @classmethod
    def fit(
        cls, values: Float[np.ndarray, "row column"], rows: Columns, transformed: np.ndarray
    ) -> Self:
        """The tails of these values (NaN: missing), in tables with this number of rows."""
        values = values if len(values) else np.full((1, values.shape[1]), np.nan)
        prior = np.where(transformed, *np.array([PRIOR_TRANSFORMED, PRIOR])[:, :, None])
        some = [slice(c, c + PASS_TAILS) for c in range(0, max(values.shape[1], 1), PASS_TAILS)]
        parts = [_fit(values[:, part], rows[part], prior[:, part]) for part in some]
        return cls(*(np.concatenate(part, -1) for part in zip(*parts, strict=True)))

    def cost(self, values: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
        """-log of the share of rows at least as far out; 0 for a value that is not in a tail."""
        nats = np.zeros(values.shape[::-1])  # column by column, as the values lie
        cell = np.flatnonzero((values > self.start).T)  # few: the rest costs no more than this
        column = cell // max(len(values), 1)
        excess = values.T.ravel()[cell] - self.start[column] - self.grain[column] / 2
        place = np.log1p(excess.clip(0) / self.unit[column]) / STEP
        knot = np.floor(place).astype(int).clip(max=KNOTS - 2)
        low, high = self.nats[knot, column], self.nats[knot + 1, column]
        nats.ravel()[cell] = low + (place - knot) * (high - low)
        return nats.T


@dataclass(frozen=True)
class _Excesses:
    """What the tails of some columns are fitted to: `points` stand for `count` excesses each.

    `censored` more are beyond `edge`.
    """

    points: Float[np.ndarray, "point column"]
    grain: Columns
    count: Columns
    censored: Columns
    edge: Columns

    def log_posterior(
        self, shape: Columns, scale: Float[np.ndarray, "scale column"], prior: np.ndarray
    ) -> Float[np.ndarray, "scale column"]:
        """Of each scale, up to a constant; an excess is an interval of the grain's width."""
        half, wide = self.grain / 2, scale[:, None]
        inside = _beyond((self.points - half).clip(0), wide, shape)
        inside = np.log((inside - _beyond(self.points + half, wide, shape)).clip(TINY)).mean(1)
        beyond = np.log(_beyond((self.edge - half).clip(0), scale, shape).clip(TINY))
        deviation = (shape - prior[0]) / prior[1]
        return self.count * inside + self.censored * beyond - deviation**2 / 2


def _fit(values: np.ndarray, rows: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, ...]:
    """start, grain, unit and nats of some columns."""
    falling = -np.sort(-values, axis=0)  # gaps last
    start, grain, size = _starts(falling)
    known, column = size > 0, np.arange(len(start))
    censored = np.floor(CENSORED * size)
    count = np.maximum(size - censored, 1)
    rank = censored + np.floor((np.arange(POINTS)[:, None] + 0.5) / POINTS * count)
    places = [place.clip(0, len(falling) - 1).astype(int) for place in (rank, censored)]
    excess = [np.where(known, falling[place, column] - start, 1.0) for place in places]
    unit = excess[0].mean(0)
    data = _Excesses(excess[0], grain, count, censored, excess[1])
    nats = -np.log(_share_beyond(data, unit, prior).clip(TINY))
    nats = np.where(size > 0, nats, 0.0) + np.log(np.maximum(rows, 1) / np.maximum(size, 0.5))
    return start, grain, unit, nats


def _starts(falling: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each tail starts, half-way between two values; its grain; how many values it has."""
    count, column = np.isfinite(falling).sum(0), np.arange(falling.shape[1])
    size = np.minimum(np.maximum(SHARE * count, MIN_TAIL), MAX_SHARE * count).astype(int)
    below = falling[size.clip(max=len(falling) - 1), column]  # the first that is not in the tail
    second = np.where(falling < falling[0], falling, -np.inf).max(0)  # of a grid with few values
    below = np.where(below < falling[0], below, second)
    size = (falling > below).sum(0)
    first = falling[(size - 1).clip(0), column]
    known = (count >= MIN_VALUES) & np.isfinite(below) & (size > 0)
    steps = np.abs(np.diff(falling[: int(size.max(initial=1)) + 1], axis=0))
    inside = (np.arange(len(steps))[:, None] < size) & (steps > 0)
    grain = _median(np.where(inside & known, steps, np.nan))
    gap = np.where(known, first, 1.0) - np.where(known, below, 0.0)
    start = np.where(known, first - gap / 2, np.inf)
    alike = (count >= MIN_VALUES) & ~np.isfinite(below)  # any other value is new
    return (
        np.where(alike, falling[0], start),
        np.where(known, np.minimum(grain, gap), 1.0),
        np.where(known, size, 0),
    )


def _median(steps: np.ndarray) -> np.ndarray:
    """The median of each column's numbers; 1 where there is none."""
    count = np.isfinite(steps).sum(0)
    steps = np.sort(steps, axis=0)
    middle = steps[(count - 1).clip(0) // 2, np.arange(steps.shape[1])] if len(steps) else count
    return np.where(count > 0, middle, 1.0)


def _share_beyond(data: _Excesses, unit: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """(knot, column): the share of a tail beyond each knot, averaged over the posterior."""
    ones = np.ones(len(unit))
    scales = unit * SCALES[:, None]
    coarse = np.stack([data.log_posterior(shape * ones, scales, prior) for shape in SHAPES])
    best = coarse.reshape(len(SHAPES) * len(SCALES), len(unit)).argmax(0)
    shape, scale = SHAPES[best // len(SCALES)], unit * SCALES[best % len(SCALES)]
    knots = np.expm1(STEP * np.arange(KNOTS))[:, None, None] * unit
    near = [(shape + more, scale * np.exp(-RIDGE * more) * NEAR_SCALES[:, None])
            for more in NEAR_SHAPES]  # fmt: skip
    log_weight = np.stack([data.log_posterior(*pair, prior) for pair in near])
    weight = np.exp(log_weight - log_weight.max((0, 1)))
    weight /= weight.sum((0, 1))
    return sum(
        ((part * _beyond(knots, scales, shapes)).sum(1) for part, (shapes, scales) in
         zip(weight, near, strict=True)), np.zeros((KNOTS, len(unit))),
    )  # fmt: skip


def _beyond(excess: np.ndarray, scale: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """The share of a generalised Pareto distribution that is beyond an excess."""
    shape = np.where(np.abs(shape) < 1e-6, 1e-6, shape)
    return (1 + shape * excess / scale).clip(0) ** (-1 / shape)


COMMON, RARE = 0.02, 0.005  # shares of rows between which a tail of rows is measured
MIN_TAIL_ROWS = 5  # rows beyond the first of the two
TOO_MANY = 20.0
PASS_FEATURES = 1 << 17  # in a pass: as many as the processor's cache holds
MIN_PASS_ROWS = 1_024
MAX_LOG = 50.0  # of a count


@dataclass(frozen=True)
class Rarity:
    """How far into its column's tail each cell is, and how rare that makes its row.

    `cells` is (row, column) -log of the share of rows as far out in that column, 0 for a usual
    value or a gap; `row` is -log of the share of rows with a cell as rare, 0 unless a cell is
    beyond all reference rows, or among those that are too many for where they lie.
    """

    cells: Float[Tensor, "row column"]
    row: Float[Tensor, " row"]


@dataclass(frozen=True)
class Outliers:
    """The columns' tails and levels by the reference rows.

    `numbers` and `levels` are the cells that are asked; `ends` the least, the second least, the
    second largest and the largest number of each; `apart` is where, above and below, counts
    begin that are more than their tail predicts: bad rows among the reference. `counts` says how
    many rows hold each level, `new` which share of rows has a new level, in a column where new
    ones are as rare: of reference rows, each compared with the others, and of new rows. `tail`
    are the nats that `COMMON` rows exceed, and by how many more an e-th of those do.
    """

    layout: Layout
    numbers: Int64[np.ndarray, " number"]
    levels: Int64[np.ndarray, " level"]
    above: Tails
    below: Tails
    ends: Float[np.ndarray, "4 number"]
    apart: Float[np.ndarray, "2 number"]
    counts: list[np.ndarray]
    new: Float[np.ndarray, "2 level"]
    tail: tuple[float, float]

    @classmethod
    def of(cls, batch: Batch, layout: Layout, *, none: bool = False) -> "Outliers":
        """The tails and levels of these rows; with `none`, no value is looked at by itself."""
        slots = () if none else layout.slots
        discrete = [slot.coded or slot.head == "bernoulli" for slot in slots]
        waves = [slot.kind == "datetime" and slot.part not in (TREND, CLOCK) for slot in slots]
        numbers = np.flatnonzero(~np.array([*discrete], bool) & ~np.array([*waves], bool))
        levels = np.flatnonzero(np.array([*discrete], bool))
        x = _numbers(batch, layout, numbers)
        rows = (~gaps(batch, layout)).sum(0).numpy()[numbers].astype(float)
        transformed = np.array([slots[cell].transformed for cell in numbers], bool)
        ordered = np.sort(x, axis=0)  # gaps last
        last = np.isfinite(x).sum(0)
        ends = np.stack([_at(ordered, last, rank) for rank in (0, 1, last - 2, last - 1)])
        clock = np.array([slots[cell].part == CLOCK for cell in numbers], bool)
        first, last = np.where(np.isfinite(ends[[0, 3]][:, clock]), ends[[0, 3]][:, clock], 0.0)
        # Reference rows are a sample.
        ends[:, clock] += np.outer([-1, -1, 1, 1], (last - first) / 2)
        counts = [
            np.bincount(
                _codes(batch, layout, cell)[batch.observed[:, cell].numpy()],
                minlength=max(slots[cell].levels + 1, 3),
            )
            for cell in levels.tolist()
        ]
        once = np.array([(count == 1).sum() for count in counts], int)
        # Without a reference row, a level that it alone has is one that its column never had.
        columns = np.bincount(once, minlength=once.max(initial=0) + 2)
        as_few = (columns * np.arange(len(columns))).cumsum()
        new = (as_few[np.stack([once, once + 1])] + 0.5) / max(len(batch), 1)
        above, below = Tails.fit(x, rows, transformed), Tails.fit(-x, rows, transformed)
        counted = np.array([slots[cell].head == "counts" for cell in numbers], bool)
        apart = np.stack([_apart(x, above), _apart(-x, below)])
        apart[:, ~counted] = np.inf  # of measured numbers a tail may well have heaps
        bare = cls(layout, numbers, levels, above, below, ends, apart, counts, new, (0.0, 1.0))
        usual = x[~bare._is_apart(x).any(1)]
        low, step = exceeded(bare._tails(usual)[0].max(1)) if len(numbers) else (0.0, 1.0)
        return replace(bare, tail=(low, max(step, 1.0)))

    def rarity(self, batch: Batch, own: Int64[Tensor, " row"] | None = None) -> Rarity:
        """How rare each cell is, and each row; `own`, as in ReferencePoints, do not count."""
        if not len(self.numbers) and not len(self.levels):
            columns = len(self.layout.columns)
            zeros = torch.zeros(columns + 1, len(batch), dtype=torch.float64)
            return Rarity(zeros[1:].mT, zeros[0])
        step = max(PASS_FEATURES // max(len(self.layout), 1), MIN_PASS_ROWS)
        own_rows = np.zeros(len(batch), bool) if own is None else own.numpy() >= 0
        some = [slice(first, first + step) for first in range(0, max(len(batch), 1), step)]
        parts = [self._rarity(batch.take(part), own_rows[part]) for part in some]
        cells, row = (torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True))
        return Rarity(cells, row)

    def _rarity(self, batch: Batch, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, place = _numbers(batch, self.layout, self.numbers), self.layout.column_of_feature
        tails, beyond = self._tails(x, own)
        columns = np.zeros((len(self.layout.columns), len(batch))).T  # as the numbers lie
        for i, cell in enumerate(self.numbers):
            np.maximum(columns[:, place[cell]], tails[:, i], out=columns[:, place[cell]])
        row = np.zeros(len(batch))
        if len(self.numbers):
            far = tails.max(1, where=beyond, initial=0.0)
            low, unit = self.tail
            row = np.where(far > 0, (far - low) / unit - np.log(COMMON), 0.0).clip(0)
        for i, cell in enumerate(self.levels):
            codes = _codes(batch, self.layout, cell).clip(max=len(self.counts[i]) - 1)
            new = batch.observed[:, cell].numpy() & (self.counts[i][codes] <= own)
            nats = -np.log(np.where(own, *self.new[:, i]))
            nats = np.where(new, nats, 0.0).clip(0)
            np.maximum(columns[:, place[cell]], nats, out=columns[:, place[cell]])
            np.maximum(row, nats, out=row)
        return columns, row

    def _tails(self, x: np.ndarray, own: np.ndarray | None = None) -> tuple[Any, Any]:
        """Nats of each number, and if it is apart or beyond all reference rows but itself."""
        above, below = self.above.cost(x), self.below.cost(-x)
        least, most = self.ends[0], self.ends[3]
        if own is not None and own.any():
            least, most = (np.where(own[:, None], *e) for e in (self.ends[1::-1], self.ends[2:]))
        beyond = (x > most) | (x < least)
        nats = np.maximum(above, below, out=above)
        clock = np.array([self.layout.slots[cell].part == CLOCK for cell in self.numbers], bool)
        if clock.any():  # a late row is no rare one
            nats[:, clock] = np.where(beyond[:, clock], nats[:, clock], 0.0)
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
            x[:, i] = np.sign(x[:, i]) * np.expm1(np.abs(x[:, i]).clip(max=MAX_LOG))
    return np.where(batch.observed.numpy()[:, cells], x, np.nan)


def _codes(batch: Batch, layout: Layout, cell: int) -> Int64[np.ndarray, " row"]:
    """The codes of a cell; those of a flag are 0, 1, and 2 for any other value."""
    if layout.slots[cell].coded:
        return batch.codes[:, cell - layout.numbers].numpy()
    return batch.numbers[:, cell].numpy().astype(np.int64)


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
    share = min(max(COMMON, MIN_TAIL_ROWS / len(values)), 1.0)
    low, high = np.quantile(values, (1 - share, 1 - share * RARE / COMMON))
    step = float(high - low) / np.log(COMMON / RARE)
    return float(low) + step * float(np.log(share / COMMON)), step
