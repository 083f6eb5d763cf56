"""Intervals that hold nine in ten of held-out values: the likelihood's own, corrected.

A likelihood's scale is learned for robust training, so its intervals are too wide or too narrow.
Residuals of held-out rows, in units of the likelihood's own reach, say by how much: their 5 % and
95 % quantiles are the ends. Source: split-conformal quantile regression (Romano, Patterson and
Candes 2019), a correction for each cell and side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from keyhole.core.layout import Layout
from keyhole.core.records import Batch, Likelihood
from keyhole.modalities import Modality
from keyhole.modalities.expected import SHARE, Prediction
from keyhole.modalities.rows.holdout import members_mean
from keyhole.modalities.rows.split import ReferenceSet
from keyhole.model.network import Network

MOST_ROWS = 1_000  # that intervals rest on
MOST_PASSES = 64  # of more columns some are hidden together
LEAST_ROWS = 20  # with a value in a cell; with fewer the likelihood's own interval stands
QUANTILES = ((1 - SHARE) / 2, (1 + SHARE) / 2)

FeatureLikelihood = Float[np.ndarray, "row feature"]


@dataclass(frozen=True)
class Intervals:
    """The ends of each cell's interval around what is expected, in reaches; angles of cycles."""

    modality: Modality
    low: Float[np.ndarray, " feature"]
    high: Float[np.ndarray, " feature"]

    @classmethod
    @torch.no_grad()
    def settle(cls, modality: Modality, network: Network, reference: ReferenceSet) -> Intervals:
        """By the rows that no net trained on, each column hidden and predicted from the others."""
        layout, device = modality.layout, next(network.parameters()).device
        some = np.random.default_rng(0).permutation(reference.judged)[:MOST_ROWS]
        rows = reference.take(np.sort(some))
        fold, batch = rows.fold if reference.folds > 1 else None, rows.batch.to(device)
        residuals = np.full((len(rows), len(layout)), np.nan)
        for group in modality.mask_groups(MOST_PASSES):
            hidden = torch.zeros(len(layout), dtype=torch.bool, device=device)
            hidden[group] = True
            likelihood = network(batch.hide(hidden)).likelihood
            own = _own(likelihood, modality, fold)
            residuals[:, group] = _residuals(rows.batch, *own, modality)[:, group]
        low, high = -np.ones(len(layout)), np.ones(len(layout))
        for cell in range(layout.numbers):
            known = residuals[~np.isnan(residuals[:, cell]), cell]
            if len(known) >= LEAST_ROWS:
                low[cell] = np.quantile(known, QUANTILES[0], method="lower")
                high[cell] = np.quantile(known, QUANTILES[1], method="higher")
        return cls(modality, low, high)

    def predict(self, likelihood: Likelihood) -> Prediction:
        """What a likelihood says of all cells, levels left out."""
        middle, reach = _own(likelihood, self.modality, None)
        low, high = middle + self.low * reach, middle + self.high * reach
        for sine, cosine in _cycles(self.modality.layout):
            angle = np.arctan2(middle[:, sine], middle[:, cosine])
            low[:, sine], high[:, sine] = angle + self.low[sine], angle + self.high[sine]
        return Prediction(middle, low, high)


def _own(
    likelihood: Likelihood, modality: Modality, fold: np.ndarray | None
) -> tuple[FeatureLikelihood, FeatureLikelihood]:
    """What is expected in each cell, and half of the likelihood's own interval.

    The mean of the nets; with `fold`, for each row that of the net that has not seen it.
    """
    ends = torch.stack(likelihood.interval(SHARE))[:, 0].double().cpu()  # (2, M, B, feature)
    mean = likelihood.mean
    if fold is None:
        whole = members_mean(mean)
        middle = torch.cat([whole.numbers.double(), whole.codes.double()], -1).cpu()
        low, high = ends.mean(1)
    else:
        member, row = torch.from_numpy(fold).clamp(min=0), torch.arange(len(fold))
        middle = torch.cat([mean.numbers.double(), mean.codes.double()], -1)[0].cpu()[member, row]
        low, high = ends[:, member, row]
    return middle.numpy(), modality.reach((high - low).numpy() / 2)


def _residuals(
    batch: Batch, middle: FeatureLikelihood, reach: FeatureLikelihood, modality: Modality
) -> FeatureLikelihood:
    """How far cells lie from what was expected, in reaches; angles of cycles, NaN for gaps."""
    wide = modality.layout.numbers
    numbers, observed = (
        batch.numbers.cpu().double().numpy(),
        batch.observed.cpu().numpy()[:, :wide],
    )
    residuals = np.full(middle.shape, np.nan)
    residuals[:, :wide] = np.where(
        observed, (numbers - middle[:, :wide]) / reach[:, :wide], np.nan
    )
    for sine, cosine in _cycles(modality.layout):
        turn = np.arctan2(numbers[:, sine], numbers[:, cosine])
        turn = turn - np.arctan2(middle[:, sine], middle[:, cosine])
        turn = (turn + np.pi) % (2 * np.pi) - np.pi
        residuals[:, sine] = np.where(observed[:, sine], turn, np.nan)
    return modality.pool_residuals(residuals)


def _cycles(layout: Layout) -> list[tuple[int, int]]:
    """The cells of each cycle of a moment: sine and cosine."""
    return [
        (cell, cell + 1)
        for cell, slot in enumerate(layout.slots)
        if slot.kind == "datetime" and slot.part.startswith("sin")
    ]
