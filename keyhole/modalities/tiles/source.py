"""Noisy images as a source of training crops, and what the user says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keyhole.core.parts import Described
from keyhole.data.images import Image, Images
from keyhole.errors import DataError
from keyhole.modalities.tiles.noise import Noise
from keyhole.modalities.tiles.scaling import NoiseScaler


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
        self.noise = noise
        self.axes = axes
        self.fallback = fallback

    @property
    def known_noise(self) -> Noise | None:
        """The noise that the user gave. Raises: SettingError."""
        return None if self.noise is None else Noise.of_recipe(self.noise)


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
            raise DataError(
                f"{len(self.images)} noisy images and {len(self.seconds)} second ones: "
                "give one each"
            )
        for noisy, second in zip(self.images, self.seconds, strict=True):
            sizes = [(p.height, p.width, p.channels) for p in (noisy, second)]
            if sizes[0] != sizes[1]:
                raise DataError(f"{noisy.name} is {sizes[0]} and its second image {sizes[1]}")

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
        kinds = {1: "grey"}
        this, that = (kinds.get(n, f"of {n} channels") for n in (image.channels, channels))
        raise DataError(
            f"{image.name} is {this}, {others} {that}: one model takes one kind; convert it, or "
            "fit a model for each"
        )
