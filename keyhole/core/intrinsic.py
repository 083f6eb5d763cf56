"""How many dimensions do points fill? Two estimates from the distances to nearest neighbours."""

import numpy as np
from jaxtyping import Float

MOST_POINTS = 3_000
NEIGHBOURS = 10  # of the likelihood estimate


def intrinsic_dimension(points: Float[np.ndarray, "row coordinate"]) -> tuple[float, float]:
    """TwoNN's estimate and the likelihood estimate; NaN where points are too few or all alike.

    Source: Facco et al. 2017, eq. 7, by its likelihood (n - 1) / sum log(r2 / r1); Levina and
    Bickel 2004, eq. 8 and 9, with the inverse mean of MacKay and Ghahramani.
    """
    from sklearn.neighbors import NearestNeighbors

    points = np.unique(points, axis=0)  # equal rows are at no distance
    if len(points) > MOST_POINTS:
        points = np.random.default_rng(0).permutation(points)[:MOST_POINTS]
    if len(points) < NEIGHBOURS + 2:
        return float("nan"), float("nan")
    near = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(points)
    far = near.kneighbors(points)[0][:, 1:].clip(1e-12)
    ratio = np.log(far[:, 1] / far[:, 0])
    two = (len(ratio) - 1) / ratio.sum() if ratio.sum() > 0 else float("nan")
    logs = np.log(far[:, -1:] / far[:, :-1]).mean(1)  # the inverse of each point's estimate
    mean = logs.mean() * (NEIGHBOURS - 1) / (NEIGHBOURS - 2)
    return float(two), float(1 / mean) if mean > 0 else float("nan")
