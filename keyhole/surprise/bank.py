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
        where they are none: each is judged as if it were not there.
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
            _forget_itself(far, SAME**2 * (x.shape[1] + size))  # sums are rounded by size
            few = far[:, : self.core].topk(min(NEIGHBOURS, self.core), 1, largest=False).values
            found.append(torch.stack([far.amin(1).sqrt(), _mean(few.sqrt())]))
        return torch.cat(found, 1).nan_to_num(posinf=0.0)


def _forget_itself(far: Float[Tensor, "row point"], same: Float[Tensor, " row"]) -> None:
    """Leave out one point that is the row itself, in place.

    A training row that is asked about is in the bank, and may not vouch for itself. Nobody says
    which rows those are, so of a new row's exact copies one does not count either.
    """
    least, at = far.min(1)
    itself = torch.where(least < same, torch.inf, least)
    far.scatter_(1, at[:, None], itself[:, None])


def _mean(far: Float[Tensor, "row point"]) -> Float[Tensor, " row"]:
    """The mean of those that are there."""
    there = far.isfinite()
    return far.nan_to_num(posinf=0.0).sum(1) / there.sum(1).clamp(min=1)
