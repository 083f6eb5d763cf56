"""What a row's values should have been, whether they fit, and with which others they do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64

from keyhole.core.environment import rows_of_pass
from keyhole.core.layout import Layout, column_nats
from keyhole.core.records import Batch, Likelihood
from keyhole.modalities import Modality
from keyhole.modalities.expected import SHARE, Prediction
from keyhole.modalities.rows.holdout import members_mean
from keyhole.modalities.rows.split import ReferenceSet
from keyhole.model.network import Network

if TYPE_CHECKING:
    from keyhole.tasks.detect.scorer import ScoredBlock, Scorer


MAX_PARTNERS = 2  # other columns that a reason names
MAX_TRIED = 32  # columns that may be partners: the least expected of a wide row
OF_TRAINING = f"({100 * SHARE:.0f} % of training rows)"
SETTLED = 1.0  # nats beyond the usual: the rest of a conflict is not worth a partner
MIN_DROP = 0.25  # of a value's nats, that masking a partner takes away
ALONE = 2 * np.log(10)  # nats of the edge: at most a hundredth of training rows lie as far out


@dataclass(frozen=True)
class Predicted:
    """One masked column of each line: its nats, its value, and what was expected there.

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
    columns: Int64[np.ndarray, " line"],
    masked: Bool[np.ndarray, "line column"],
    edge: Float[np.ndarray, " line"],
) -> Predicted:
    """One column of each of these rows, compared with its prediction from the visible columns.

    `edge` are the nats of a value that lies at the end of its own column.
    """
    table = scorer.table
    batch = judged.batch.take(torch.from_numpy(judged.samples[places]))
    decoded = np.flatnonzero(np.isin(table.layout.column_of_feature, columns))
    likelihood, nats = _predicted(scorer, batch, masked, decoded)
    prediction = scorer.intervals.predict(likelihood, decoded)
    features = (table.features(batch), prediction.middle, prediction.low, prediction.high)
    values, expected = [""] * len(places), [""] * len(places)
    stands_out, paired = np.zeros((2, len(places)), bool)
    numbers = np.full((len(places), 3), np.nan)
    for c in np.unique(columns).tolist():
        lines, name = np.flatnonzero(columns == c), table.layout.columns[c]
        own, levels = table.layout.features(name), None
        if table.layout.slots[own[0]].coded:  # the mean over ensemble members
            levels = likelihood.levels(own[0])[0].mean(0).cpu().double().numpy()[lines]
        cells = features[0][lines][:, own]
        middle, low, high = (part[lines][:, own] for part in features[1:])
        expectation = table.expected(name, cells, Prediction(middle, low, high, levels))
        alone = (edge[lines] >= ALONE) & (levels is None)
        by_itself = alone & (expectation.fits | ~expectation.known)
        usual = _usual_ends(scorer, c)
        texts = table.texts(judged.rows.take(places[lines]), name)
        numbers[lines] = np.nan if expectation.numbers is None else expectation.numbers
        for i, line in enumerate(lines.tolist()):
            values[line], expected[line] = texts[i], expectation.texts[i]
            ends = table.usual(name, *usual) if by_itself[i] and usual is not None else None
            if ends is not None:
                text, *numbers[line, 1:] = ends
                expected[line] = f"{text} {OF_TRAINING}"
        stands_out[lines] = ~expectation.fits | alone
        paired[lines] = ~expectation.fits & ~by_itself & _is_usual(scorer, c, cells, usual)
    own_nats = nats[np.arange(len(places)), columns]
    return Predicted(own_nats, values, expected, stands_out, paired, numbers)


def partners(
    scorer: Scorer,
    judged: ScoredBlock,
    places: Int64[np.ndarray, " line"],
    columns: Int64[np.ndarray, " line"],
    masked: Bool[np.ndarray, "line column"],
) -> list[list[int]]:
    """The columns whose values do not go together with that in `columns`, the strongest first.

    Masking a partner makes the value in `columns` least anomalous, given the partners before it.
    """
    rows, raw, typical = torch.from_numpy(places), judged.raw_scores, scorer.anomaly_score.typical
    batch = judged.batch.take(rows)
    nats = masked_nats(scorer, batch, masked, columns)
    deviance, observed = raw.deviance[:, rows].mean(0).numpy(), raw.observed[rows].numpy()
    masked = masked.copy()
    chosen: list[list[int]] = [[] for _ in places]
    open_ = np.arange(len(places))
    for _ in range(MAX_PARTNERS):
        cost = np.where(observed & ~masked, deviance, -np.inf)[open_]
        candidates = np.argsort(-cost, axis=1, kind="stable")[:, :MAX_TRIED]
        allowed = np.take_along_axis(cost, candidates, 1) > -np.inf
        count = candidates.shape[1]
        lines = np.repeat(open_, count)
        covered = masked[lines]
        covered[np.arange(len(lines)), candidates.ravel()] = True
        some = batch.take(torch.from_numpy(lines))
        without = masked_nats(scorer, some, covered, columns[lines]).reshape(-1, count)
        without = np.where(allowed, without, np.inf)
        best = without.argmin(1)
        least = without[np.arange(len(open_)), best]
        gain = nats[open_] - least
        taken = np.isfinite(least) & (gain > MIN_DROP * nats[open_])
        open_, column_of_line = open_[taken], candidates[np.arange(len(open_)), best][taken]
        nats[open_], masked[open_, column_of_line] = least[taken], True
        for line, column in zip(open_.tolist(), column_of_line.tolist(), strict=True):
            chosen[line].append(column)
        open_ = open_[nats[open_] > typical[columns[open_]] + SETTLED]
        if not len(open_):
            break
    return chosen


