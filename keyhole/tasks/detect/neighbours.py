"""How far rows are from the rows of training: from the nearest trusted one, and from the core.

A row of training that is itself far out says little about a row beside it: both may be of one
cluster of anomalies. So a row beside it is at least as far as a part of how far out that row is,
by its own distance to the core and by its values: the distance to a trusted row is the least, over
all rows, of the larger of the two, each in its usual size. Mutual reachability (Campello et al.
2013, definition 5) compares a distance with the size of neighbourhoods in the same way.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from keyhole.core.records import even_places
from keyhole.core.robust import Robust

CORE_POINTS = 200  # of the core, evenly spaced: more tell no more
CORE_PARTS = 5  # of these points: the mean over parts counts, as one point may itself be odd
LEAST_DISTRUST = 0.5  # part of how far out a row is that another one beside it is at least
BLOCK_ROWS = 128  # whose distances stay in the processor's cache
CHUNK_ROWS = 512  # that are compared with the whole core at once
CORE_BLOCK_ROWS = 512  # whose distances to points of the core stay in the cache
SAME = 1e-3  # a row this near (an axis) is the row itself, and may not vouch for it
MIN_UNIT = 1e-3  # of a distance or a question, where half of the rows are exactly alike
MEASURES = ("trusted", "core")


@dataclass(frozen=True)
class ReferencePoints:
    """Points that rows are compared with, some of the core's, and what each point is worth.

    `points` are whitened by the core's spread if `whitens` is True. `core_points` always are;
    they lie part by part, all of one size. `core_place` is where a row given went among them, -1
    for most. `worth` is the least squared distance of any row from each point.
    """

    robust: Robust
    whitens: bool
    points: Float[Tensor, "place axis"]
    worth: Float[Tensor, " place"]
    core_points: Float[Tensor, "core_row axis"]
    core_place: Int64[Tensor, " row"]

    @classmethod
    def of(
        cls,
        x: Float[Tensor, "row axis"],
        robust: Robust,
        *,
        whitens: bool = False,
        distrust: float = LEAST_DISTRUST,
        values: Float[Tensor, " row"] | None = None,
    ) -> "ReferencePoints":
        """The points of these rows, whose core `robust` names.

        `distrust` is as `LEAST_DISTRUST`; `values` are the nats of each row's values among the
        core, where they count.
        """
        x, core = x.float(), torch.nonzero(robust.core)[:, 0]
        points = robust.whitened(x) if whitens else robust.centered(x)
        none = points.new_zeros(len(x))
        unweighted = cls(robust, whitens, points, none, *_core_of(robust, x, core, len(core)))
        # What a point is worth is measured once, so by the whole core.
        parts = torch.arange(len(x)).split(CHUNK_ROWS)
        nearest, own_core = torch.cat([unweighted.distances(x[at], at) for at in parts], 1)
        far_out = own_core / usual_size(own_core.numpy())
        if values is not None:
            far_out = (far_out + values.to(far_out) / usual_size(values.numpy())) / 2
        worth = (distrust * usual_size(nearest.numpy()) * far_out).square()
        core_points, core_place = _core_of(robust, x, core, CORE_POINTS)
        return replace(unweighted, worth=worth, core_points=core_points, core_place=core_place)

    def distances(
        self, x: Float[Tensor, "row axis"], own: Int64[Tensor, " row"] | None = None
    ) -> Float[Tensor, "2 row"]:
        """How far each row is from the nearest trusted point, and from the core.

        `own` is the position of each row among the reference rows, -1 where it is not one of
        them: such a row is not compared with itself. Without `own`, a row may still be a
        reference row: of exact copies, one does not count.
        """
        count = len(x)
        x = x[even_places(count).to(x.device)]
        own = None if own is None else own[even_places(count)].to(x.device)
        whitened = self.robust.whitened(x)
        trusted = self._trusted(whitened if self.whitens else self.robust.centered(x), own)
        core = self._core(whitened, own).to(trusted)
        return torch.stack([trusted, core])[:, :count].nan_to_num(posinf=0.0)

    def _trusted(
        self, rows: Float[Tensor, "row axis"], own: Int64[Tensor, " row"] | None
    ) -> Float[Tensor, " row"]:
        """The distance to the nearest trusted point; inf where there is none."""
        points, worth, same = self.points.to(rows), self.worth.to(rows), same_square(rows)
        place = _closest(rows, points, worth, own)
        square = _squares(rows, points, place, own)
        copies = torch.nonzero(square < same)[:, 0]
        if own is None and len(copies):
            even = copies[even_places(len(copies)).to(copies.device)]
            itself, copied = place[even], rows[even]
            place[even] = _closest(copied, points, worth, itself)
            square[even] = _squares(copied, points, place[even], itself)
        return torch.maximum(torch.where(square < same, 0.0, square), worth[place]).sqrt()

    def _core(
        self, whitened: Float[Tensor, "row axis"], own: Int64[Tensor, " row"] | None
    ) -> Float[Tensor, " row"]:
        """The distance to the core."""
        core_points = self.core_points.to(whitened)
        if own is None:
            blocks = whitened.split(CORE_BLOCK_ROWS)
            near = torch.cat([_nearest_core_points(block, core_points) for block in blocks])
            distance = _mean_distance(near)
            copies = torch.nonzero((near < same_square(whitened)[:, None]).any(1))[:, 0]
            if len(copies):
                distance[copies] = core_distance_of_new_rows(whitened[copies], core_points)
            return distance
        squares = core_squares(whitened, core_points)
        place = torch.where(own >= 0, self.core_place.to(own.device)[own.clamp(min=0)], -1)
        line = torch.nonzero(place >= 0)[:, 0]
        squares[line, place[line]] = torch.inf
        return core_distance(squares)


def usual_size(values: Float[np.ndarray, " row"]) -> float:
    """The median; where half of the rows are equal, a small share of the mean."""
    values = values[~np.isnan(values)]
    if not len(values):
        return 1.0
    return float(max(np.median(values), MIN_UNIT * values.mean(), MIN_UNIT))


def same_square(rows: Float[Tensor, "row axis"]) -> Float[Tensor, " row"]:
    """The squared distance below which a point is a row itself: rounding grows with its size."""
    return SAME**2 * (rows.shape[1] + rows.square().sum(1))


def _core_of(
    robust: Robust, x: Float[Tensor, "row axis"], core: Int64[Tensor, " core_row"], most: int
) -> tuple[Float[Tensor, "core_row axis"], Int64[Tensor, " row"]]:
    """Up to `most` points of the core, part by part, and where each row went among them.

    The rows of each part are spread over the whole core. All parts have one size, for which up to
    four rows of a small core are left out.
    """
    count = min(len(core), most)
    count -= count % max(_parts_of(count), 1)
    spread = core[np.linspace(0, len(core) - 1, count).astype(int)]
    chosen = spread.view(-1, max(_parts_of(count), 1)).mT.flatten()
    place = torch.full((len(x),), -1)
    place[chosen] = torch.arange(len(chosen))
    return robust.whitened(x[chosen]), place


def _parts_of(points: int) -> int:
    """The number of parts of this number of core points; few points are a part each."""
    return min(CORE_PARTS, points)


def _closest(
    rows: Float[Tensor, "row axis"],
    points: Float[Tensor, "place axis"],
    worth: Float[Tensor, " place"],
    own: Int64[Tensor, " row"] | None,
) -> Int64[Tensor, " row"]:
    """The place of the nearest trusted point of each row, its `own` left out.

    The squares here are rounded by the size of the rows: they say which point is near, and the
    points themselves how near, so that a distance does not depend on the rows beside it.
    """
    squares, size = points.square().sum(1), rows.square().sum(1)
    products = torch.cat([-2 * points, squares[:, None], torch.ones_like(squares)[:, None]], 1)
    factors = torch.cat([rows, torch.ones_like(size)[:, None], size[:, None]], 1)
    scratch = rows.new_empty(BLOCK_ROWS, len(points))  # new memory would cost as much again
    places = [torch.zeros(0, dtype=torch.int64, device=rows.device)]
    for start in range(0, len(rows), BLOCK_ROWS):
        block = factors[start : start + BLOCK_ROWS]
        rough = torch.mm(block, products.mT, out=scratch[: len(block)])
        if own is not None:
            at = own[start : start + BLOCK_ROWS]
            line = torch.nonzero(at >= 0)[:, 0]
            rough[line, at[line]] = torch.inf
        places.append(_least(torch.maximum(rough, worth, out=rough)))
    return torch.cat(places)


def _least(values: Float[Tensor, "row place"]) -> Int64[Tensor, " row"]:
    """The place of the least of each row."""
    if values.device.type == "cpu":  # NumPy takes a twentieth of torch's time
        return torch.from_numpy(values.numpy().argmin(1))
    return values.argmin(1)


def _squares(
    rows: Float[Tensor, "row axis"],
    points: Float[Tensor, "place axis"],
    place: Int64[Tensor, " row"],
    own: Int64[Tensor, " row"] | None,
) -> Float[Tensor, " row"]:
    """The squared distances to one point a row; inf where it is the row's own."""
    square = (points.index_select(0, place) - rows).square_().sum(1)
    return square if own is None else torch.where(place == own, torch.inf, square)


