"""A table, or a list of images, made ready for training, and what its held-out rows tell."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from keyhole.core.environment import draws
from keyhole.core.layout import column_nats, row_nats
from keyhole.core.progress import stage
from keyhole.core.records import Batch
from keyhole.data import cast
from keyhole.data.lazy import pa
from keyhole.data.opening import narrow
from keyhole.data.source import ArrowRows, Rows, Source
from keyhole.modalities.base import Modality
from keyhole.modalities.prepared import Calibrated, FitOptions, Heldout, Parts, Prepared
from keyhole.modalities.rows.feed import BLOCK_ROWS, RobustWeights, RowFeed, stacked
from keyhole.modalities.rows.split import (
    CALIBRATE,
    STOP,
    TRAIN,
    TRAINED,
    ReferenceSet,
    Split,
    most_reference_rows,
)
from keyhole.model.network import Network

MAX_STOP_ROWS = 4_096  # an evaluation on more tells no more
SPARE = 1.3  # times as many rows are drawn as become reference rows, so that there are enough
CHUNK_ROWS = 16_384
MASKED_SHARE = 0.2
APART = 64  # times the rows that share values between two machines, in the order of time
ROUNDS = 8  # times that values of each row are masked and predicted
HASHED_FEATURES = 1 << 20  # of the rows that a digest rests on


@dataclass(frozen=True)
class HeldOutRows:
    """Rows of one pass over a source, and for each its part: a fold, or TRAIN, STOP or CALIBRATE.

    `sampled` are the indices of some rows, none of them to calibrate, that become reference rows
    where there are no folds. `position` is the place of each row in the order of time (of the
    machines one after the other, well apart), where rows share values. The number of rows is
    bounded, whatever the table.
    """

    rows: Rows
    part: np.ndarray
    sampled: np.ndarray
    position: np.ndarray
    split: Split

    @classmethod
    def gather(
        cls, source: Source, split: Split, features: int, machine: str | None = None
    ) -> "HeldOutRows":
        """All rows where there are folds; else the held-out ones, and some of training.

        `machine` is the column that tells series apart.
        """
        most = most_reference_rows(features)
        rate = min(SPARE * most / max(split.rows, 1), 1.0)
        blocks, parts, keys, start = [], [], [], 0
        places, machines = [], []
        for block in source.blocks(BLOCK_ROWS):
            part = split.assign(block, start)
            key = draws(np.arange(start, start + len(part), dtype=np.uint64), split.seed + 1)
            chosen = np.flatnonzero((part != TRAIN) | (key < rate) | bool(split.folds))
            if split.overlap and not split.folds:
                key = np.where(split.trains(block, start)[0], key, 1.0)  # no reference rows
            blocks.append(block.take(chosen).arrow())
            parts.append(part[chosen])
            keys.append(key[chosen])
            places.append(start + chosen)
            if machine is not None and split.overlap:
                machines += cast.texts(block.column(machine)).to_pylist()
            start += len(block)
        rows = ArrowRows(pa.concat_tables(blocks, promote_options="permissive"))
        part, key = np.concatenate(parts), np.concatenate(keys)
        trained = np.flatnonzero((part != CALIBRATE) & (key < 1.0))
        sampled = np.sort(trained[np.argsort(key[trained], kind="stable")[:most]])
        position = in_order_of_time(np.concatenate(places), machines, split.overlap)
        return cls(rows, part, sampled, position, split)

    def stopping(self, modality: Modality | RobustWeights) -> Batch:
        """Rows that tell when to stop, with a member axis: for each member some it never saw."""
        if not self.split.folds:  # of a handful of latest rows all calibrate, and stop too
            rows = _first_of(self.part == STOP, self.part == CALIBRATE, self.part != TRAIN)
            return stacked([modality.encode(self.rows.take(rows[:MAX_STOP_ROWS]))])
        folds = [np.flatnonzero(self.part == fold) for fold in range(self.split.folds)]
        least = max(min(len(fold) for fold in folds), 1)
        encoded = modality.encode(self.rows)
        picked = [fold[:least] if len(fold) else np.zeros(least, np.int64) for fold in folds]
        return stacked([encoded.take(torch.from_numpy(fold)) for fold in picked])

    def fresh(self) -> tuple[Rows, np.ndarray]:
        """Rows that were not trained on, and the member that has not seen each.

        Rows that told when to stop are among them: nothing was fitted to them.
        """
        return self._with_member(_first_of(self.part != TRAIN))

    def calibration(self) -> tuple[Rows, np.ndarray]:
        """Rows for calibration, and the member that has not seen each."""
        return self._with_member(self._judged())

    def reference(self, modality: Modality | RobustWeights, group: str | None) -> ReferenceSet:
        """The reference rows, and those that calibrate, encoded."""
        chosen, fold = np.arange(len(self.part)), self.part
        most = most_reference_rows(len(modality.layout))
        if self.split.folds:  # none that shares values with two folds
            last = np.minimum(chosen + self.split.overlap, len(fold) - 1)
            chosen = chosen[fold == fold[last]]
        if self.split.folds and len(chosen) > most:
            chosen = np.sort(np.random.default_rng(self.split.seed).permutation(chosen)[:most])
        if not self.split.folds:
            judged = self._judged()[: 4 * most]
            fold = np.where(np.isin(chosen, judged), 0, TRAINED)
            chosen = np.union1d(judged, self.sampled)
        rows, factor = self.rows.take(chosen), np.ones(len(chosen), np.float32)
        names = [] if group is None else cast.texts(rows.column(group)).to_pylist()
        groups = None if group is None else [name or "" for name in names]
        folds = max(self.split.folds, 1)
        position = self.position[chosen] if self.split.overlap else None
        batch = modality.encode(rows)
        return ReferenceSet(batch, fold[chosen], folds, factor, groups, position)

    def _judged(self) -> np.ndarray:
        """The rows that calibrate; where too few are held out, those that stop too."""
        return _first_of(self.part == CALIBRATE, self.part != TRAIN)

    def _with_member(self, chosen: np.ndarray) -> tuple[Rows, np.ndarray]:
        if self.split.folds:
            return self.rows, self.part
        return self.rows.take(chosen), np.zeros(len(chosen), np.int64)


def in_order_of_time(
    places: np.ndarray, machines: list[str | None], overlap: int
) -> Int64[np.ndarray, " row"]:
    """The positions of rows by their places in the source, machine by machine if there are any."""
    if not machines:
        return places
    _, codes = np.unique([name or "" for name in machines], return_inverse=True)
    order, position = np.argsort(codes, kind="stable"), np.zeros(len(codes), np.int64)
    position[order] = np.arange(len(codes)) + APART * (overlap + 1) * codes[order]
    return position[places]


def _first_of(*choices: np.ndarray) -> np.ndarray:
    """The indices of the first choice that is not empty; else of all rows."""
    chosen = (np.flatnonzero(choice) for choice in choices if choice.any())
    return next(chosen, np.arange(len(choices[0])))


@dataclass(frozen=True)
class RowsToJudge(Heldout):
    """Rows that the network did not train on, and those that new rows are compared with."""

    rows: HeldOutRows
    reference: ReferenceSet

    def calibrate(self, modality: Modality, network: Network) -> Calibrated[Modality]:
        """The modality with calibrated means, and the nats of columns and rows."""
        modality = _with_means(network, modality, *self.rows.fresh())
        nats, observed = _held_out_nats(network, modality, *self.rows.calibration())
        typical, total = _typical(nats, observed)
        return Calibrated(modality, typical, total, self.reference, self.rows.split)


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
    schema, group = parts.schema, options.group
    source = narrow(source, {*modality.trains_on(), *schema.named(), *([group] if group else [])})
    split = Split.of(
        profile.rows, seed, schema.validation, profile.sample, parts.training.members,
        modality.overlap,
    )  # fmt: skip
    stage("choosing held-out rows")
    machine, weighted = modality.machine_column, modality
    held_out = HeldOutRows.gather(source, split, len(modality.layout), machine)
    if options.support_fraction < 1:
        stage("computing robust weights of the rows")
        sample = ArrowRows(profile.sample)
        weighted = RobustWeights.learn(modality, sample, options.support_fraction)
    settings = [parts.recipes(), asdict(options), seed]
    return Prepared(
        parts=parts,
        feed=RowFeed(source, weighted, split, seed, profile.rows),
        stopping=held_out.stopping(weighted),
        heldout=RowsToJudge(held_out, held_out.reference(modality, group)),
        fingerprint=_fingerprint(profile.rows, modality, held_out, settings),
        rows=profile.rows,
        members=split.members,
        judged=len(held_out.calibration()[1]),
    )


def members_mean(mean: Batch, *, first: bool = False) -> Batch:
    """The expected row over all members (or the first): the mean number, the commonest code.

    Takes the (sample, member, row) lead axes away.
    """
    numbers, codes = mean.numbers[0], mean.codes[0]
    if first:
        return Batch(numbers[0], codes[0], mean.observed[0, 0])
    codes = codes.mode(0).values if codes.shape[-1] else codes[0]
    return Batch(numbers.mean(0), codes, mean.observed[0, 0])


@torch.no_grad()
def _held_out_nats(
    network: Network, modality: Modality, rows: Rows, member: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(row, column): the nats by the member that has not seen the row; what was observed."""
    parts = []
    for _, batch, own in _chunks(network, modality, rows, member):
        log_prob = _by_member(network(batch).likelihood.log_prob(batch)[0], own)
        parts.append(column_nats(log_prob, batch.observed.cpu(), modality.layout))
    nats, observed = map(torch.cat, zip(*parts, strict=True))
    return nats.double().numpy(), observed.numpy()


