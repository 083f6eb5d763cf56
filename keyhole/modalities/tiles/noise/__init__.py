"""What noise an image has, how it is made even, classical filters, and judging a result."""

from keyhole.modalities.tiles.noise.estimate import estimate, estimate_many, pooled
from keyhole.modalities.tiles.noise.filters import (
    FILTERS,
    Residual,
    classical,
    filled,
    psnr,
    residual_report,
    ssim,
)
from keyhole.modalities.tiles.noise.model import (
    Noise,
    Stabiliser,
    background,
    background_value,
    filter_of,
    filtered,
    impulse_scale,
    impulses,
)

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
    "filled",
    "filter_of",
    "filtered",
    "impulse_scale",
    "impulses",
    "pooled",
    "psnr",
    "residual_report",
    "ssim",
]
