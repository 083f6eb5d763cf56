"""The interfaces of heads: one for a whole row, one for the cells that share a likelihood."""

from abc import abstractmethod
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from keyhole.core.layout import Shape, Slot
from keyhole.core.parts import Part
from keyhole.core.records import Likelihood


class FeatureLikelihood(Protocol):
    """A distribution over the cells of one likelihood; targets are (*lead, batch, cell)."""

    def log_prob(self, target: Tensor) -> Float[Tensor, "*lead batch feature"]:
        """Log-probability of each cell in nats."""
        ...

    def deviance(self, target: Tensor) -> Float[Tensor, "*lead batch feature"]:
        """Nats beyond what a perfect expectation would have cost; never below zero.

        Half the unit deviance of McCullagh and Nelder (1989), section 2.3.
        """
        ...

    @property
    def mean(self) -> Tensor:
        """The expected number, or the most probable code, of each cell."""
        ...

    def interval(self, share: float) -> tuple[Tensor, Tensor]:
        """The ends of the central interval with this share of the probability."""
        ...

    def sample(self, generator: torch.Generator) -> Tensor:
        """One draw of each cell."""
        ...


class FeatureHead(Part):
    """The head of all cells with one likelihood; bound to their slots and the decoder's shape."""

    family = "cells"

    @abstractmethod
    def bind_slots(self, shape: Shape, slots: list[Slot]) -> None:
        """Make the weights for these slots, starting from their typical values."""

    @abstractmethod
    def forward(
        self,
        state: Float[Tensor, "*lead batch wide"],
        observed: Bool[Tensor, "*row feature"] | None,
    ) -> FeatureLikelihood:
        """The distribution of these features; `observed`: which of them the net was given."""


class Head(Part):
    """Decoder state -> a likelihood over all cells of a row."""

    family = "head"

    @property
    def binned(self) -> bool:
        """True where continuous cells need bins."""
        return False

    @abstractmethod
    def forward(
        self,
        state: Float[Tensor, "*lead batch wide"],
        observed: Bool[Tensor, "*row feature"] | None,
    ) -> Likelihood:
        """The distribution of each row; `observed`: which cells stood in the net's input."""


def to_width(
    scale: Float[Tensor, "*row feature"], location: Float[Tensor, "*lead batch width"]
) -> Float[Tensor, "*row width"]:
    """A scale for each feature of `location`: of images of another size, the mean scale."""
    if scale.shape[-1] == location.shape[-1]:
        return scale
    return scale.mean(-1, keepdim=True).expand(*scale.shape[:-1], location.shape[-1])
