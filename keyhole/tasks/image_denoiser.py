"""Images of any size through a fitted denoiser, and what can be said of the results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keyhole.autoencoder.fit import Model
from keyhole.checks.denoising import NET, DenoisingEvidence
from keyhole.data.images import Image
from keyhole.errors import DataError
from keyhole.modalities.tiles.estimate import estimate
from keyhole.modalities.tiles.filters import FILTERS, Residual, psnr, residual_report, ssim
from keyhole.modalities.tiles.noise import NoiseModel
from keyhole.modalities.tiles.source import NoiseEstimates, NoiseScaler, check_channels
from keyhole.modalities.tiles.tiles import Tiles
from keyhole.modalities.tiles.tiling import (
    PASS_FEATURES,
    TILE,
    Denoise,
    Filtered,
    bands,
    middle,
    middle_of,
    together,
)

MAX_FOLDED_PIXELS = 1 << 22  # of an image that is denoised in eight orientations
JUDGED_SIDE = 512  # pixels: of the middle of a large image, which alone is judged


@dataclass(frozen=True)
class ImageDenoiser:
    """A fitted model, and the noise of the images where the user gave it."""

    model: Model
    tiles: Tiles
    comparison: DenoisingEvidence
    noise: NoiseModel | None

    def images(self, images: Sequence[Image]) -> Iterator[np.ndarray]:
        """Each image denoised, (height, width, channels) in its own units, one by one.

        Small ones of one size go through together.
        """
        estimates = self.estimates(images)
        waiting: list[Image] = []
        for image in images:
            if waiting and not self._fits(image, waiting):
                yield from self._together(waiting, estimates)
                waiting = []
            if max(image.height, image.width) > TILE:
                scaler = estimates.unit(image)
                yield np.concatenate([rows for _, rows in self.bands(image, scaler)])
            else:
                waiting.append(image)
        if waiting:
            yield from self._together(waiting, estimates)

    def bands(self, image: Image, scaler: NoiseScaler) -> Iterator[tuple[int, np.ndarray]]:
        """(y, rows) of a denoised image from top to bottom; memory is that of a row of tiles."""
        self._check(image)
        if scaler.noise.kind == "none":
            for y in range(0, image.height, TILE):
                yield y, image.window(slice(y, y + TILE), slice(None))
            return
        yield from bands(image, scaler, self.method(image))

    def middle(
        self, image: Image, scaler: NoiseScaler, side: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The middle of an image, at most `side` pixels wide and high: noisy and denoised."""
        self._check(image)
        before, after = middle(image, scaler, self.method(image), side)
        return before, before if scaler.noise.kind == "none" else after

    def estimates(self, images: Sequence[Image]) -> NoiseEstimates:
        """The noise of these images; small ones are measured together."""
        return NoiseEstimates(images, self.noise, self.tiles.measured_noise)

    def method(self, image: Image) -> Denoise | Filtered:
        """What denoises an image in units of its noise; small ones in eight orientations."""
        return self.method_of(8 if image.height * image.width <= MAX_FOLDED_PIXELS else 1)

    def method_of(self, folds: int) -> Denoise | Filtered:
        """The net, or the classical filter that made smaller errors."""
        parts, name = self.model.parts, self.comparison.method
        if name != NET:
            return Filtered(FILTERS[name])
        blind = parts.corruption.blind  # pyright: ignore
        return Denoise(self.model.network, parts.net, folds, blind=blind)  # pyright: ignore

    def judged(self, image: Image, scaler: NoiseScaler, clean: Image | None) -> JudgedImage:
        """The judgement of one image, of a large one by its middle.

        Raises: DataError where the truth is of another size.
        """
        noisy, after = self.middle(image, scaler, JUDGED_SIDE)
        truth = None
        if clean is not None:
            sides = [(p.height, p.width, p.channels) for p in (image, clean)]
            if sides[0] != sides[1]:
                raise DataError(f"{image.name} is {sides[0]}, but its clean image is {sides[1]}")
            truth = clean.window(*middle_of(image, JUDGED_SIDE))
        span = data_range(image, noisy if truth is None else truth)
        report = residual_report(noisy, after, scaler.noise)
        result = JudgedImage(image.name, scaler.noise, estimate([after]), report, span)
        if truth is None:
            return result
        low = float(np.nanmin(truth))
        ends = image.limits or (low, low + span)
        before, denoised = (np.clip(pixels, *ends) for pixels in (noisy, after))
        return replace(
            result,
            psnr=(psnr(truth, before, span), psnr(truth, denoised, span)),
            ssim=(ssim(truth, before, span), ssim(truth, denoised, span)),
        )

    def _check(self, image: Image) -> None:
        check_channels(image, self.tiles.channels, "this model's images are")

    def _fits(self, image: Image, waiting: list[Image]) -> bool:
        """True if an image has the size of those that wait, and they fit in one pass."""
        first, margin = waiting[0], self.method(waiting[0]).margin
        same_size = (image.height, image.width) == (first.height, first.width)
        features = (image.height + 2 * margin) * (image.width + 2 * margin) * image.channels
        return same_size and (len(waiting) + 1) * features <= PASS_FEATURES

    def _together(self, images: list[Image], estimates: NoiseEstimates) -> Iterator[np.ndarray]:
        for image in images:
            self._check(image)
        scalers = [estimates.unit(image) for image in images]
        noisy = [i for i, scaler in enumerate(scalers) if scaler.noise.kind != "none"]
        chosen = [images[i] for i in noisy], [scalers[i] for i in noisy]
        denoised = iter(together(*chosen, self.method(images[0])) if noisy else [])
        for index, image in enumerate(images):
            yield next(denoised) if index in noisy else image.whole()


@dataclass(frozen=True)
class JudgedImage:
    """One image before and after: its noise, what was removed, and the noise that is left.

    `psnr` (dB) and `ssim` are (before, after) against the truth, over its `data_range`; None
    without truth. Both are clipped: to what the type holds, floats to the truth's range.
    """

    name: str
    before: NoiseModel
    after: NoiseModel
    residual: Residual
    data_range: float
    psnr: tuple[float, float] | None = None
    ssim: tuple[float, float] | None = None

    def __repr__(self) -> str:
        return "\n  ".join([f"{self.name}:", *self.sentences()])

    def sentences(self) -> list[str]:
        """For people: noise before and after, what was removed, how near the truth."""
        left = "" if self.after.sigma else "; none is visible in the result"
        texts = [f"{self.before.describe(self.data_range)}{left}", *self.residual.sentences()]
        if self.psnr is not None and self.ssim is not None:
            texts.append(
                f"PSNR {self.psnr[0]:.2f} -> {self.psnr[1]:.2f} dB, SSIM {self.ssim[0]:.3f} -> "
                f"{self.ssim[1]:.3f} (range {self.data_range:.4g})"
            )
        return texts


def data_range(image: Image, pixels: np.ndarray) -> float:
    """What the stored type spans for 8 bits, else what the pixels span."""
    if image.limits is not None and image.dtype.itemsize == 1:
        return float(image.limits[1] - image.limits[0])
    if not np.isfinite(pixels).any():
        return 1.0
    return float(np.nanmax(pixels) - np.nanmin(pixels)) or 1.0
