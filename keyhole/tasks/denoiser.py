"""The Denoiser: images without their noise, learned from noisy images alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from sklearn.base import TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from keyhole.autoencoder.base import Estimator
from keyhole.autoencoder.fit import Callbacks, Model, learn
from keyhole.autoencoder.input_validation import without_weights
from keyhole.autoencoder.state import restore
from keyhole.checks.denoising import DenoisingEvidence
from keyhole.core.parts import build
from keyhole.core.progress import EvaluateCallback, called_with_progress, heard_if_verbose
from keyhole.data.images import (
    Image,
    Images,
    as_given,
    open_images,
    warn_infinite,
    warn_passed_over,
)
from keyhole.errors import BundleError, DataError, KeyholeWarning, SettingError
from keyhole.modalities.prepared import Parts
from keyhole.modalities.tiles.noise import NoiseModel
from keyhole.modalities.tiles.source import DenoisingSchema, NoisyImages
from keyhole.modalities.tiles.tiles import Tiles
from keyhole.model.bottlenecks.base import Identity
from keyhole.model.heads import Head, Mixed
from keyhole.model.nets.unet import UNet
from keyhole.store import Bundle, record, wrap_errors
from keyhole.tasks.image_denoiser import ImageDenoiser, JudgedImage
from keyhole.training import Corruption, TrainingConfig
from keyhole.training.checkpoint import seed_for

SECTION = "denoise"


@dataclass(frozen=True)
class DenoiserState:
    """The section `denoise` of a manifest: the parts as the user gave them."""

    given: dict[str, dict[str, Any] | None]


@heard_if_verbose("fit", "transform", "judge")
class Denoiser(TransformerMixin, Estimator):
    """Removes the noise of images, learned from noisy images alone.

    `fit(noisy).transform(noisy)`: no clean image is needed. If a classical filter makes smaller
    errors than the net on pixels that the net did not train on, the filter answers, and
    `verdict_` says so. Not a medical device.

    Parameters
    ----------
    corruption : Corruption, default=None
        How the net learns without clean images, from `keyhole.corruptions`. None: recorrupted
        noise, or pairs after `fit(noisy, clean)`. `BlindSpot()` needs no knowledge of the noise;
        `Noise(1.0)` is for noise that is added to clean images.
    net : UNet, default=None
        The layers. None: `UNet()`.
    head : Head, default=None
        The likelihood of a pixel. None: Gaussian.
    training : TrainingConfig, default=None
        Steps, learning rate, time budget, device. None: one made for images.
    noise : float or NoiseModel, default=None
        The standard deviation of the noise in the images' units. None: measured in each image.
    axes : str, default=None
        The names of the axes of arrays and stacks, such as "ZYX". None: guessed.
    fallback : bool, default=True
        Let a filter answer where it is better than the net.
    random_state : int, RandomState or None, default=None
        The seed of all that is random.
    verbose : bool, default=False
        Show progress and the verdict on standard error.

    Attributes
    ----------
    model_ : Model
        Network, noise, training history and checks in one frozen record.
    comparison_ : DenoisingEvidence
        The errors of the net and of classical filters, and which of them answers.
    noise_ : NoiseModel
        The noise of all training images together.
    verdict_, findings_, history_
        How far to trust the model, what the checks object to, and the training run.

    Raises
    ------
    SettingError
        In `fit`, for an invalid argument.
    DataError
        For arrays and files that are no images.

    Examples
    --------
    >>> import numpy as np
    >>> from keyhole import Denoiser, TrainingConfig
    >>> noisy = np.random.default_rng(0).normal(100, 5, (1, 32, 32)).astype("float32")
    >>> training = TrainingConfig(steps=2, members=1, batch=2)
    >>> denoiser = Denoiser(training=training, noise=5.0, random_state=0)
    >>> clean = denoiser.fit(noisy).transform(noisy)
    >>> clean.shape, bool(clean.std() < noisy.std())
    ((1, 32, 32), True)
    """

    model_: Model

    def __init__(
        self,
        corruption: Corruption | None = None,
        *,
        net: UNet | None = None,
        head: Head | None = None,
        training: TrainingConfig | None = None,
        noise: float | NoiseModel | None = None,
        axes: str | None = None,
        fallback: bool = True,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.corruption = corruption
        self.net = net
        self.head = head
        self.training = training
        self.noise = noise
        self.axes = axes
        self.fallback = fallback
        self.random_state = random_state
        self.verbose = verbose

    @without_weights
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        checkpoint: str | None = None,
        on_evaluate: EvaluateCallback | None = None,
        on_data_ready: Callable[[Sequence[Image], NoiseModel], None] | None = None,
    ) -> Self:
        """Learn from an array, a list of arrays of any sizes, or files: a path, folder or glob.

        `y`: clean images, or second exposures, one for each. The callbacks are those of
        `Autoencoder.fit`, but `on_data_ready` gets images and noise. Raises: DataError,
        FileError, SettingError, FitError.
        """
        parts = self.parts()
        seed = seed_for(self.random_state, checkpoint)
        images = self.open(X)
        warn_infinite(images.images)
        source = NoisyImages.of(images, None if y is None else self.open(y))
        on_evaluate = called_with_progress(on_evaluate, self.verbose)

        def with_noise(tiles: Any, source: Any, profile: Any) -> None:
            if on_data_ready is not None:
                on_data_ready(profile.source.images, tiles.measured_noise)

        self.model_ = learn(source, parts, seed, Callbacks(checkpoint, on_evaluate, with_noise))
        self._checkpoint = checkpoint
        self._tell_verdict()
        return self

    def transform(self, X: Any) -> Any:
        """The images without their noise, in the kind, size and type they were given.

        An array for an array, a list for a list; of files, float32 arrays in the files' values.
        Raises: DataError.
        """
        check_is_fitted(self, "model_")
        images = self.open(X)
        warn_infinite(images.images)
        denoised = list(image_denoiser(self).images(images.images))
        if images.files[0].path:
            return [image[..., 0] if image.shape[2] == 1 else image for image in denoised]
        given = as_given(images, denoised)
        if given.clipped:
            message = f"{given.clipped:,} pixels did not fit the images' type and were clipped"
            warnings.warn(message, KeyholeWarning, stacklevel=2)
        return given.images

    def judge(self, X: Any, truth: Any = None) -> list[JudgedImage]:
        """What is known of each image's result without truth; with it, PSNR and SSIM.

        Only the middle of a large image is judged. Raises: DataError if truth has another size.
        """
        check_is_fitted(self, "model_")
        images = self.open(X).images
        clean = None if truth is None else self.open(truth).images
        if clean is not None and len(clean) != len(images):
            raise DataError(
                f"{len(images)} images, but {len(clean)} clean ones: give one for each"
            )
        on_images = image_denoiser(self)
        estimates = on_images.estimates(images)
        return [
            on_images.judged(image, estimates.unit(image), None if clean is None else clean[i])
            for i, image in enumerate(images)
        ]

    @property
    def comparison_(self) -> DenoisingEvidence:
        """The errors of the net and of classical filters, and which of them answers."""
        return DenoisingEvidence(**self.model_.evidence)

    @property
    def noise_(self) -> NoiseModel:
        """The noise of all training images together."""
        return self._tiles.measured_noise

    @classmethod
    def _of_bundle(cls, bundle: Bundle) -> Self:
        if SECTION not in bundle.sections:
            raise BundleError(
                f"{bundle.path} holds no denoiser: it was not fitted with --for denoise"
            )
        state = record(DenoiserState, bundle.sections[SECTION], f"section {SECTION!r}")
        with wrap_errors("the manifest"):
            given: dict[str, Any] = {
                name: None if recipe is None else build(name, recipe)
                for name, recipe in state.given.items()
            }
            model_state, model = restore(bundle)
            schema = model.parts.schema
            if not isinstance(schema, DenoisingSchema) or not isinstance(model.modality, Tiles):
                raise BundleError("the manifest cannot be used: it is not that of a denoiser")
            if not isinstance(model.parts.net, UNet) or not isinstance(given["net"], UNet | None):
                raise BundleError("the net of a denoiser is a U-Net")
            noise = schema.known_noise
            known = (
                noise.sigma if noise is not None and noise == NoiseModel(noise.sigma) else noise
            )
            denoiser = cls(**given, noise=known, axes=schema.axes, fallback=schema.fallback,
                           random_state=model_state.random_state)  # fmt: skip
            denoiser.model_ = model
            denoiser.comparison_.check()
        return denoiser

    def _sections(self) -> dict[str, Any]:
        parts = {name: getattr(self, name) for name in Parts.names() if hasattr(self, name)}
        recipes = {name: None if part is None else part.recipe() for name, part in parts.items()}
        return {SECTION: asdict(DenoiserState(recipes))}

    def open(self, X: Any) -> Images:
        """The images of X, by the axes that the user gave."""
        if isinstance(X, Images):
            return X
        images = open_images(X, axes=self.axes)
        warn_passed_over(images)
        return images

    def parts(self) -> Parts:
        """The parts as given, else defaults. Raises: SettingError for an invalid part."""
        net = UNet() if self.net is None else self.net
        head = Mixed(continuous="gaussian") if self.head is None else self.head
        training = own_training() if self.training is None else self.training
        given = (("net", net, UNet), ("head", head, Head), ("training", training, TrainingConfig))
        for name, part, base in given:
            if not isinstance(part, base):
                raise SettingError(f"{name}={part!r:.80}: expected a {base.__name__}")
        if self.corruption is not None and not isinstance(self.corruption, Corruption):
            raise SettingError(f"corruption={self.corruption!r:.80}: expected a Corruption")
        net.check()
        noise = self._known_noise()
        recipe = None if noise is None else noise.recipe()
        schema = DenoisingSchema(noise=recipe, axes=self.axes, fallback=self.fallback)
        return Parts(Identity(), net.settled(), head, self.corruption, training, schema)

    @property
    def _tiles(self) -> Tiles:
        tiles: Any = self.model_.modality
        return tiles

    def _known_noise(self) -> NoiseModel | None:
        """The noise that the user gave. Raises: SettingError for an invalid level."""
        noise = self.noise
        if noise is None or isinstance(noise, NoiseModel):
            return noise
        if isinstance(noise, bool) or not isinstance(noise, int | float) or not noise > 0:
            raise SettingError(
                f"noise={noise!r:.40}: expected a standard deviation above zero, or a NoiseModel"
            )
        return NoiseModel(float(noise))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.sparse = tags.input_tags.string = False
        return tags


def own_training() -> TrainingConfig:
    """The training config where none is given."""
    return TrainingConfig(learning_rate=2e-3, patience=None)


def image_denoiser(denoiser: Denoiser) -> ImageDenoiser:
    """What denoises images one by one."""
    return ImageDenoiser(
        denoiser.model_, denoiser._tiles, denoiser.comparison_, denoiser._known_noise()
    )
