"""What a row's values should have been, whether they fit, and with which others they do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64

from keyhole.core.layout import column_nats
from keyhole.core.records import Batch, Likelihood
from keyhole.modalities.expected import SHARE, Prediction
from keyhole.model.network import Network

if TYPE_CHECKING:
    from keyhole.tasks.detect.scorer import ScoredBlock, Scorer


MOST_PARTNERS = 2
MOST_TRIED = 32  # columns that may be partners: the least expected of a wide row
OF_TRAINING = f"({100 * SHARE:.0f} % of training rows)"
SETTLED = 1.0  # nats beyond the usual: the rest of a conflict is not worth a partner
LEAST_DROP = 0.25  # of a value's nats, that a partner's hiding takes away
ALONE = 2 * np.log(10)  # nats of the edge: at most a hundredth of training rows lie as far out
PASS_ROWS, PASS_FEATURES = 4_096, 1 << 18  # of rows with a column hidden that are held at once


@dataclass(frozen=True)
class Predicted:
    """One hidden column of each line: its nats, its value, and what was expected there.

    `stands_out`: the value does not fit; `paired`: it is a usual one of its column, so that it
    only does not fit the rest of its row. `numbers`: the value and the ends of the expected range,
    NaN where there is none.
    """

    nats: Float[np.ndarray, " line"]
    values: list[str]
    expected: list[str]
    stands_out: Bool[np.ndarray, " line"]
    paired: Bool[np.ndarray, " line"]
    numbers: Float[np.ndarray, "line 3"]


@torch.no_grad()
def predict(
    scorer: Scorer,
    judged: ScoredBlock,
    places: Int64[np.ndarray, " line"],
    asked: Int64[np.ndarray, " line"],
    hidden: Bool[np.ndarray, "line column"],
    edge: Float[np.ndarray, " line"],
) -> Predicted:
    """One column of each of these rows beside what the columns that are not hidden say of it.

    `edge` are the nats of a value that lies at the end of its own column.
    """
    table, network = scorer.table, scorer.anomaly_score.network
    batch = judged.batch.take(torch.from_numpy(places)).to(_device(network))
    covered = torch.from_numpy(hidden[:, table.layout.column_of_feature]).to(batch.observed.device)
    likelihood = network(batch.hide(covered)).likelihood
    nats, _ = column_nats(-likelihood.deviance(batch)[0].mean(0), batch.observed, table.layout)
    said = scorer.intervals.predict(likelihood)
    whole = (table.features(batch), said.middle, said.low, said.high)
    values, expected = [""] * len(places), [""] * len(places)
    stands_out, paired = np.zeros((2, len(places)), bool)
    numbers = np.full((len(places), 3), np.nan)
    for c in np.unique(asked).tolist():
        lines, name = np.flatnonzero(asked == c), table.layout.columns[c]
        own = table.layout.features(name)
        levels = _levels(likelihood, own[0], lines) if table.layout.slots[own[0]].coded else None
        cells = whole[0][lines][:, own]
        middle, low, high = (part[lines][:, own] for part in whole[1:])
        found = table.expected(name, cells, Prediction(middle, low, high, levels))
        alone = (edge[lines] >= ALONE) & (levels is None)
        by_itself = alone & (found.fits | ~found.known)
        usual = _usual_ends(scorer, c)
        texts = table.texts(judged.rows.take(places[lines]), name)
        numbers[lines] = np.nan if found.numbers is None else found.numbers
        for i, line in enumerate(lines.tolist()):
            values[line], expected[line] = texts[i], found.texts[i]
            ends = table.usual(name, *usual) if by_itself[i] and usual is not None else None
            if ends is not None:
                text, *numbers[line, 1:] = ends
                expected[line] = f"{text} {OF_TRAINING}"
        stands_out[lines] = ~found.fits | alone
        paired[lines] = ~found.fits & ~by_itself & _is_usual(scorer, c, cells, usual)
    own_nats = nats.cpu().double().numpy()[np.arange(len(places)), asked]
    return Predicted(own_nats, values, expected, stands_out, paired, numbers)


def _levels(
    likelihood: Likelihood, feature: int, lines: Int64[np.ndarray, " line"]
) -> Float[np.ndarray, "line level"]:
    """The probabilities of a category's levels, the mean over ensemble members."""
    return likelihood.levels(feature)[0].mean(0).cpu().double().numpy()[lines]


