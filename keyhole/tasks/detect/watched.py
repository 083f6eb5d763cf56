"""What is watched of a series, window by window, to see whether the world has changed.

A channel's level alone, and beyond what the others tell of it; how far it strays from what they
tell, which shows that a relation broke; its gaps; and the level of each dimension of the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from keyhole.core.environment import pass_work, threads_for
from keyhole.core.records import Batch
from keyhole.modalities.rows.split import ReferenceSet
from keyhole.model.network import Network
from keyhole.tasks.detect.long_run import LongRun

RIDGE = 1e-3  # of the variance of an axis: channels that repeat one another
SMALL = 1e-3  # of a channel's spread: less is no error
STRETCHES = 5  # of training: what others tell of a channel is learned from the other stretches
RELATED = 0.1  # share of a channel's variance by which the others tell something of it
CODE = "the code"
LEVELS = ("level", "shares")
LEAST = {"level": 0.01, "shares": 0.05, "relation": 0.05, "gaps": 0.05, "code": 0.01}


@dataclass(frozen=True)
class Feature:
    """One number a window: what it is of (a channel, or the code), and what it tells.

    `kind` is "level", "shares" of a channel's levels, "relation", "gaps" or "code"; `given` is
    True for what is left when the other channels have told theirs.
    """

    what: str
    kind: str
    place: int
    given: bool = False


@dataclass(frozen=True)
class Watched:
    """Features of windows. `ignored` channels have none, and tell nothing of others.

    `weights` make of a step's axes what is left of each channel of numbers.
    """

    modality: Any
    network: Network
    ignored: frozenset[str]
    center: Float[np.ndarray, " axis"]
    weights: Float[np.ndarray, "axis number"]

    @cached_property
    def columns(self) -> list[str]:
        """The channel of each axis of a step."""
        return self.modality.steps.axis_columns

    @cached_property
    def numbers(self) -> list[int]:
        """The axes that the others tell something of."""
        return [i for i in self.modality.continuous if self.columns[i] not in self.ignored]

    @cached_property
    def features(self) -> list[Feature]:
        """In the order of `values`."""
        axes = [i for i, name in enumerate(self.columns) if name not in self.ignored]
        continuous, names = set(self.modality.continuous), self.columns
        own = [Feature(names[i], "level" if i in continuous else "shares", i) for i in axes]
        own += [Feature(names[i], "level", i, given=True) for i in self.numbers]
        own += [Feature(names[i], "relation", i, given=True) for i in self.numbers]
        own += [Feature(names[i], "gaps", i) for i in self._first_axes]
        codes = 0 if self.ignored else self.network.width
        return own + [Feature(CODE, "code", i) for i in range(codes)]

    @cached_property
    def _first_axes(self) -> list[int]:
        names = [name for name in dict.fromkeys(self.columns) if name not in self.ignored]
        return [self.columns.index(name) for name in names]

    def values(
        self, batch: Batch, weights: Float[np.ndarray, "axis number"] | None = None
    ) -> Float[np.ndarray, "window feature"]:
        """The features of encoded windows; NaN for those of a channel without a reading."""
        x = self.modality.steps.by_step(batch).double().numpy()
        gap = np.isnan(x)
        count = (~gap).sum(1)
        level = np.where(gap, 0.0, x).sum(1) / np.where(count, count, np.nan)
        z = _filled(x, gap, level) - self.center
        rest = z @ (self.weights if weights is None else weights)
        missing = np.isnan(level[:, self.numbers])
        square = np.square(rest).mean(1)
        parts = [
            level[:, [f.place for f in self.features if f.kind in LEVELS and not f.given]],
            np.where(missing, np.nan, rest.mean(1)),
            np.where(missing, np.nan, np.log(np.sqrt(square) + SMALL)),
            gap.mean(1)[:, self._first_axes],
        ]  # fmt: skip
        return np.concatenate(parts if self.ignored else [*parts, self._codes(batch)], 1)

    @torch.no_grad()
    def _codes(self, batch: Batch) -> Float[np.ndarray, "window code"]:
        """By the first ensemble member."""
        device = next(self.network.parameters()).device
        with threads_for(pass_work(self.network, len(batch))):
            state = self.network.encoder(self.network.stem(batch.to(device)))
            return self.network.bottleneck(state).mean[0].cpu().double().numpy()

    def partner(self, axis: int) -> str | None:
        """The channel that tells most of this one; None where there is no other."""
        weights = np.abs(self.weights[:, self.numbers.index(axis)])
        own = self.columns[axis]
        others = [i for i, name in enumerate(self.columns) if name != own and weights[i] > 0]
        return self.columns[max(others, key=lambda i: weights[i])] if others else None


@dataclass(frozen=True)
class Usual:
    """What is watched, how it is in training, and which channels the others tell something of."""

    watched: Watched
    long_run: LongRun
    related: frozenset[int]

    @classmethod
    def learn(
        cls, modality: Any, network: Network, reference: ReferenceSet,
        ignored: frozenset[str], lengths: tuple[int, ...],
    ) -> Self:  # fmt: skip
        """From reference windows that share no step.

        What the others tell of a channel is learned from the other stretches of training, so that
        it fits these windows no better than new ones.
        """
        windows, places = _apart(modality, reference)
        stretches = np.array_split(np.arange(len(places)), min(STRETCHES, len(places)))
        parts = [windows.take(torch.from_numpy(stretch)) for stretch in stretches]
        moments = [_Moments.of(modality.steps.by_step(part)) for part in parts]
        total = _Moments.sum(moments)
        watched = Watched(
            modality, network, ignored, total.center, np.zeros((len(total.center), 0))
        )
        weights, explained = _weights(watched, total, total.center)
        values = []
        for i, part in enumerate(parts):
            others = _Moments.sum([m for j, m in enumerate(moments) if j != i] or moments)
            values.append(watched.values(part, _weights(watched, others, total.center)[0]))
        watched = Watched(modality, network, ignored, total.center, weights)
        floor = np.array([LEAST[feature.kind] for feature in watched.features])
        long_run = LongRun.of(np.concatenate(values), places, lengths, floor)
        pairs = zip(watched.numbers, explained, strict=True)
        return cls(watched, long_run, frozenset(axis for axis, r2 in pairs if r2 > RELATED))


def _apart(modality: Any, reference: ReferenceSet) -> tuple[Batch, np.ndarray]:
    """The reference windows that share no step with one before, and their places in windows."""
    position, chosen, latest = reference.position, [], -np.inf
    if position is None:
        position = np.arange(len(reference))
    for i in np.argsort(position, kind="stable"):
        if position[i] > latest + modality.overlap:
            chosen.append(i)
            latest = position[i]
    index = np.array(chosen, np.int64)
    return reference.batch.take(torch.from_numpy(index)), position[index] // (modality.overlap + 1)


@dataclass(frozen=True)
class _Moments:
    """Sums over steps, gaps filled."""

    count: float
    total: np.ndarray
    products: np.ndarray

    @classmethod
    def of(cls, x: Float[Tensor, "window step axis"]) -> _Moments:
        steps = x.double().numpy()
        gap = np.isnan(steps)
        count = (~gap).sum(1)
        level = np.where(gap, 0.0, steps).sum(1) / np.where(count, count, np.nan)
        z = _filled(steps, gap, level).reshape(-1, steps.shape[2])
        return cls(float(len(z)), z.sum(0), z.T @ z)

    @classmethod
    def sum(cls, parts: Sequence[_Moments]) -> _Moments:
        return cls(
            sum(part.count for part in parts),
            np.sum([part.total for part in parts], 0),
            np.sum([part.products for part in parts], 0),
        )

    @property
    def center(self) -> np.ndarray:
        return self.total / self.count

    def covariance(self) -> np.ndarray:
        return self.products / self.count - np.outer(self.center, self.center)


def _filled(x: np.ndarray, gap: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Gaps filled by the level of the window; by 0 where all is a gap."""
    return np.where(gap, np.nan_to_num(level)[:, None], x)


def _weights(
    watched: Watched, moments: _Moments, center: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What makes the rest of each channel of a step, and the share that others explain of it.

    A linear prediction from all other channels, read off the inverse covariance.
    """
    names = watched.columns
    used = np.array([i for i, name in enumerate(names) if name not in watched.ignored], int)
    covariance = moments.covariance()
    weights = np.zeros((len(names), len(watched.numbers)))
    explained = np.zeros(len(watched.numbers))
    for j, axis in enumerate(watched.numbers):
        weights[axis, j] = 1.0
    if not len(used):
        return weights, explained
    inside = covariance[np.ix_(used, used)]
    variance = np.diag(inside).clip(SMALL**2)
    inverse = np.linalg.inv(inside + np.diag(RIDGE * variance + SMALL**2))
    for j, axis in enumerate(watched.numbers):
        place = int(np.flatnonzero(used == axis)[0])
        weights[used, j] = inverse[place] / inverse[place, place]
        explained[j] = 1 - 1 / (inverse[place, place] * (variance[place] * (1 + RIDGE)))
    return weights, explained