def core_squares(
    whitened: Float[Tensor, "row axis"], core_points: Float[Tensor, "core_row axis"]
) -> Float[Tensor, "row core_row"]:
    """Squared distances in double precision, where rounding is far below that of the rows."""
    rows = whitened.double()
    return _shifted_squares(rows, core_points) + rows.square().sum(1, keepdim=True)


def _nearest_core_points(
    whitened: Float[Tensor, "row axis"], core_points: Float[Tensor, "core_row axis"]
) -> Float[Tensor, "row part"]:
    """As `_nearest_of_parts` of `core_squares`; a row's own size is added to the nearest alone."""
    rows = whitened.double()
    near = _nearest_of_parts(_shifted_squares(rows, core_points))
    return near + rows.square().sum(1, keepdim=True)


def _shifted_squares(
    rows: Float[Tensor, "row axis"], core_points: Float[Tensor, "core_row axis"]
) -> Float[Tensor, "row core_row"]:
    """Squared distances less the squared size of the row."""
    points = core_points.double()
    return torch.addmm(points.square().sum(1), rows, points.mT, alpha=-2)


def core_distance(squares: Float[Tensor, "row core_row"]) -> Float[Tensor, " row"]:
    """The mean distance to the nearest points of all parts; 0 where there is none."""
    return _mean_distance(_nearest_of_parts(squares))


def _nearest_of_parts(squares: Float[Tensor, "row core_row"]) -> Float[Tensor, "row part"]:
    """The squared distance to the nearest point of each part."""
    parts = _parts_of(squares.shape[1])
    return squares.unflatten(1, (parts, -1)).amin(2) if parts else squares


def _mean_distance(near: Float[Tensor, "row part"]) -> Float[Tensor, " row"]:
    """The mean distance, of squared ones; of parts without a point, infinite ones."""
    distances = near.clamp(min=0).sqrt()
    known = distances.isfinite()
    return torch.where(known, distances, 0.0).sum(1) / known.sum(1).clamp(min=1)


def core_distance_of_new_rows(
    whitened: Float[Tensor, "row axis"], core_points: Float[Tensor, "core_row axis"]
) -> Float[Tensor, " row"]:
    """The distance to the core of rows that may be copies of its points: one does not count."""
    squares = core_squares(whitened, core_points)
    if not squares.shape[1]:
        return core_distance(squares)
    least, place = squares.min(1, keepdim=True)
    least = torch.where(least < same_square(whitened.double())[:, None], torch.inf, least)
    return core_distance(squares.scatter(1, place, least))
