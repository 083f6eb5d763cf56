"""How a fit goes, step by step: survey, split, train, settle, judge."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from keyhole.checks import Finding, examine, gather, verdict
from keyhole.core.layout import Shape
from keyhole.core.nats import column_nats, row_nats
from keyhole.core.records import Batch
from keyhole.errors import DataError
from keyhole.modalities import Tabular
from keyhole.network import Network
from keyhole.sources import Rows, Source
from keyhole.sources.base import ArrowRows
from keyhole.training import History
from keyhole.training.checkpoint import Checkpoint
from keyhole.training.feed import Feed
from keyhole.training.heldout import HeldOut
from keyhole.training.loop import Run, Trained, Watcher, train
from keyhole.training.memory import Memory
from keyhole.training.settle import held_out_nats, members_mean, settle_means
from keyhole.training.split import Split
from keyhole.training.trust import Trusting

PASS_ROWS = 4_096  # of a forward pass; what larger ones make falls out of the processor's cache


@dataclass(frozen=True)
class Hooks:
    """What a caller of fit follows it by."""

    checkpoint: str | None
    watch: Watcher
    learnt: Callable[[Tabular, Source, int], None] | None


@dataclass(frozen=True)
class Block:
    """Some rows of a source, encoded, and what they cost.

    `nats` and `seen` are (row, column), averaged over the members.
    """

    start: int
    rows: Rows
    batch: Batch
    nats: torch.Tensor
    seen: torch.Tensor


@dataclass(frozen=True)
class Fitted:
    """What a fit leaves, and what can be asked of it.

    `typical_nats` is what each column costs on held-out rows, `held_out_nats` what those rows
    cost, sorted; `memory` the rows that new ones are compared with, None in bundles of old.
    """

    table: Tabular
    network: Network
    run: History
    rows: int
    fingerprint: str
    typical_nats: np.ndarray
    held_out_nats: np.ndarray
    memory: Memory | None
    evidence: dict[str, Any]
    findings: list[Finding]
    verdict: str

    @torch.no_grad()
    def weigh(self, rows: Rows, start: int = 0) -> Block:
        """What some rows cost, by deterministic passes that each fit the processor's cache."""
        batch = self.table.encode(rows, start)
        found = []
        for first in range(0, max(len(batch), 1), PASS_ROWS):
            here = batch.take(slice(first, first + PASS_ROWS)).to(self.device)
            log_prob = self.network(here).likelihood.log_prob(here)[0]  # (M, B, cell)
            log_prob = log_prob[0] if log_prob.shape[0] == 1 else log_prob.mean(0)
            found.append(column_nats(log_prob, here.seen, self.table.layout))
        nats, seen = (torch.cat(part).cpu() for part in zip(*found, strict=True))
        return Block(start, rows, batch, nats, seen)

    @torch.no_grad()
    def expect(self, rows: Rows, start: int = 0) -> tuple[Batch, Batch]:
        """Some rows as the net is given them, and as it expects them, averaged over members."""
        batch = self.table.encode(rows, start)
        return batch, members_mean(self.network(batch.to(self.device)).likelihood.mean)

    @torch.no_grad()
    def code(self, rows: Rows, start: int = 0) -> np.ndarray:
        """The codes (row, code) of some rows, by the first member."""
        batch = self.table.encode(rows, start).to(self.device)
        return self.network(batch).code.mean[0].cpu().numpy()

    def row_nats(self, block: Block) -> torch.Tensor:
        """Each row's nats, gaps counted as typical columns."""
        typical = torch.from_numpy(self.typical_nats.astype(np.float32))
        return row_nats(block.nats, block.seen, typical)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device


def learn(source: Source, parts: dict[str, Any], seed: int, hooks: Hooks) -> Fitted:
    """The model of a source that can be read at random.

    Raises: DataError, SettingError, FitError.
    """
    hints = parts["hints"]
    table, survey = Tabular.learn(source, hints)
    if survey.rows < 2:
        raise DataError(
            f"{source.name} holds 1 sample (n_samples=1); a minimum of 2 rows is required"
        )
    if hooks.learnt is not None:
        hooks.learnt(table, source, survey.rows)
    split = Split.of(survey.rows, seed, hints.validation, survey.sample)
    held = HeldOut.gather(source, split, len(table.layout))
    taught = table
    if hints.contamination is not None and hints.core_share < 1:
        taught = Trusting.learn(table, ArrowRows(survey.sample), hints.core_share)
    shape = Shape(table.layout, members=split.members)
    mark = fingerprint(survey.rows, table, held, parts, seed)
    run = Run(
        Network(parts["net"], parts["bottleneck"], parts["head"], shape, seed=seed),
        Feed(source, taught, split, seed, survey.rows),
        held.stopping(taught),
        parts["corruption"],
        parts["plan"],
        seed,
        hooks.watch,
        Checkpoint(hooks.checkpoint, mark, seed) if hooks.checkpoint else None,
    )
    memory = held.memory(table, hints.segment)
    return _judged(train(run), table, held, memory, mark)


def _judged(trained: Trained, table: Tabular, held: HeldOut, memory: Memory, mark: str) -> Fitted:
    """Ask the checks, and keep what held-out rows cost."""
    network, rows = trained.network, held.split.rows
    block, member = held.calibration()
    settle_means(network, table, *held.fresh())
    nats, seen = held_out_nats(network, table, block, member)
    typical, total = _typical(nats, seen)
    evidence = gather(
        network, table.encode(block), member, trained.history, rows=rows, folds=held.split.folds
    )
    findings = examine(evidence)
    return Fitted(
        table=table,
        network=network,
        run=trained.history,
        rows=rows,
        fingerprint=mark,
        typical_nats=typical,
        held_out_nats=total,
        memory=memory,
        evidence=evidence.to_json(),
        findings=findings,
        verdict=verdict(evidence, findings),
    )


def _typical(nats: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each column's mean nats, and the rows' nats in order, to the digits that a bundle keeps."""
    typical = np.zeros(nats.shape[1])
    held = seen.any(0)
    typical[held] = np.nanmean(np.where(seen, nats, np.nan)[:, held], 0)
    total = row_nats(*(torch.from_numpy(part) for part in (nats, seen, typical)))
    kept = [float(f"{row:.7g}") for row in total[~torch.isnan(total)]]
    return typical, np.sort(np.array(kept, dtype=float))


def fingerprint(rows: int, table: Tabular, held: HeldOut, parts: dict[str, Any], seed: int) -> str:
    """A digest of data, settings and seed: equal ones make the same model."""
    sample = held.rows.take(slice(0, 1_000)).arrow()
    said = [rows, table.recipe(), {n: p.recipe() for n, p in parts.items()}, seed]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    digest.update(repr(sample.to_pylist()).encode())
    return digest.hexdigest()[:16]
