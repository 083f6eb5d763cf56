"""The upper tails of columns: which share of rows lies at least as far out, beyond all rows too.

A generalised Pareto distribution (Pickands 1975; Davison and Smith 1990) over the outer 5 % of a
column's values. Scale and shape are not chosen but averaged over, by their posterior on a grid,
so that a tail is not taken for short because a few rows look like it. The outermost tenth of a
tail counts only as "beyond the others" (a censored likelihood): a few bad rows do not stretch it.
Values on a grid, such as counts, are intervals of the grid's width.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Float

SHARE = 0.05  # of the values are the tail
LEAST_TAIL, MOST_SHARE = 20, 0.25  # where that is fewer, so many values, up to this share
LEAST_VALUES = 8  # without them nothing is known about a tail
CENSORED = 0.1  # share of a tail
POINTS = 64  # values, evenly by rank, that stand for a tail
# Shapes are negative for a tail that ends, 0 for an exponential one, positive for a heavy one.
PRIOR, PRIOR_BENT = (
    (0.0, 0.15),
    (-0.1, 0.1),
)  # mean and deviation; a bent column's is a logarithm's
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
        cls,
        values: Float[np.ndarray, "row column"],
        rows: Columns,
        bent: Bool[np.ndarray, " column"],
    ) -> Self:
        """The tails of these values, NaN where there is none, in tables of so many rows."""
        values = values if len(values) else np.full((1, values.shape[1]), np.nan)
        prior = np.where(bent, np.array(PRIOR_BENT)[:, None], np.array(PRIOR)[:, None])
        some = [slice(c, c + PASS_TAILS) for c in range(0, max(values.shape[1], 1), PASS_TAILS)]
        parts = [_fit(values[:, part], rows[part], prior[:, part]) for part in some]
        return cls(*(np.concatenate(part, -1) for part in zip(*parts, strict=True)))

    def cost(self, values: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
        """-log of the share of rows at least as far out; 0 for a value that is not in a tail."""
        nats = np.zeros(values.shape)
        row, column = np.nonzero(values > self.start)  # few: the rest costs no more than this
        excess = values[row, column] - self.start[column] - self.grain[column] / 2
        place = np.log1p(excess.clip(0) / self.unit[column]) / STEP
        knot = np.floor(place).astype(int).clip(max=KNOTS - 2)
        low, high = self.nats[knot, column], self.nats[knot + 1, column]
        nats[row, column] = low + (place - knot) * (high - low)
        return nats


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
        return (
            self.count * inside + self.censored * beyond - ((shape - prior[0]) / prior[1]) ** 2 / 2
        )


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
    size = np.minimum(np.maximum(SHARE * count, LEAST_TAIL), MOST_SHARE * count).astype(int)
    below = falling[size.clip(max=len(falling) - 1), column]  # the first that is not in the tail
    second = np.where(falling < falling[0], falling, -np.inf).max(0)  # of a grid with few values
    below = np.where(below < falling[0], below, second)
    size = (falling > below).sum(0)
    first = falling[(size - 1).clip(0), column]
    known = (count >= LEAST_VALUES) & np.isfinite(below) & (size > 0)
    steps = np.abs(np.diff(falling[: int(size.max(initial=1)) + 1], axis=0))
    inside = (np.arange(len(steps))[:, None] < size) & (steps > 0)
    grain = _median(np.where(inside & known, steps, np.nan))
    gap = np.where(known, first, 1.0) - np.where(known, below, 0.0)
    start = np.where(known, first - gap / 2, np.inf)
    alike = (count >= LEAST_VALUES) & ~np.isfinite(below)  # any other value is new
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
