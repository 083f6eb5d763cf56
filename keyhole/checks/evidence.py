"""What the checks look at: the net beside its floors, on rows it has not trained on."""

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
from keyhole.modalities.rows.prepare import RowsToJudge
from keyhole.model.network import Network

MOST_ROWS = 4_096


@dataclass(frozen=True)
class Evidence:
    """Held-out nats per row of the net and of its floors, lower = better; skill per column.

    «Rebuilt» cells stand in the input, «guessed» ones are hidden there, an eighth of the columns
    at a time. Skill is the share of a column's variation (of its uncertainty, for levels) that is
    explained; the mean has skill 0, PCA is that of the same width. `worse` are the columns that
    the net predicts worse than their mean, by the question that it was trained for.
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
    masks: bool  # the net was trained to guess hidden cells
    warm_steps: int  # while the code's price rose
    code_nats: list[float]  # a row, of each code dimension that has noise; else empty
    code_variance: list[float]  # of each dimension, over rows
    dead: int  # dimensions that are the same on every row

    @property
    def asked_nats(self) -> tuple[float, float]:
        """The net's nats and PCA's, of the question that the net was trained for."""
        if self.masks:
            return self.masked_nats, self.pca_masked_nats
        return self.rebuilt_nats, self.pca_rebuilt_nats

    def verdict(self, findings: list[Any]) -> str:
        """One line on how far to trust the model."""
        codes = {finding.code for finding in findings}
        if codes & {"KH001", "KH002", "KH003", "KH004", "KH008"}:
            return "look again: " + "; ".join(finding.title for finding in findings)
        titles = [finding.title for finding in findings if finding.code != "KH015"]
        more = f" ({', '.join(titles)})" if titles else ""
        does = "predicts masked values" if self.masks else "rebuilds rows"
        head = "learned"
        if self.worse:
            head += f" except {len(self.worse)} of {len(self.masked_skill)} columns"
        return f"{head}: {does} better than PCA at equal width; does not copy{more}"

    def to_json(self) -> dict[str, object]:
        """The figures that a manifest keeps."""
        kept = {name: value for name, value in vars(self).items() if name != "history"}
        return {
            name: (None if isinstance(value, float) and not np.isfinite(value) else value)
            for name, value in kept.items()
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
    heldout: RowsToJudge,
    modality: Modality,
    network: Network,
    history: History,
    info: TrainInfo,
) -> Evidence:
    """The evidence from held-out rows."""
    rows, member = heldout.rows.calibration()
    batch = modality.encode(rows)
    kept = slice(0, MOST_ROWS)
    batch, nets = batch.take(kept), torch.from_numpy(member[kept])
    layout = network.shape.layout
    rng = np.random.default_rng(0)
    groups = modality.mask_groups()
    baselines = Baselines.measure(layout, batch, nets.numpy(), network.width, groups)
    rebuilt, guessed = _net(network, batch, nets), _net_guesses(network, batch, nets, groups)
    row_nats, mine = rebuilt.row_nats(batch), nets.numpy()
    return Evidence(
        rows=info.rows,
        width=network.width,
        mean_nats=baselines.mean.mean_nats(batch),
        rebuilt_nats=float(row_nats.mean()),
        pca_rebuilt_nats=baselines.rebuilt.mean_nats(batch),
        masked_nats=guessed.mean_nats(batch),
        pca_masked_nats=baselines.guessed.mean_nats(batch),
        shuffled_nats=_net(network, shuffle(batch, layout, rng), nets).mean_nats(batch),
        noise_nats=_net(network, noise_like(batch, layout, rng), nets).mean_nats(batch),
        # Within a member: nets beside each other differ even where all rows are equal.
        spread=max(float(row_nats[mine == one].std()) for one in np.unique(mine)),
        rebuilt_skill=baselines.skill(layout, batch, rebuilt),
        pca_rebuilt_skill=baselines.skill(layout, batch, baselines.rebuilt),
        masked_skill=baselines.skill(layout, batch, guessed),
        pca_masked_skill=baselines.skill(layout, batch, baselines.guessed),
        worse=baselines.worse(layout, batch, guessed if info.masks else rebuilt),
        history=history,
        folds=heldout.rows.split.folds,
        masks=info.masks,
        warm_steps=info.warm_steps,
        **_of_codes(network, batch, nets),
    )


@torch.no_grad()
def _of_codes(network: Network, batch: Batch, member: torch.Tensor) -> dict[str, Any]:
    """What the first member's code dimensions cost, and how much they move."""
    batch = batch.take(torch.nonzero(member == 0)[:, 0])  # nets' codes have nothing in common
    code = network(batch.to(next(network.parameters()).device)).code
    nats = code.stats["nats"][0].mean(0).tolist() if "nats" in code.stats else []
    variance = code.mean[0].var(0, unbiased=False)
    dead = int((variance <= 1e-8 * variance.max().clamp(min=1e-12)).sum())
    return {"code_nats": nats, "code_variance": variance.tolist(), "dead": dead}


