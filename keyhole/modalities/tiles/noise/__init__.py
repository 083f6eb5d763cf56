"""What noise an image has, how it is made even, classical filters, and judging a result."""

from keyhole.modalities.tiles.noise.estimate import estimate, estimate_many, pooled
from keyhole.modalities.tiles.noise.filters import FILTERS, classical
from keyhole.modalities.tiles.noise.impulses import (
    background,
    background_value,
    impulse_scale,
    impulses,
)
from keyhole.modalities.tiles.noise.judge import Residual, psnr, residual_report, ssim
from keyhole.modalities.tiles.noise.model import Noise, Stabiliser

__all__ = [
    "FILTERS",
    "Noise",
    "Residual",
    "Stabiliser",
    "background",
    "background_value",
    "classical",
    "estimate",
    "estimate_many",
    "impulse_scale",
    "impulses",
    "pooled",
    "psnr",
    "residual_report",
    "ssim",
]
