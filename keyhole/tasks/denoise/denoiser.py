"""The Denoiser: pictures without their noise, learnt from noisy pictures alone."""

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
from keyhole.core.progress import Watcher
from keyhole.data.images import (
    Picture,
    Pictures,
    as_given,
    open_images,
    warn_infinite,
    warn_passed_over,
)
from keyhole.denoising.fitted import Fitted, Hooks, check_channels, learn, own_plan
from keyhole.denoising.keeping import SECTION, restored, section_of
from keyhole.errors import DataError, KeyholeWarning, SettingError
from keyhole.modalities.tiles.noise import Noise
from keyhole.modalities.tiles.scaling import Measured, Unit
from keyhole.modalities.tiles.tiling import PASS_CELLS, TILE, bands, middle, together
from keyhole.model.heads import Head, Mixed
from keyhole.model.nets.unet import UNet
from keyhole.store import Bundle, read_bundle, write_bundle
from keyhole.tasks.denoise.judge import Judged, judged
from keyhole.training import Corruption, Plan
from keyhole.training.checkpoint import clear, seed_for

MOST_FOLDED = 1 << 22  # pixels of a picture that is answered eight times, turned and mirrored


class Denoiser(TransformerMixin, BaseEstimator):
    """`fit(noisy).transform(noisy)`: no clean picture is needed.

    The noise of each picture is measured (or told: `noise`, a standard deviation in the pictures'
    units or a `keyhole.modalities.tiles.noise.Noise`), and the question that the net learns by is
    chosen by it:
    recorrupted noise, else what `corruption` says (`BlindSpot()` where nothing is known of the
    noise, `Noise(1.0)` for noise that is put on clean pictures). With a second picture of each,
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
        plan: Plan | None = None,
        noise: float | Noise | None = None,
        axes: str | None = None,
        fallback: bool = True,
        random_state: Any = None,
    ) -> None:
        self.corruption = corruption
        self.net = net
        self.head = head
        self.plan = plan
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
        watch: Watcher | None = None,
        learnt: Callable[[Sequence[Picture], Noise], None] | None = None,
    ) -> Self:
        """Learn from an array, a list of arrays of any sizes, or files: a path, folder or glob.

        `y`: clean pictures, or second exposures, one for each. The hooks are those of
        `Autoencoder.fit`, but `learnt` is told pictures and noise. Raises: DataError, FileError,
        SettingError, FitError.
        """
        parts = self.parts()
        seed = seed_for(self.random_state, checkpoint)
        pictures = self.open(X)
        warn_infinite(pictures.pictures)
        partners = None if y is None else self.open(y)
        hooks = Hooks(checkpoint, watch or (lambda event: None), learnt)
        self._take(learn(pictures, partners, parts, seed, hooks))
        self._checkpoint = checkpoint
        return self

    def transform(self, X: Any) -> Any:
        """The pictures without their noise, in the kind, size and type they were given.

        An array for an array, a list for a list; of files, float32 arrays in the files' values.
        Raises: DataError.
        """
        check_is_fitted(self, "network_")
        pictures = self.open(X)
        warn_infinite(pictures.pictures)
        planes = list(self.planes(pictures.pictures))
        if pictures.files[0].path:
            return [plane[..., 0] if plane.shape[2] == 1 else plane for plane in planes]
        given = as_given(pictures, planes)
        if given.clipped:
            said = f"{given.clipped:,} pixels did not fit the pictures' type and were clipped"
            warnings.warn(said, KeyholeWarning, stacklevel=2)
        return given.images

    def planes(self, pictures: Sequence[Picture]) -> Iterator[np.ndarray]:
        """Each picture denoised, (height, width, channels) in its own units, one by one.

        Small ones of one size go through together.
        """
        measured, waiting = self.measured(pictures), []
        for picture in pictures:
            if waiting and not self._goes_with(picture, waiting):
                yield from self._together(waiting, measured)
                waiting = []
            if max(picture.height, picture.width) > TILE:
                unit = measured.unit(picture)
                yield np.concatenate([rows for _, rows in self.bands(picture, unit)])
            else:
                waiting.append(picture)
        if waiting:
            yield from self._together(waiting, measured)

    def bands(self, picture: Picture, unit: Unit) -> Iterator[tuple[int, np.ndarray]]:
        """(y, rows) of a denoised picture from top to bottom; memory is that of a tile's row."""
        self._check(picture)
        if unit.noise.kind == "none":  # nothing to take away
            for y in range(0, picture.height, TILE):
                yield y, picture.window(slice(y, y + TILE), slice(None))
            return
        yield from bands(picture, unit, self._answer(picture))

    def middle(self, picture: Picture, unit: Unit, side: int) -> tuple[np.ndarray, np.ndarray]:
        """The middle of a picture, at most so wide and high: as it is, and denoised."""
        self._check(picture)
        answer = self._answer(picture)
        before, after = middle(picture, unit, answer, side)
        return before, before if unit.noise.kind == "none" else after

    def measured(self, pictures: Sequence[Picture]) -> Measured:
        """The units of the noise of these pictures; small ones are measured together."""
        return Measured(pictures, self._told(), self._fitted.noise)

    def judge(self, X: Any, truth: Any = None) -> list[Judged]:
        """What can be said of each picture's result without truth; with it, PSNR and SSIM.

        Of a large picture its middle is judged. Raises: DataError where truth is of another size.
        """
        check_is_fitted(self, "network_")
        pictures = self.open(X).pictures
        clean = None if truth is None else self.open(truth).pictures
        if clean is not None and len(clean) != len(pictures):
            raise DataError(f"{len(pictures)} pictures and {len(clean)} true ones: give one each")
        measured = self.measured(pictures)
        return [
            judged(self, p, measured.unit(p), None if clean is None else clean[i])
            for i, p in enumerate(pictures)
        ]

    @property
    def noise_(self) -> Noise:
        """The noise of all training pictures together."""
        return self._fitted.noise

    @property
    def history_(self) -> Any:
        """The evaluations of the run as a frame: pandas where it is installed, else Arrow."""
        return self._fitted.history.frame()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Keep the denoiser in a folder, whole or not at all."""
        check_is_fitted(self, "network_")
        section = section_of(self._fitted, self.parts(), self)
        write_bundle(path, {SECTION: section}, self.network_.state_dict())
        if self._checkpoint is not None:
            clear(self._checkpoint)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The denoiser kept in a folder; runs no code from it.

        Raises: BundleError that says what is wrong with it.
        """
        return cls.from_bundle(read_bundle(path))

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Self:
        """The denoiser of a bundle that was read. Raises: BundleError."""
        fitted, arguments = restored(bundle)
        denoiser = cls(**arguments)
        denoiser._take(fitted)
        return denoiser

    def open(self, X: Any) -> Pictures:
        """The pictures of X, by the axes that the model was told."""
        if isinstance(X, Pictures):
            return X
        pictures = open_images(X, axes=self.axes)
        warn_passed_over(pictures)
        return pictures

    def parts(self) -> dict[str, Any]:
        """The parts as given, else defaults. Raises: SettingError for what is no such part."""
        found = {
            "corruption": self.corruption,
            "net": UNet() if self.net is None else self.net,
            "head": Mixed(continuous="gaussian") if self.head is None else self.head,
            "plan": own_plan() if self.plan is None else self.plan,
        }
        for name, base in (("net", UNet), ("head", Head), ("plan", Plan)):
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

    def _take(self, fitted: Fitted) -> None:
        self._fitted = fitted
        self.network_, self.choice_ = fitted.network, fitted.choice
        self.verdict_, self.findings_ = fitted.verdict, fitted.findings

    def _check(self, picture: Picture) -> None:
        check_channels(picture, self._fitted.channels, "this model's pictures are")

    def _answer(self, picture: Picture) -> Any:
        small = picture.height * picture.width <= MOST_FOLDED
        return self._fitted.answer(folds=8 if small else 1)

    def _goes_with(self, picture: Picture, waiting: list[Picture]) -> bool:
        """True where a picture is of the size of those that wait, and there is room for it."""
        first, margin = waiting[0], self._answer(waiting[0]).margin
        alike = (picture.height, picture.width) == (first.height, first.width)
        cells = (picture.height + 2 * margin) * (picture.width + 2 * margin) * picture.channels
        return alike and (len(waiting) + 1) * cells <= PASS_CELLS

    def _together(self, pictures: list[Picture], measured: Measured) -> Iterator[np.ndarray]:
        for picture in pictures:
            self._check(picture)
        units = [measured.unit(picture) for picture in pictures]
        noisy = [i for i, unit in enumerate(units) if unit.noise.kind != "none"]
        chosen, held = [pictures[i] for i in noisy], [units[i] for i in noisy]
        found = iter(together(chosen, held, self._answer(pictures[0])) if noisy else [])
        for place, picture in enumerate(pictures):
            yield next(found) if place in noisy else picture.whole()

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags
