"""Noise of a camera: normal, with a variance that grows with the light, and some of its own."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from keyhole.core.layout import Shape, Slot
from keyhole.core.linear import to_cells
from keyhole.heads.base import CellHead, Cells
from keyhole.heads.gaussian import GAIN, GaussianCells

SHARE = 0.1  # of the variance at the start, that light makes


@dataclass(frozen=True)
class PoissonGaussianCells:
    """Normal around `location`, its variance gain * (location - zero) + own."""

    location: Float[Tensor, "*lead batch cell"]
    gain: Float[Tensor, "*row cell"]
    own: Float[Tensor, "*row cell"]
    zero: Float[Tensor, " cell"]

    def _at(self, location: Tensor) -> GaussianCells:
        light = (location - self.zero).clamp(min=0)
        return GaussianCells(location, (self.gain * light + self.own).sqrt())

    @property
    def _here(self) -> GaussianCells:
        return self._at(self.location)

    def log_prob(self, target: Tensor) -> Float[Tensor, "*lead batch cell"]:
        """The normal log-density."""
        return self._here.log_prob(target)

    def deviance(self, target: Tensor) -> Float[Tensor, "*lead batch cell"]:
        """Nats beyond those of the likeliest location, a little darker than the target itself."""
        gain, square = self.gain, self._at(target).scale.square()
        root = torch.sqrt(gain.square().square() + 4 * square.square())
        darker = 2 * gain * square / (gain.square() + 2 * square + root)
        best = torch.maximum(
            self._at(target - darker).log_prob(target), self._at(target).log_prob(target)
        )
        return (best - self.log_prob(target)).clamp(min=0)

    @property
    def mean(self) -> Tensor:
        """The location."""
        return self.location

    def interval(self, share: float) -> tuple[Tensor, Tensor]:
        """Symmetric around the location."""
        return self._here.interval(share)

    def sample(self, generator: torch.Generator) -> Tensor:
        """A normal draw."""
        return self._here.sample(generator)


class PoissonGaussian(CellHead):
    """Location from the state; variance gain * (location - zero) + sigma^2, both learnt.

    `zero` is the least value that can be stored (no light), 0 where that is not known. Hidden
    cells have a gain and a sigma of their own, as other heads have scales.

    Source: Foi et al. 2008, eq. 1 and 3.
    """

    kind = "poisson_gaussian"

    def __init__(self, *, floor: float = 0.01) -> None:
        super().__init__()
        self.floor = floor

    def bind_slots(self, shape: Shape, slots: list[Slot]) -> None:
        """The noise starts at the cells' own spread."""
        self.to_location = to_cells(shape, len(slots))
        spread = torch.tensor([slot.scale for slot in slots])
        zero = torch.tensor([slot.ends[0] if slot.ends else 0.0 for slot in slots])
        for name, values in {"spread": spread, "zero": zero}.items():
            self.register_buffer(name, values, persistent=False)
        self.log_sigma = nn.Parameter(torch.zeros(2, shape.members, 1, 1))
        self.log_gain = nn.Parameter(torch.zeros(2, shape.members, 1, 1))

    def forward(
        self, state: Float[Tensor, "*lead batch wide"], seen: Bool[Tensor, "*row cell"] | None
    ) -> Cells:
        """The distribution of each cell; without `seen`, all are in sight."""
        location, spread = self.to_location(state), self.get_buffer("spread")
        sigma = ((GAIN * self.log_sigma.clamp(-1.5, 1.5)).exp() + self.floor) * spread
        gain = SHARE * (GAIN * self.log_gain.clamp(-1.5, 1.5)).exp() * spread
        own = sigma.square()
        gain, own = (
            part[1] if seen is None else torch.where(seen, part[1], part[0])
            for part in (gain, own)
        )  # fmt: skip
        return PoissonGaussianCells(location, gain, own, self.get_buffer("zero"))
