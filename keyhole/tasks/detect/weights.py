"""What each view counts in the anomaly score, and how this is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from keyhole.modalities import Modality
from keyhole.tasks.detect.neighbours import MEASURES

if TYPE_CHECKING:
    from keyhole.tasks.detect.views import AnomalyScore

QUESTIONS = (*MEASURES, "values", "masked")
MEAN = "mean"  # of the questions, beside the views that raise


def names_of_views(modality: Modality) -> list[str]:
    """The questions, and the modality's own views: the order of units and weights."""
    return [*QUESTIONS, *modality.view_names]


def weights_in_words(anomaly_score: AnomalyScore) -> str:
    """What each view counts, why, and which may raise a score."""
    modality, weights = anomaly_score.modality, anomaly_score.weights
    shares = zip(names_of_views(modality), weights / weights.sum(), strict=True)
    text = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares if share > 0)
    raising = ", ".join(name for name in anomaly_score.raising if name != MEAN)
    raising = f"; {raising} may raise a score" if raising else ""
    if np.array_equal(weights, weights_of(modality, None)):  # no rows were broken
        return f"{text}{raising}"
    auroc = 0.5 + weights[QUESTIONS.index("masked")] / 4
    return f"{text} (AUROC of rows with swapped values by masked prediction: {auroc:.2f}){raising}"


def weights_of(modality: Modality, auroc: float | None) -> Float[np.ndarray, " question"]:
    """What each question counts, and each of the modality's views: 0 for those that raise.

    `auroc` is the area under the ROC curve by which the net tells broken rows from real ones;
    where it is not known, all count alike, and values by themselves not at all.
    """
    views = [float(name in modality.mean_views) for name in modality.view_names]
    if auroc is None:
        return np.array([1.0, 1.0, 0.0, 1.0, *views])
    masked = float(np.clip(2 * (auroc - 0.5), 0.0, 1.0))
    core = 2 * (1 - masked) / 3
    return np.array([2.0, core, 2 * core, 2 * masked, *views])
