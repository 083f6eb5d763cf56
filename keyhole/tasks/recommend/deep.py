"""Autoencoders of lists, trained: Mult-VAE, Mult-DAE and RecVAE's prior."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from keyhole.autoencoder.fit import Callbacks, Model, learn
from keyhole.core.environment import pass_work, threads_for
from keyhole.core.layout import Shape
from keyhole.core.parts import build
from keyhole.core.progress import EvaluateCallback
from keyhole.data.interactions import Lists
from keyhole.errors import SettingError
from keyhole.modalities.interactions.interactions import (
    InteractionModality,
    InteractionSchema,
    ListsOfItems,
    encoded,
)
from keyhole.modalities.prepared import Parts
from keyhole.model.bottlenecks import Bottleneck, Composite, Plain, Variational
from keyhole.model.heads import Multinomial
from keyhole.model.nets import ItemBag
from keyhole.model.network import Network
from keyhole.tasks.recommend.base import RankingModel, Scores, evened
from keyhole.training import TrainingConfig

OPERATIONS = 6  # multiply-adds of a training step for each weight and row: forward and back
EPOCHS = 100
CODES = ("variational", "plain", "composite")


@dataclass(eq=False, repr=False)
class DeepLists(RankingModel):
    """A softmax over all items given the code of a list, of which a share is dropped.

    `code` "variational" is Mult-VAE, with `beta`; "plain" is Mult-DAE; "composite" has the prior
    of RecVAE, with `gamma`. Source: Liang et al. 2018, section 2; Shenbin et al. 2020, section 3.
    """

    kind = "deep"
    title = "deep autoencoder"

    code: Literal["variational", "plain", "composite"] = "variational"
    width: int = 200
    hidden: int = 600
    beta: float = 0.2
    dropout: float = 0.5
    learning_rate: float = 1e-3
    steps: int | None = None
    gamma: float = 0.005

    model: Model | None = field(init=False, default=None)  # of a fit; a restored one has none
    network: Network | None = field(init=False, default=None)
    on_evaluate: EvaluateCallback | None = field(init=False, default=None)

    def check(self) -> None:
        """Raises: SettingError for an unknown code or sizes below 1."""
        if self.code not in CODES:
            raise SettingError(f"code={self.code!r:.40}: choose from {', '.join(CODES)}")
        if min(self.width, self.hidden) < 1:
            raise SettingError(f"{self!r}: width and hidden must be at least 1")

    @classmethod
    def bytes_for(cls, users: int, items: int, pairs: int) -> int:
        """Weights, their averages and moments, and the logits of a step."""
        return 6 * 4 * 2 * 600 * items + 64 * pairs + (1 << 28)

    def operations(self, users: int, items: int) -> float:
        """Multiply-adds of a fit: the map to items costs nearly all."""
        return OPERATIONS / 2 * EPOCHS * users * items * self.hidden

    def fit(self, history: Lists, seed: int = 0) -> Self:
        """Train a net."""
        self.check()
        corruption = build("corruption", {"kind": "item_dropout", "share": self.dropout})
        training = TrainingConfig(self.steps, learning_rate=self.learning_rate, weight_decay=0.0)
        bottleneck, net = self._parts(history.shape[1])
        parts = Parts(bottleneck, net, Multinomial(), corruption, training, InteractionSchema())
        callbacks = Callbacks(
            None, self.on_evaluate or (lambda event: None), lambda modality, source, rows: None
        )
        self.model = learn(ListsOfItems(history), parts, seed, callbacks)
        self.network = self.model.network
        return self

    def _parts(self, items: int) -> tuple[Bottleneck, ItemBag]:
        width = min(self.width, items)
        bottlenecks: dict[str, Bottleneck] = {
            "variational": Variational(width=width, beta=self.beta),
            "plain": Plain(width),
            "composite": Composite(width=width, gamma=self.gamma),
        }
        return bottlenecks[self.code], ItemBag([self.hidden])

    @torch.no_grad()
    def codes(self, history: Lists) -> Tensor:
        """The code of each list, (user, code)."""
        network: Any = self.network
        batch = encoded(evened(history)).to(next(network.parameters()).device)
        return network.encode(batch).mean[0][: history.shape[0]].cpu()

    @torch.no_grad()
    def scores(self, history: Lists) -> Scores:
        """The logits of all items."""
        network: Any = self.network
        batch = encoded(evened(history)).to(next(network.parameters()).device)
        with threads_for(pass_work(network, len(batch))):
            z = network.encode(batch).z
            logits = network.decode(z).logits()[0, 0]
        return np.ascontiguousarray(logits[: history.shape[0]].cpu().numpy())

    def tensors(self) -> dict[str, Tensor]:
        """The weights of the net."""
        network: Any = self.network
        return dict(network.state_dict())

    def shapes(self, users: int, items: int) -> dict[str, tuple[int, ...]]:
        """Those of the net's weights."""
        with torch.device("meta"):
            return {n: tuple(t.shape) for n, t in self._network(items).state_dict().items()}

    def restored(self, tensors: dict[str, Tensor], history: Lists) -> Self:
        """With these weights."""
        self.network = self._network(history.shape[1])
        self.network.load_state_dict(tensors)
        self.network.eval()
        return self

    def _network(self, items: int) -> Network:
        bottleneck, net = self._parts(items)
        layout = InteractionModality(count=items).layout
        return Network(net, bottleneck, Multinomial(), Shape(layout))
