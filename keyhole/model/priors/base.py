"""The interface of a prior: a density over the codes that rows have."""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from keyhole.core.parts import Part
from keyhole.errors import SettingError

# The loss of a network at a step, a pure function of both; step -1 asks for held-out data.
StepLoss = Callable[[nn.Module, int], Tensor]
# Trains a network in place by such a loss, with a number of steps and a learning rate.
Trainer = Callable[[nn.Module, StepLoss, int, float], None]


class Prior(Part):
    """A density over codes, for any bottleneck.

    Bound to a width and to the number of codes it will be fitted to (`bind_codes`), then fitted.
    Codes are those of one member, with noise where the bottleneck has it.
    """

    family = "prior"
    least_rows: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__init__()

    def bind_codes(self, width: int, rows: int) -> None:
        """Make room for what is learned from so many codes of this width.

        Raises: SettingError where they are too few.
        """
        if rows < self.least_rows:
            cure = "use the mixture or the normal prior" if rows > 2 else "give more rows"
            raise SettingError(
                f"a {self.kind} prior needs at least {self.least_rows:,} rows, and there are "
                f"{rows:,}; {cure}"
            )
        self._make(width, rows)

    @abstractmethod
    def _make(self, width: int, rows: int) -> None:
        """Register the tensors that `fit` fills."""

    @abstractmethod
    def fit(self, codes: Float[Tensor, "row code"], generator: Generator, train: Trainer) -> None:
        """Learn the density of these codes; a prior that is a network uses `train`."""

    @abstractmethod
    def sample(self, n: int, generator: Generator) -> Float[Tensor, "n code"]:
        """New codes."""

    @abstractmethod
    def log_prob(self, codes: Float[Tensor, "row code"]) -> Float[Tensor, " row"]:
        """The log-density of codes in nats."""


def covariance(codes: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of codes, and the lower Cholesky root of their covariance, a little widened."""
    mean = codes.mean(0)
    centred = (codes - mean).double()
    spread = centred.T @ centred / max(len(codes) - 1, 1)
    width = len(mean)
    ridge = 1e-6 * spread.diagonal().mean().clamp(min=1e-6)
    root = torch.linalg.cholesky(spread + ridge * torch.eye(width, dtype=spread.dtype))
    return mean, root.to(codes.dtype)