def partners(
    scorer: Scorer,
    judged: ScoredBlock,
    places: Int64[np.ndarray, " line"],
    asked: Int64[np.ndarray, " line"],
    hidden: Bool[np.ndarray, "line column"],
) -> list[list[int]]:
    """The columns whose values the asked one does not go together with, the strongest first.

    Each is the one whose hiding makes the asked value least anomalous, given those before it.
    """
    batch, typical = judged.batch.take(torch.from_numpy(places)), scorer.anomaly_score.typical
    nats = hidden_nats(scorer, batch, hidden, asked)
    deviance = judged.raw_scores.deviance[:, torch.from_numpy(places)].mean(0).numpy()
    observed, hidden = judged.raw_scores.observed[torch.from_numpy(places)].numpy(), hidden.copy()
    found: list[list[int]] = [[] for _ in places]
    left = np.arange(len(places))
    for _ in range(MOST_PARTNERS):
        loud = np.where(observed & ~hidden, deviance, -np.inf)[left]
        tried = np.argsort(-loud, axis=1, kind="stable")[:, :MOST_TRIED]
        open_ = np.take_along_axis(loud, tried, 1) > -np.inf
        count = tried.shape[1]
        lines = np.repeat(left, count)
        covered = hidden[lines]
        covered[np.arange(len(lines)), tried.ravel()] = True
        some = batch.take(torch.from_numpy(lines))
        without = hidden_nats(scorer, some, covered, asked[lines]).reshape(-1, count)
        without = np.where(open_, without, np.inf)
        best = without.argmin(1)
        least = without[np.arange(len(left)), best]
        gain = nats[left] - least
        taken = np.isfinite(least) & (gain > LEAST_DROP * nats[left])
        left, chosen = left[taken], tried[np.arange(len(left)), best][taken]
        nats[left], hidden[left, chosen] = least[taken], True
        for line, column in zip(left.tolist(), chosen.tolist(), strict=True):
            found[line].append(column)
        left = left[nats[left] > typical[asked[left]] + SETTLED]
        if not len(left):
            break
    return found


@torch.no_grad()
def hidden_nats(
    scorer: Scorer, batch: Batch, hidden: Bool[np.ndarray, "line column"], asked: np.ndarray
) -> Float[np.ndarray, " line"]:
    """The nats of one column in each line, beyond a perfect guess, where these are hidden."""
    layout, network = scorer.table.layout, scorer.anomaly_score.network
    found, step = np.zeros(len(asked)), max(min(PASS_ROWS, PASS_FEATURES // len(layout)), 1)
    for start in range(0, len(asked), step):
        part = slice(start, start + step)
        rows = batch.take(part).to(_device(network))
        covered = torch.from_numpy(hidden[part][:, layout.column_of_feature]).to(
            rows.observed.device
        )
        deviance = network(rows.hide(covered)).likelihood.deviance(rows)[0].mean(0)
        nats, _ = column_nats(-deviance, rows.observed, layout)
        found[part] = nats.cpu().double().numpy()[np.arange(len(rows)), asked[part]]
    return found


def _usual_ends(scorer: Scorer, column: int) -> tuple[float, float] | None:
    """The ends between which nine tenths of remembered values lie, of a column of numbers."""
    layout, met = scorer.table.layout, scorer.reference.batch
    if scorer.table.supports("single_values") is not None:
        return None
    for cell in np.flatnonzero(layout.column_of_feature == column).tolist():
        slot = layout.slots[cell]
        if slot.coded or slot.head == "bernoulli":
            continue
        numbers = met.numbers[met.observed[:, cell], cell].numpy()
        if len(numbers):
            low, high = np.quantile(numbers, [(1 - SHARE) / 2, (1 + SHARE) / 2])
            return float(low), float(high)
    return None


def _is_usual(
    scorer: Scorer, column: int, cells: np.ndarray, usual: tuple[float, float] | None
) -> Bool[np.ndarray, " line"]:
    """True where a value may be unlikely beside others alone: a level, or a usual number."""
    layout = scorer.table.layout
    slots = [layout.slots[cell] for cell in np.flatnonzero(layout.column_of_feature == column)]
    if scorer.table.supports("single_values") is not None:
        return np.zeros(len(cells), bool)
    if usual is None:  # levels: a rare one may still not go together with another value
        return np.ones(len(cells), bool)
    place = int(slots[0].head == "bernoulli")
    at_point_mass = cells[:, 0] > 0.5 if place else np.zeros(len(cells), bool)
    return at_point_mass | ((usual[0] <= cells[:, place]) & (cells[:, place] <= usual[1]))


def _device(network: Network) -> torch.device:
    return next(network.parameters()).device
