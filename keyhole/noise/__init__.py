"""What noise a picture has, how it is made even, classical filters, and judging a result."""

from keyhole.noise.estimate import estimate, estimate_many, pooled
from keyhole.noise.filters import FILTERS, classical
from keyhole.noise.judge import Residual, psnr, residual_report, ssim
from keyhole.noise.model import Noise
from keyhole.noise.stabiliser import Stabiliser

__all__ = [
    "FILTERS",
    "Noise",
    "Residual",
    "Stabiliser",
    "classical",
    "estimate",
    "estimate_many",
    "pooled",
    "psnr",
    "residual_report",
    "ssim",
]
