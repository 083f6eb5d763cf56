"""Checks of models of rows: KH001 to KH011 and KH015, and the forecast of KH008."""

import warnings
from typing import Any

import numpy as np

from keyhole.checks.evidence import Evidence, check
from keyhole.data.source import ArrowRows
from keyhole.errors import KeyholeWarning
from keyhole.modalities import Modality
from keyhole.model.bottlenecks import Bottleneck

MIN_GAIN = 0.02  # of the mean's nats, or nats a row, whichever is more
MIN_LOST_GAIN = 0.1  # of the gain over the mean
LATE = 0.15  # the last share of the run
MIN_SHARE_OF_STEPS = 0.5  # of the steps that the rows ask for, where a time budget ended the run
MAX_LATE_GAIN = 0.05  # of the whole gain
MIN_ROWS = 50  # to train on; with fewer a finding says so
MIN_CODE_NATS = 1.0  # a row
MIN_ACTIVE = 0.1  # of the code's dimensions
ACTIVE_NATS = 0.05  # a row, of a dimension that is at work
MAX_DEAD = 0.1  # of the code's dimensions
MAX_GAP = 0.25  # of all that held-out rows gained by training
MAX_NAMES = 5  # columns that a finding names
MAX_SAMPLE_ROWS = 20_000  # whose covariance tells of collapse
MIN_ALIVE = 0.1  # of the code's dimensions, before training


@check("KH001", "no better than the mean", Evidence)
def no_better_than_mean(evidence: Evidence) -> str | None:
    """The columns say nothing about each other, or the net did not learn it."""
    nats, _ = evidence.asked_nats
    gain = evidence.mean_nats - nats
    if gain > MIN_GAIN * max(1.0, abs(evidence.mean_nats)):
        return None
    return (
        f"the error of {'masked ' if evidence.masks else ''}values is {nats:.2f}, and "
        f"{evidence.mean_nats:.2f} if each column is predicted by its own mean: the columns say "
        "nothing about each other, or training was too short. Add related columns, or give more "
        "steps"
    )


@check("KH002", "worse than PCA at equal width", Evidence)
def worse_than_pca(evidence: Evidence) -> str | None:
    """PCA of the same width is simpler and better."""
    nats, baseline = evidence.asked_nats
    if nats <= baseline:
        return None
    return (
        f"the error of {'masked' if evidence.masks else 'visible'} values is {nats:.2f}, and "
        f"{baseline:.2f} with PCA of {evidence.width} components: give more steps, or use PCA"
    )


@check("KH003", "copies its input", Evidence)
def copies(evidence: Evidence) -> str | None:
    """Shuffled columns and noise must have larger errors than rows."""
    gain = evidence.mean_nats - evidence.rebuilt_nats
    lost = min(evidence.shuffled_nats, evidence.noise_nats) - evidence.rebuilt_nats
    if gain <= 0 or lost > MIN_LOST_GAIN * gain:
        return None
    return (
        f"the reconstruction error is {evidence.rebuilt_nats:.2f} for rows, "
        f"{evidence.shuffled_nats:.2f} for rows with shuffled columns and "
        f"{evidence.noise_nats:.2f} for noise: the net reconstructs anything, so anomalies will "
        f"look normal. Use a code narrower than {evidence.width} or mask more values in training"
    )


@check("KH004", "constant scores", Evidence)
def constant_scores(evidence: Evidence) -> str | None:
    """Scores that are all alike rank nothing."""
    if evidence.spread > 1e-6:
        return None
    return (
        f"every held-out row has the same error, {evidence.rebuilt_nats:.2f}: no row can be an "
        "anomaly. Are all rows equal, or all columns constant?"
    )


@check("KH005", "was still learning", Evidence)
def still_learning(evidence: Evidence) -> str | None:
    """A held-out loss that still falls at the end asks for more steps."""
    history = evidence.history
    held_out, done = history.held_out, history.steps[-1] if history.steps else 0
    if done < MIN_SHARE_OF_STEPS * history.wanted and "budget" in history.ended:
        return (
            f"the time budget ended training after {done:,} of about {history.wanted:,} steps "
            "that these rows need: give more time, or take the answers as a first estimate"
        )
    if len(held_out) < 8 or history.best_step < history.planned:
        return None
    late = held_out[int(len(held_out) * (1 - LATE)) - 1] - held_out[-1]
    whole = held_out[0] - held_out[-1]
    if whole <= 0 or late <= MAX_LATE_GAIN * whole:
        return None
    return (
        f"the last {LATE:.0%} of training still made {late / whole:.0%} of the whole "
        f"improvement: give more than {history.planned:,} steps"
    )


@check("KH006", "few rows", Evidence)
def few_rows(evidence: Evidence) -> str | None:
    """From a handful of rows a net learns those rows."""
    if evidence.rows >= MIN_ROWS:
        return None
    return (
        f"{evidence.rows} rows are too few to learn what is normal: the scores are rough; use "
        f"at least {MIN_ROWS} rows"
    )


@check("KH007", "reconstructs visible values less exactly than PCA", Evidence)
def rebuilds_less_closely(evidence: Evidence) -> str | None:
    """A note, not a fault: a net trained to predict masked values gives up some copying."""
    if not evidence.masks or evidence.rebuilt_nats <= evidence.pca_rebuilt_nats:
        return None
    return (
        f"the error of visible values is {evidence.rebuilt_nats:.2f}, and "
        f"{evidence.pca_rebuilt_nats:.2f} with PCA of {evidence.width} components. It matters "
        "only for compression: there, use PCA, a wider code, or mask fewer values"
    )


