"""How far rows are from the rows of training: from the nearest, from a trusted one, from the core.

A row of training that is itself far from the core says little about a row beside it: both may be
of one cluster of anomalies. So it vouches for no more than what it is worth: the distance to a
trusted row is the least, over all rows, of the larger of the distance to that row and of that
row's own distance to the core, each in its usual size. Mutual reachability (Campello et al. 2013,
definition 5) compares a distance with the size of neighbourhoods in the same way.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from keyhole.core.records import even_places
from keyhole.core.robust import Robust, trimmed

CORE_POINTS = 300  # of the core, evenly spaced: more tell no more
CORE_NEIGHBOURS = 5  # whose mean distance counts: one may itself be odd
TRUST = 0.8  # of a row's own distance that another one beside it has at least
BLOCK_ROWS = 256  # whose distances stay in the processor's cache
SAME = 1e-3  # a row this near (an axis) is the row itself, and may not vouch for it
MIN_UNIT = 1e-3  # of a distance or a question, where half of the rows are exactly alike
MEASURES = ("nearest", "trusted", "core")


@dataclass(frozen=True)
class ReferencePoints:
    """Points that rows are compared with, a sample of the core's, and what each point is worth.

    `points` are whitened by the core's spread if `whitens` is True. `core_points` always are;
    `core_place` is where a row given went among them, -1 for most. `worth` is the least squared
    distance that each point vouches for.
    """

    robust: Robust
    whitens: bool
    points: Float[Tensor, "place axis"]
    worth: Float[Tensor, " place"]
    core_points: Float[Tensor, "core_row axis"]
    core_place: Int64[Tensor, " row"]

    @classmethod
    def of(
        cls, x: Float[Tensor, "row axis"], share: float, whitens: bool = False
    ) -> "ReferencePoints":
        """The points of these rows; this share of them makes the core."""
        robust, x = trimmed(x, share), x.float()
        core = torch.nonzero(robust.core)[:, 0]
        chosen = core[np.linspace(0, len(core) - 1, min(len(core), CORE_POINTS)).astype(int)]
        core_place = torch.full((len(x),), -1)
        core_place[chosen] = torch.arange(len(chosen))
        points = robust.whitened(x) if whitens else robust.centered(x)
        core_points, none = robust.whitened(x[chosen]), points.new_zeros(len(x))
        unweighted = cls(robust, whitens, points, none, core_points, core_place)
        nearest, _, own_core = unweighted.distances(x, torch.arange(len(x)))
        usual = usual_size(nearest.numpy()) / usual_size(own_core.numpy())
        return replace(unweighted, worth=(TRUST * usual * own_core).square())

    def distances(
        self, x: Float[Tensor, "row axis"], own: Int64[Tensor, " row"] | None = None
    ) -> Float[Tensor, "3 row"]:
        """How far each row is from the nearest point, a trusted one, and the core.

        `own` is the position of each row among the reference rows, -1 where it is not one of
        them: such a row is not compared with itself. Without `own`, a row may still be a
        reference row: of exact copies, one does not count.
        """
        device = x.device
        points, core_points = self.points.to(device), self.core_points.to(device)
        worth, squares = self.worth.to(device), points.square().sum(1)
        products = torch.cat([-2 * points, squares[:, None], torch.ones_like(squares)[:, None]], 1)
        rough = x.new_empty(BLOCK_ROWS, len(points))  # new memory would cost as much again
        distances = []
        for start in range(0, max(len(x), 1), BLOCK_ROWS):
            rows = x[start : start + BLOCK_ROWS]
            rows = rows[even_places(len(rows)).to(device)]
            whitened = self.robust.whitened(rows)
            placed = whitened if self.whitens else self.robust.centered(rows)
            size = placed.square().sum(1)
            factors = torch.cat([placed, torch.ones_like(size)[:, None], size[:, None]], 1)
            block = torch.mm(factors, products.mT, out=rough[: len(rows)])
            at = None if own is None else own[start : start + BLOCK_ROWS].to(device)
            same = SAME**2 * (x.shape[1] + size)  # rounding grows with the size
            nearest, trusted = _nearest_and_trusted(block, placed, points, worth, same, at)
            core_at = None if at is None else self._core_places(at)
            core = core_distance(whitened, core_points, core_at)
            distances.append(torch.stack([nearest, trusted, core])[:, : len(x) - start])
        return torch.cat(distances, 1).nan_to_num(posinf=0.0)

    def _core_places(self, own: Int64[Tensor, " row"]) -> Int64[Tensor, " row"]:
        return torch.where(own >= 0, self.core_place.to(own.device)[own.clamp(min=0)], -1)


def usual_size(values: Float[np.ndarray, " row"]) -> float:
    """The median; where half of the rows are equal, a small share of the mean."""
    values = values[~np.isnan(values)]
    if not len(values):
        return 1.0
    return float(max(np.median(values), MIN_UNIT * values.mean(), MIN_UNIT))


def _nearest_and_trusted(
    rough: Float[Tensor, "row place"],
    rows: Float[Tensor, "row axis"],
    points: Float[Tensor, "place axis"],
    worth: Float[Tensor, " place"],
    same: Float[Tensor, " row"],
    own: Int64[Tensor, " some"] | None,
) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
    """The distances to the nearest point and to a trusted one; inf where there is none.

    The rough squares, which are changed here, are rounded by the size of the rows: they say
    which points are near, the points themselves how near, so that a distance does not depend on
    the rows beside it.
    """
    if own is not None:
        line = torch.nonzero(own >= 0)[:, 0]
        rough[line, own[line]] = torch.inf
    place = _least(rough)
    square = _exact(rough, rows, points, place)
    if own is None:
        copies = torch.nonzero(square < same)[:, 0]
        rough[copies, place[copies]] = torch.inf
        others = rough[copies]
        square[copies] = _exact(others, rows[copies], points, _least(others))
    square = torch.where(square < same, 0.0, square)
    place = _least(torch.maximum(rough, worth, out=rough))
    trusted = torch.maximum(_exact(rough, rows, points, place), worth[place])
    return square.sqrt(), trusted.sqrt()


def _least(values: Float[Tensor, "row place"]) -> Int64[Tensor, " row"]:
    """The place of the least of each row."""
    if values.device.type == "cpu":  # NumPy takes a twentieth of torch's time
        return torch.from_numpy(values.numpy().argmin(1))
    return values.argmin(1)


def _exact(
    rough: Float[Tensor, "row place"],
    rows: Float[Tensor, "row axis"],
    points: Float[Tensor, "place axis"],
    place: Int64[Tensor, " row"],
) -> Float[Tensor, " row"]:
    """The squared distances of one point a row, inf where no point counts."""
    square = (points.index_select(0, place) - rows).square_().sum(1)
    return torch.where(rough.gather(1, place[:, None])[:, 0].isfinite(), square, torch.inf)


def core_distance(
    whitened: Float[Tensor, "row axis"],
    core_points: Float[Tensor, "core_row axis"],
    own: Int64[Tensor, " some"] | None,
) -> Float[Tensor, " row"]:
    """The mean distance to the nearest core points; 0 where there is none."""
    size, most = whitened.square().sum(1), min(CORE_NEIGHBOURS + 1, len(core_points))
    squares = core_points.square().sum(1)
    rough = torch.addmm(squares, whitened, core_points.mT, alpha=-2) + size[:, None]
    if own is not None:
        line = torch.nonzero(own >= 0)[:, 0]
        rough[line, own[line]] = torch.inf
    rough_near, place = rough.topk(most, 1, largest=False)
    near = core_points.index_select(0, place.flatten()).unflatten(0, (-1, most))
    square = (near - whitened[:, None]).square_().sum(2)
    square = torch.where(rough_near.isfinite(), square, torch.inf).sort(1).values
    if own is None:  # of exact copies one does not count
        copy = square[:, :1] < (SAME**2 * (whitened.shape[1] + size))[:, None]
        shifted = torch.cat([square[:, 1:], torch.full_like(square[:, :1], torch.inf)], 1)
        square = torch.where(copy, shifted, square)
    distances = square[:, :CORE_NEIGHBOURS].sqrt()
    known = distances.isfinite()
    return torch.where(known, distances, 0.0).sum(1) / known.sum(1).clamp(min=1)
