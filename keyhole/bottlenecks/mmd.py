"""The information bottleneck of Wasserstein autoencoders: codes without noise, normal together."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Generator, Tensor

from keyhole.bottlenecks.base import Bottleneck, noise_like
from keyhole.core.records import Code
from keyhole.errors import SettingError

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the kernel, in units of its own


class MMD(Bottleneck):
    """Charges the maximum mean discrepancy between a batch's codes and N(0, I).

    Rows keep codes of their own, so none need be vague; only all together are held to the normal.
    """

    kind = "mmd"
    purpose = "normal codes without noise: sampling and reconstruction both sharp"
    formula = "weight MMD^2(z, N(0, I)), kernel sum_s C_s / (C_s + ||z - z'||^2), C_s = 2 width s"
    source = "Tolstikhin et al. 2018, algorithm 2; Zhao et al. 2019, eq. 6"

    def __init__(
        self, width: int | Literal["auto"] | None = None, *, weight: float = 10.0
    ) -> None:
        super().__init__()
        self.width = width
        self.weight = weight

    def check(self) -> None:
        """Raises: SettingError for a weight below zero."""
        if not 0 <= self.weight < float("inf"):
            raise SettingError(f"weight={self.weight!r}: it must be zero or above")

    def priced(self, code: Code, encode: object, embedded: Tensor, generator: Generator) -> Code:
        """With the batch's discrepancy, in even shares to rows' dimensions."""
        z, wide = code.mean, code.mean.shape[-1]
        normal = noise_like(z, generator)
        between = 2 * _kernel(z, normal).mean((-2, -1))
        apart = _within(z) + _within(normal) - between  # (*lead)
        cost = (self.weight / wide) * apart[..., None, None].expand_as(z)
        return replace(code, cost=cost)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """The inverse multiquadratic kernel, its mean over scales: (*lead, row of x, row of y)."""
    square = (
        x.square().sum(-1)[..., :, None]
        + y.square().sum(-1)[..., None, :]
        - 2 * x @ y.transpose(-2, -1)
    ).clamp(min=0)
    scales = [2 * x.shape[-1] * scale for scale in SCALES]
    return torch.stack([c / (c + square) for c in scales]).mean(0)


def _within(x: Tensor) -> Tensor:
    """The mean kernel between different rows: the estimate without bias."""
    rows = x.shape[-2]
    return (_kernel(x, x).sum((-2, -1)) - rows) / max(rows * (rows - 1), 1)
