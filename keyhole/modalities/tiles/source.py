"""Noisy images as a source of training crops, and images in units of their own noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from keyhole.core.parts import Described
from keyhole.data.images import Image, Images
from keyhole.errors import DataError
from keyhole.modalities.tiles.estimate import estimate, estimate_many
from keyhole.modalities.tiles.noise import (
    NoiseModel,
    Stabiliser,
    background,
    background_value,
    impulse_scale,
    impulses,
)

HALO = 4  # pixels around a pixel that show whether it is an impulse, or background
WINDOWS, WINDOW = 8, 512  # of a large image that are measured; its noise is the same all over
SMALL_PIXELS = 100 * 100  # smaller images are measured together with others
ENOUGH_PIXELS = 50 * 50  # of small images that show their noise better than training does
MAX_SMALL = 500  # small images that are measured together


class DenoisingSchema(Described):
    """What the user says of noisy images.

    `noise` is the recipe of their noise, None: measured; `axes` names the axes of arrays and
    stacks; `fallback` lets a classical filter answer if its errors are smaller than the net's.
    """

    family = "schema"
    kind = "noisy_images"

    def __init__(
        self,
        *,
        noise: dict[str, Any] | None = None,
        axes: str | None = None,
        fallback: bool = True,
    ) -> None:
        self.noise, self.axes, self.fallback = noise, axes, fallback

    @property
    def known_noise(self) -> NoiseModel | None:
        """The noise that the user gave. Raises: SettingError."""
        return None if self.noise is None else NoiseModel.of_recipe(self.noise)


@dataclass(frozen=True)
class NoisyImages:
    """Images to learn from; `seconds` are the clean image, or a second exposure, of each.

    Raises: DataError for grey images among colour ones, or a pair of different sizes.
    """

    names: ClassVar[tuple[str, ...]] = ()  # it has no columns

    name: str
    images: list[Image]
    seconds: list[Image] | None

    @classmethod
    def of(cls, images: Images, seconds: Images | None) -> NoisyImages:
        """The images of files or arrays."""
        return cls(images.name, images.images, None if seconds is None else seconds.images)

    def __post_init__(self) -> None:
        first = self.images[0]
        for image in self.images:
            check_channels(image, first.channels, f"{first.name} and others")
        if self.seconds is None:
            return
        if len(self.seconds) != len(self.images):
            counts = f"{len(self.images)} noisy images and {len(self.seconds)} second images"
            raise DataError(f"{counts}: give one for each")
        for noisy, second in zip(self.images, self.seconds, strict=True):
            sizes = [(p.height, p.width, p.channels) for p in (noisy, second)]
            if sizes[0] != sizes[1]:
                raise DataError(f"{noisy.name} is {sizes[0]}, but its second image is {sizes[1]}")

    @property
    def pixels(self) -> int:
        """Pixels of all images, each channel counted."""
        return sum(p.height * p.width * p.channels for p in self.images)

    def take(self, indices: list[int]) -> NoisyImages:
        """Some of the images."""
        seconds = None if self.seconds is None else [self.seconds[i] for i in indices]
        return NoisyImages(self.name, [self.images[i] for i in indices], seconds)


@dataclass(frozen=True)
class TilesProfile:
    """The images that have noise, the scaler of each, and how many were left out for time."""

    source: NoisyImages
    scalers: list[NoiseScaler]
    left_out: int
    sample: None = None

    @property
    def rows(self) -> int:
        """The number of images."""
        return len(self.source.images)


def check_channels(image: Image, channels: int, others: str) -> None:
    """Raises: DataError for a grey image among colour ones, or the reverse."""
    if image.channels != channels:
        this, that = ("grey" if n == 1 else f"of {n} channels" for n in (image.channels, channels))
        raise DataError(
            f"{image.name} is {this}, {others} {that}: one model accepts one kind; convert "
            "it, or fit a model for each"
        )


@dataclass(frozen=True)
class NoiseScaler:
    """To noise of standard deviation 1 around an image's own mean, and back.

    A net without biases is homogeneous, so one net serves every noise level once images come in
    units of theirs. Impulses are missing to the net, which predicts them; so is a constant
    `background`, which stays as it is. `impulse_scale` is 0 where an image has no impulses.
    """

    noise: NoiseModel
    stabiliser: Stabiliser
    center: float
    impulse_scale: float = 0.0
    background: float | None = None

    @classmethod
    def of(cls, noise: NoiseModel, windows: list[np.ndarray]) -> Self:
        """The scaler of an image with this noise; `windows` are parts of the image."""
        scale = impulse_scale(windows, sure=noise.impulses > 0)[1]
        scaler = cls(noise, Stabiliser.of(noise), 0.0, scale, background_value(windows, noise))
        scaled = np.concatenate([scaler.forward(window).ravel() for window in windows])
        scaled = scaled[np.isfinite(scaled)].astype(np.float64)
        return replace(scaler, center=float(scaled.mean()) if len(scaled) else 0.0)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Pixels in units of their noise, float32; missing ones, impulses and background are NaN.

        Of a part of an image, pixels nearer than `HALO` to its edge may be taken for neither.
        """
        scaled = (self.stabiliser.forward(x) - self.center).astype(np.float32)
        if self.impulse_scale:
            scaled[impulses(x, self.impulse_scale)] = np.nan
        if self.background is not None:
            scaled[background(x, self.background)] = np.nan
        return scaled

    def expected(self, x: np.ndarray) -> np.ndarray:
        """What noisy versions of clean pixels are in these units, on average.

        A mean of roots is not the root of a mean: `inverse` leads back from the mean.
        """
        if not self.stabiliser.gain:
            return self.forward(x)
        d = self.stabiliser.forward(x)
        grid = np.linspace(float(np.nanmin(d)) - 2, float(np.nanmax(d)) + 2, 20_001)
        return (np.interp(x, self.stabiliser.inverse(grid), grid) - self.center).astype(np.float32)

    def restored(self, window: np.ndarray, denoised: np.ndarray) -> np.ndarray:
        """A denoised window in the image's own units; gaps and background are as in `window`."""
        stays = ~np.isfinite(window)
        if self.background is not None:
            stays |= background(window, self.background)
        image = self.stabiliser.inverse(denoised.astype(np.float64) + self.center)
        return np.where(stays, window, image.astype(np.float32)).astype(np.float32)


def windows_of(image: Image) -> list[np.ndarray]:
    """The image, or where it is large some windows spread over it; (height, width, channel)."""
    if image.height * image.width <= WINDOWS * WINDOW**2:
        return [image.whole()]
    rng, windows = np.random.default_rng(0), []
    for _ in range(WINDOWS):
        y, x = corner(image, WINDOW, rng)
        windows.append(image.window(slice(y, y + WINDOW), slice(x, x + WINDOW)))
    return windows


def corner(image: Image, side: int, rng: np.random.Generator) -> tuple[int, int]:
    """A random (y, x) at which a square window of this side starts; 0 if the image is smaller."""
    y, x = (int(rng.integers(max(n - side, 0) + 1)) for n in (image.height, image.width))
    return y, x


@dataclass
class NoiseEstimates:
    """The scalers of images of one call: small ones are measured together, in whatever order.

    `known` is the noise of all if the user gave it; `learned`, that of training for small images
    that are too few to measure.
    """

    images: Sequence[Image]
    known: NoiseModel | None
    learned: NoiseModel | None = None

    @cached_property
    def _of_small(self) -> NoiseModel:
        small = [p for p in self.images if p.height * p.width < SMALL_PIXELS]
        if sum(p.height * p.width for p in small) < ENOUGH_PIXELS and self.learned is not None:
            return self.learned
        some = np.linspace(0, len(small) - 1, min(len(small), MAX_SMALL)).astype(int)
        return estimate_many([small[int(index)].whole() for index in some])

    def unit(self, image: Image) -> NoiseScaler:
        """The scaler of one of the images, by the noise that is known or measured in it."""
        windows, noise = windows_of(image), self.known
        if noise is None:
            small = image.height * image.width < SMALL_PIXELS
            noise = self._of_small if small else estimate(windows)
        return NoiseScaler.of(noise, windows)
