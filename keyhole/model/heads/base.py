"""The interfaces of heads, and the head of a row: each feature under its slot's likelihood."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, fields, replace
from itertools import chain
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from keyhole.core.layout import Shape, Slot
from keyhole.core.parts import Part, kinds
from keyhole.core.records import Batch, Likelihood
from keyhole.errors import SettingError
from keyhole.model.layers import Linear, Places, State, constant

FeatureValues = Float[Tensor, "*lead batch feature"]
Observed = Bool[Tensor, "*row feature"] | None  # which features the net was given; None: all
Continuous = Literal["student_t", "gaussian", "binned", "logistic", "poisson_gaussian"]
CONTINUOUS = get_args(Continuous)


class FeatureLikelihood(ABC):
    """A distribution over the features of a likelihood; targets are `(*lead, batch, feature)`."""

    @abstractmethod
    def log_prob(self, target: Tensor) -> FeatureValues:
        """Log-probability of each feature in nats."""

    def deviance(self, target: Tensor) -> FeatureValues:
        """Nats beyond what a perfect expectation would have cost; never below zero.

        Half the unit deviance of McCullagh and Nelder (1989), section 2.3. Here: all nats, since
        a correct expectation of a discrete value costs none.
        """
        return -self.log_prob(target)

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """The expected number, or the most probable code, of each feature."""

    def interval(self, share: float) -> tuple[Tensor, Tensor]:
        """The ends of the central interval with this probability; here the mean, twice."""
        return self.mean, self.mean

    @abstractmethod
    def sample(self, generator: torch.Generator) -> Tensor:
        """One draw of each feature."""

    def take(self, places: Places) -> Self:
        """The distribution of the features at these places: the last axis of its tensors."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}  # pyright: ignore
        tensors = {name: part for name, part in parts.items() if isinstance(part, Tensor)}
        taken = {name: x.index_select(-1, places) for name, x in tensors.items()}
        return replace(self, **taken)  # pyright: ignore


class FeatureHead(Part):
    """The head of all features with one likelihood; bound to their slots."""

    family = "cells"

    def __post_init__(self) -> None:
        super().__init__()

    @abstractmethod
    def bind_slots(self, shape: Shape, slots: list[Slot]) -> None:
        """Make the weights for these slots, starting from their typical values."""

    @abstractmethod
    def forward(self, state: State, observed: Observed) -> FeatureLikelihood:
        """The distribution of these features."""

    def some(self, state: State, observed: Observed, places: Places) -> FeatureLikelihood:
        """The distribution of those at these places alone."""
        return self(state, observed).take(places)

    @property
    def to_parameter(self) -> Linear | None:
        """The linear map to one number a feature, if that is all that a state is needed for."""
        return None

    def from_parameter(self, parameter: Tensor, observed: Observed) -> FeatureLikelihood:
        """The distribution of each feature, from what `to_parameter` returns."""
        raise NotImplementedError

    def add_constants(self, constants: dict[str, Any]) -> None:
        """Register values of each feature that follow from the slots, so they are not saved.

        They are counted in NumPy: the shapes of a model that is read are counted on torch's meta
        device, where arithmetic takes a second to import.
        """
        for name, values in constants.items():
            self.register_buffer(name, constant(values), persistent=False)


class Head(Part):
    """Decoder state -> a likelihood over all features of a row."""

    family = "head"
    items: ClassVar[bool] = False  # True: rows must be lists of items

    def __post_init__(self) -> None:
        super().__init__()

    @property
    def binned(self) -> bool:
        """True where continuous features need bins."""
        return False

    @abstractmethod
    def forward(
        self, state: State, observed: Observed, features: Places | None = None
    ) -> Likelihood:
        """The distribution of each row, or of these features of it alone, in rising order."""

    def sampled(self, likelihood: Any, generator: torch.Generator) -> Any:
        """The likelihood of a training step: of very many values, it may compare with some."""
        return likelihood