@torch.no_grad()
def masked_nats(
    scorer: Scorer, batch: Batch, masked: Bool[np.ndarray, "line column"], columns: np.ndarray
) -> Float[np.ndarray, " line"]:
    """The nats of one column in each line, beyond a perfect prediction, with `masked` masked."""
    nats_of_lines, step = np.zeros(len(columns)), rows_of_pass(len(scorer.table.layout))
    decoded = np.flatnonzero(np.isin(scorer.table.layout.column_of_feature, columns))
    for start in range(0, len(columns), step):
        part = slice(start, start + step)
        _, nats = _predicted(scorer, batch.take(part), masked[part], decoded)
        nats_of_lines[part] = nats[np.arange(len(nats)), columns[part]]
    return nats_of_lines


def _predicted(
    scorer: Scorer,
    batch: Batch,
    masked: Bool[np.ndarray, "line column"],
    decoded: Int64[np.ndarray, " place"],
) -> tuple[Any, Float[np.ndarray, "line column"]]:
    """The likelihood of the `decoded` features of each line, given its visible columns.

    With it the nats of the columns of these features beyond a perfect prediction; 0 for others.
    """
    layout, network = scorer.table.layout, scorer.anomaly_score.network
    device = next(network.parameters()).device
    rows = batch.to(device)
    visible = rows.hide(torch.from_numpy(masked[:, layout.column_of_feature]).to(device))
    features = torch.from_numpy(decoded).to(device)
    likelihood = network.decode(network.encode(visible).z, visible.observed, features)
    deviance = torch.zeros(rows.observed.shape, device=device)
    deviance[:, features] = likelihood.deviance(rows)[0].mean(0)
    nats, _ = column_nats(-deviance, rows.observed, layout)
    return likelihood, nats.cpu().double().numpy()


def _usual_ends(scorer: Scorer, column: int) -> tuple[float, float] | None:
    """The ends between which nine tenths of the reference values lie, of a column of numbers."""
    layout, reference = scorer.table.layout, scorer.reference.batch
    if scorer.table.supports("single_values") is not None:
        return None
    for cell in np.flatnonzero(layout.column_of_feature == column).tolist():
        slot = layout.slots[cell]
        if slot.coded or slot.head == "bernoulli":
            continue
        numbers = reference.numbers[reference.observed[:, cell], cell].numpy()
        if len(numbers):
            low, high = np.quantile(numbers, QUANTILES)
            return float(low), float(high)
    return None


def _is_usual(
    scorer: Scorer, column: int, cells: np.ndarray, usual: tuple[float, float] | None
) -> Bool[np.ndarray, " line"]:
    """True where a value may be unlikely only beside others: a level, or a common number."""
    layout = scorer.table.layout
    slots = [layout.slots[cell] for cell in np.flatnonzero(layout.column_of_feature == column)]
    if scorer.table.supports("single_values") is not None:
        return np.zeros(len(cells), bool)
    if usual is None:  # levels: a rare one may still not go together with another value
        return np.ones(len(cells), bool)
    number = int(slots[0].head == "bernoulli")
    at_point_mass = cells[:, 0] > 0.5 if number else np.zeros(len(cells), bool)
    return at_point_mass | ((usual[0] <= cells[:, number]) & (cells[:, number] <= usual[1]))


MAX_ROWS = 1_000  # that intervals rest on
MAX_PASSES = 64  # of more columns some are masked together
MIN_ROWS = 20  # with a value in a cell; with fewer the likelihood's own interval stands
QUANTILES = ((1 - SHARE) / 2, (1 + SHARE) / 2)

FeatureLikelihood = Float[np.ndarray, "row feature"]


