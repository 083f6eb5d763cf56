"""Gaussian cells: a scale learnt from the data's own (shared, or one a column), or a fixed one."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor, nn

from keyhole.core.layout import Shape, Slot
from keyhole.core.linear import to_cells
from keyhole.heads.base import CellHead, Cells

GAIN = 10.0  # the scale is settled in a hundred steps, not in a thousand
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class GaussianCells:
    """Normal around `location`, `scale` wide."""

    location: Float[Tensor, "*lead batch cell"]
    scale: Float[Tensor, "*row cell"]

    def log_prob(self, target: Tensor) -> Float[Tensor, "*lead batch cell"]:
        """The normal log-density."""
        return -self.deviance(target) - (torch.log(self.scale) + HALF_LOG_2PI)

    def deviance(self, target: Tensor) -> Float[Tensor, "*lead batch cell"]:
        """Nats below the density's peak."""
        ratio = ((target - self.location) * (1 / self.scale)).clamp(-1e15, 1e15)
        return 0.5 * ratio * ratio

    @property
    def mean(self) -> Tensor:
        """The location."""
        return self.location

    def interval(self, share: float) -> tuple[Tensor, Tensor]:
        """Symmetric around the location."""
        reach = float(stats.norm.ppf((1 + share) / 2)) * self.scale
        return self.location - reach, self.location + reach

    def sample(self, generator: torch.Generator) -> Tensor:
        """A normal draw."""
        shape, device = self.location.shape, generator.device
        return self.location + self.scale * torch.randn(
            shape, generator=generator, device=device
        ).to(self.location)


class Gaussian(CellHead):
    """Location from the state; the scale that fits best, "shared" by all cells or one a "column".

    A decoder whose scale is fixed at 1 («mean squared error») tells a code of cells scaled to
    [0, 1] that nothing is worth a nat, and it collapses. The shared scale that fits best is the
    root mean square error (Rybkin et al. 2021, eq. 4); it is learnt here, from the data's own
    spread on, and floored. Hidden cells have a scale of their own, as for Student's t. A number
    for `scale` is fixed, in the columns' own units.
    """

    kind = "gaussian"

    def __init__(self, scale: str | float = "shared", *, floor: float = 0.01) -> None:
        super().__init__()
        self.scale = scale
        self.floor = floor

    def bind_slots(self, shape: Shape, slots: list[Slot]) -> None:
        """Scales start at the columns' own spread."""
        self.to_location = to_cells(shape, len(slots))
        spread = torch.tensor([slot.scale for slot in slots])
        self.register_buffer("spread", spread, persistent=False)
        if not isinstance(self.scale, str):
            fixed = torch.tensor([self.scale / slot.unit for slot in slots])
            self.register_buffer("fixed", fixed, persistent=False)
            return
        wide = 1 if self.scale == "shared" else len(slots)
        self.log_scale = nn.Parameter(torch.zeros(2, shape.members, 1, wide))

    def forward(
        self, state: Float[Tensor, "*lead batch wide"], seen: Bool[Tensor, "*row cell"] | None
    ) -> Cells:
        """The distribution of each cell; without `seen`, all are in sight."""
        if not isinstance(self.scale, str):
            return GaussianCells(self.to_location(state), self.get_buffer("fixed"))
        wide = (GAIN * self.log_scale.clamp(-1.5, 1.5)).exp() + self.floor
        hidden, sight = wide * self.get_buffer("spread")
        scale = sight if seen is None else torch.where(seen, sight, hidden)
        return GaussianCells(self.to_location(state), scale)
