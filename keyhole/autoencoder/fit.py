"""How a fit goes, step by step: learn the modality, prepare, train, judge."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from keyhole.autoencoder.width import WidthChoice, choose_width
from keyhole.checks import Finding, TrainInfo, examine, gather, predict_collapse
from keyhole.core.environment import PASS_ROWS, pass_work, threads_for
from keyhole.core.layout import Shape, column_nats, row_nats
from keyhole.core.outputs import Output, check_outputs
from keyhole.core.progress import EvaluateCallback, clock, stage, wall_clock
from keyhole.core.records import Batch
from keyhole.core.robust import MAX_POINTS
from keyhole.data import Rows
from keyhole.data.source import ArrowRows
from keyhole.errors import DataError
from keyhole.modalities import Modality, learn_modality, prepare
from keyhole.modalities.prepared import FitOptions, Parts, Prepared
from keyhole.modalities.rows.holdout import members_mean
from keyhole.modalities.rows.split import ReferenceSet, Split
from keyhole.model.bottlenecks.base import AUTO, Bottleneck, with_width
from keyhole.model.network import Network, log_likelihood
from keyhole.model.priors import Prior
from keyhole.store import Save
from keyhole.training import History
from keyhole.training.checkpoint import Checkpoint
from keyhole.training.config import KL_WARM_UP, TrainingConfig, shorter
from keyhole.training.loop import Run, train
from keyhole.training.objective import Reconstruction

MIN_ROWS = 2  # one to train on, one held out
GRADIENT_NORM = 1.0  # per feature: the loss is a sum over features


@dataclass(frozen=True)
class Callbacks:
    """Training callbacks, and the file of a checkpoint."""

    checkpoint: str | None
    on_evaluate: EvaluateCallback
    on_data_ready: Callable[[Any, Any, Any], None]

    def check(self, source: Any) -> None:
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

    `parts` are those that were used. `typical_nats` is the mean nats of each column on held-out
    rows, `held_out_nats` those of each row, sorted; `reference` the rows that new ones are
    compared with.
    """

    modality: Modality
    network: Network
    parts: Parts
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
        even, parts = self.modality.even(batch), []
        with threads_for(pass_work(self.network, min(len(batch), PASS_ROWS))):
            for first in range(0, max(len(batch), 1), PASS_ROWS):
                part = even.take(slice(first, first + PASS_ROWS)).to(self.device)
                log_prob = self.network(part).likelihood.log_prob(part)[0]  # (M, B, feature)
                log_prob = log_prob[0] if log_prob.shape[0] == 1 else log_prob.mean(0)
                parts.append(column_nats(log_prob, part.observed, self.modality.layout))
        nats, observed = (torch.cat(part)[: len(batch)].cpu() for part in zip(*parts, strict=True))
        return Block(start, rows, batch, nats, observed)

    @torch.no_grad()
    def expect(self, rows: Rows, start: int = 0) -> tuple[Batch, Batch]:
        """Some rows as the net is given them, and as it expects them, averaged over members."""
        batch = self.modality.encode(rows, start)
        with threads_for(pass_work(self.network, len(batch))):
            even = self.modality.even(batch).to(self.device)
            mean = members_mean(self.network(even).likelihood.mean)
            return batch, mean.take(slice(0, len(batch)))

    def code(self, rows: Rows, start: int = 0) -> np.ndarray:
        """The codes (row, code) of some rows, by the first member."""
        return self.code_of(self.modality.encode(rows, start))

    @torch.no_grad()
    def code_of(self, batch: Batch) -> np.ndarray:
        """The codes (row, code) of encoded rows, by the first member."""
        with threads_for(pass_work(self.network, len(batch))):
            even = self.modality.even(batch).to(self.device)
            return self.network.encode(even).mean[0][: len(batch)].cpu().numpy()

    @torch.no_grad()
    def decode_codes(self, codes: np.ndarray) -> Any:
        """The expected rows of the first member's codes as an Arrow table, in original units.

        Raises: DataError for codes that are not of this model.
        """
        width, nested = self.network.width, self.network.bottleneck.nested
        if nested and codes.ndim == 2 and 1 <= codes.shape[1] < width:
            codes = np.pad(codes, ((0, 0), (0, width - codes.shape[1])))
        if codes.ndim != 2 or codes.shape[1] != width:
            raise DataError(f"codes have shape {codes.shape}, expected (rows, {width})")
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
        every_row = np.ones(len(rows), bool)
        return every_row if self.split is None else self.split.trains(rows, start)[0]

    def row_nats(self, block: Block) -> torch.Tensor:
        """Each row's nats, gaps counted as typical columns; NaN for a row that has no sample."""
        typical = torch.from_numpy(self.typical_nats.astype(np.float32))
        nats = row_nats(block.nats, block.observed, typical)
        samples = self.modality.samples_of(block.rows)
        if samples is None:
            return nats
        return torch.cat([nats, nats.new_full((1,), torch.nan)])[torch.from_numpy(samples)]

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device


@wall_clock()
@threads_for(0)  # what needs more threads than one asks for them itself
def learn(
    source: Any, parts: Parts, seed: int, callbacks: Callbacks, options: FitOptions | None = None
) -> Model:
    """The model of a source read at random. Raises: DataError, SettingError, FitError."""
    callbacks.check(source)
    options = options or FitOptions()
    parts = parts.copied()  # the model keeps them, and the caller may change theirs
    clock().allow(parts.training.time_budget_s)
    stage("reading the data")
    modality, profile = learn_modality(source, parts, seed, options)
    if modality.has_rows and profile.rows < MIN_ROWS:
        raise DataError(
            f"{source.name} holds 1 sample (n_samples=1); a minimum of {MIN_ROWS} rows is required"
        )
    callbacks.on_data_ready(modality, source, profile)
    prepared = prepare(modality, source, profile, parts, seed, options)
    parts = prepared.parts
    run_with = _maker(modality, prepared, seed, callbacks.on_evaluate)
    choice, bottleneck = None, parts.bottleneck
    if bottleneck.width == AUTO:
        training = shorter(parts.training, profile.rows, modality.overlap)
        stage("choosing the width of the code")
        points = modality.encode(ArrowRows(profile.sample.slice(0, MAX_POINTS)))
        with wall_clock(reserved=0.5):  # of the time left
            choice = choose_width(modality, points, lambda part: run_with(part, training, None))
        bottleneck = with_width(bottleneck, choice.width)
    predict_collapse(bottleneck, parts.head, modality, profile.sample)
    path = callbacks.checkpoint
    checkpoint = Checkpoint(path, prepared.fingerprint, seed) if path else None
    stage("training")
    with wall_clock(reserved=prepared.reserved):
        run = run_with(bottleneck, parts.training, checkpoint)
        history = train(run)
    return _judged(run.network, history, modality, prepared, choice)  # pyright: ignore


def _maker(
    modality: Modality, prepared: Prepared, seed: int, on_evaluate: EvaluateCallback
) -> Callable[[Bottleneck, TrainingConfig, Checkpoint | None], Run[Reconstruction]]:
    parts, layout = prepared.parts, modality.layout
    norm = (prepared.gradient_norm or GRADIENT_NORM) * len(layout) * prepared.members**0.5

    def run_with(
        bottleneck: Bottleneck, training: TrainingConfig, checkpoint: Checkpoint | None
    ) -> Run[Reconstruction]:
        shape = Shape(layout, members=prepared.members)
        network = Network(parts.net, bottleneck, parts.head, shape, seed=seed)
        batch = training.batch_for(prepared.feed.rows)
        goal = Reconstruction(
            prepared.feed, prepared.stopping, parts.corruption, layout, batch, seed,
            network.bottleneck.stochastic, modality.overlap,
        )  # fmt: skip
        return Run(network, goal, training, on_evaluate, checkpoint, norm, prepared.judged)

    return run_with


def _judged(
    network: Network,
    history: History,
    modality: Modality,
    prepared: Prepared,
    choice: WidthChoice | None,
) -> Model:
    """The model, calibrated and judged by data held out of training."""
    parts = prepared.parts
    stage("evaluating on held-out data")
    calibrated = prepared.heldout.calibrate(modality, network)
    warm_steps = round(KL_WARM_UP * history.planned)
    info = TrainInfo(prepared.rows, parts.corruption.masks, warm_steps)
    evidence = gather(prepared.heldout, calibrated.modality, network, history, info)
    findings = examine(evidence)
    return Model(
        **vars(calibrated),
        network=network,
        parts=parts,
        history=history,
        rows=prepared.rows,
        fingerprint=prepared.fingerprint,
        evidence=evidence.to_json(),
        findings=findings,
        verdict=evidence.verdict(findings),
        width_choice=choice,
    )