@torch.no_grad()
def _with_means(network: Network, modality: Modality, rows: Rows, member: np.ndarray) -> Modality:
    """The modality whose `mean_columns` map expected values to observed means.

    Values are masked at random and predicted from the rest, as in a gap.
    """
    names, columns = modality.mean_columns, modality.layout.columns
    if not names:
        return modality
    rng = np.random.default_rng(0)
    expected: dict[str, list[np.ndarray]] = {name: [] for name in names}
    observed: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for block, batch, own in _chunks(network, modality, rows, member):
        values = {name: cast.floats(block.column(name))[0] for name in names}
        for _ in range(ROUNDS):
            masked = rng.random((len(own), len(columns))) < MASKED_SHARE
            features = torch.from_numpy(masked[:, modality.layout.column_of_feature])
            mean = network(batch.hide(features.to(batch.observed.device))).likelihood.mean
            parts = (mean.numbers, mean.codes, mean.observed)
            numbers, codes, present = (_by_member(part[0], own) for part in parts)
            decoded = modality.decode_columns(Batch(numbers, codes, present), names)
            for name in names:
                at = masked[:, columns.index(name)]
                expected[name].append(cast.floats(decoded.column(name))[0][at])
                observed[name].append(values[name][at])
    joined = [{n: np.concatenate(x) for n, x in part.items()} for part in (expected, observed)]
    return modality.calibrated(joined[0], joined[1])


