"""Questions put to a row, and one answer: how many times the usual is it?

    how far is the nearest row ever met?            local: sees what lies in a gap of the data
    how far is the core, the rows that agree most?  robust: unmoved by what hid in the training
    how badly are hidden cells guessed?             the net: sees what breaks a pattern

Each is measured in its own median over rows that no net trained on, so that all three count
alike, and their mean is the surprise: 1 is usual, 3 is three times as far out. A blend of tail
probabilities would be blind beyond the farthest training row; ratios keep counting.

A fourth question is silent for nearly all rows:

    is one cell far beyond all that its column held?  sees one strange cell among a hundred

Its answer is how rare such a row is. The row is then at least as surprising as a row is that is
as rare by the mean of the three.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from keyhole.core.coordinates import coordinates, filled, gaps
from keyhole.core.nats import row_nats
from keyhole.core.records import Batch
from keyhole.core.threads import pass_work, threads_for
from keyhole.network import Network
from keyhole.surprise.bank import Bank
from keyhole.surprise.hidden import GROUPS, hidden_deviance
from keyhole.surprise.outliers import COMMON, Outliers, exceeded
from keyhole.training.memory import Memory
from keyhole.training.settle import members_mean

PASS_ROWS = 4_096  # of a forward pass; what larger ones make falls out of the processor's cache
LEAST_UNIT = 1e-3  # of a question's unit, where half of the rows are exactly alike
QUESTIONS = ("nearest", "core", "hidden")
SPOKEN = 0.004  # share of rows that the fourth question raises: half of a usual alarm rate
TRUSTED = 0.001  # of rarer rows a tail knows little: their further nats count by their logarithm


@dataclass(frozen=True)
class Asked:
    """The answers for some rows, and the columns' part in the third and the fourth.

    `deviance` is (member, row, column) in nats beyond a perfect guess; `seen` says which columns
    were observed; `tails` is -log of the share of rows whose cell is as far out in that column
    or as new, 0 for a usual one, and `rarity` that of rows with a cell as rare.
    """

    distances: Float[Tensor, "2 row"]
    deviance: Float[Tensor, "member row column"]
    seen: Bool[Tensor, "row column"]
    tails: Float[Tensor, "row column"]
    rarity: Float[Tensor, " row"]


@dataclass(frozen=True)
class Weighed:
    """The surprise of some rows, and its standard deviation between nets as doubt."""

    surprise: np.ndarray
    doubt: np.ndarray


@dataclass(frozen=True)
class Surprise:
    """A scale for rows: a network, a bank, its columns' tails, and what is usual.

    `typical` is each column's mean deviance on held-out rows, so that a gap makes a row neither
    calm nor loud; `units` are the questions' medians there. `rare` is the mean of the three that
    `SPOKEN` of those rows exceed, and by how much more an e-th of these do.
    """

    network: Network
    bank: Bank
    outliers: Outliers
    typical: np.ndarray
    units: np.ndarray
    rare: np.ndarray

    @classmethod
    def settle(cls, network: Network, memory: Memory, core: float) -> "Surprise":
        """The scale of a memory whose core is this share of it, in units of its judged rows."""
        bare = cls.unsettled(network, memory, core)
        asked = bare._ask_judged(memory)
        bare = replace(bare, typical=_typical(asked.deviance.mean(0), asked.seen))
        answers = bare.answers(asked).mean(1).numpy()
        bare = replace(bare, units=np.array([_unit(answer) for answer in answers]))
        means = bare.answers(asked).mean((0, 1)).numpy()
        common, step = exceeded(means[~np.isnan(means)])
        return replace(bare, rare=np.array([common + step * np.log(COMMON / SPOKEN), step]))

    def judge(self, memory: Memory) -> np.ndarray:
        """The surprises of the rows that calibrate.

        Each is asked of the nets that have not seen it, and as if it were not remembered.
        """
        return self.weigh(self._ask_judged(memory)).surprise

    def _ask_judged(self, memory: Memory) -> Asked:
        judged = memory.take(memory.judged)
        asked = self.ask(judged.batch, torch.from_numpy(memory.own))
        if memory.folds == 1:
            return asked
        fold = torch.from_numpy(judged.fold)
        mine = asked.deviance[fold.clamp(min=0), torch.arange(len(fold))]
        return replace(asked, deviance=torch.where((fold >= 0)[:, None], mine, asked.deviance))

    @classmethod
    def unsettled(cls, network: Network, memory: Memory, core: float) -> "Surprise":
        """A scale without units: the bank alone is there."""
        layout = network.shape.layout
        batch = _whole(network, memory.take(memory.remembered).batch)
        bank = Bank.of(coordinates(batch, layout), core)
        outliers = Outliers.of(memory.take(memory.remembered).batch, layout)
        typical, units = np.zeros(len(layout.columns)), np.ones(len(QUESTIONS))
        return cls(network, bank, outliers, typical, units, np.array([0.0, 0.0]))

    def remembering(self, memory: Memory, core: float) -> "Surprise":
        """The same scale on another bank."""
        other = self.unsettled(self.network, memory, core)
        return replace(self, bank=other.bank, outliers=other.outliers)

    @torch.no_grad()
    def ask(self, batch: Batch, own: Tensor | None = None) -> Asked:
        """The answers, by passes that each fit the processor's cache; `own` as in Bank."""
        device = next(self.network.parameters()).device
        layout = self.network.shape.layout
        even, parts = batch.even(layout.grid), []
        if own is not None:
            own = torch.nn.functional.pad(own, (0, len(even) - len(batch)), value=-1)
        with threads_for(GROUPS * pass_work(self.network, min(len(batch), PASS_ROWS))):
            for first in range(0, max(len(batch), 1), PASS_ROWS):
                part = slice(first, first + PASS_ROWS)
                here = even.take(part).to(device)
                deviance, seen = hidden_deviance(self.network, here)
                x = coordinates(_whole(self.network, here), layout)
                far = self.bank.distances(x, None if own is None else own[part])
                parts.append((far.cpu(), deviance.cpu(), seen.cpu()))
        distances, deviance, seen = zip(*parts, strict=True)
        rows, rarity = slice(0, len(batch)), self.outliers.rarity(even, own)
        return Asked(
            torch.cat(distances, 1)[:, rows], torch.cat(deviance, 1)[:, rows],
            torch.cat(seen)[rows], rarity.cells[rows], rarity.row[rows],
        )  # fmt: skip

    def answers(self, asked: Asked) -> Float[Tensor, "question member row"]:
        """The questions' answers in their units, by each net; NaN where nothing was asked."""
        typical = torch.from_numpy(self.typical).to(asked.deviance)
        depth = [
            row_nats(net, asked.seen, typical).clamp(min=0).sqrt() for net in asked.deviance
        ]  # a length, as the distances are
        hidden = torch.stack(depth).double()[None]
        near = asked.distances.double()[:, None].expand(-1, hidden.shape[1], -1)
        return torch.cat([near, hidden]) / torch.from_numpy(self.units)[:, None, None]

    def weigh(self, asked: Asked) -> Weighed:
        """The surprise of rows that no net trained on, or that hardly any did.

        NaN for a row with no observed cell: nothing was asked of it.
        """
        total = self.answers(asked).mean(0)  # (member, row)
        doubt = total.std(0) if len(total) > 1 else torch.full_like(total[0], torch.nan)
        surprise = total.mean(0).numpy()
        raised = np.where(np.isnan(surprise), np.nan, self._raised(asked.rarity.numpy()))
        return Weighed(np.maximum(surprise, raised), doubt.numpy())

    def _raised(self, rarity: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
        """What rows so rare by the mean of the three have as a mean; 0 for a row not so rare."""
        spoken, trusted = -np.log(SPOKEN), -np.log(TRUSTED)
        nats = np.minimum(rarity, trusted) + np.log1p((rarity - trusted).clip(0)) - spoken
        return np.where(nats >= 0, self.rare[0] + self.rare[1] * nats, 0.0)


def _whole(network: Network, batch: Batch) -> Batch:
    """The rows with what the net expects in their gaps."""
    layout = network.shape.layout
    if not bool(gaps(batch, layout).any()):
        return batch
    with torch.no_grad():
        expected = members_mean(network(batch).likelihood.mean)
    return filled(batch, expected, layout)


def _typical(
    deviance: Float[Tensor, "row column"], seen: Bool[Tensor, "row column"]
) -> np.ndarray:
    held = torch.where(seen, deviance, 0.0).double().sum(0) / seen.sum(0).clamp(min=1)
    return held.numpy()


def _unit(answers: np.ndarray) -> float:
    """What is usual; where half of the rows are exactly alike, a little of what the mean is."""
    answers = answers[~np.isnan(answers)]
    if not len(answers):
        return 1.0
    return float(max(np.median(answers), LEAST_UNIT * answers.mean(), LEAST_UNIT))
