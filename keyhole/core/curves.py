"""What charts are drawn of: ranges, bins and planes, for the page and for matplotlib."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

SCORE_BARS = 80  # of a histogram, at most
SKIPPED = 0.05  # of a run: the first fall of the loss would flatten the rest of its curve


def loss_range(
    steps: Float[np.ndarray, " evaluation"], *losses: Float[np.ndarray, " evaluation"]
) -> tuple[float, float] | None:
    """The ends of a learning curve's vertical axis; None where no loss is a number.

    The first twentieth of the run is cut off.
    """
    late = steps >= steps[0] + SKIPPED * (steps[-1] - steps[0]) if len(steps) else steps
    values = np.concatenate(losses)
    shown = values[np.tile(late.astype(bool), len(losses)) & np.isfinite(values)]
    if not len(shown):
        shown = values[np.isfinite(values)]
    if not len(shown):
        return None
    margin = 0.08 * float(np.ptp(shown)) or 0.5
    return float(shown.min()) - margin, float(shown.max()) + margin


def score_edges(values: Float[np.ndarray, " row"], threshold: float) -> np.ndarray:
    """The edges of a histogram's bars: one at the threshold, far outliers in the last bar."""
    low, usual, high = np.quantile(values, [0.1, 0.5, 0.9])
    low, high = float(values.min()), min(float(values.max()), usual + 8 * (high - low))
    if high <= low:
        low, high = float(values.min()) - 0.5, float(values.max()) + 0.5
    if np.isfinite(threshold):
        low, high = min(low, threshold), max(high, threshold + 0.05 * (high - low))
    step = (high - low) / min(SCORE_BARS, 10 + len(values) // 10)
    middle = threshold if np.isfinite(threshold) else low
    before, after = (int(np.ceil(round(gap / step, 6))) for gap in (middle - low, high - middle))
    return middle + step * np.arange(-before, after + 1)


def principal_plane(
    codes: Float[np.ndarray, "row code"],
) -> tuple[Float[np.ndarray, "row 2"], list[float]]:
    """Each row on the first two principal components, and each one's share of the variance."""
    codes = np.nan_to_num(np.asarray(codes, np.float64), posinf=0, neginf=0)
    centred = codes - codes.mean(0)
    variance, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), [0, 1]])
    total = max(float(variance.sum()), 1e-300)
    return centred @ axes, [float(part) / total for part in variance[::-1][:2].clip(0)]
