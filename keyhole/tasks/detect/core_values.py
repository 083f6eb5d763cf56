"""How far out the values of a row are, each by itself, among the rows that agree most: the core.

On each axis of the coordinates, the share of core rows whose value is at least as high, or at
least as low, whichever are fewer, in nats. The sum over all axes is the anomaly score that treats
axes as independent (as Li et al. 2022 do, ECOD, section 3, with all rows and one side for all
axes). Compared with the core, the anomalies among the training rows are as far out as new ones.
Beyond the core, nats grow with the logarithm of the distance in ranges of the core, or in those of
the inner three fifths of all rows where these are larger: a value that differs from the one which
an axis has in the whole core and in most other rows counts most.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from keyhole.core.layout import TREND, Layout
from keyhole.core.records import even_places

GROWTH, EVENLY = 2.0, 9  # factor between ranks near the ends; number of evenly spread ranks
SLOPE = 4.0  # of the nats where the core ends, per range
OUTER = 0.2  # share of all rows that the range leaves out on each side
MIN_RANGE = 1e-6  # of an axis
PASS_AXES = 32  # whose values stay in the processor's cache


@dataclass(frozen=True)
class CoreValues:
    """Some values of each axis in the core, rising, and the nats of each.

    `axes` are those of the coordinates that are looked at, `ranges` theirs; `typical` are the mean
    nats of reference rows on each axis, those of a gap (NaN); `core` is True for the reference
    rows of the core.
    """

    axes: Int64[Tensor, " axis"]
    values: Float[Tensor, "axis knot"]
    nats: Float[Tensor, "axis knot"]
    ranges: Float[Tensor, " axis"]
    typical: Float[Tensor, " axis"]
    core: Bool[Tensor, " row"]

    @classmethod
    def of(
        cls, x: Float[Tensor, "row coordinate"], core: Bool[Tensor, " row"],
        axes: Int64[Tensor, " axis"],
    ) -> "CoreValues":  # fmt: skip
        """The values of the reference rows `x` that are in the core."""
        x = x.nan_to_num(nan=0.0)
        every = x[:, axes].sort(0).values
        outer = int(OUTER * (len(x) - 1))
        inner_range = every[len(x) - 1 - outer] - every[outer]
        rising = x[core][:, axes].sort(0).values.mT.contiguous()
        count = rising.shape[1]
        ranges = torch.maximum(rising[:, -1] - rising[:, 0], inner_range).clamp(min=MIN_RANGE)
        values = rising[:, _ranks(count)].contiguous()
        low = torch.searchsorted(rising, values, right=True)
        high = count - torch.searchsorted(rising, values)
        nats = -_share(torch.minimum(low, high), count).log()
        core_values = cls(axes, values, nats, ranges, torch.zeros(len(axes)), core)
        return replace(core_values, typical=core_values._nats(core_values.columns(x)).mean(1))

    def nats_of(
        self, x: Float[Tensor, "row coordinate"], own: Int64[Tensor, " row"] | None = None
    ) -> Float[Tensor, " row"]:
        """The nats of rows, NaN being gaps; a row of the core (`own`) does not count itself."""
        count = len(x)
        places = even_places(count).to(x.device)
        columns = self.columns(x[places])
        nats = self._nats(columns)
        if own is not None:
            own = own[even_places(count)]
            inside = torch.nonzero((own >= 0) & self.core[own.clamp(min=0)])[:, 0].to(x.device)
            nats[:, inside] = self._without_one(nats[:, inside])  # none of these is beyond
        return self.total(nats, columns)[:count]

    def total(
        self, nats: Float[Tensor, "axis row"], columns: Float[Tensor, "axis row"]
    ) -> Float[Tensor, " row"]:
        """The sum over all axes; a gap counts as it typically would."""
        nats = torch.where(columns.isnan(), self.typical.to(nats)[:, None], nats)
        return nats.sum(0, dtype=torch.float64)

    def _nats(self, columns: Float[Tensor, "axis row"]) -> Float[Tensor, "axis row"]:
        return self.at(columns, _places(self.values.to(columns), columns)) + self.beyond(columns)

    def columns(self, x: Float[Tensor, "row coordinate"]) -> Float[Tensor, "axis row"]:
        """The coordinates that are looked at, axis by axis."""
        every = len(self.axes) == x.shape[1]
        return (x if every else x.index_select(1, self.axes.to(x.device))).mT.contiguous()

    def at(
        self, columns: Float[Tensor, "axis row"], place: Int64[Tensor, "axis row"]
    ) -> Float[Tensor, "axis row"]:
        """The nats of values inside the core; `place` is that of the first knot not below each."""
        values, nats = self.values.to(columns), self.nats.to(columns)
        right = place.clamp(min(1, values.shape[1] - 1), values.shape[1] - 1)
        left = (right - 1).clamp(min=0)
        low, high = values.gather(1, left), values.gather(1, right)
        share = ((columns - low) / (high - low)).nan_to_num(nan=0.0).clamp(0, 1)
        return torch.lerp(nats.gather(1, left), nats.gather(1, right), share)

    def beyond(self, columns: Float[Tensor, "axis row"]) -> Float[Tensor, "axis row"]:
        """Further nats of values beyond the core."""
        values, ranges = self.values.to(columns), self.ranges.to(columns)
        excess = torch.maximum(values[:, :1] - columns, columns - values[:, -1:]).clamp(min=0)
        return (SLOPE * excess / ranges[:, None]).log1p()

    def _without_one(self, nats: Float[Tensor, "axis row"]) -> Float[Tensor, "axis row"]:
        """The nats with one row less in the core.

        Half a row is taken away: a new row between two others also counts half of the next one.
        """
        count = int(self.core.sum())
        return -_share((-nats).exp() * count - 0.5, count - 1).log()


def _places(
    knots: Float[Tensor, "axis knot"], columns: Float[Tensor, "axis row"]
) -> Int64[Tensor, "axis row"]:
    """How many knots of its axis are below each value."""
    if columns.device.type != "cpu":
        return torch.searchsorted(knots, columns)
    # To compare with all of so few takes NumPy half of the time of a search.
    places = np.zeros(columns.shape, np.uint8)
    for start in range(0, len(columns), PASS_AXES):
        axes = slice(start, start + PASS_AXES)
        for knot in knots[axes].numpy().T[:, :, None]:
            places[axes] += columns[axes].numpy() > knot
    return torch.from_numpy(places).long()


def axes_of_values(layout: Layout, coordinates: int) -> Int64[Tensor, " axis"]:
    """The axes of numbers and levels; not those of the passing time, of day and season."""
    passing = [slot.kind == "datetime" and slot.part != TREND for slot in layout.slots]
    passing = np.array(passing[: layout.numbers], bool)
    return torch.from_numpy(np.r_[np.flatnonzero(~passing), layout.numbers : coordinates])


def _share(rows: Tensor, count: int) -> Tensor:
    """The share of rows, above 0 and at most 1: half a row stands for none."""
    return (rows.clamp(min=0.5) / max(count, 1)).clamp(max=1)


def _ranks(count: int) -> Int64[np.ndarray, " knot"]:
    """Ranks of the core's rows: close together at both ends, some evenly spread."""
    steps = math.ceil(math.log(max(count, 2), GROWTH))
    ends = np.unique(np.ceil(GROWTH ** np.arange(steps)).astype(np.int64)) - 1
    even = np.linspace(0, count - 1, EVENLY).astype(np.int64)
    ends = ends[ends < count // 2]
    return np.unique([*ends, *(count - 1 - ends), *even])
