"""Center and spread of the rows that agree most, and the intrinsic dimension of points.

Without trimming this is the full-rank linear autoencoder, whose error is Mahalanobis' distance.
Refits on the nearest rows are the concentration steps of Rousseeuw and Van Driessen (1999,
theorem 1), from one start. The covariance is shrunk towards a ball of its own size: by a tenth
while rows are chosen, so that few are enough, and half-way as a measure of distance, where the
directions that hardly vary would outweigh all others.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

CORE = 0.6  # share of rows that are refitted: the breakdown point is two fifths
REFITS = 6
WHILE_CHOOSING, AS_MEASURE = 0.1, 1.0  # shares of the ball that are added
MAX_FULL = 2_048  # axes; beyond, only the variance of each is used
MIN_VARIANCE = 1e-6  # of an axis, so that a covariance can be inverted


@dataclass(frozen=True)
class Robust:
    """Center and spread (a whitening matrix or factors) of most rows; `core` is True for those."""

    center: Float[Tensor, " axis"]
    spread: Float[Tensor, "axis *out"]
    core: Bool[Tensor, " row"]

    def whitened(self, x: Float[Tensor, "row axis"]) -> Float[Tensor, "row axis"]:
        """The rows in units of the core's spread; a gap (NaN) lies at the center."""
        offset, spread = self.centered(x), self.spread.to(x)
        return offset @ spread if spread.dim() == 2 else offset * spread

    def centered(self, x: Float[Tensor, "row axis"]) -> Float[Tensor, "row axis"]:
        """The rows as offsets from the center; a gap (NaN) lies there."""
        return (x - self.center.to(x)).nan_to_num_(nan=0.0)

    def distance(self, x: Float[Tensor, "row axis"]) -> Float[Tensor, " row"]:
        """Mahalanobis' distance of each row from the center."""
        return torch.linalg.vector_norm(self.whitened(x), dim=1)


def trimmed(x: Float[Tensor, "row axis"], share: float = CORE) -> Robust:
    """Center and spread of the `share` of rows that agree most with one another.

    They are chosen by a core of at most `CORE`: a larger one would be drawn to a cluster of bad
    rows of the size that it leaves out.
    """
    x = x.double()
    center = x.nanmean(0).nan_to_num(nan=0.0)
    x = torch.where(x.isnan(), center, x)
    small, size = (max(2, round(part * len(x))) for part in (min(share, CORE), share))
    core = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for rows in [*[small] * (REFITS - 1), size] if size < len(x) else []:
        nearest = _distances(x, core).topk(rows, largest=False).indices
        core = torch.zeros_like(core).scatter_(0, nearest, True)
    return _fit(x, core, AS_MEASURE)


