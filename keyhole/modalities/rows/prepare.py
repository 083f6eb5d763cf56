"""A table, or a list of images, made ready for training: split, robust weights, feed."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from keyhole.core.layout import row_nats
from keyhole.core.progress import stage
from keyhole.data.opening import narrow
from keyhole.data.source import ArrowRows, Source
from keyhole.modalities.base import Modality
from keyhole.modalities.prepared import Calibrated, FitOptions, Heldout, Parts, Prepared
from keyhole.modalities.rows.calibrate import calibrate_means, held_out_nats
from keyhole.modalities.rows.feed import RowFeed
from keyhole.modalities.rows.holdout import HeldOutRows
from keyhole.modalities.rows.reference import ReferenceSet
from keyhole.modalities.rows.robust_weights import RobustWeights
from keyhole.modalities.rows.split import Split
from keyhole.model.network import Network

HASHED_FEATURES = 1 << 20  # of the rows that a digest rests on


def prepare_rows(
    modality: Modality,
    source: Source,
    profile: Any,
    parts: Parts,
    seed: int,
    options: FitOptions,
) -> Prepared:
    """The rows of a source, split by their position, group or time.

    `profile` has the number of rows and a sample of them.
    """
    schema = parts.schema
    group_column = [] if options.group is None else [options.group]
    source = narrow(source, {*modality.needs(), *schema.named(), *group_column})
    split = Split.of(profile.rows, seed, schema.validation, profile.sample, parts.training.members)
    stage("choosing held-out rows")
    held_out = HeldOutRows.gather(source, split, len(modality.layout))
    weighted = _with_robust_weights(modality, options.support_fraction, profile.sample)
    reference = held_out.reference(modality, options.group)
    settings = [parts.recipes(), asdict(options), seed]
    return Prepared(
        parts=parts,
        feed=RowFeed(source, weighted, split, seed, profile.rows),
        stopping=held_out.stopping(weighted),
        heldout=RowsToJudge(held_out, reference),
        fingerprint=_fingerprint(profile.rows, modality, held_out, settings),
        rows=profile.rows,
        members=split.members,
        judged=len(held_out.calibration()[1]),
    )


@dataclass(frozen=True)
class RowsToJudge(Heldout):
    """Rows that the network did not train on, and those that new rows are compared with."""

    rows: HeldOutRows
    reference: ReferenceSet

    def calibrate(self, modality: Modality, network: Network) -> Calibrated[Modality]:
        """The modality with calibrated means, and the nats of columns and rows."""
        modality = calibrate_means(network, modality, *self.rows.fresh())
        nats, observed = held_out_nats(network, modality, *self.rows.calibration())
        typical, total = _typical(nats, observed)
        return Calibrated(modality, typical, total, self.reference, self.rows.split)


def _with_robust_weights(
    modality: Modality, support_fraction: float, sample: Any
) -> Modality | RobustWeights:
    """The modality; if rows may be contaminated, weighted by how well they agree."""
    if support_fraction >= 1:
        return modality
    stage("weighing rows by how far they agree")
    return RobustWeights.learn(modality, ArrowRows(sample), support_fraction)


def _typical(nats: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each column's mean nats, and the rows' nats in order, to the digits that are saved."""
    typical = np.zeros(nats.shape[1])
    columns = observed.any(0)
    typical[columns] = np.nanmean(np.where(observed, nats, np.nan)[:, columns], 0)
    total = row_nats(*(torch.from_numpy(part) for part in (nats, observed, typical)))
    rounded = [float(f"{row:.7g}") for row in total[~torch.isnan(total)]]
    return typical, np.sort(np.array(rounded, dtype=float))


def _fingerprint(rows: int, modality: Modality, held_out: HeldOutRows, settings: list[Any]) -> str:
    """A digest of data, settings and seed: equal ones make the same model."""
    count = max(min(1_000, HASHED_FEATURES // len(modality.layout)), 1)
    batch = modality.encode(held_out.rows.take(slice(0, count)))
    described = json.dumps([rows, modality.recipe(), *settings], sort_keys=True)
    digest = hashlib.sha256(described.encode())
    for features in (batch.numbers, batch.codes, batch.observed):
        digest.update(features.numpy().tobytes())
    return digest.hexdigest()[:16]
