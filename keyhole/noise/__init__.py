"""What noise a picture has, how it is made even, classical filters, and judging a result."""

from keyhole.noise.background import background, background_value
from keyhole.noise.estimate import estimate, estimate_many, pooled
from keyhole.noise.filters import FILTERS, classical
from keyhole.noise.impulses import impulse_scale, impulses
from keyhole.noise.judge import Residual, psnr, residual_report, ssim
from keyhole.noise.model import Noise
from keyhole.noise.stabiliser import Stabiliser

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
