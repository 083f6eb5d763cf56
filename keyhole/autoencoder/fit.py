"""How a fit goes, step by step: survey, split, train, settle, judge."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from keyhole.autoencoder.width import WidthChoice, choose_width
from keyhole.checks import Asked, Finding, examine, gather, verdict
from keyhole.checks.predict_collapse import predict_collapse
from keyhole.core.environment import pass_work, threads_for
from keyhole.core.layout import Shape, column_nats, row_nats
from keyhole.core.outputs import Output, check_outputs
from keyhole.core.progress import EvaluateCallback, clock, stage, wall_clock
from keyhole.core.records import Batch
from keyhole.core.robust import MOST_POINTS
from keyhole.data import Rows, Source
from keyhole.data.parquet import narrow
from keyhole.data.source import ArrowRows
from keyhole.errors import DataError
from keyhole.modalities import Modality, learn_rows
from keyhole.model.bottlenecks.base import AUTO, Bottleneck, with_width
from keyhole.model.marginal import log_likelihood
from keyhole.model.network import Network
from keyhole.model.priors import Prior
from keyhole.store import Save
from keyhole.training import History, TrainingConfig
from keyhole.training.calibrate import calibrate_means, held_out_nats, members_mean
from keyhole.training.checkpoint import Checkpoint
from keyhole.training.config import KL_WARM_UP, shorter
from keyhole.training.feed import Feed
from keyhole.training.holdout import HeldOut
from keyhole.training.loop import Run, Trained, train
from keyhole.training.reference import ReferenceSet
from keyhole.training.robust_weights import RobustWeights
from keyhole.training.split import Split

HASHED_FEATURES = 1 << 20  # of the rows that a digest rests on
PASS_ROWS = 4_096  # of a forward pass; what larger ones make falls out of the processor's cache


@dataclass(frozen=True)
class Callbacks:
    """What a caller of fit follows it by."""

    checkpoint: str | None
    on_evaluate: EvaluateCallback
    on_data_ready: Callable[[Modality, Source, int], None] | None

    def check(self, source: Source) -> None:
        """A checkpoint never takes the place of the data. Raises: FileError."""
        if self.checkpoint is not None:
            outputs = [Output("checkpoint", self.checkpoint, "state")]
            check_outputs(outputs, {"X": source.name})


@dataclass(frozen=True)
class Block:
    """Some rows of a source, encoded, and what they cost.

    `nats` and `observed` are (row, column), averaged over the members.
    """

    start: int
    rows: Rows
    batch: Batch
    nats: torch.Tensor
    observed: torch.Tensor


@dataclass(frozen=True)
class Model:
    """What a fit leaves, and what can be asked of it.

    `typical_nats` is what each column costs on held-out rows, `held_out_nats` what those rows
    cost, sorted; `reference` the rows that new ones are compared with, None in bundles of old.
    """

    modality: Modality
    network: Network
    history: History
    rows: int
    fingerprint: str
    typical_nats: np.ndarray
    held_out_nats: np.ndarray
    reference: ReferenceSet | None
    evidence: dict[str, Any]
    findings: list[Finding]
    verdict: str
    split: Split | None = None  # of the rows that were just fitted to; not kept
    prior: Prior | None = None  # over the codes of the first member
    prior_rows: int = 0
    width_choice: WidthChoice | None = None  # of the width, where it was left to the data
    save: Save | None = None  # that it was read from

    @torch.no_grad()
    def score_block(self, rows: Rows, start: int = 0) -> Block:
        """What some rows cost, by deterministic passes that each fit the processor's cache."""
        batch = self.modality.encode(rows, start)
        even, found = batch.even(self.modality.layout.grid), []
        with threads_for(pass_work(self.network, min(len(batch), PASS_ROWS))):
            for first in range(0, max(len(batch), 1), PASS_ROWS):
                here = even.take(slice(first, first + PASS_ROWS)).to(self.device)
                log_prob = self.network(here).likelihood.log_prob(here)[0]  # (M, B, feature)
                log_prob = log_prob[0] if log_prob.shape[0] == 1 else log_prob.mean(0)
                found.append(column_nats(log_prob, here.observed, self.modality.layout))
        nats, observed = (torch.cat(part)[: len(batch)].cpu() for part in zip(*found, strict=True))
        return Block(start, rows, batch, nats, observed)

    @torch.no_grad()
    def expect(self, rows: Rows, start: int = 0) -> tuple[Batch, Batch]:
        """Some rows as the net is given them, and as it expects them, averaged over members."""
        batch = self.modality.encode(rows, start)
        with threads_for(pass_work(self.network, len(batch))):
            even = batch.even(self.modality.layout.grid).to(self.device)
            mean = members_mean(self.network(even).likelihood.mean)
            return batch, mean.take(slice(0, len(batch)))

    def code(self, rows: Rows, start: int = 0) -> np.ndarray:
        """The codes (row, code) of some rows, by the first member."""
        return self.code_of(self.modality.encode(rows, start))

    @torch.no_grad()
    def code_of(self, batch: Batch) -> np.ndarray:
        """The codes (row, code) of encoded rows, by the first member."""
        with threads_for(pass_work(self.network, len(batch))):
            even = batch.even(self.modality.layout.grid).to(self.device)
            return self.network(even).code.mean[0][: len(batch)].cpu().numpy()

    @torch.no_grad()
    def decode_codes(self, codes: np.ndarray) -> Any:
        """The expected rows of the first member's codes as an Arrow table, in original units.

        Raises: DataError for codes that are not of this model.
        """
        wide, nested = self.network.width, self.network.bottleneck.nested
        short = nested and codes.ndim == 2 and 1 <= codes.shape[1] < wide
        if short:
            codes = np.pad(codes, ((0, 0), (0, wide - codes.shape[1])))
        if codes.ndim != 2 or codes.shape[1] != wide:
            raise DataError(f"codes have shape {codes.shape}, expected (rows, {wide})")
        z = torch.from_numpy(np.ascontiguousarray(codes, np.float32)).to(self.device)
        mean = self.network.decode(z.expand(1, self.network.shape.members, *z.shape)).mean
        return self.modality.decode(members_mean(mean, first=True))

    def marginal(
        self, start: int, rows: Rows, samples: int, generator: torch.Generator
    ) -> np.ndarray:
        """Log p(x) of some rows in nats, by importance sampling."""
        batch = self.modality.encode(rows, start)
        return log_likelihood(self.network, batch, samples, generator).double().numpy()

    def trained_on(self, rows: Rows, start: int) -> np.ndarray:
        """True for the rows of the fit's own source that the first net was trained on."""
        return (
            np.ones(len(rows), bool) if self.split is None else self.split.trains(rows, start)[0]
        )

    def row_nats(self, block: Block) -> torch.Tensor:
        """Each row's nats, gaps counted as typical columns."""
        typical = torch.from_numpy(self.typical_nats.astype(np.float32))
        return row_nats(block.nats, block.observed, typical)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device


