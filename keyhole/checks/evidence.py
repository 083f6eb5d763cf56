"""Checks: what they are, and the evidence they read, gathered on rows held out of training."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
import torch

from keyhole.checks.baselines import Baselines, Predicted
from keyhole.core.layout import Layout
from keyhole.core.progress import History
from keyhole.core.records import Batch
from keyhole.modalities.base import Modality
from keyhole.modalities.rows.holdout import RowsToJudge
from keyhole.model.network import Network

MAX_JUDGED_ROWS = 4_096  # held-out rows
ENOUGH_ROWS = 500  # where rows share values


@dataclass(frozen=True)
class Finding:
    """What a check objects to: its code, its title, and what to do about it."""

    code: str
    title: str
    text: str


@dataclass(frozen=True)
class Check:
    """A question about a fitted model: its code (KH001 and up), title and class of evidence.

    `ask` returns a sentence that says what is wrong and what to do, or None if all is well.
    """

    code: str
    title: str
    reads: type
    ask: Callable[[Any], str | None]


CHECKS: dict[str, Check] = {}


def check(code: str, title: str, reads: type) -> Callable[[Callable[..., str | None]], Check]:
    """Register a function as the check with this code."""

    def register(ask: Callable[..., str | None]) -> Check:
        if code in CHECKS:
            raise TypeError(f"two checks have the code {code!r}")
        CHECKS[code] = Check(code, title, reads, ask)
        return CHECKS[code]

    return register


def examine(evidence: Any) -> list[Finding]:
    """The findings of the registered checks for this class of evidence, by code."""
    checks = [check for _, check in sorted(CHECKS.items()) if isinstance(evidence, check.reads)]
    texts = [(check, check.ask(evidence)) for check in checks]
    return [Finding(check.code, check.title, text) for check, text in texts if text is not None]


@dataclass(frozen=True)
class Evidence:
    """Held-out nats per row of the net and of its baselines, lower = better; skill per column.

    Rebuilt values are visible in the input; masked ones are not, an eighth of the columns at a
    time. Skill is the explained share of a column's variation (of its uncertainty, for levels):
    that of the mean is 0; PCA has the width of the code. `worse` are the columns that the net
    predicts worse than their mean, by the question that it was trained for.
    """

    rows: int
    width: int
    mean_nats: float
    rebuilt_nats: float
    pca_rebuilt_nats: float
    masked_nats: float
    pca_masked_nats: float
    shuffled_nats: float  # rebuilt, of rows whose columns do not belong together
    noise_nats: float
    spread: float  # standard deviation of the rows' rebuilt nats under one net
    rebuilt_skill: dict[str, float]
    pca_rebuilt_skill: dict[str, float]
    masked_skill: dict[str, float]
    pca_masked_skill: dict[str, float]
    worse: dict[str, float]
    history: History
    folds: int
    masks: bool  # the net was trained to predict masked values
    warm_steps: int  # while the KL weight rose
    code_nats: list[float]  # a row, of each code dimension that has noise; else empty
    code_variance: list[float]  # of each dimension, over rows
    dead: int  # dimensions that are the same on every row

    @property
    def asked_nats(self) -> tuple[float, float]:
        """The net's nats and PCA's, of the question that the net was trained for."""
        if self.masks:
            return self.masked_nats, self.pca_masked_nats
        return self.rebuilt_nats, self.pca_rebuilt_nats

    def verdict(self, findings: list[Finding]) -> str:
        """One line on how far to trust the model."""
        codes = {finding.code for finding in findings}
        if codes & {"KH001", "KH002", "KH003", "KH004", "KH008"}:
            return "not good enough: " + "; ".join(finding.title for finding in findings)
        titles = [finding.title for finding in findings if finding.code != "KH015"]
        more = f" ({', '.join(titles)})" if titles else ""
        does = "predicts masked values" if self.masks else "rebuilds rows"
        head = "learned"
        if self.worse:
            head += f" except {len(self.worse)} of {len(self.masked_skill)} columns"
        return f"{head}: {does} better than PCA of equal width; does not copy its input{more}"

    def to_json(self) -> dict[str, object]:
        """The figures that a manifest keeps; null for NaN and infinity."""
        return {
            name: None if isinstance(value, float) and not np.isfinite(value) else value
            for name, value in vars(self).items()
            if name != "history"
        }


@dataclass(frozen=True)
class TrainInfo:
    """How the network was trained: rows, whether values were masked, steps of the KL warm-up."""

    rows: int
    masks: bool
    warm_steps: int


@singledispatch
def gather(
    heldout: Any, modality: Modality, network: Network, history: History, info: TrainInfo
) -> Any:
    """What the checks read: figures of a trained network on data held out of its training.

    A kind of held-out data registers its own function.
    """
    raise NotImplementedError(f"no evidence is gathered from {type(heldout).__name__}")


@gather.register
def _(
    heldout: RowsToJudge, modality: Modality, network: Network, history: History, info: TrainInfo
) -> Evidence:
    """The evidence from held-out rows."""
    rows, member = heldout.rows.calibration()
    # Windows that share nearly all steps with the one before tell no more: some are enough.
    apart = max(min(len(member) // ENOUGH_ROWS, modality.overlap // 8), 1)
    judged = slice(0, MAX_JUDGED_ROWS * apart, apart)
    member = member[judged]
    batch, nets = modality.encode(rows).take(judged), torch.from_numpy(member)
    layout, groups = network.shape.layout, modality.mask_groups()
    rng = np.random.default_rng(0)
    baselines = Baselines.measure(layout, batch, member, network.width, groups)
    rebuilt = _predict(network, batch, batch, nets)
    masked = _predict_masked(network, batch, nets, groups)
    row_nats = rebuilt.row_nats(batch)
    strange = [shuffle(batch, layout, rng), noise_like(batch, layout, rng)]
    shuffled, noise = (_predict(network, b, b, nets).mean_nats(b) for b in strange)
    return Evidence(
        rows=info.rows,
        width=network.width,
        mean_nats=baselines.mean.mean_nats(batch),
        rebuilt_nats=float(row_nats.mean()),
        pca_rebuilt_nats=baselines.rebuilt.mean_nats(batch),
        masked_nats=masked.mean_nats(batch),
        pca_masked_nats=baselines.masked.mean_nats(batch),
        shuffled_nats=shuffled,
        noise_nats=noise,
        # Within a member: nets beside each other differ even where all rows are equal.
        spread=max(float(row_nats[member == one].std()) for one in np.unique(member)),
        rebuilt_skill=baselines.skill(layout, batch, rebuilt),
        pca_rebuilt_skill=baselines.skill(layout, batch, baselines.rebuilt),
        masked_skill=baselines.skill(layout, batch, masked),
        pca_masked_skill=baselines.skill(layout, batch, baselines.masked),
        worse=baselines.worse(layout, batch, masked if info.masks else rebuilt),
        history=history,
        folds=heldout.rows.split.folds,
        masks=info.masks,
        warm_steps=info.warm_steps,
        **_code_figures(network, batch.take(nets == 0)),  # nets' codes have nothing in common
    )


@torch.no_grad()
def _code_figures(network: Network, batch: Batch) -> dict[str, Any]:
    """What the first member's code dimensions cost, and how much they move."""
    code = network(batch.to(next(network.parameters()).device)).code
    nats = code.stats["nats"][0].mean(0).tolist() if "nats" in code.stats else []
    variance = code.mean[0].var(0, unbiased=False)
    dead = int((variance <= 1e-8 * variance.max().clamp(min=1e-12)).sum())
    return {"code_nats": nats, "code_variance": variance.tolist(), "dead": dead}


