"""The head of a table: each cell under the likelihood that its slot names."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from keyhole.core.layout import Shape, Slot
from keyhole.core.parts import kinds
from keyhole.core.records import Batch
from keyhole.errors import SettingError
from keyhole.model.heads.base import FeatureHead, FeatureLikelihood, Head
from keyhole.model.heads.continuous import Gaussian, StudentT

CONTINUOUS = ("student_t", "gaussian", "binned", "logistic", "poisson_gaussian")


@dataclass(frozen=True)
class Group:
    """The cells of one likelihood: their distribution and where they stand in the layout."""

    features: FeatureLikelihood
    places: Tensor
    coded: bool

    def target(self, batch: Batch) -> Tensor:
        """The batch's cells under this likelihood."""
        if self.coded:
            return batch.codes[..., self.places - batch.numbers.shape[-1]]
        if len(self.places) == batch.numbers.shape[-1]:
            return batch.numbers  # all number cells, in their order
        return batch.numbers[..., self.places]


@dataclass(frozen=True)
class MixedLikelihood:
    """The distribution of whole rows: groups of cells, put back in the layout's order."""

    groups: list[Group]
    order: Tensor

    def log_prob(self, batch: Batch) -> Float[Tensor, "*lead batch feature"]:
        """Log-probability of each cell in nats."""
        return self._ordered(
            [group.features.log_prob(group.target(batch)) for group in self.groups]
        )

    def deviance(self, batch: Batch) -> Float[Tensor, "*lead batch feature"]:
        """Each cell's nats beyond what a perfect expectation would have cost."""
        return self._ordered(
            [group.features.deviance(group.target(batch)) for group in self.groups]
        )

    @property
    def mean(self) -> Batch:
        """The expected row, every cell of it seen."""
        return self._batch(lambda features: features.mean)

    def interval(self, share: float) -> tuple[Tensor, Tensor]:
        """The ends of each cell's central interval, codes as floats."""
        pairs = [group.features.interval(share) for group in self.groups]
        low, high = ([pair[i].double() for pair in pairs] for i in (0, 1))
        return self._ordered(low), self._ordered(high)

    def levels(self, feature: int) -> Float[Tensor, "*lead batch level"]:
        """The probabilities of the levels of a code cell."""
        for group in self.groups:
            place = torch.nonzero(group.places == feature)
            if group.coded and len(place):
                return group.features.levels(int(place[0]))  # pyright: ignore
        raise ValueError(f"cell {feature} has no levels")

    def sample(self, generator: torch.Generator) -> Batch:
        """One draw of each row."""
        return self._batch(lambda features: features.sample(generator))

    def _ordered(self, parts: list[Tensor]) -> Tensor:
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts, -1)[..., self.order]

    def _batch(self, ask: Callable[[FeatureLikelihood], Tensor]) -> Batch:
        parts = [(group.coded, ask(group.features)) for group in self.groups]
        lead = parts[0][1].shape[:-1]
        features = self._ordered([part.double() for _, part in parts])
        wide = sum(part.shape[-1] for coded, part in parts if not coded)
        numbers, codes = features[..., :wide].float(), features[..., wide:].long()
        observed = torch.ones(
            (*lead, features.shape[-1]), dtype=torch.bool, device=features.device
        )
        return Batch(numbers, codes, observed)


class Mixed(Head):
    """Every cell under the likelihood its slot names.

    `continuous` cells may have another one: "student_t" (robust, with `nu` degrees of freedom and
    scales no smaller than `floor` of the spread), "gaussian", or "binned" (a histogram where
    values repeat; where they do not, normal scores under a Gaussian), or, of pixels, "logistic"
    (discretised to grey levels) and "poisson_gaussian" (noise that grows with light). `scale` of
    the Gaussian: "shared", "column", or a number that is fixed, in the columns' units.
    """

    kind = "mixed"

    def __init__(
        self,
        nu: float = 3.0,
        *,
        floor: float = 0.3,
        continuous: Literal[
            "student_t", "gaussian", "binned", "logistic", "poisson_gaussian"
        ] = "student_t",
        scale: Literal["shared", "column"] | float = "shared",
    ) -> None:
        super().__init__()
        self.nu = nu
        self.floor = floor
        self.continuous = continuous
        self.scale = scale

    def check(self) -> None:
        """Raises: SettingError for an unknown likelihood or an invalid scale."""
        if self.continuous not in CONTINUOUS:
            raise SettingError(f"continuous={self.continuous!r:.40}: choose from {CONTINUOUS}")
        known = self.scale in ("shared", "column")
        number = isinstance(self.scale, int | float) and not isinstance(self.scale, bool)
        if not known and not (number and 0 < float(self.scale) < math.inf):
            raise SettingError(f"scale={self.scale!r:.40}: 'shared', 'column', or above zero")
        if not self.nu > 0 or not self.floor > 0:
            raise SettingError(f"nu={self.nu!r}, floor={self.floor!r}: both must be above zero")

    @property
    def binned(self) -> bool:
        """True where continuous cells are asked for by bins."""
        return self.continuous == "binned"

    def bind(self, shape: Shape) -> Shape:
        """Bind one cell head for each likelihood in the layout."""
        self.check()
        self.features = nn.ModuleDict()
        order: list[int] = []
        places_of: dict[str, list[int]] = {}
        for i, slot in enumerate(shape.layout.slots):
            places_of.setdefault(self._name(slot), []).append(i)
        for name, places in places_of.items():
            head = self._feature_head(name)
            head.bind_slots(shape, [shape.layout.slots[i] for i in places])
            self.features[name] = head
            self.register_buffer(f"places_{name}", torch.tensor(places), persistent=False)
            order += places
        self.register_buffer("order", torch.argsort(torch.tensor(order)), persistent=False)
        slots = shape.layout.slots
        self.coded = {name: slots[places[0]].coded for name, places in places_of.items()}
        return shape.widened(len(shape.layout))

    def forward(
        self,
        state: Float[Tensor, "*lead batch wide"],
        observed: Bool[Tensor, "*row feature"] | None,
    ) -> MixedLikelihood:
        """The distribution of each row."""
        groups = []
        for name, head in self.features.items():
            places = self.get_buffer(f"places_{name}")
            groups.append(
                Group(
                    head(state, None if observed is None else observed[..., places]),
                    places,
                    self.coded[name],
                )
            )
        return MixedLikelihood(groups, self.get_buffer("order"))

    def _name(self, slot: Slot) -> str:
        """The likelihood of a cell: its own, or what stands for continuous ones."""
        if slot.bins and self.binned:
            return "binned"
        if slot.head != "student_t":
            return slot.head
        return "gaussian" if self.binned else self.continuous

    def _feature_head(self, name: str) -> FeatureHead:
        if name == "student_t":
            return StudentT(self.nu, floor=self.floor)
        if name == "gaussian":
            return Gaussian("column" if self.binned else self.scale)
        return kinds("cells")[name]()  # pyright: ignore