@wall_clock()
@threads_for(0)  # what is more than a pass over some rows says so itself
def learn(source: Source, parts: dict[str, Any], seed: int, callbacks: Callbacks) -> Model:
    """The model of a source that can be read at random.

    Raises: DataError, SettingError, FitError.
    """
    callbacks.check(source)
    schema = parts["schema"]
    clock().allow(parts["training"].time_budget_s)
    table, profile = _surveyed(source, parts)
    if callbacks.on_data_ready is not None:
        callbacks.on_data_ready(table, source, profile.rows)
    source = narrow(source, {*table.needs(), *schema.named()})
    members = parts["training"].members
    split = Split.of(profile.rows, seed, schema.validation, profile.sample, members)
    stage("choosing held-out rows")
    held = HeldOut.gather(source, split, len(table.layout))
    weighted_table = _with_robust_weights(table, schema, profile.sample)
    mark = fingerprint(profile.rows, table, held, parts, seed)
    feed = Feed(source, weighted_table, split, seed, profile.rows)
    stop = held.stopping(weighted_table)
    judged = len(held.calibration()[1])

    def run_with(
        bottleneck: Bottleneck, training: TrainingConfig, checkpoint: Checkpoint | None
    ) -> Run:
        shape = Shape(table.layout, members=split.members)
        network = Network(parts["net"], bottleneck, parts["head"], shape, seed=seed)
        return Run(network, feed, stop, parts["corruption"], training, seed,
                   callbacks.on_evaluate, checkpoint, judged=judged)  # fmt: skip

    choice, bottleneck = None, parts["bottleneck"]
    if bottleneck.width == AUTO:
        training = shorter(parts["training"], profile.rows)
        choice = _width(table, profile.sample, lambda ordered: run_with(ordered, training, None))
        bottleneck = with_width(bottleneck, choice.width)
    predict_collapse(bottleneck, parts["head"], table, profile.sample)
    checkpoint = Checkpoint(callbacks.checkpoint, mark, seed) if callbacks.checkpoint else None
    reference = held.reference(table, schema.group)
    stage("training")
    trained = train(run_with(bottleneck, parts["training"], checkpoint))
    warm = round(KL_WARM_UP * trained.history.planned)
    asked = Asked(profile.rows, held.split.folds, parts["corruption"].masks, warm)
    return replace(_judged(trained, table, held, asked), reference=reference, fingerprint=mark,
                   width_choice=choice)  # fmt: skip