def to_width(
    scale: Float[Tensor, "*row feature"], location: Float[Tensor, "*lead batch width"]
) -> Float[Tensor, "*row width"]:
    """A scale for each feature of `location`: of images of another size, the mean scale."""
    if scale.shape[-1] == location.shape[-1]:
        return scale
    return scale.mean(-1, keepdim=True).expand(*scale.shape[:-1], location.shape[-1])


def visible_or_masked(
    pair: Float[Tensor, "2 member 1 scale"], observed: Observed, location: Tensor
) -> Tensor:
    """The second scale of a pair for visible features, the first for masked ones."""
    masked, visible = pair
    scale = visible if observed is None else torch.where(observed, visible, masked)
    return to_width(scale, location)


def own_numbers(shape: Shape, places: list[int]) -> Tensor | None:
    """Where a state of steps holds the numbers of these features; None: a head takes it all."""
    features = shape.layout.numbers
    if not shape.steps or max(places) >= features or shape.wide == len(places):
        return None
    wide, step_features = shape.wide // shape.steps, features // shape.steps
    return torch.tensor([i // step_features * wide + i % step_features for i in places])


@dataclass(frozen=True)
class Group:
    """The features of one likelihood: their distribution and positions in the layout."""

    features: FeatureLikelihood
    places: Tensor
    coded: bool

    def target(self, batch: Batch) -> Tensor:
        """The batch's features under this likelihood."""
        if self.coded:
            return batch.codes[..., self.places - batch.numbers.shape[-1]]
        if len(self.places) == batch.numbers.shape[-1]:
            return batch.numbers  # all numbers, in their order
        return batch.numbers[..., self.places]


@dataclass(frozen=True)
class MixedLikelihood:
    """The distribution of whole rows: groups of features, put back in the layout's order."""

    groups: list[Group]
    order: Tensor

    def log_prob(self, batch: Batch) -> Float[Tensor, "*lead batch feature"]:
        """Log-probability of each feature in nats."""
        return self._ordered([g.features.log_prob(g.target(batch)) for g in self.groups])

    def deviance(self, batch: Batch) -> Float[Tensor, "*lead batch feature"]:
        """Each feature's nats beyond what a perfect expectation would have cost."""
        return self._ordered([g.features.deviance(g.target(batch)) for g in self.groups])

    @property
    def mean(self) -> Batch:
        """The expected row, without a gap."""
        return self._batch(lambda features: features.mean)

    def interval(self, share: float) -> tuple[Tensor, Tensor]:
        """The ends of each feature's central interval, codes as floats."""
        pairs = [group.features.interval(share) for group in self.groups]
        low, high = ([pair[i].double() for pair in pairs] for i in (0, 1))
        return self._ordered(low), self._ordered(high)

    def levels(self, feature: int) -> Float[Tensor, "*lead batch level"]:
        """The probabilities of the levels of a code."""
        for group in self.groups:
            place = torch.nonzero(group.places == feature)
            if group.coded and len(place):
                return group.features.levels(int(place[0]))  # pyright: ignore
        raise ValueError(f"cell {feature} has no levels")

    def sample(self, generator: torch.Generator) -> Batch:
        """One draw of each row."""
        return self._batch(lambda features: features.sample(generator))

    def _ordered(self, parts: list[Tensor]) -> Tensor:
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)[..., self.order]

    def _batch(self, values_of: Callable[[FeatureLikelihood], Tensor]) -> Batch:
        parts = [values_of(group.features).double() for group in self.groups]
        features = self._ordered(parts)
        wide = sum(p.shape[-1] for p, group in zip(parts, self.groups) if not group.coded)
        numbers, codes = features[..., :wide].float(), features[..., wide:].long()
        return Batch(numbers, codes, torch.ones_like(features, dtype=torch.bool))


@dataclass(eq=False, repr=False)
class Mixed(Head):
    """Every feature under the likelihood its slot names.

    `continuous` features may have another one: "student_t" (robust, with `nu` degrees of freedom
    and scales no smaller than `floor` of the spread), "gaussian", or "binned" (a histogram where
    values repeat; where they do not, normal scores under a Gaussian), or, of pixels, "logistic"
    (discretised to grey levels) and "poisson_gaussian" (noise that grows with light). `scale` of
    the Gaussian: "shared", "column", or a number that is fixed, in the columns' units.
    """

    kind = "mixed"

    nu: float = 3.0
    _: KW_ONLY
    floor: float = 0.3
    continuous: Continuous = "student_t"
    scale: Literal["shared", "column"] | float = "shared"

    def check(self) -> None:
        """Raises: SettingError for an unknown likelihood or an invalid scale."""
        if self.continuous not in CONTINUOUS:
            raise SettingError(f"continuous={self.continuous!r:.40}: choose from {CONTINUOUS}")
        known = self.scale in ("shared", "column")
        number = isinstance(self.scale, int | float) and not isinstance(self.scale, bool)
        if not known and not (number and 0 < float(self.scale) < math.inf):
            raise SettingError(
                f"scale={self.scale!r:.40}: expected 'shared', 'column', or a number above zero"
            )
        if not self.nu > 0 or not self.floor > 0:
            raise SettingError(f"nu={self.nu!r}, floor={self.floor!r}: both must be above zero")

    @property
    def binned(self) -> bool:
        """True where continuous features need bins."""
        return self.continuous == "binned"

    def bind(self, shape: Shape) -> Shape:
        """Bind one feature head for each likelihood in the layout."""
        self.check()
        self.features = nn.ModuleDict()
        slots = shape.layout.slots
        places_of: dict[str, list[int]] = {}
        for i, slot in enumerate(slots):
            places_of.setdefault(self._name(slot), []).append(i)
        for name, places in places_of.items():
            head, own = self._feature_head(name), own_numbers(shape, places)
            own_shape = shape if own is None else shape.widened(len(own))
            head.bind_slots(own_shape, [slots[i] for i in places])
            self.features[name] = head
            self.register_buffer(f"own_{name}", own, persistent=False)
            self.register_buffer(f"places_{name}", torch.tensor(places), persistent=False)
        order = np.argsort(list(chain(*places_of.values())))
        self.register_buffer("order", constant(order), persistent=False)
        self.coded = {name: slots[places[0]].coded for name, places in places_of.items()}
        return shape.widened(len(shape.layout))

    def forward(
        self, state: State, observed: Observed, features: Places | None = None
    ) -> MixedLikelihood:
        """The distribution of each row, or of these features of it alone, in rising order."""
        groups = []
        for name, head in self.features.items():
            places = self.get_buffer(f"places_{name}")
            part = observed
            if observed is not None and len(places) < observed.shape[-1]:
                part = observed[..., places]
            own = getattr(self, f"own_{name}")
            own_state = state if own is None else state[..., own]
            if features is None:
                groups.append(Group(head(own_state, part), places, self.coded[name]))
                continue
            near = torch.searchsorted(places, features).clamp(max=len(places) - 1)
            chosen = near[places[near] == features]
            if len(chosen):
                likelihood = head.some(own_state, part, chosen)  # pyright: ignore
                groups.append(Group(likelihood, places[chosen], self.coded[name]))
        if features is None:
            return MixedLikelihood(groups, self.get_buffer("order"))
        return MixedLikelihood(groups, torch.argsort(torch.cat([g.places for g in groups])))

    def parts(self) -> list[tuple[FeatureHead, bool, Tensor]]:
        """Each feature head, whether its features are codes, and their places in the layout."""
        return [
            (head, self.coded[name], self.get_buffer(f"places_{name}"))  # pyright: ignore
            for name, head in self.features.items()
        ]

    def _name(self, slot: Slot) -> str:
        """The likelihood of a feature: its own, or the chosen one of continuous features."""
        if slot.bins and self.binned:
            return "binned"
        if slot.head != "student_t":
            return slot.head
        return "gaussian" if self.binned else self.continuous

    def _feature_head(self, name: str) -> FeatureHead:
        arguments = {
            "student_t": {"nu": self.nu, "floor": self.floor},
            "gaussian": {"scale": "column" if self.binned else self.scale},
        }
        return kinds(FeatureHead.family)[name](**arguments.get(name, {}))  # pyright: ignore
