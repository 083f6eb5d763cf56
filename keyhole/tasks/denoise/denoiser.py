"""The Denoiser: images without their noise, learned from noisy images alone."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from keyhole.autoencoder.input_validation import without_weights
from keyhole.core.progress import EvaluateCallback
from keyhole.data.images import (
    Image,
    Images,
    as_given,
    open_images,
    warn_infinite,
    warn_passed_over,
)
from keyhole.denoising.fitted import Callbacks, check_channels, learn, own_training
from keyhole.denoising.keeping import SECTION, restored, to_state
from keyhole.errors import DataError, KeyholeWarning, SettingError
from keyhole.modalities.tiles.noise import Noise
from keyhole.modalities.tiles.scaling import NoiseEstimates, NoiseScaler
from keyhole.modalities.tiles.tiling import PASS_FEATURES, TILE, bands, middle, together
from keyhole.model.heads import Head, Mixed
from keyhole.model.nets.unet import UNet
from keyhole.store import Bundle, read_bundle, write_bundle
from keyhole.tasks.denoise.judge import Judged, judged
from keyhole.training import Corruption, TrainingConfig
from keyhole.training.checkpoint import clear, seed_for

MOST_FOLDED = 1 << 22  # pixels of an image that is answered eight times, turned and mirrored


class Denoiser(TransformerMixin, BaseEstimator):
    """`fit(noisy).transform(noisy)`: no clean image is needed.

    The noise of each image is measured (or told: `noise`, a standard deviation in the images'
    units or a `keyhole.modalities.tiles.noise.Noise`), and the question that the net learns by is
    chosen by it:
    recorrupted noise, else what `corruption` says (`BlindSpot()` where nothing is known of the
    noise, `Noise(1.0)` for noise that is put on clean images). With a second image of each,
    `fit(noisy, clean)`, pairs. Where a classical filter makes smaller errors on pixels that the
    net did not train on, and `fallback` is on, the filter answers; `verdict_` says so. `axes`
    names the axes of arrays and stacks, such as "ZYX". Not a medical device.
    """

    _checkpoint: str | None = None

    def __init__(
        self,
        corruption: Corruption | None = None,
        *,
        net: UNet | None = None,
        head: Head | None = None,
        training: TrainingConfig | None = None,
        noise: float | Noise | None = None,
        axes: str | None = None,
        fallback: bool = True,
        random_state: Any = None,
    ) -> None:
        self.corruption = corruption
        self.net = net
        self.head = head
        self.training = training
        self.noise = noise
        self.axes = axes
        self.fallback = fallback
        self.random_state = random_state

    @without_weights
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        checkpoint: str | None = None,
        on_evaluate: EvaluateCallback | None = None,
        on_data_ready: Callable[[Sequence[Image], Noise], None] | None = None,
    ) -> Self:
        """Learn from an array, a list of arrays of any sizes, or files: a path, folder or glob.

        `y`: clean images, or second exposures, one for each. The hooks are those of
        `Autoencoder.fit`, but `on_data_ready` is told images and noise. Raises: DataError,
        FileError, SettingError, FitError.
        """
        parts = self.parts()
        seed = seed_for(self.random_state, checkpoint)
        images = self.open(X)
        warn_infinite(images.images)
        partners = None if y is None else self.open(y)
        callbacks = Callbacks(checkpoint, on_evaluate or (lambda event: None), on_data_ready)
        self.model_ = learn(images, partners, parts, seed, callbacks)
        self._checkpoint = checkpoint
        return self

    def transform(self, X: Any) -> Any:
        """The images without their noise, in the kind, size and type they were given.

        An array for an array, a list for a list; of files, float32 arrays in the files' values.
        Raises: DataError.
        """
        check_is_fitted(self, "model_")
        images = self.open(X)
        warn_infinite(images.images)
        planes = list(self.planes(images.images))
        if images.files[0].path:
            return [plane[..., 0] if plane.shape[2] == 1 else plane for plane in planes]
        given = as_given(images, planes)
        if given.clipped:
            said = f"{given.clipped:,} pixels did not fit the images' type and were clipped"
            warnings.warn(said, KeyholeWarning, stacklevel=2)
        return given.images

    def planes(self, images: Sequence[Image]) -> Iterator[np.ndarray]:
        """Each image denoised, (height, width, channels) in its own units, one by one.

        Small ones of one size go through together.
        """
        measured, waiting = self.measured(images), []
        for image in images:
            if waiting and not self._goes_with(image, waiting):
                yield from self._together(waiting, measured)
                waiting = []
            if max(image.height, image.width) > TILE:
                unit = measured.unit(image)
                yield np.concatenate([rows for _, rows in self.bands(image, unit)])
            else:
                waiting.append(image)
        if waiting:
            yield from self._together(waiting, measured)

    def bands(self, image: Image, unit: NoiseScaler) -> Iterator[tuple[int, np.ndarray]]:
        """(y, rows) of a denoised image from top to bottom; memory is that of a tile's row."""
        self._check(image)
        if unit.noise.kind == "none":  # nothing to take away
            for y in range(0, image.height, TILE):
                yield y, image.window(slice(y, y + TILE), slice(None))
            return
        yield from bands(image, unit, self._answer(image))

    def middle(self, image: Image, unit: NoiseScaler, side: int) -> tuple[np.ndarray, np.ndarray]:
        """The middle of an image, at most so wide and high: as it is, and denoised."""
        self._check(image)
        answer = self._answer(image)
        before, after = middle(image, unit, answer, side)
        return before, before if unit.noise.kind == "none" else after

    def measured(self, images: Sequence[Image]) -> NoiseEstimates:
        """The units of the noise of these images; small ones are measured together."""
        return NoiseEstimates(images, self._told(), self.model_.noise)

    def judge(self, X: Any, truth: Any = None) -> list[Judged]:
        """What can be said of each image's result without truth; with it, PSNR and SSIM.

        Of a large image its middle is judged. Raises: DataError where truth is of another size.
        """
        check_is_fitted(self, "model_")
        images = self.open(X).images
        clean = None if truth is None else self.open(truth).images
        if clean is not None and len(clean) != len(images):
            raise DataError(f"{len(images)} images and {len(clean)} true ones: give one each")
        measured = self.measured(images)
        return [
            judged(self, p, measured.unit(p), None if clean is None else clean[i])
            for i, p in enumerate(images)
        ]

    @property
    def verdict_(self) -> str:
        """One line on how far to trust the denoiser."""
        return self.model_.verdict

    @property
    def findings_(self) -> list[Any]:
        """What the checks object to."""
        return self.model_.findings

    @property
    def noise_(self) -> Noise:
        """The noise of all training images together."""
        return self.model_.noise

    @property
    def history_(self) -> Any:
        """The evaluations of the run as a frame: pandas where it is installed, else Arrow."""
        return self.model_.history.frame()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the denoiser atomically as one file."""
        check_is_fitted(self, "model_")
        section = to_state(self.model_, self.parts(), self)
        write_bundle(path, {SECTION: section}, self.model_.network.state_dict())
        if self._checkpoint is not None:
            clear(self._checkpoint)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The denoiser saved in a file; runs no code from it.

        Raises: BundleError that says what is wrong with it.
        """
        return cls.from_bundle(read_bundle(path))

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Self:
        """The denoiser of a bundle that was read. Raises: BundleError."""
        fitted, arguments = restored(bundle)
        denoiser = cls(**arguments)
        denoiser.model_ = fitted
        return denoiser

    def open(self, X: Any) -> Images:
        """The images of X, by the axes that the model was told."""
        if isinstance(X, Images):
            return X
        images = open_images(X, axes=self.axes)
        warn_passed_over(images)
        return images

    def parts(self) -> dict[str, Any]:
        """The parts as given, else defaults. Raises: SettingError for what is no such part."""
        found = {
            "corruption": self.corruption,
            "net": UNet() if self.net is None else self.net,
            "head": Mixed(continuous="gaussian") if self.head is None else self.head,
            "training": own_training() if self.training is None else self.training,
        }
        for name, base in (("net", UNet), ("head", Head), ("training", TrainingConfig)):
            if not isinstance(found[name], base):
                raise SettingError(f"{name}={found[name]!r:.80}: expected a {base.__name__}")
        if self.corruption is not None and not isinstance(self.corruption, Corruption):
            raise SettingError(f"corruption={self.corruption!r:.80}: expected a Corruption")
        found["net"].check()
        found["net"] = found["net"].settled()
        return found | {"noise": self._told(), "fallback": self.fallback}

    def _told(self) -> Noise | None:
        """The noise that was told. Raises: SettingError for a level that is none."""
        told = self.noise
        if told is None or isinstance(told, Noise):
            return told
        if isinstance(told, bool) or not isinstance(told, int | float) or not told > 0:
            raise SettingError(f"noise={told!r:.40}: a standard deviation above zero, or a Noise")
        return Noise(float(told))

    def _check(self, image: Image) -> None:
        check_channels(image, self.model_.channels, "this model's images are")

    def _answer(self, image: Image) -> Any:
        small = image.height * image.width <= MOST_FOLDED
        return self.model_.answer(folds=8 if small else 1)

    def _goes_with(self, image: Image, waiting: list[Image]) -> bool:
        """True where an image is of the size of those that wait, and there is room for it."""
        first, margin = waiting[0], self._answer(waiting[0]).margin
        alike = (image.height, image.width) == (first.height, first.width)
        cells = (image.height + 2 * margin) * (image.width + 2 * margin) * image.channels
        return alike and (len(waiting) + 1) * cells <= PASS_FEATURES

    def _together(self, images: list[Image], measured: NoiseEstimates) -> Iterator[np.ndarray]:
        for image in images:
            self._check(image)
        units = [measured.unit(image) for image in images]
        noisy = [i for i, unit in enumerate(units) if unit.noise.kind != "none"]
        chosen, held = [images[i] for i in noisy], [units[i] for i in noisy]
        found = iter(together(chosen, held, self._answer(images[0])) if noisy else [])
        for place, image in enumerate(images):
            yield next(found) if place in noisy else image.whole()

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags
