"""What can be said of a denoised image, without truth and with it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from keyhole.data.images import Image
from keyhole.errors import DataError
from keyhole.modalities.tiles.estimate import estimate
from keyhole.modalities.tiles.filters import Residual, psnr, residual_report, ssim
from keyhole.modalities.tiles.noise import Noise
from keyhole.modalities.tiles.source import NoiseScaler
from keyhole.modalities.tiles.tiling import middle_of
from keyhole.tasks.denoise.images import ImageDenoiser

MOST_SIDE = 512  # of the window of a large image that is judged


@dataclass(frozen=True)
class JudgedImage:
    """One image before and after: its noise, what was taken away, what noise is left.

    `psnr` (dB) and `ssim` are (before, after) against the truth, over its `data_range`; None
    without truth. Both are clipped: to what the type holds, floats to the truth's range.
    """

    name: str
    before: Noise
    after: Noise
    residual: Residual
    data_range: float
    psnr: tuple[float, float] | None = None
    ssim: tuple[float, float] | None = None

    def sentences(self) -> list[str]:
        """For people: noise before and after, what was taken away, how near the truth."""
        left = "" if self.after.sigma else "; none can be told in the result"
        said = [f"{self.before.describe(self.data_range)}{left}", *self.residual.sentences()]
        if self.psnr is not None and self.ssim is not None:
            said.append(
                f"PSNR {self.psnr[0]:.2f} -> {self.psnr[1]:.2f} dB, SSIM {self.ssim[0]:.3f} -> "
                f"{self.ssim[1]:.3f} (range {self.data_range:.4g})"
            )
        return said


def judged(
    denoiser: ImageDenoiser, image: Image, unit: NoiseScaler, clean: Image | None
) -> JudgedImage:
    """The judgement of one image, of a large one by its middle.

    Raises: DataError where the truth is of another size.
    """
    noisy, after = denoiser.middle(image, unit, MOST_SIDE)
    truth = None if clean is None else _middle_of(clean, image)
    span = data_range(image, noisy if truth is None else truth)
    result = JudgedImage(image.name, unit.noise, estimate([after]),
                   residual_report(noisy, after, unit.noise), span)  # fmt: skip
    if truth is None:
        return result
    low = float(np.nanmin(truth))
    pair = [np.clip(part, *(image.limits or (low, low + span))) for part in (noisy, after)]
    scores = [tuple(of(truth, part, span) for part in pair) for of in (psnr, ssim)]
    return replace(result, psnr=scores[0], ssim=scores[1])  # pyright: ignore


def _middle_of(clean: Image, image: Image) -> np.ndarray:
    """The window of the true image that was judged of the noisy one."""
    sides = [(p.height, p.width, p.channels) for p in (image, clean)]
    if sides[0] != sides[1]:
        raise DataError(f"{image.name} is {sides[0]} and its truth {sides[1]}")
    return clean.window(*middle_of(image, MOST_SIDE))


def data_range(image: Image, pixels: np.ndarray) -> float:
    """What the stored type spans for 8 bits, else what the pixels span."""
    if image.limits is not None and image.dtype.itemsize == 1:
        return float(image.limits[1] - image.limits[0])
    if not np.isfinite(pixels).any():
        return 1.0
    return float(np.nanmax(pixels) - np.nanmin(pixels)) or 1.0
