"""How far rows are from the rows of training: from the nearest, and from those that agree most."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from keyhole.core.records import even_places
from keyhole.core.robust import Robust, trimmed

NEIGHBOURS = 10  # core rows whose mean distance counts: one may itself be odd
CHUNK_ROWS = 512  # rows whose distances are held at once
SAME = 1e-3  # a row this near (an axis) is the row itself, and may not vouch for it


@dataclass(frozen=True)
class ReferencePoints:
    """Whitened points, those of the core first; `place` is where each row given went."""

    robust: Robust
    points: Float[Tensor, "row axis"]
    place: Int64[Tensor, " row"]
    core: int

    @classmethod
    def of(cls, x: Float[Tensor, "row axis"], share: float) -> "ReferencePoints":
        """The points of these rows; this share of them makes the core."""
        robust = trimmed(x, share)
        order = torch.argsort(~robust.core, stable=True)
        points = robust.whitened(x.float())[order]
        return cls(robust, points, torch.argsort(order), int(robust.core.sum()))

    def distances(
        self, x: Float[Tensor, "row axis"], own: Int64[Tensor, " row"] | None = None
    ) -> Float[Tensor, "2 row"]:
        """How far each row is from the nearest point, and from its nearest core points on average.

        `own` is the position of each row among the reference rows, -1 where it is not one of
        them: such a row is not compared with itself. Without `own`, a row may still be a
        reference row: of exact copies, one does not count.
        """
        points = self.points.to(x.device)
        square = points.square().sum(1)
        distances = []
        for start in range(0, max(len(x), 1), CHUNK_ROWS):
            rows = x[start : start + CHUNK_ROWS]
            whitened = self.robust.whitened(rows[even_places(len(rows))])[: len(rows)]
            squares = torch.addmm(square, whitened, points.mT, alpha=-2)
            size = whitened.square().sum(1)
            squares.add_(size[:, None]).clamp_(min=0)
            if own is not None:
                own_points = own[start : start + CHUNK_ROWS]
                line = torch.nonzero(own_points >= 0)[:, 0]
                squares[line.to(x.device), self.place[own_points[line]].to(x.device)] = torch.inf
            same = SAME**2 * (x.shape[1] + size)  # whitening rounds by size
            inner = squares[:, : self.core], whitened, points[: self.core], same
            core = _squares(*inner, NEIGHBOURS + 1)
            rest = _squares(squares[:, self.core :], whitened, points[self.core :], same, 1)
            alone = (rest[:, 0] == 0) & (core[:, 0] > 0)  # few: the row itself, outside the core
            if alone.any():
                outer = squares[alone, self.core :], whitened[alone]
                rest[alone] = _squares(*outer, points[self.core :], same[alone], most=2)[:, 1:]
            core = torch.where(core[:, :1] == 0, core[:, 1:], core[:, :-1]).sqrt()
            nearest = torch.minimum(core[:, 0], rest[:, 0].sqrt())
            mean = core.nan_to_num(posinf=0.0).sum(1) / core.isfinite().sum(1).clamp(min=1)
            distances.append(torch.stack([nearest, mean]))
        return torch.cat(distances, 1).nan_to_num(posinf=0.0)


def _squares(
    rough_squares: Float[Tensor, "row point"],
    whitened: Float[Tensor, "row axis"],
    points: Float[Tensor, "point axis"],
    same: Float[Tensor, " row"],
    most: int,
) -> Float[Tensor, "row near"]:
    """The squared distances of the nearest points, nearest first; inf where there are fewer.

    `rough_squares` are rounded by the size of the rows: they say which points are near, the
    points themselves how near, so that a distance does not depend on the rows beside it.
    """
    short = max(most - rough_squares.shape[1], 0)
    if not rough_squares.numel():
        return rough_squares.new_full((len(rough_squares), most), torch.inf)
    if most == 1:
        rough_near, at = (part[:, None] for part in rough_squares.min(1))
    else:
        rough_near, at = rough_squares.topk(most - short, 1, largest=False)
    axes = points.shape[1]
    near_points = points.index_select(0, at.reshape(-1)).view(len(rough_squares), -1, axes)
    square = (near_points - whitened[:, None]).square_().sum(2)
    square = torch.where(rough_near.isfinite(), square, torch.inf).sort(1).values
    square = torch.where(square < same[:, None], 0.0, square)
    return torch.nn.functional.pad(square, (0, short), value=torch.inf)