@dataclass(frozen=True)
class Intervals:
    """The ends of each feature's interval around what is expected, in reaches; angles of cycles.

    A likelihood's scale is learned for robust training, so its intervals are too wide or too
    narrow. Residuals of held-out rows, in units of the likelihood's own reach, correct it: their
    5 % and 95 % quantiles are the ends. Source: split-conformal quantile regression (Romano,
    Patterson and Candes 2019), a correction for each feature and side.
    """

    modality: Modality
    low: Float[np.ndarray, " feature"]
    high: Float[np.ndarray, " feature"]

    @classmethod
    @torch.no_grad()
    def calibrated(cls, modality: Modality, network: Network, reference: ReferenceSet) -> Self:
        """By the rows that no net trained on, each column masked and predicted from the others."""
        layout, device = modality.layout, next(network.parameters()).device
        some = np.random.default_rng(0).permutation(reference.judged)[:MAX_ROWS]
        rows = reference.take(np.sort(some))
        fold, batch = rows.fold if reference.folds > 1 else None, rows.batch.to(device)
        residuals = np.full((len(rows), len(layout)), np.nan)
        for group in modality.mask_groups(MAX_PASSES):
            masked = torch.zeros(len(layout), dtype=torch.bool, device=device)
            masked[group] = True
            likelihood = network(batch.hide(masked)).likelihood
            middle, half_width = _own(likelihood, fold)
            reach = modality.reach(half_width)
            residuals[:, group] = _residuals(rows.batch, middle, reach, modality)[:, group]
        low, high = -np.ones(len(layout)), np.ones(len(layout))
        for feature in range(layout.numbers):
            known = residuals[~np.isnan(residuals[:, feature]), feature]
            if len(known) >= MIN_ROWS:
                low[feature] = np.quantile(known, QUANTILES[0], method="lower")
                high[feature] = np.quantile(known, QUANTILES[1], method="higher")
        return cls(modality, low, high)

    def predict(self, likelihood: Likelihood, features: Int64[np.ndarray, " place"]) -> Prediction:
        """What a likelihood of these features says of them, levels left out; NaN of others."""
        some = _own(likelihood, None)
        middle, half_width = np.full((2, len(some[0]), len(self.modality.layout)), np.nan)
        middle[:, features], half_width[:, features] = some
        reach = self.modality.reach(half_width)
        low, high = middle + self.low * reach, middle + self.high * reach
        for sine, cosine in _cycles(self.modality.layout):
            angle = np.arctan2(middle[:, sine], middle[:, cosine])
            low[:, sine], high[:, sine] = angle + self.low[sine], angle + self.high[sine]
        return Prediction(middle, low, high)


def _own(
    likelihood: Likelihood, fold: np.ndarray | None
) -> tuple[FeatureLikelihood, FeatureLikelihood]:
    """What is expected in each cell, and half of the likelihood's own interval.

    The mean of the nets; with `fold`, for each row that of the net that has not seen it.
    """
    ends = torch.stack(likelihood.interval(SHARE))[:, 0].double().cpu()  # (2, M, B, feature)
    mean = members_mean(likelihood.mean) if fold is None else likelihood.mean
    middle = torch.cat([mean.numbers.double(), mean.codes.double()], -1).cpu()
    if fold is None:
        low, high = ends.mean(1)
    else:
        member, row = torch.from_numpy(fold).clamp(min=0), torch.arange(len(fold))
        middle, (low, high) = middle[0, member, row], ends[:, member, row]
    return middle.numpy(), (high - low).numpy() / 2


def _residuals(
    batch: Batch, middle: FeatureLikelihood, reach: FeatureLikelihood, modality: Modality
) -> FeatureLikelihood:
    """How far cells lie from what was expected, in reaches; angles of cycles, NaN for gaps."""
    count, numbers = modality.layout.numbers, batch.numbers.cpu().double().numpy()
    observed, residuals = batch.observed.cpu().numpy(), np.full(middle.shape, np.nan)
    scaled = (numbers - middle[:, :count]) / reach[:, :count]
    residuals[:, :count] = np.where(observed[:, :count], scaled, np.nan)
    for sine, cosine in _cycles(modality.layout):
        turn = np.arctan2(numbers[:, sine], numbers[:, cosine])
        turn = turn - np.arctan2(middle[:, sine], middle[:, cosine])
        turn = (turn + np.pi) % (2 * np.pi) - np.pi
        residuals[:, sine] = np.where(observed[:, sine], turn, np.nan)
    return modality.pool_residuals(residuals)


def _cycles(layout: Layout) -> list[tuple[int, int]]:
    """The cells of each cycle of a moment: sine and cosine."""
    moments = [(i, slot.part) for i, slot in enumerate(layout.slots) if slot.kind == "datetime"]
    return [(cell, cell + 1) for cell, part in moments if part.startswith("sin")]
