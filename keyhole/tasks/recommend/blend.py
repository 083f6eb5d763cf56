"""A weighted mean of the scores of two models, each standardised over the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from torch import Tensor

from keyhole.core.parts import build
from keyhole.data.interactions import Lists
from keyhole.errors import SettingError
from keyhole.tasks.recommend.base import RankingModel, Scores

MIN_SPREAD = 1e-12


@dataclass(eq=False, repr=False)
class Blend(RankingModel):
    """`share` of the second model's scores and the rest of the first one's; both are recipes."""

    kind = "blend"
    title = "blend"

    first: dict[str, Any]
    second: dict[str, Any]
    share: float = 0.5

    def __post_init__(self) -> None:
        self.models: tuple[RankingModel, ...] = tuple(
            build("ranking", recipe) for recipe in (self.first, self.second)
        )

    def check(self) -> None:
        """Raises: SettingError for an invalid share."""
        if not 0 <= self.share <= 1:
            raise SettingError(f"share={self.share!r}: expected a number from 0 to 1")

    @classmethod
    def of(cls, first: RankingModel, second: RankingModel, share: float) -> Blend:
        """The blend of two fitted models."""
        blend = cls(first.recipe(), second.recipe(), share)
        blend.models = first, second
        return blend

    @classmethod
    def bytes_for(cls, users: int, items: int, pairs: int) -> int:
        """None beside those of its models."""
        return 0

    def fit(self, history: Lists, seed: int = 0) -> Self:
        """Fit both models."""
        for model in self.models:
            model.fit(history, seed)
        return self

    def scores(self, history: Lists) -> Scores:
        """The weighted mean of standardised scores."""
        first, second = (standardised(model.scores(history)) for model in self.models)
        return (1 - self.share) * first + self.share * second

    def tensors(self) -> dict[str, Tensor]:
        """Those of both models."""
        pairs = enumerate(self.models)
        return {f"{i}.{n}": t for i, model in pairs for n, t in model.tensors().items()}

    def shapes(self, users: int, items: int) -> dict[str, tuple[int, ...]]:
        """Those of both models."""
        pairs = enumerate(self.models)
        return {f"{i}.{n}": s for i, m in pairs for n, s in m.shapes(users, items).items()}

    def restored(self, tensors: dict[str, Tensor], history: Lists) -> Self:
        """With what both had learned."""
        for i, model in enumerate(self.models):
            own = {n[2:]: tensor for n, tensor in tensors.items() if n.startswith(f"{i}.")}
            model.restored(own, history)
        return self


def standardised(scores: Scores) -> Scores:
    """Each list's scores with a mean of 0 and a standard deviation of 1 over all items."""
    scores = np.ascontiguousarray(scores)  # else sums of a row depend on the number of rows
    scores = scores - scores.mean(1, keepdims=True)
    spread = np.sqrt(np.square(scores).mean(1, keepdims=True))
    return scores / np.maximum(spread, MIN_SPREAD)
