"""Why a window is anomalous: which channels, where several columns of a layout share a title.

A channel is blamed for what its columns cost beyond the usual, and for how far its features lie
from those of reference rows in the views that count. What was expected of its newest value is
predicted while all its columns are masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from keyhole.core.robust import spread_of
from keyhole.tasks.detect.answer import Reason
from keyhole.tasks.detect.expect import Predicted, predict

if TYPE_CHECKING:
    from keyhole.tasks.detect.scorer import ScoredBlock, Scorer

MIN_SHARE = 0.1  # of a row's blame: a channel with less is no reason, unless it is the first
MIN_SPREAD = 1e-6  # of a feature among reference rows


def explain_titles(
    scorer: Scorer, judged: ScoredBlock, places: Int64[np.ndarray, " place"], most: int
) -> dict[int, list[Reason]]:
    """The titles to blame for the rows at these places, those to blame most first."""
    places = places[judged.samples[places] >= 0]
    if not len(places):
        return {}
    table = scorer.table
    titles = list(table.titles)
    share, view = blame_titles(scorer, judged, judged.samples[places])
    order = np.argsort(-share, axis=1, kind="stable")[:, :most]
    enough = np.take_along_axis(share, order, 1) >= MIN_SHARE
    enough[:, 0] = True
    lines, ranks = np.nonzero(enough)
    own = order[lines, ranks]
    predicted = predict_titles(scorer, judged, places[lines], own)
    reasons: dict[int, list[Reason]] = {place: [] for place in places.tolist()}
    for i, (line, title) in enumerate(zip(lines.tolist(), own.tolist(), strict=True)):
        out = predicted.stands_out[i]
        known = out and np.isfinite(predicted.numbers[i]).all()
        differs = "" if out else view[line][title]
        reason = Reason(
            titles[title], predicted.values[i],
            predicted.expected[i] if out else f"another {differs}",
            float(share[line, title]),
            numbers=tuple(predicted.numbers[i].tolist()) if known else None, view=differs,
        )  # fmt: skip
        reasons[int(places[line])].append(reason)
    return reasons


def predict_titles(
    scorer: Scorer,
    judged: ScoredBlock,
    places: Int64[np.ndarray, " line"],
    titles: Int64[np.ndarray, " line"],
) -> Predicted:
    """The newest value of one title of each of these rows, while all its columns are masked."""
    table, names = scorer.table, list(scorer.table.titles)
    columns = np.array([table.layout.columns.index(table.newest[name]) for name in names])
    title_of = np.array([names.index(table.title(name)) for name in table.layout.columns])
    masked, edge = title_of == titles[:, None], np.zeros(len(places))
    return predict(scorer, judged, places, columns[titles], masked, edge)


def blame_titles(
    scorer: Scorer, judged: ScoredBlock, samples: Int64[np.ndarray, " line"]
) -> tuple[Float[np.ndarray, "line title"], list[list[str]]]:
    """Each title's share of how far its window is from usual, and its farthest view."""
    excess, views = excess_of(scorer, judged, samples)
    return excess / excess.sum(1, keepdims=True).clip(1e-12), views


def excess_of(
    scorer: Scorer, judged: ScoredBlock, samples: Int64[np.ndarray, " line"]
) -> tuple[Float[np.ndarray, "line title"], list[list[str]]]:
    """How far each title is from usual (1, in squared units), and its farthest view."""
    raw, usual = judged.raw_scores, scorer.usual_titles
    rows = torch.from_numpy(samples)
    nats = torch.where(raw.observed[rows], raw.deviance[:, rows].mean(0), 0.0).double().numpy()
    parts, names = [nats @ usual.columns / usual.cost.clip(MIN_SPREAD)], ["course"]
    for name, (center, spread, axes) in usual.views.items():
        far = ((raw.views[name][rows].double() - center) / spread).nan_to_num(nan=0.0).square()
        parts.append(far.numpy() @ axes)
        names.append(name)
    stacked = np.stack(parts)
    farthest = stacked.argmax(0)
    return stacked.mean(0), [[names[i] for i in line] for line in farthest.tolist()]


@dataclass(frozen=True)
class UsualTitles:
    """How far out each title of a layout usually is.

    `columns` makes the mean over the columns of each title, `cost` is that of their usual nats;
    `views` has for each view that counts the mean and the standard deviation of its axes among
    reference rows, and what makes the mean over the axes of each title.
    """

    columns: Float[np.ndarray, "column title"]
    cost: Float[np.ndarray, " title"]
    views: dict[str, tuple[Tensor, Tensor, Float[np.ndarray, "axis title"]]]

    @classmethod
    def of(cls, scorer: Scorer) -> Self:
        """By the reference rows of a scorer."""
        table, score, titles = scorer.table, scorer.anomaly_score, len(scorer.table.titles)
        title_of = [[table.titles.index(table.title(name))] for name in table.layout.columns]
        columns = _means(title_of, titles)
        batch = scorer.reference.batch
        views = table.views(batch, table.coordinates(batch))
        counts = {*table.mean_views, *score.raising}
        of_views = {
            name: (*spread_of(x), _means(table.view_titles[name], titles))
            for name, x in views.items()
            if name in counts
        }
        return cls(columns, score.typical @ columns, of_views)


def _means(titles_of: Sequence[Sequence[int]], titles: int) -> Float[np.ndarray, "axis title"]:
    """What makes of columns or axes the mean of those of each title; 0 where it has none."""
    belongs = np.zeros((len(titles_of), titles))
    for axis, own in enumerate(titles_of):
        belongs[axis, list(own)] = 1.0
    return belongs / belongs.sum(0).clip(1)
