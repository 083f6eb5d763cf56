"""The bank: rows to be near to, in the units of their own core."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from keyhole.core.robust import Robust, trimmed

NEIGHBOURS = 10  # core rows whose mean distance counts: one may itself be odd
CHUNK_ROWS = 512  # rows whose distances are held at once
SAME = 1e-3  # a row this near (an axis) is the row itself, and may not vouch for it


@dataclass(frozen=True)
class Bank:
    """Whitened points, those of the core first; `place` is where each row given went."""

    robust: Robust
    points: Float[Tensor, "row axis"]
    place: Int64[Tensor, " row"]
    core: int

    @classmethod
    def of(cls, x: Float[Tensor, "row axis"], share: float) -> "Bank":
        """The bank of these rows, of which `share` make the core."""
        robust = trimmed(x, share)
        order = torch.argsort(~robust.core, stable=True)
        points = robust.whitened(x.float())[order]
        return cls(robust, points, torch.argsort(order), int(robust.core.sum()))

    def distances(
        self, x: Float[Tensor, "row axis"], own: Int64[Tensor, " row"] | None = None
    ) -> Float[Tensor, "2 row"]:
        """How far each row is from the nearest point, and from its nearest core points on average.

        `own` are the rows of the bank (by their place when it was made) that these rows are, -1
        where they are none: each is judged as if it were not there. Otherwise a row that is in
        the bank, which nobody may know, may not vouch for itself: of exact copies one does not
        count.
        """
        points = self.points.to(x.device)
        square = points.square().sum(1)
        found = []
        for start in range(0, len(x), CHUNK_ROWS):
            here = self.robust.whitened(x[start : start + CHUNK_ROWS])
            far = torch.addmm(square, here, points.mT, alpha=-2)
            size = here.square().sum(1)
            far.add_(size[:, None]).clamp_(min=0)
            if own is not None:
                mine = own[start : start + CHUNK_ROWS]
                line = torch.nonzero(mine >= 0)[:, 0]
                far[line.to(x.device), self.place[mine[line]].to(x.device)] = torch.inf
            same = SAME**2 * (x.shape[1] + size)  # whitening rounds by size
            core = _squares(far[:, : self.core], here, points[: self.core], same, NEIGHBOURS + 1)
            rest = _squares(far[:, self.core :], here, points[self.core :], same, 1)
            alone = (rest[:, 0] == 0) & (core[:, 0] > 0)  # few: the row itself, outside the core
            if alone.any():
                outer = far[alone, self.core :], here[alone], points[self.core :], same[alone]
                rest[alone] = _squares(*outer, most=2)[:, 1:]
            core = torch.where(core[:, :1] == 0, core[:, 1:], core[:, :-1]).sqrt()
            nearest = torch.minimum(core[:, 0], rest[:, 0].sqrt())
            found.append(torch.stack([nearest, _mean(core)]))
        return torch.cat(found, 1).nan_to_num(posinf=0.0)


def _squares(
    far: Float[Tensor, "row point"],
    here: Float[Tensor, "row axis"],
    points: Float[Tensor, "point axis"],
    same: Float[Tensor, " row"],
    most: int,
) -> Float[Tensor, "row near"]:
    """The squared distances of the nearest points, nearest first; inf where there are fewer.

    `far` are squared distances, rounded by the size of the rows: they say which points are near,
    the points themselves how near, so that a distance does not depend on the rows beside it.
    """
    short = max(most - far.shape[1], 0)
    if far.shape[1] == 0:
        return far.new_full((len(far), most), torch.inf)
    if most == 1:
        rough, at = (part[:, None] for part in far.min(1))
    else:
        rough, at = far.topk(most - short, 1, largest=False)
    axes = points.shape[1]
    near = points.index_select(0, at.reshape(-1)).view(len(far), -1, axes)
    square = (near - here[:, None]).square_().sum(2)
    square = torch.where(rough.isfinite(), square, torch.inf).sort(1).values
    square = torch.where(square < same[:, None], 0.0, square)
    return torch.nn.functional.pad(square, (0, short), value=torch.inf)


def _mean(far: Float[Tensor, "row point"]) -> Float[Tensor, " row"]:
    """The mean of those that are there."""
    there = far.isfinite()
    return far.nan_to_num(posinf=0.0).sum(1) / there.sum(1).clamp(min=1)
