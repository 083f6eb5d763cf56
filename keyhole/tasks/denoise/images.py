"""Images of any size through a fitted denoiser, one by one or by bands of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from keyhole.autoencoder.fit import Model
from keyhole.checks.denoising import NET, DenoisingEvidence
from keyhole.data.images import Image
from keyhole.modalities.tiles.filters import FILTERS
from keyhole.modalities.tiles.noise import Noise
from keyhole.modalities.tiles.source import NoiseEstimates, NoiseScaler, check_channels
from keyhole.modalities.tiles.tiles import Tiles
from keyhole.modalities.tiles.tiling import (
    PASS_FEATURES,
    TILE,
    Denoise,
    Filtered,
    bands,
    middle,
    together,
)

MOST_FOLDED = 1 << 22  # pixels of an image that is denoised eight times, turned and mirrored


@dataclass(frozen=True)
class ImageDenoiser:
    """A fitted model, and the noise of the images where the user gave it."""

    model: Model
    tiles: Tiles
    comparison: DenoisingEvidence
    noise: Noise | None

    def images(self, images: Sequence[Image]) -> Iterator[np.ndarray]:
        """Each image denoised, (height, width, channels) in its own units, one by one.

        Small ones of one size go through together.
        """
        estimates, waiting = self.estimates(images), []
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
        small = image.height * image.width <= MOST_FOLDED
        return self.method_of(8 if small else 1)

    def method_of(self, folds: int) -> Denoise | Filtered:
        """The net, or the classical filter that made smaller errors."""
        parts, name = self.model.parts, self.comparison.method
        if name != NET:
            return Filtered(FILTERS[name])
        net = parts.net
        return Denoise(self.model.network, net, folds, blind=parts.corruption.blind)  # pyright: ignore

    def _check(self, image: Image) -> None:
        check_channels(image, self.tiles.channels, "this model's images are")

    def _fits(self, image: Image, waiting: list[Image]) -> bool:
        """True if an image has the size of those that wait, and there is room for it."""
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