def centered(x: Float[Tensor, "row axis"], share: float = CORE) -> Robust:
    """Center and spread of features of several kinds, each axis in its own units.

    The covariance is shrunk as Ledoit and Wolf (2004, theorem 3.2) have it, so that with few rows
    it is nearly that of independent axes.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    x = x.double()
    center, spread = spread_of(x)
    x = torch.where(x.isnan(), center, x)
    core = trimmed((x - center) / spread, share).core
    scale = 1 / spread_of(x[core])[1]
    scaled = (x[core] - x[core].mean(0)) * scale
    shrinkage = min(float(ledoit_wolf_shrinkage(scaled.numpy())), 0.999)
    robust = _fit(x * scale, core, shrinkage / (1 - shrinkage))
    whitening = robust.spread
    own = scale[:, None] * whitening if whitening.dim() == 2 else scale * whitening
    return Robust(robust.center / scale, own, core)


def spread_of(x: Float[Tensor, "row axis"]) -> tuple[Tensor, Tensor]:
    """The mean and the standard deviation of each axis, the latter at least a little."""
    center = x.double().nanmean(0).nan_to_num(nan=0.0)
    offset = (x.double() - center).nan_to_num(nan=0.0)
    return center, offset.square().mean(0).sqrt().clamp(min=MIN_VARIANCE**0.5)


def _distances(x: Tensor, core: Tensor) -> Tensor:
    """Each row's distance from the core's center, in the spread while rows are chosen."""
    if int(core.sum()) < x.shape[1] <= MAX_FULL:
        return _distances_by_products(x, core)
    center, root = _center_and_root(x[core], WHILE_CHOOSING)
    offsets = x - center
    whitened = offsets / root if root.dim() == 1 else _solved(root, offsets.mT).mT
    return torch.linalg.vector_norm(whitened, dim=1)


def _distances_by_products(x: Tensor, core: Tensor) -> Tensor:
    """As `_distances`, of fewer core rows than axes: by a matrix of their products.

    With covariance = A'A + b I, its inverse is (I - A' (A A' + b I)^-1 A) / b (Woodbury).
    """
    rows = x[core]
    center = rows.mean(0)
    offsets, inner = x - center, (rows - center) / max(len(rows) - 1, 1) ** 0.5
    ball = WHILE_CHOOSING * inner.square().sum(0).mean().clamp(min=MIN_VARIANCE)
    products = inner @ inner.mT
    products.diagonal().add_(ball)
    explained = _solved(torch.linalg.cholesky(products), inner @ offsets.mT).square().sum(0)
    return ((offsets.square().sum(1) - explained).clamp(min=0) / ball).sqrt()


def _fit(x: Tensor, core: Tensor, ball: float) -> Robust:
    """The spread of the core, plus this share of a ball of its size."""
    center, root = _center_and_root(x[core], ball)
    if root.dim() == 1:
        return Robust(center, 1 / root, core)
    return Robust(center, _solved(root, torch.eye(len(root)).to(root)).mT, core)


def _center_and_root(rows: Tensor, ball: float) -> tuple[Tensor, Tensor]:
    """The mean of some rows, and L of their covariance L L', plus this share of a ball.

    Distances are those of L^-1 (x - center). Of many axes only the variances count: L is a vector.
    """
    center = rows.mean(0)
    offsets = rows - center
    if rows.shape[1] > MAX_FULL:
        variance = offsets.square().mean(0)
        return center, (variance + ball * variance.mean().clamp(min=MIN_VARIANCE)).sqrt()
    covariance = offsets.mT @ offsets / max(len(rows) - 1, 1)
    covariance.diagonal().add_(ball * covariance.diagonal().mean().clamp(min=MIN_VARIANCE))
    return center, torch.linalg.cholesky(covariance)


def _solved(lower: Tensor, columns: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(lower, columns, upper=False)


MAX_POINTS = 3_000  # the neighbours of more take too long
NEIGHBOURS = 10  # of the likelihood estimate


def intrinsic_dimension(points: Float[np.ndarray, "row coordinate"]) -> tuple[float, float]:
    """TwoNN's estimate and the likelihood estimate; NaN where points are too few or all alike.

    Source: Facco et al. 2017, eq. 7, by its likelihood (n - 1) / sum log(r2 / r1); Levina and
    Bickel 2004, eq. 8 and 9, with the inverse mean of MacKay and Ghahramani.
    """
    from sklearn.neighbors import NearestNeighbors

    points = np.unique(points, axis=0)  # equal rows have distance zero
    if len(points) > MAX_POINTS:
        points = np.random.default_rng(0).permutation(points)[:MAX_POINTS]
    if len(points) < NEIGHBOURS + 2:
        return math.nan, math.nan
    neighbours = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(points)
    distances = neighbours.kneighbors(points)[0][:, 1:].clip(1e-12)
    ratio = np.log(distances[:, 1] / distances[:, 0])
    two = (len(ratio) - 1) / ratio.sum() if ratio.sum() > 0 else math.nan
    logs = np.log(distances[:, -1:] / distances[:, :-1]).mean(1)  # inverse estimate of each point
    mean = logs.mean() * (NEIGHBOURS - 1) / (NEIGHBOURS - 2)
    return float(two), float(1 / mean) if mean > 0 else math.nan
