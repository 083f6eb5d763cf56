"""Noisy images in units of their noise: a sample is a square crop."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Self

import numpy as np
import torch

from keyhole.core.layout import Layout, Slot, pixels
from keyhole.core.progress import stage, wall_clock, while_time_is_left
from keyhole.core.records import Batch
from keyhole.errors import BundleError, DataError, SettingError
from keyhole.modalities.base import Ability, Modality
from keyhole.modalities.prepared import Parts, Prepared
from keyhole.modalities.tiles.noise import Noise, pooled
from keyhole.modalities.tiles.prepare import check_corruption, prepare_tiles
from keyhole.modalities.tiles.scaling import NoiseEstimates
from keyhole.modalities.tiles.source import NoisyImages, TilesProfile
from keyhole.modalities.tiles.tiling import image_batch
from keyhole.model.network import Network

SIDE = 64  # of a training crop, if images are as large
AFTER_NOISE_SHARE = 0.6  # of a time budget, for what follows measuring the noise
MOST_SIDE, MOST_CHANNELS = 64, 64
LEAST_NOISE, MOST_NOISE = 1e-30, 1e30


class Tiles(Modality):
    """Crops of images in units of their noise.

    `noise` is the recipe of that of all training images together, `count` and `pixels` their
    number, `side` a crop's side.
    """

    kind = "tiles"
    noun = "noisy images"
    has_rows = False

    def __init__(
        self, *, noise: dict[str, Any], channels: int, side: int, count: int, pixels: int
    ) -> None:
        self.noise = noise
        self.channels = channels
        self.side = side
        self.count = count
        self.pixels = pixels
        self.columns, self.reasons, self.gaps = [], {}, {}

    def check(self) -> None:
        """Raises: SettingError for sizes or a noise that no fit leaves."""
        if not 1 <= self.side <= MOST_SIDE or not 1 <= self.channels <= MOST_CHANNELS:
            raise SettingError(f"side={self.side}, channels={self.channels}: those of a crop")
        if min(self.count, self.pixels) < 1:
            raise SettingError(f"count={self.count}, pixels={self.pixels}: at least 1")
        level = max(self.measured_noise.sigma, self.measured_noise.gain)
        if not LEAST_NOISE < level < MOST_NOISE:
            raise SettingError(f"noise={self.noise!r:.80}: not a level that pixels can have")

    @classmethod
    def takes(cls, source: Any) -> bool:
        """True for noisy images."""
        return isinstance(source, NoisyImages)

    @classmethod
    def learn_with(
        cls, source: NoisyImages, parts: Parts, seed: int, group: str | None
    ) -> tuple[Self, TilesProfile]:
        """The noise of the images; images without noise are left out.

        A time budget may leave images out, those late in a random order.
        Raises: DataError if no image has noise, SettingError for an unsuitable corruption.
        """
        known_noise = parts.schema.known_noise
        check_corruption(parts.corruption, known_noise, pairs=source.seconds is not None)
        stage("measuring the noise")
        estimates = NoiseEstimates(source.images, known_noise)
        order = np.random.default_rng(seed).permutation(len(source.images)).tolist()
        with wall_clock(reserved=AFTER_NOISE_SHARE):
            scalers = {i: estimates.unit(source.images[i]) for i in while_time_is_left(order)}
        left_out = len(source.images) - len(scalers)
        noisy = [i for i in sorted(scalers) if scalers[i].noise.kind != "none"]
        if not noisy:
            raise DataError(
                f"{source.name}: no noise was found in any of {len(scalers)} image(s), so there "
                "is nothing to remove; if you know better, give noise=..."
            )
        source, scaler_list = source.take(noisy), [scalers[i] for i in noisy]
        sizes = [p.height * p.width for p in source.images]
        noise = pooled([scaler.noise for scaler in scaler_list], [float(size) for size in sizes])
        channels = source.images[0].channels
        step = parts.net.step  # pyright: ignore  (a U-Net's)
        largest = max(max(p.height, p.width) for p in source.images)
        tiles = cls(
            noise=noise.recipe(),
            channels=channels,
            side=-(-min(largest, SIDE) // step) * step,
            count=len(source.images),
            pixels=source.pixels,
        )
        return tiles, TilesProfile(source, scaler_list, left_out)

    @cached_property
    def measured_noise(self) -> Noise:
        """The noise of all training images together."""
        return Noise.of_recipe(self.noise)

    @cached_property
    def layout(self) -> Layout:
        """The pixels of a crop."""
        grid = (self.side, self.side, self.channels)
        return pixels(Slot("pixel", "number", "student_t"), grid, self.side)

    def prepare(self, source: Any, profile: TilesProfile, parts: Parts, seed: int) -> Prepared:
        """Crops for training, and pixels held out of it."""
        return prepare_tiles(profile, self.measured_noise, self.side, parts, seed)

    def encode(self, rows: Any, start: int = 0) -> Batch:
        """Raises: SettingError: images are encoded by tile."""
        raise SettingError("noisy images are not rows: Denoiser.transform takes them")

    def decode(self, batch: Batch) -> Any:
        """Raises: SettingError: images are decoded by tile."""
        raise SettingError("noisy images are not rows: Denoiser.transform returns them")

    def supports(self, task: Ability) -> str | None:
        """Nothing but denoising."""
        return "it holds a denoiser, which has no code: use `keyhole denoise`"

    @torch.no_grad()
    def try_out(self, network: Network) -> None:
        """Send a random tile through the network. Raises: BundleError."""
        generator, side = torch.Generator().manual_seed(0), 2 * self.side
        numbers = torch.randn(1, 1, side * side * self.channels, generator=generator)
        tile = image_batch(numbers, (side, side, self.channels))
        mean = network(tile).likelihood.mean.numbers[0]
        if mean.shape != numbers.shape or not torch.isfinite(mean).all():
            raise BundleError("this net makes pixels that are not numbers")
