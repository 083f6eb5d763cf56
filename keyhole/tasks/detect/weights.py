"""What each view counts in the anomaly score, and how this is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from keyhole.core.environment import PASS_ROWS, pass_work, threads_for
from keyhole.modalities import Modality
from keyhole.modalities.rows.split import ReferenceSet
from keyhole.model.network import Network
from keyhole.tasks.detect.calibration import told_apart
from keyhole.tasks.detect.masked import (
    GROUPS,
    by_own_net,
    masked_deviance,
    row_lengths,
    typical_deviance,
)
from keyhole.tasks.detect.neighbours import LEAST_DISTRUST, MEASURES

if TYPE_CHECKING:
    from keyhole.tasks.detect.views import AnomalyScore

QUESTIONS = (*MEASURES, "values", "masked")
MAX_PLANTED = 512  # rows that faults are planted in, or that are broken
MIN_BROKEN = 20  # fewer rows cannot say how well they are told from broken ones
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


def auroc_of_broken(modality: Modality, network: Network, reference: ReferenceSet) -> float | None:
    """How well masked prediction tells broken rows from the held-out rows they are made of.

    None where rows cannot be broken, or where there are too few.
    """
    places = reference.spread(MAX_PLANTED)
    judged = reference.take(reference.judged[places])
    broken = modality.broken(judged.batch, seed=0)
    if broken is None or len(places) < MIN_BROKEN:
        return None
    device, parts = next(network.parameters()).device, []
    with threads_for(GROUPS * pass_work(network, min(len(places), PASS_ROWS))):
        for batch in (judged.batch, broken):
            passes = masked_deviance(modality, network, batch.to(device))
            nats, observed = (part.cpu() for part in passes)
            own = by_own_net(nats, judged.fold, nats) if reference.folds > 1 else nats[:1]
            parts.append((own, observed))
    typical = typical_deviance(*parts[0])
    good, bad = (row_lengths(own, observed, typical) for own, observed in parts)
    return told_apart(good, bad)


def distrust_of(weights: Float[np.ndarray, " question"]) -> float:
    """The part of how far out a training row is that a row beside it is at least.

    The better the net predicts masked values, the less it means to be far from the one core, or
    to have values that it lacks. A perfect net leaves `LEAST_DISTRUST`; so does a kind of rows
    whose values do not count.
    """
    if not weights[QUESTIONS.index("values")]:
        return LEAST_DISTRUST
    return float(1 - weights[QUESTIONS.index("masked")] / weights.sum())


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
