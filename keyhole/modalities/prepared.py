"""What a source becomes before training: parts, batches, and data held out of training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch

from keyhole.core.parts import copy
from keyhole.core.records import Batch
from keyhole.modalities.rows.split import ReferenceSet, Split
from keyhole.model.bottlenecks.base import Bottleneck
from keyhole.model.heads.base import Head
from keyhole.model.nets.base import Net
from keyhole.model.network import Network


@dataclass(frozen=True)
class Parts:
    """The described parts of a fit; each is a template that is copied before use."""

    bottleneck: Bottleneck
    net: Net
    head: Head
    corruption: Any  # a Corruption: defined in a later layer
    training: Any  # a TrainingConfig: defined in a later layer
    schema: Any

    @classmethod
    def names(cls) -> list[str]:
        """The families of parts, in the order in which defaults are chosen."""
        return [field.name for field in fields(cls)]

    def copied(self) -> Parts:
        """Fresh parts with the same arguments, which nobody else can change."""
        named = {name: getattr(self, name) for name in self.names()}
        copies: dict[str, Any] = {n: p if p is None else copy(p) for n, p in named.items()}
        return Parts(**copies)

    def recipes(self) -> dict[str, dict[str, Any]]:
        """Each part as JSON; a bottleneck that nobody can choose is left out."""
        named = {name: getattr(self, name) for name in self.names()}
        return {name: part.recipe() for name, part in named.items() if hasattr(part, "kind")}


@dataclass(frozen=True)
class FitOptions:
    """What a task asks of a fit beyond its parts.

    `support_fraction` is the share of training rows that are trusted to be good; below 1, a row
    counts less the farther it lies from those that agree most. `group` is a column that is not
    learned from and whose values the reference rows carry.
    """

    support_fraction: float = 1.0
    group: str | None = None


class Feed(Protocol):
    """Training batches as a pure function of seed and step, so that a run can be resumed."""

    @property
    def rows(self) -> int:
        """The number of training rows."""
        ...

    @property
    def pools(self) -> int:
        """The number of pools after which rows come again."""
        ...

    def batch(self, step: int, size: int, steps_a_pool: int) -> tuple[Batch, torch.Generator]:
        """The rows of a step with a member axis, and the generator of its randomness."""
        ...


M = TypeVar("M")


@dataclass(frozen=True)
class Calibrated(Generic[M]):
    """What held-out data add to a trained model.

    `typical_nats` is the mean of each column, `held_out_nats` those of each row in ascending
    order. `reference` are the rows that new ones are compared with.
    """

    modality: M
    typical_nats: np.ndarray
    held_out_nats: np.ndarray
    reference: ReferenceSet | None = None
    split: Split | None = None


class Heldout(ABC):
    """Data held out of training, by which a trained network is calibrated and judged."""

    @abstractmethod
    def calibrate(self, modality: Any, network: Network) -> Calibrated[Any]:
        """What a trained network costs on it, and the modality calibrated by it."""


@dataclass(frozen=True)
class Prepared:
    """A source made ready for a training run.

    `stopping` are held-out rows with a member axis that decide when to stop; `judged` is the
    number of rows that are judged after training; `reserved` the share of a time budget that
    judging needs; `gradient_norm` the largest norm of a gradient per feature, None: the default.
    """

    parts: Parts
    feed: Feed
    stopping: Batch
    heldout: Heldout
    fingerprint: str
    rows: int
    members: int = 1
    judged: int = 0
    reserved: float = 0.0
    gradient_norm: float | None = None