@torch.no_grad()
def _net(
    network: Network, batch: Batch, member: torch.Tensor, given: Batch | None = None
) -> Predicted:
    """What the net says of each row's cells when it is given them, or `given` in their place."""
    device = next(network.parameters()).device
    likelihood = network((given or batch).to(device)).likelihood
    log_prob = _pick(likelihood.log_prob(batch.to(device)).mean(0), member)
    numbers = _pick(likelihood.mean.numbers.mean(0), member)
    wide = numbers.shape[-1]
    expected = torch.cat([numbers, log_prob[:, wide:].exp()], -1)
    return Predicted(-log_prob.double().numpy(), expected.numpy())


def _net_guesses(
    network: Network, batch: Batch, member: torch.Tensor, groups: list[np.ndarray]
) -> Predicted:
    """What the net says of cells that it is not given, group by group."""
    nats, expected = np.zeros(batch.observed.shape), np.zeros(batch.observed.shape)
    for group in groups:
        hidden = torch.zeros(batch.observed.shape[1], dtype=torch.bool)
        hidden[group] = True
        said = _net(network, batch, member, batch.hide(hidden))
        nats[:, group], expected[:, group] = said.nats[:, group], said.expected[:, group]
    return Predicted(nats, expected)


def _pick(found: torch.Tensor, member: torch.Tensor) -> torch.Tensor:
    """(member, row, cell) -> (row, cell): each row by its own member."""
    return found.cpu()[member, torch.arange(len(member))]


def shuffle(batch: Batch, layout: Layout, rng: np.random.Generator) -> Batch:
    """Every column's values dealt out among the rows: nothing in a row belongs together."""
    numbers, codes, observed = batch.numbers.clone(), batch.codes.clone(), batch.observed.clone()
    wide = layout.numbers
    for column in layout.columns:
        order = torch.from_numpy(rng.permutation(len(batch)))
        for feature in layout.features(column):
            observed[:, feature] = batch.observed[order, feature]
            if feature < wide:
                numbers[:, feature] = batch.numbers[order, feature]
            else:
                codes[:, feature - wide] = batch.codes[order, feature - wide]
    return Batch(numbers, codes, observed)


def noise_like(batch: Batch, layout: Layout, rng: np.random.Generator) -> Batch:
    """Cells drawn evenly between each column's ends, or among its levels."""
    numbers, codes = batch.numbers.clone(), batch.codes.clone()
    for feature, slot in enumerate(layout.slots):
        draw = torch.from_numpy(rng.random(len(batch)))
        if slot.coded:
            drawn = (draw * max(slot.levels - 1, 1)).long() + 1
            codes[:, feature - layout.numbers] = drawn
            continue
        held = batch.numbers[batch.observed[:, feature], feature]
        if slot.head == "bernoulli":
            numbers[:, feature] = (draw < 0.5).float()
        elif len(held):
            low, high = held.min(), held.max()
            numbers[:, feature] = (low + (high - low) * draw).float()
    wide = layout.numbers
    return Batch(
        numbers * batch.observed[:, :wide], codes * batch.observed[:, wide:], batch.observed
    )
