"""The learning curve, the anomaly scores, and the codes of a model, on matplotlib's Axes.

Without `ax` a new figure of its own is made, which pyplot does not know: `ax.figure` shows it in
a notebook, `ax.figure.savefig(path)` writes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from keyhole.autoencoder.input_validation import blocks_of
from keyhole.core.curves import loss_range, principal_plane, score_edges
from keyhole.data import cast
from keyhole.data.source import check_columns
from keyhole.errors import DataError, SettingError
from keyhole.tasks.base import an_autoencoder
from keyhole.tasks.detect.answer import Answer
from keyhole.tasks.detect.labels import label_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, RED, GREY = "#0072B2", "#D55E00", "#767676"  # told apart by colour-blind readers
MAX_LEVELS = 10  # with a colour of their own; the others share one
FEW = 4  # evaluations that are drawn as points, too
POINTS: Any = {"s": 12, "alpha": 0.7, "linewidths": 0}


def plot_history(model: Any, *, ax: Axes | None = None) -> Axes:
    """The learning curve: training and held-out loss in nats per row, by training step.

    `model` is any fitted estimator with `history_`. The first fall of the loss, in the first
    twentieth of the run, may be cut off. Raises: SettingError for an object without a history.
    """
    history = _model_of(model).model_.history
    axes = _axes(ax)
    steps = np.array(history.steps, float)
    losses = np.array(history.loss, float), np.array(history.held_out, float)
    marker = "o" if len(steps) < FEW else None
    axes.plot(steps, losses[0], color=GREY, linestyle="--", marker=marker, label="training rows")
    axes.plot(steps, losses[1], color=BLUE, linewidth=2, marker=marker, label="held-out rows")
    axes.axvline(history.best_step, color=GREY, linewidth=1, linestyle=":", label="best step")
    ends = loss_range(steps, *losses)
    if ends is not None:
        axes.set_ylim(*ends)
    axes.set_xlabel("training step")
    axes.set_ylabel("loss (nats per row)")
    axes.legend()
    return axes


def plot_scores(answer: Answer, *, ax: Axes | None = None) -> Axes:
    """The histogram of anomaly scores, with the alarms in a colour of their own.

    `answer` is that of `AnomalyDetector.answer`. Scores far beyond the usual range are counted in
    the last bar. Raises: DataError where no row has a score, SettingError for another object.
    """
    if not isinstance(answer, Answer):
        raise SettingError(
            f"plot_scores takes an answer, detector.answer(X), got {type(answer).__name__:.40}"
        )
    known = np.isfinite(answer.anomaly_score)
    if not known.any():
        raise DataError("no row has an anomaly score: each is empty")
    values, alarms = answer.anomaly_score[known], answer.anomaly_score[known & answer.alarm]
    threshold = float(alarms.min()) if len(alarms) else np.nan
    edges = score_edges(values.astype(float), threshold)
    axes = _axes(ax)
    for scores, color, group in ((values, BLUE, "all rows"), (alarms, RED, "alarms")):
        heights = np.histogram(scores.clip(edges[0], edges[-1]), edges)[0]
        label = f"{group} ({len(scores):,})"
        axes.bar(edges[:-1], heights, np.diff(edges), align="edge", color=color, label=label)
    axes.set_yscale("symlog", linthresh=10)  # a few alarms are seen beside many rows
    beyond = int((values > edges[-1]).sum())
    note = f"\n(last bar: {beyond:,} rows from here on)" if beyond else ""
    axes.set_xlabel(f"anomaly score (1: a typical row){note}")
    axes.set_ylabel("number of rows")
    axes.legend()
    return axes


def plot_codes(model: Any, X: Any, color: Any = None, *, ax: Axes | None = None) -> Axes:
    """The codes of the rows of X, on their first two principal components.

    `color` is the name of a column of X, or one value a row: numbers have a scale of colours, up
    to ten levels have a colour each. If the code is one number, the other axis is the
    log-likelihood. Raises: SettingError for an object without codes, DataError for rows or
    colours that cannot be read.
    """
    autoencoder = an_autoencoder(_model_of(model), "plot_codes")
    codes, columns = [], []
    for start, rows in blocks_of(autoencoder, X):
        codes.append(autoencoder.model_.code(rows, start))
        if isinstance(color, str):
            check_columns([color], rows.names, "plot_codes")
            columns.append(rows.column(color))
    codes = np.concatenate(codes)
    if codes.shape[1] == 1:
        points = np.stack([codes[:, 0], autoencoder.score_samples(X)], 1)
        labels = ["code_0, the only code dimension", "log-likelihood (nats)"]
    else:
        points, shares = principal_plane(codes)
        labels = [
            f"{name} principal component ({share:.0%} of the codes' variance)"
            for name, share in zip(("first", "second"), shares, strict=True)
        ]
    axes = _axes(ax)
    if color is None:
        axes.scatter(*points.T, color=BLUE, **POINTS)
    else:
        named = isinstance(color, str)
        values = columns if named else [label_array(color, len(points))]
        _scatter(axes, points, values, color if named else "")
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    return axes


def _scatter(ax: Axes, points: np.ndarray, blocks: list[Any], name: str) -> None:
    """Points in the colours of numbers, with a scale, or of a few levels, with a legend."""
    parsed = [cast.floats(block) for block in blocks]
    texts = [text for block in blocks for text in cast.texts(block).to_pylist()]
    levels, is_number = {text for text in texts if text is not None}, True
    if any(len(bad) for _, bad in parsed):
        levels, is_number = sorted(levels), False
    else:
        levels = sorted(levels, key=float)
    if is_number and len(levels) > MAX_LEVELS:
        numbers = np.concatenate([part for part, _ in parsed])
        gap = np.isnan(numbers)
        ax.scatter(*points[gap].T, color=GREY, label="no value", **POINTS)
        shown = ax.scatter(*points[~gap].T, c=numbers[~gap], cmap="viridis", **POINTS)
        ax.figure.colorbar(shown, ax=ax, label=name)
        return
    levels = levels[:MAX_LEVELS]
    places = np.array([levels.index(text) if text in levels else -1 for text in texts])
    for place, level in [*enumerate(levels), (-1, "other or no value")]:
        own = points[places == place]
        if len(own):
            color = GREY if place < 0 else f"C{place}"
            ax.scatter(*own.T, color=color, label=level, **POINTS)
    ax.legend(title=name or None)


def _model_of(model: Any) -> Any:
    """The fitted estimator that holds the network. Raises: SettingError, NotFittedError."""
    if not hasattr(type(model), "history_"):
        raise SettingError(
            f"expected a fitted Autoencoder, AnomalyDetector, Generator, Imputer or Denoiser, "
            f"got {type(model).__name__:.40}"
        )
    check_is_fitted(model)
    return getattr(model, "autoencoder_", model)


def _axes(ax: Axes | None) -> Axes:
    """The given Axes, or those of a new figure."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(7, 4), layout="constrained").subplots()