@check("KH008", "the code has collapsed", Evidence)
def collapse(evidence: Evidence) -> str | None:
    """A posterior equal to the prior has no information about its row."""
    nats = evidence.code_nats
    active = sum(n > ACTIVE_NATS for n in nats)
    if not nats or (sum(nats) >= MIN_CODE_NATS and active >= MIN_ACTIVE * len(nats)):
        return None
    return (
        f"the code holds {sum(nats):.2f} nats of information per row, in {active} of "
        f"{len(nats)} dimensions: the decoder hardly uses it. Let the decoder's scale be learned "
        "(scale=shared), lower beta, or set free_bits=0.1"
    )


@check("KH009", "dead code dimensions", Evidence)
def dead_units(evidence: Evidence) -> str | None:
    """Dimensions that are the same on every held-out row have no information."""
    if evidence.dead <= MAX_DEAD * evidence.width:
        return None
    return (
        f"{evidence.dead} of {evidence.width} code dimensions are the same on every held-out row: "
        "take a narrower code, a larger k (top_k), or a smaller weight (l1)"
    )


@check("KH010", "warm-up was not finished", Evidence)
def unfinished_warm_up(evidence: Evidence) -> str | None:
    """While the KL weight rises, the net is trained on another loss than it is judged by."""
    best, warm = evidence.history.best_step, evidence.warm_steps
    if not evidence.code_nats or best >= warm:
        return None
    return (
        f"the best step was {best:,}, but the KL weight rose until step {warm:,}: the model was "
        "never trained with the full weight. Give more steps, or a smaller net"
    )


@check("KH011", "overfits the training rows", Evidence)
def overfits(evidence: Evidence) -> str | None:
    """A net that has memorised its rows."""
    history = evidence.history
    if history.best_step not in history.steps:
        return None
    best = history.steps.index(history.best_step)
    gained = history.held_out[0] - history.held_out[best]
    gap = history.held_out[best] - history.loss[best]
    if best == 0 or not np.isfinite(gap) or gap <= MAX_GAP * max(gained, 1e-9):
        return None
    return (
        f"the error on held-out rows is {gap:.2f} above that on training rows, and training "
        f"reduced it by {gained:.2f}: the net memorises rows. Use more rows, a narrower code, "
        "fewer hidden units, or more weight_decay"
    )


@check("KH015", "some columns are predicted worse than by their mean", Evidence)
def worse_than_mean(evidence: Evidence) -> str | None:
    """The model as a whole may be good and mislead in one column."""
    if not evidence.worse:
        return None
    names = sorted(evidence.worse, key=lambda name: evidence.worse[name])
    texts = [f"{name!r} ({-evidence.worse[name]:.0%})" for name in names[:MAX_NAMES]]
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return (
        f"{', '.join(texts)}{more}: the error is larger than with the column's mean, by the share "
        "in brackets. Do not trust the expected and imputed values of these columns. Check them "
        "for rare extreme values, exclude them, or give more steps"
    )


def predict_collapse(bottleneck: Bottleneck, head: Any, table: Modality, sample: Any) -> None:
    """Warn, before training, if hardly a direction of the data is worth the prior's charge.

    In a linear variational autoencoder a direction of the data survives only if its variance is
    above beta times the decoder's. Source: Lucas et al. 2019, eq. 8 and section 4.3; Dai et al.
    2018, section 3. Raises: SettingError for invalid arguments.
    """
    bottleneck.check()
    head.check()
    fixed: Any = getattr(head, "scale", None)
    beta: Any = getattr(bottleneck, "beta", None)
    gaussian = getattr(head, "continuous", None) == "gaussian"
    places = table.layout.with_head("student_t")
    if not bottleneck.stochastic or beta is None or not gaussian or not places:
        return
    learned = isinstance(fixed, str)
    if learned and len(places) == 1:
        return  # nothing is left out of one direction, so it is worth any cost
    batch = table.encode(ArrowRows(sample.slice(0, MAX_SAMPLE_ROWS)))
    numbers = batch.numbers[:, places].numpy()
    if not learned:
        numbers = numbers * np.array([table.layout.slots[i].unit for i in places])
    variances = np.linalg.eigvalsh(np.atleast_2d(np.cov(numbers, rowvar=False)))[::-1]
    if learned:
        alive, scale = surviving(variances, beta), "the best shared one"
    else:
        variance = float(fixed) ** 2
        alive, scale = int((variances > beta * variance).sum()), f"fixed at {variance:.3g}"
    width = bottleneck.width if isinstance(bottleneck.width, int) else len(places)
    if alive > MIN_ALIVE * min(width, len(places)) and alive > 0:
        return
    warnings.warn(
        f"KH008 the code will collapse: {alive} of {len(places)} directions vary by more than "
        f"beta ({beta:g}) times the decoder's variance ({scale}), the first by "
        f"{variances[0]:.3g}. Let the scale be learned (scale='shared'), or use a smaller beta",
        KeyholeWarning,
        stacklevel=6,
    )


def surviving(variances: np.ndarray, beta: float) -> int:
    """How many directions survive under the best shared variance of the decoder.

    With m directions in the code, that is the mean of the others (Lucas et al. 2019, eq. 7).
    """
    tested = range(1, len(variances))
    means = {m: max(float(variances[m:].mean()), 1e-12) for m in tested}
    return max((m for m in tested if variances[m - 1] > beta * means[m]), default=0)
