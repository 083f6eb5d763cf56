"""What anomaly maps are made of: the places of a row, such as the pixels of an image."""

from typing import Protocol

import numpy as np
from jaxtyping import Float
from torch import Tensor

from keyhole.core.records import Batch

Deviance = Float[Tensor, "*lead row feature"]  # nats beyond a perfect prediction


class Maps(Protocol):
    """What anomaly maps of rows are made of: places, such as the pixels of an image."""

    @property
    def places(self) -> int:
        """How many places a map has."""
        ...

    @property
    def masks(self) -> list[Tensor]:
        """The features that are masked together, (feature,) each."""
        ...

    def nats(self, deviance: Deviance, batch: Batch) -> Float[Tensor, "member row place"]:
        """Nats of each place from those of features, each summed over all masks; NaN for a gap."""
        ...

    def shaped(self, ratios: Float[np.ndarray, "row place"]) -> np.ndarray:
        """The maps (row, height, width) as a person looks at them."""
        ...
