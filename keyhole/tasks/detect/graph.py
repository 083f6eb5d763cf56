"""The anomaly score as one torch module without loops over rows and without NumPy, for export.

It gives the figures of `Scorer.score_block` for a matrix of numbers: the net, the distances and
the scale are the detector's own code. What that code does in NumPy, or with shapes that depend on
the rows (tails of columns, nearest rows, ranks), is written here a second time; a test compares
the two on every kind of row.
"""

import copy
import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from keyhole.core.layout import column_nats, filled
from keyhole.core.records import Batch
from keyhole.modalities.rows.holdout import members_mean
from keyhole.tasks.detect.calibration import Calibration
from keyhole.tasks.detect.masked import GROUPS
from keyhole.tasks.detect.neighbours import (
    ReferencePoints,
    core_distance_of_new_rows,
    same_square,
)
from keyhole.tasks.detect.single_values import COMMON, KNOTS, MAX_LOG, STEP, Outliers, Tails
from keyhole.tasks.detect.views import RAISED_SHARE, TRUSTED, AnomalyScore, RawScores

Rows = Float[Tensor, " row"]


class ScoreGraph(nn.Module):
    """Anomaly score, p-value and alarm of rows of numbers, NaN where a value is missing."""

    def __init__(
        self, anomaly_score: AnomalyScore, calibration: Calibration, threshold: float
    ) -> None:
        super().__init__()
        self.network = copy.deepcopy(anomaly_score.network).cpu().eval()
        self.scoring_network = copy.deepcopy(anomaly_score.scoring_network).cpu().eval()
        self.anomaly_score = replace(anomaly_score, network=self.network)
        self.outliers = OutliersGraph(anomaly_score.outliers)
        self.calibration = CalibrationGraph(calibration)
        self.threshold = threshold

    def forward(
        self, rows: Float[Tensor, "row column"]
    ) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"], Bool[Tensor, " row"]]:
        """Anomaly score, p-value and alarm of each row; NaN and no alarm for an empty row."""
        modality = self.anomaly_score.modality
        batch = modality.encode_tensor(rows)
        deviance, observed = self._masked_deviance(batch)
        x = modality.coordinates(self._whole(batch))
        values = values_nats(self.anomaly_score, modality.coordinates(batch))
        distances = distances_to(self.anomaly_score.reference_points, x)
        raw = RawScores(
            torch.cat([distances, values.to(distances)[None]]), deviance, observed,
            torch.zeros_like(deviance[0]), self.outliers(batch), {},
        )  # fmt: skip
        mean = self.anomaly_score.weighted_mean(self.anomaly_score.answers(raw)).mean(0)
        raised = self._raised(raw.rarity)
        score = torch.where(raised > mean, raised, mean)
        score = torch.where(observed.any(1), score, torch.nan)
        return score, self.calibration(score), score > self.threshold

    def _masked_deviance(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As `masked_deviance`: a copy of the rows for every group of columns that is masked."""
        modality, layout = self.anomaly_score.modality, self.anomaly_score.modality.layout
        groups, rows = modality.mask_groups(GROUPS), batch.observed.shape[0]
        masks = torch.zeros((len(groups), len(layout)), dtype=torch.bool)
        for mask, group in zip(masks, groups, strict=True):
            mask[torch.from_numpy(group)] = True
        times = (len(groups), 1)
        copies = Batch(
            batch.numbers.repeat(times), batch.codes.repeat(times), batch.observed.repeat(times)
        )
        hidden = copies.hide(masks[:, None].expand(-1, rows, -1).flatten(0, 1))
        network = self.scoring_network
        likelihood = network.decode(network.encode(hidden).z, hidden.observed)
        nats = likelihood.deviance(copies)[0].unflatten(1, (len(groups), -1))
        nats = torch.where(masks[:, None], nats, 0.0).sum(1)  # (M, B, feature)
        members = modality.scale_deviance(nats, batch).unbind(0)
        columns = [column_nats(-member, batch.observed, layout) for member in members]
        return torch.stack([nats for nats, _ in columns]), columns[0][1]

    def _whole(self, batch: Batch) -> Batch:
        """The rows with what the net expects in their gaps."""
        likelihood = self.network.decode(self.network.encode(batch).z, batch.observed)
        expected = members_mean(likelihood.mean)
        return filled(batch, expected, self.anomaly_score.modality.layout)

    def _raised(self, rarity: Rows) -> Rows:
        """As `AnomalyScore._raised`: what rows with one very rare value have as a score."""
        raised_nats, trusted = -np.log(RAISED_SHARE), -np.log(TRUSTED)
        nats = rarity.clamp(max=trusted) + (rarity - trusted).clamp(min=0).log1p() - raised_nats
        start, step = self.anomaly_score.rare.tolist()
        return torch.where(nats >= 0, start + step * nats, 0.0)


def distances_to(
    reference: ReferencePoints, x: Float[Tensor, "row axis"]
) -> Float[Tensor, "2 row"]:
    """As `ReferencePoints.distances`, all rows at once."""
    whitened = reference.robust.whitened(x)
    rows = whitened if reference.whitens else reference.robust.centered(x)
    size = rows.square().sum(1, keepdim=True)
    rough = reference.points.square().sum(1) - 2 * rows @ reference.points.mT + size
    rough = torch.maximum(rough, reference.worth)
    near = rough.topk(min(2, len(reference.points)), 1, largest=False).indices
    square = (reference.points[near] - rows[:, None]).square().sum(2)
    same = same_square(rows)[:, None]
    copy = square[:, 0] < same[:, 0]
    square = torch.maximum(torch.where(square < same, 0.0, square), reference.worth[near])
    trusted = torch.where(copy, square[:, -1], square[:, 0])
    core = core_distance_of_new_rows(whitened, reference.core_points).to(trusted)
    distances = torch.stack([trusted.sqrt(), core])
    return torch.where(distances.isfinite(), distances, 0.0)


def values_nats(anomaly_score: AnomalyScore, x: Float[Tensor, "row axis"]) -> Rows:
    """As `CoreValues.nats_of`; ONNX has no search, so every knot is compared."""
    core_values = anomaly_score.core_values
    columns = core_values.columns(x - anomaly_score.reference_points.robust.center.to(x))
    place = (core_values.values[:, None] < columns[:, :, None]).sum(2)
    return core_values.total(core_values.at(columns, place) + core_values.beyond(columns), columns)


class TailsGraph(nn.Module):
    """As `Tails.cost`: -log of the share of rows at least as far out in each column."""

    def __init__(self, tails: Tails) -> None:
        super().__init__()
        for name in ("start", "grain", "unit", "nats"):
            self.register_buffer(name, torch.from_numpy(getattr(tails, name)).double())

    def forward(self, values: Float[Tensor, "row number"]) -> Float[Tensor, "row number"]:
        """The nats of values, -inf for a gap."""
        start, nats = self.get_buffer("start"), self.get_buffer("nats")
        excess = (values - start - self.get_buffer("grain") / 2).clamp(min=0)
        place = (excess / self.get_buffer("unit")).log1p() / STEP
        knot = place.floor().clamp(max=KNOTS - 2).long()
        low, high = nats.gather(0, knot), nats.gather(0, knot + 1)
        return torch.where(values > start, low + (place - knot) * (high - low), 0.0)


class OutliersGraph(nn.Module):
    """As `Outliers.rarity`: -log of the share of rows with a value as rare as the row's rarest."""

    def __init__(self, outliers: Outliers) -> None:
        super().__init__()
        self.outliers = outliers
        self.above, self.below = TailsGraph(outliers.above), TailsGraph(outliers.below)
        slots = outliers.layout.slots
        self.counted = [slots[cell].head == "counts" for cell in outliers.numbers.tolist()]
        self.register_buffer("ends", torch.from_numpy(outliers.ends))
        self.register_buffer("apart", torch.from_numpy(outliers.apart))

    def forward(self, batch: Batch) -> Rows:
        """The nats of each row; 0 for a usual one."""
        parts = [self._numbers(batch)] if len(self.outliers.numbers) else []
        parts += [self._flags(batch)] if len(self.outliers.levels) else []
        if not parts:
            return torch.zeros_like(batch.observed[:, 0], dtype=torch.float64)
        return torch.stack(parts).amax(0)

    def _flags(self, batch: Batch) -> Rows:
        cells = torch.from_numpy(self.outliers.levels)
        new = torch.from_numpy(np.stack(self.outliers.counts, 1) == 0)  # (code, flag)
        codes = batch.numbers[:, cells].long().clamp(max=len(new) - 1)
        unknown = batch.observed[:, cells] & new.gather(0, codes)
        nats = torch.from_numpy(-np.log(self.outliers.new[1])).clamp(min=0)
        return torch.where(unknown, nats, 0.0).amax(1)

    def _numbers(self, batch: Batch) -> Rows:
        cells = torch.from_numpy(self.outliers.numbers)
        x, observed = batch.numbers[:, cells].double(), batch.observed[:, cells]
        if any(self.counted):
            counts = x.sign() * x.abs().clamp(max=MAX_LOG).expm1()
            x = torch.where(torch.tensor(self.counted), counts, x)
        above = torch.where(observed, x, -torch.inf)
        below = torch.where(observed, -x, -torch.inf)
        nats = torch.maximum(self.above(above), self.below(below))
        ends, apart = self.get_buffer("ends"), self.get_buffer("apart")
        beyond = (above > ends[3]) | (below > -ends[0])
        beyond = beyond | (above >= apart[0]) | (below >= apart[1])
        far = torch.where(beyond, nats, 0.0).amax(1)
        low, unit = self.outliers.tail
        return torch.where(far > 0, ((far - low) / unit - np.log(COMMON)).clamp(min=0), 0.0)


class CalibrationGraph(nn.Module):
    """As `Calibration.p_value`: ranks, and beyond the largest calibration score the tail."""

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.register_buffer("scores", torch.from_numpy(calibration.anomaly_scores).double())
        tail = calibration.tail
        self.least, self.has_tail = calibration.least_rate(), tail is not None
        if tail is not None:
            self.register_buffer("grid", torch.from_numpy(tail.grid).double())
            self.register_buffer("log_p", torch.from_numpy(tail.log_p).double())

    def forward(self, score: Rows) -> Rows:
        """The p-value of each score; NaN for NaN."""
        scores = self.get_buffer("scores")
        count = scores.shape[0]
        rank = ranks(scores, score)
        p_value = (1 + count - rank).double() / (count + 1)
        if self.has_tail:
            log_p = interpolated(score, self.get_buffer("grid"), self.get_buffer("log_p"))
            tail = log_p.exp().clamp(self.least, 1 / (count + 1))
            p_value = torch.where(rank == count, tail, p_value)
        return torch.where(score.isnan(), torch.nan, p_value)


def ranks(rising: Float[Tensor, " number"], values: Rows) -> Int64[Tensor, " row"]:
    """How many of these rising numbers are below each value: the block by its first, then within.

    ONNX has no search, and a comparison with every number would take memory for all of them.
    """
    count = rising.shape[0]
    side = math.isqrt(count - 1) + 1
    blocks = nn.functional.pad(rising, (0, side**2 - count), value=torch.inf).view(side, side)
    block = ((blocks[:, 0] < values[:, None]).sum(1) - 1).clamp(min=0)
    return block * side + (blocks[block] < values[:, None]).sum(1)


def interpolated(
    values: Rows, rising: Float[Tensor, " number"], heights: Float[Tensor, " number"]
) -> Rows:
    """As `numpy.interp`."""
    place = ranks(rising, values).clamp(1, rising.shape[0] - 1)
    left, right = rising[place - 1], rising[place]
    share = ((values - left) / (right - left)).clamp(0, 1)
    return heights[place - 1] + share * (heights[place] - heights[place - 1])