def _with_robust_weights(table: Modality, schema: Any, sample: Any) -> Modality | RobustWeights:
    """The table, its rows weighted by how far they agree where some may be contaminated."""
    if schema.contamination is None or schema.support_fraction >= 1:
        return table
    stage("weighing rows by how far they agree")
    return RobustWeights.learn(table, ArrowRows(sample), schema.support_fraction)


def _width(table: Modality, sample: Any, run_with: Callable[[Bottleneck], Run]) -> WidthChoice:
    """The width that the held-out curve asks for, from runs in half of the time left."""
    stage("choosing the width of the code")
    points = table.encode(ArrowRows(sample.slice(0, MOST_POINTS)))
    with wall_clock(reserved=0.5):
        return choose_width(table, points, run_with)


def _surveyed(source: Source, parts: dict[str, Any]) -> tuple[Modality, Any]:
    """What the columns are, and a survey of the rows.

    Raises: DataError.
    """
    stage("looking at the columns")
    table, source_profile = learn_rows(source, parts["schema"], parts)
    if source_profile.rows < 2:
        raise DataError(
            f"{source.name} holds 1 sample (n_samples=1); a minimum of 2 rows is required"
        )
    return table, source_profile


def _judged(trained: Trained, table: Modality, held: HeldOut, asked: Asked) -> Model:
    """Ask the checks, and keep what held-out rows cost."""
    network = trained.network
    stage("judging by held-out rows")
    block, member = held.calibration()
    table = calibrate_means(network, table, *held.fresh())
    nats, observed = held_out_nats(network, table, block, member)
    typical, total = _typical(nats, observed)
    evidence = gather(network, table.encode(block), member, trained.history, asked)
    findings = examine(evidence)
    return Model(
        modality=table,
        network=network,
        history=trained.history,
        rows=asked.rows,
        fingerprint="",
        typical_nats=typical,
        held_out_nats=total,
        reference=None,
        evidence=evidence.to_json(),
        findings=findings,
        verdict=verdict(evidence, findings),
        split=held.split,
    )


def _typical(nats: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each column's mean nats, and the rows' nats in order, to the digits that a bundle keeps."""
    typical = np.zeros(nats.shape[1])
    held = observed.any(0)
    typical[held] = np.nanmean(np.where(observed, nats, np.nan)[:, held], 0)
    total = row_nats(*(torch.from_numpy(part) for part in (nats, observed, typical)))
    kept = [float(f"{row:.7g}") for row in total[~torch.isnan(total)]]
    return typical, np.sort(np.array(kept, dtype=float))


def fingerprint(
    rows: int, table: Modality, held: HeldOut, parts: dict[str, Any], seed: int
) -> str:
    """A digest of data, settings and seed: equal ones make the same model."""
    few = max(min(1_000, HASHED_FEATURES // len(table.layout)), 1)
    batch = table.encode(held.rows.take(slice(0, few)))
    said = [rows, table.recipe(), {n: p.recipe() for n, p in parts.items()}, seed]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for features in (batch.numbers, batch.codes, batch.observed):
        digest.update(features.numpy().tobytes())
    return digest.hexdigest()[:16]