def _by_member(values: torch.Tensor, member: torch.Tensor) -> torch.Tensor:
    """(member, row, feature) -> (row, feature): each row by its own member."""
    return values.cpu()[member, torch.arange(len(member))]


def _chunks(
    network: Network, modality: Modality, rows: Rows, member: np.ndarray
) -> Iterator[tuple[Rows, Batch, torch.Tensor]]:
    """Rows, the same encoded on the device of the network, and the member of each."""
    device = next(network.parameters()).device
    for start in range(0, len(rows), CHUNK_ROWS):
        block = rows.take(slice(start, start + CHUNK_ROWS))
        own = torch.from_numpy(member[start : start + CHUNK_ROWS])
        yield block, modality.encode(block).to(device), own


def _typical(nats: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each column's mean nats, and the rows' nats in order, to the digits that are saved."""
    typical = np.zeros(nats.shape[1])
    columns = observed.any(0)
    typical[columns] = np.nanmean(np.where(observed, nats, np.nan)[:, columns], 0)
    total = row_nats(*(torch.from_numpy(part) for part in (nats, observed, typical)))
    rounded = [float(f"{row:.7g}") for row in total[~torch.isnan(total)]]
    return typical, np.sort(np.array(rounded, dtype=float))


def _fingerprint(rows: int, modality: Modality, held_out: HeldOutRows, settings: list[Any]) -> str:
    count = max(min(1_000, HASHED_FEATURES // len(modality.layout)), 1)
    batch = modality.encode(held_out.rows.take(slice(0, count)))
    described = json.dumps([rows, modality.recipe(), *settings], sort_keys=True)
    digest = hashlib.sha256(described.encode())
    for features in (batch.numbers, batch.codes, batch.observed):
        digest.update(features.numpy().tobytes())
    return digest.hexdigest()[:16]