@torch.no_grad()
def _predict(network: Network, given: Batch, target: Batch, member: torch.Tensor) -> Predicted:
    """What each row's own member predicts of the target's values from the given ones."""
    device, row = next(network.parameters()).device, torch.arange(len(member))
    likelihood = network(given.to(device)).likelihood
    log_prob = likelihood.log_prob(target.to(device)).mean(0).cpu()[member, row]
    numbers = likelihood.mean.numbers.mean(0).cpu()[member, row]
    expected = torch.cat([numbers, log_prob[:, numbers.shape[-1] :].exp()], -1)
    return Predicted(-log_prob.double().numpy(), expected.numpy())


def _predict_masked(
    network: Network, batch: Batch, member: torch.Tensor, groups: list[np.ndarray]
) -> Predicted:
    """What the net predicts of values that are masked, group by group."""
    nats, expected = np.zeros(batch.observed.shape), np.zeros(batch.observed.shape)
    for group in groups:
        mask = torch.zeros(batch.observed.shape[1], dtype=torch.bool)
        mask[group] = True
        predicted = _predict(network, batch.hide(mask), batch, member)
        nats[:, group] = predicted.nats[:, group]
        expected[:, group] = predicted.expected[:, group]
    return Predicted(nats, expected)


def shuffle(batch: Batch, layout: Layout, rng: np.random.Generator) -> Batch:
    """The rows with each column's values permuted: nothing in a row belongs together."""
    orders = np.stack([rng.permutation(len(batch)) for _ in layout.columns], 1)
    row = torch.from_numpy(orders[:, layout.column_of_feature])
    numbers = batch.numbers.gather(0, row[:, : layout.numbers])
    codes = batch.codes.gather(0, row[:, layout.numbers :])
    return Batch(numbers, codes, batch.observed.gather(0, row))


def noise_like(batch: Batch, layout: Layout, rng: np.random.Generator) -> Batch:
    """Values drawn evenly between each column's ends, or among its levels; gaps stay."""
    numbers, codes = batch.numbers.clone(), batch.codes.clone()
    for feature, slot in enumerate(layout.slots):
        draw = torch.from_numpy(rng.random(len(batch)))
        if slot.coded:
            codes[:, feature - layout.numbers] = (draw * max(slot.levels - 1, 1)).long() + 1
            continue
        observed = batch.numbers[batch.observed[:, feature], feature]
        if slot.head == "bernoulli":
            numbers[:, feature] = (draw < 0.5).float()
        elif len(observed):
            low, high = observed.min(), observed.max()
            numbers[:, feature] = (low + (high - low) * draw).float()
    return Batch(numbers, codes, batch.observed).hide(~batch.observed)
