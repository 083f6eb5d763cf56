"""Noisy images in units of their noise: a sample is a square crop."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch

from keyhole.core.layout import Layout, Slot, pixels
from keyhole.core.parts import build, copy
from keyhole.core.progress import stage, wall_clock, while_time_is_left
from keyhole.core.records import Batch
from keyhole.data.images import Image
from keyhole.errors import BundleError, DataError, SettingError
from keyhole.modalities.base import Ability, Modality
from keyhole.modalities.prepared import Calibrated, Heldout, Parts, Prepared
from keyhole.modalities.tiles.crops import Crops, DeadLeaves, ImageDataset
from keyhole.modalities.tiles.estimate import estimate, pooled
from keyhole.modalities.tiles.noise import NoiseModel, filter_of
from keyhole.modalities.tiles.source import NoiseEstimates, NoisyImages, TilesProfile, windows_of
from keyhole.modalities.tiles.tiling import image_batch
from keyhole.model.network import Network

SIDE = 64  # of a training crop, if images are as large
AFTER_NOISE_SHARE = 0.6  # of a time budget, for what follows measuring the noise
MAX_SIDE, MAX_CHANNELS = 64, 64
MIN_NOISE, MAX_NOISE = 1e-30, 1e30
STEP_PIXELS = 1 << 16  # pixels of a training step
MAX_STEPS, MIN_STEPS, STEPS_A_CROP = 2_000, 600, 20
ENDLESS_STEPS = 1_000_000  # if a time budget ends the run
GRADIENT_NORM = 0.1  # per pixel: noise in the target makes gradients jump
ENOUGH_PIXELS = 500_000  # of real images that need no synthetic ones beside them
MAX_SYNTHETIC = 0.5  # share of synthetic crops if real images are few
JUDGING_SHARE = 0.3  # of a time budget, for the comparison with classical filters
MANY_PIXELS, HELD_OUT, HELD_OUT_OF_FEW = 1_000_000, 0.05, 0.1
PIXELS_A_WINDOW, CONTRAST_IMAGES = 512, 8  # windows that measure the contrast of real images
FINGERPRINT_SCALERS, FINGERPRINT_IMAGES, FINGERPRINT_SIDE = 100, 64, 256


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
        self.noise, self.channels, self.side = noise, channels, side
        self.count, self.pixels = count, pixels
        self.columns, self.reasons, self.gaps = [], {}, {}

    def check(self) -> None:
        """Raises: SettingError for sizes or a noise that no fit leaves."""
        if not 1 <= self.side <= MAX_SIDE or not 1 <= self.channels <= MAX_CHANNELS:
            raise SettingError(
                f"side={self.side}, channels={self.channels}: invalid size of a crop"
            )
        if min(self.count, self.pixels) < 1:
            raise SettingError(f"count={self.count}, pixels={self.pixels}: expected at least 1")
        level = max(self.measured_noise.sigma, self.measured_noise.gain)
        if not MIN_NOISE < level < MAX_NOISE:
            raise SettingError(
                f"noise={self.noise!r:.80}: expected a noise level that pixels can have"
            )

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
        _check_corruption(parts.corruption, known_noise, pairs=source.seconds is not None)
        stage("measuring the noise")
        estimates = NoiseEstimates(source.images, known_noise)
        order = np.random.default_rng(seed).permutation(len(source.images)).tolist()
        with wall_clock(reserved=AFTER_NOISE_SHARE):
            scalers = {i: estimates.unit(source.images[i]) for i in while_time_is_left(order)}
        left_out = len(source.images) - len(scalers)
        noisy = [i for i in sorted(scalers) if scalers[i].noise.kind != "none"]
        if not noisy:
            raise DataError(
                f"{source.name}: no noise was found in any of {len(scalers)} image(s), so "
                "there is nothing to remove; if there is noise, give noise=..."
            )
        source, scaler_list = source.take(noisy), [scalers[i] for i in noisy]
        sizes = [float(p.height * p.width) for p in source.images]
        step = parts.net.step  # pyright: ignore  (a U-Net's)
        largest = max(max(p.height, p.width) for p in source.images)
        tiles = cls(
            noise=pooled([scaler.noise for scaler in scaler_list], sizes).recipe(),
            channels=source.images[0].channels,
            side=-(-min(largest, SIDE) // step) * step,
            count=len(source.images),
            pixels=source.pixels,
        )
        return tiles, TilesProfile(source, scaler_list, left_out)

    @cached_property
    def measured_noise(self) -> NoiseModel:
        """The noise of all training images together."""
        return NoiseModel.of_recipe(self.noise)

    @cached_property
    def layout(self) -> Layout:
        """The pixels of a crop."""
        grid = (self.side, self.side, self.channels)
        return pixels(Slot("pixel", "number", "student_t"), grid, self.side)

    def prepare(self, source: Any, profile: TilesProfile, parts: Parts, seed: int) -> Prepared:
        """Crops for training, and blocks of pixels held out of it."""
        source = profile.source
        corruption = _corruption(parts.corruption, self.measured_noise, source.seconds is not None)
        clean = _clean_images(corruption, source.seconds)
        share = HELD_OUT if source.pixels > MANY_PIXELS else HELD_OUT_OF_FEW
        dataset = ImageDataset(
            source.images, profile.scalers, source.seconds, share, seed, clean, self.measured_noise
        )
        stage("cutting images into crops")
        crops = Crops(dataset, self.side, seed, *_synthetic(dataset, seed))
        fingerprint = _fingerprint(dataset, parts, seed)
        training = _training(parts.training, crops, self.channels)
        parts = replace(parts, corruption=corruption, training=training)
        return Prepared(
            parts=parts,
            feed=crops,
            stopping=crops.stopping(),
            heldout=PixelsToJudge(dataset, parts, seed, profile.left_out),
            fingerprint=fingerprint,
            rows=profile.rows,
            reserved=JUDGING_SHARE,
            gradient_norm=GRADIENT_NORM,
        )

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
            raise BundleError("the weights give pixels that are NaN or infinite")


@dataclass(frozen=True)
class PixelsToJudge(Heldout):
    """Images with held-out pixels, and the settings of their comparison with filters."""

    dataset: ImageDataset
    parts: Parts
    seed: int
    left_out: int

    def calibrate(self, modality: Any, network: Network) -> Calibrated[Any]:
        """Nothing: the noise was measured before."""
        return Calibrated(modality, np.zeros(len(modality.layout.columns)), np.zeros(0))


def _check_corruption(corruption: Any, noise: NoiseModel | None, *, pairs: bool) -> None:
    """Raises: SettingError for a corruption that does not suit the images or their noise."""
    if corruption is None:
        return
    if (corruption.kind == "pairs") != pairs:
        reason = (
            f"{corruption!r} does not use second images" if pairs else "there are no second images"
        )
        raise SettingError(f"Pairs() requires fit(noisy, clean): {reason}")
    if corruption.kind == "noise" and noise is None:
        raise SettingError(
            "the noise cannot be measured in clean images: give noise=25.0, the standard "
            "deviation in the images' own units"
        )
    if corruption.kind == "noise" and corruption.scale != 1:
        raise SettingError(
            f"{corruption!r}: images come in units of their noise; give Noise(1.0) and noise=..."
        )
    corruption.check()


def _corruption(corruption: Any, noise: NoiseModel, pairs: bool) -> Any:
    """The corruption that the user gave, else the one that images and noise allow."""
    if corruption is None and pairs:
        return build("corruption", {"kind": "pairs"})
    recipe = {"kind": "recorrupted"} if corruption is None else corruption.recipe()
    if recipe["kind"] == "recorrupted" and recipe.get("filter") is None:
        return build("corruption", {**recipe, "filter": filter_of(noise)})
    return corruption


def _clean_images(corruption: Any, seconds: list[Image] | None) -> str:
    """The images without noise: their units are those of the mean of noisy ones."""
    if corruption.kind == "noise":
        return "images"
    if seconds is None:
        return ""
    indices = np.linspace(0, len(seconds) - 1, 3).astype(int)
    clean = all(estimate(windows_of(seconds[int(i)])).kind == "none" for i in indices)
    return "partners" if clean else ""


def _synthetic(dataset: ImageDataset, seed: int) -> tuple[DeadLeaves, float]:
    """Synthetic images, and the share of crops that they are: more if real images are few."""
    count = min(len(dataset.images), CONTRAST_IMAGES)
    windows = [dataset.window(i, 0, 0, PIXELS_A_WINDOW) for i in range(count)]
    deviation = float(np.mean([window.numbers.std() for window in windows]))
    kernel, clean = filter_of(dataset.noise), dataset.clean == "images"
    leaves = DeadLeaves(windows[0].numbers.shape[2], deviation, kernel, clean, seed)
    missing = 1 - dataset.pixels / ENOUGH_PIXELS
    return leaves, MAX_SYNTHETIC * float(np.clip(missing, 0, 1))


def _training(training: Any, crops: Crops, channels: int) -> Any:
    """The training config with steps and batch that suit the images.

    They are written down, so that a run resumes as it began.
    """
    training = copy(training)
    training.check()
    if training.steps is None:
        steps = min(MIN_STEPS + STEPS_A_CROP * crops.rows, MAX_STEPS)
        training.steps = steps if training.time_budget_s is None else ENDLESS_STEPS
    if training.batch is None:
        training.batch = max(1, STEP_PIXELS // (crops.side**2 * channels))
    training.members = 1
    return training


def _fingerprint(dataset: ImageDataset, parts: Parts, seed: int) -> str:
    images = dataset.images
    sizes = [(p.name, p.height, p.width, p.channels, str(p.dtype)) for p in images]
    noises = [scaler.noise.recipe() for scaler in dataset.scalers[:FINGERPRINT_SCALERS]]
    settings = [sizes, parts.recipes(), noises, seed]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    count = min(len(images), FINGERPRINT_IMAGES)
    for index in np.linspace(0, len(images) - 1, count).astype(int):
        window = dataset.window(int(index), 0, 0, FINGERPRINT_SIDE)
        digest.update(window.numbers.tobytes())
        digest.update(b"" if window.second is None else window.second.tobytes())
    return digest.hexdigest()[:16]
