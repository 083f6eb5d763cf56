"""Noisy images made ready for training: held-out blocks, crops, synthetic images."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keyhole.core.parts import build, copy
from keyhole.core.progress import stage
from keyhole.data.images import Image
from keyhole.errors import SettingError
from keyhole.modalities.prepared import Calibrated, Heldout, Parts, Prepared
from keyhole.modalities.tiles.crops import Crops
from keyhole.modalities.tiles.dataset import ImageDataset
from keyhole.modalities.tiles.dead_leaves import DeadLeaves
from keyhole.modalities.tiles.noise import Noise
from keyhole.modalities.tiles.noise.estimate import estimate
from keyhole.modalities.tiles.scaling import filter_of, windows_of
from keyhole.modalities.tiles.source import TilesProfile
from keyhole.model.network import Network

STEP_PIXELS = 1 << 16  # pixels of a training step
MOST_STEPS, LEAST_STEPS, STEPS_A_CROP = 2_000, 600, 20
ENDLESS_STEPS = 1_000_000  # if a time budget ends the run
GRADIENT_NORM = 0.1  # per pixel: noise in the target makes gradients jump
ENOUGH_PIXELS = 500_000  # of real images that need no synthetic ones beside them
MOST_SYNTHETIC = 0.5  # share of synthetic crops if real images are few
JUDGING_SHARE = 0.3  # of a time budget, for the comparison with classical filters
MANY_PIXELS, HELD_OUT, HELD_OUT_OF_FEW = 1_000_000, 0.05, 0.1
PIXELS_A_WINDOW, CONTRAST_IMAGES = 512, 8  # windows that measure the contrast of real images
FINGERPRINT_SCALERS, FINGERPRINT_IMAGES, FINGERPRINT_SIDE = 100, 64, 256


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


def prepare_tiles(
    profile: TilesProfile, noise: Noise, side: int, parts: Parts, seed: int
) -> Prepared:
    """Crops of the images, and blocks of pixels held out of training."""
    source = profile.source
    corruption = _corruption(parts.corruption, noise, pairs=source.seconds is not None)
    clean = _clean_images(corruption, source.seconds)
    share = HELD_OUT if source.pixels > MANY_PIXELS else HELD_OUT_OF_FEW
    dataset = ImageDataset(
        source.images, profile.scalers, source.seconds, share, seed, clean, noise
    )
    stage("cutting images into crops")
    leaves, synthetic = _synthetic(dataset, clean, seed)
    crops = Crops(dataset, side, seed, leaves, synthetic)
    fingerprint = _fingerprint(dataset, parts, seed)
    training = _training(parts.training, crops, source.images[0].channels)
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


def check_corruption(corruption: Any, noise: Noise | None, *, pairs: bool) -> None:
    """Raises: SettingError for a corruption that does not suit the images or their noise."""
    if corruption is None:
        return
    if (corruption.kind == "pairs") != pairs:
        reason = f"{corruption!r} takes no second ones" if pairs else "there are no second images"
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


def _corruption(corruption: Any, noise: Noise, *, pairs: bool) -> Any:
    """The corruption that the user gave, else the one that images and noise allow."""
    if corruption is None:
        recorrupted = {"kind": "recorrupted", "filter": filter_of(noise)}
        return build("corruption", {"kind": "pairs"} if pairs else recorrupted)
    if corruption.kind == "recorrupted" and corruption.filter is None:
        return build("corruption", {**corruption.recipe(), "filter": filter_of(noise)})
    return corruption


def _clean_images(corruption: Any, seconds: list[Image] | None) -> str:
    """The images without noise: their units are those of the mean of noisy ones."""
    if corruption.kind == "noise":
        return "images"
    if seconds is None:
        return ""
    indices = np.linspace(0, len(seconds) - 1, 3).astype(int)
    noises = [estimate(windows_of(seconds[int(i)])) for i in indices]
    return "partners" if all(noise.kind == "none" for noise in noises) else ""


def _synthetic(dataset: ImageDataset, clean: str, seed: int) -> tuple[DeadLeaves, float]:
    """Synthetic images, and the share of crops that they are: more if real images are few."""
    missing = 1 - dataset.pixels / ENOUGH_PIXELS
    count = min(len(dataset.images), CONTRAST_IMAGES)
    windows = [dataset.window(i, 0, 0, PIXELS_A_WINDOW) for i in range(count)]
    deviation = float(np.mean([window.numbers.std() for window in windows]))
    leaves = DeadLeaves(
        windows[0].numbers.shape[2], deviation, filter_of(dataset.noise), clean == "images", seed
    )
    return leaves, MOST_SYNTHETIC * float(np.clip(missing, 0, 1))


def _training(training: Any, crops: Crops, channels: int) -> Any:
    """The training config with steps and batch that suit the images.

    They are written down, so that a run resumes as it began.
    """
    training = copy(training)
    training.check()
    if training.steps is None and training.time_budget_s is None:
        steps = np.clip(LEAST_STEPS + STEPS_A_CROP * crops.rows, 0, MOST_STEPS)
        training.steps = int(steps)
    elif training.steps is None:
        training.steps = ENDLESS_STEPS
    if training.batch is None:
        training.batch = max(1, STEP_PIXELS // (crops.side**2 * channels))
    training.members = 1
    return training


def _fingerprint(dataset: ImageDataset, parts: Parts, seed: int) -> str:
    """A digest of images, settings and seed: equal ones make the same model."""
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
