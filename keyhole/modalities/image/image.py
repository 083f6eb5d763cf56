"""Images of one shape: every pixel a cell, square patches in the place of columns."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from keyhole.core.layout import Layout, Slot, pixels
from keyhole.core.records import Batch
from keyhole.data import image_rows
from keyhole.data.image_rows import FILE, IMAGE, ImageSource, ImageSpec, image_spec_of, pixels_of
from keyhole.data.lazy import pa
from keyhole.data.source import Rows, Source, check_columns
from keyhole.errors import DataError, SettingError
from keyhole.modalities.base import NO_EVENTS, Deviance, Field, Modality, PerFeature
from keyhole.modalities.expected import LEVEL, Expected, Prediction, number_texts, range_texts
from keyhole.modalities.image.patches import (
    GROUPS,
    PixelMaps,
    mean_and_contrast,
    patch_coordinates,
)
from keyhole.modalities.profile import SourceProfile
from keyhole.modalities.schema import Schema
from keyhole.model.heads import Mixed
from keyhole.model.nets import Conv, Net

MAX_PATCHES = 64  # of an image: each is masked and explained as one
MAX_FEATURES = 1 << 17  # pixel values of an image that is a row
SAMPLE_BYTES = 128 << 20
NATS_UNOBSERVED = 9.0  # of a white pixel where all others were black


class ImageSchema(Schema):
    """What the user says of images.

    Parameters
    ----------
    size : list of int, default=None
        Height and width in pixels, to which all images are resized. None: all images must have
        one size, and are reduced to at most 64 pixels a side.

    Raises
    ------
    SettingError
        In `fit`, for an invalid size.

    Examples
    --------
    >>> from keyhole import Autoencoder, ImageSchema
    >>> Autoencoder(schema=ImageSchema(size=[32, 32])).schema.size
    [32, 32]
    """

    kind = "images"

    def __init__(self, size: list[int] | None = None) -> None:
        super().__init__()
        self.size = size

    def check(self) -> None:
        """Raises: SettingError for an invalid size."""
        super().check()
        size: Any = self.size
        if size is not None and not (
            isinstance(size, list | tuple)
            and len(size) == 2
            and all(isinstance(side, int) and 4 <= side <= 4_096 for side in size)
        ):
            raise SettingError(f"size={size!r:.40}: give (height, width) in pixels, from 4 up")


class ImageModality(Modality):
    """Images, their pixels by one measure: `center` and `scale`, the usual contrast within one.

    `form` is their shape and type, `patch` a patch's side in pixels; `least` and `most` were met
    in training; `binary` images hold zeros and ones alone.
    """

    kind = "images"
    noun = "images"
    unsupported = {
        "given": "images are generated as a whole",
        "cards": "a card names columns, and this model's rows are images",
        "judge": "only generated rows of a table are judged; look at the images",
        "events": NO_EVENTS,
        "single_values": "a pixel is not a column: white is a normal value",
    }

    def __init__(
        self,
        *,
        columns: list[Any],
        form: dict[str, Any],
        measure: dict[str, float],
        patch: int,
        binary: bool,
        reasons: dict[str, str],
        gaps: dict[str, float],
    ) -> None:
        self.columns = [Field(name, "image" if name == IMAGE else "ignored") for name in columns]
        self.form, self.measure, self.patch = ImageSpec.of(form), measure, patch
        self.binary, self.reasons, self.gaps = binary, reasons, gaps

    def check(self) -> None:
        """Raises: SettingError for images that there cannot be."""
        grid, measure = self.form.grid, self.measure
        if len(grid) != 3 or min(grid) < 1 or math.prod(grid) > MAX_FEATURES:
            raise SettingError(f"images of {grid}: at most {MAX_FEATURES:,} values are supported")
        if not 1 <= self.patch <= max(grid):
            raise SettingError(
                f"patch={self.patch}: expected the side of a square within the image"
            )
        if sorted(measure) != ["center", "least", "most", "scale"] or not measure["scale"] > 0:
            raise SettingError("measure: center, scale (above zero), least and most")

    @classmethod
    def takes(cls, source: Source) -> bool:
        """True for an array of images, for image files, and for tables of images."""
        return image_rows.holds_images(source)

    @classmethod
    def for_fit(cls, source: Source, schema: Schema | None) -> Source:
        """The images at the size that the schema gives, else at most 64 pixels a side."""
        (schema or Schema()).check()
        if isinstance(source, ImageSource):
            size = _size_of(schema)
            return source.sized(size, any_size=size is not None)
        return source

    def match(self, source: Source, schema: Schema | None) -> Source:
        """The images at the size of training. Raises: DataError for those of another shape."""
        if isinstance(source, ImageSource):
            return source.like(self.form, any_size=_size_of(schema) is not None)
        return source

    @classmethod
    def default_parts(cls) -> dict[str, Any]:
        """Convolutions, and a Gaussian for pixels."""
        return {"net": Conv(), "head": Mixed(continuous="gaussian")}

    @classmethod
    def check_net(cls, net: Net) -> None:
        """Raises: SettingError for a net of series; all others take images."""
        if net.series:
            raise SettingError(f"{net!r} is for series, but these rows are images: use Conv")

    @classmethod
    def learn(
        cls, source: Source, schema: Schema, *,
        alike: bool = False, binned: bool = False, group: str | None = None,
    ) -> tuple[Self, SourceProfile]:  # fmt: skip
        """The images of a source, and their sample. Raises: DataError without a pixel."""
        check_columns(schema.named(), source.names, "the schema")
        check_columns([group] if group else [], source.names, "group")
        profile = SourceProfile(source, source.names, profiled=False, most_bytes=SAMPLE_BYTES)
        form = image_spec_of(profile.sample)
        if form is None or profile.rows == 0:
            raise DataError(f"{source.name} holds 0 sample(s): a minimum of 1 is required")
        if math.prod(form.grid) > MAX_FEATURES:
            raise DataError(
                f"{source.name} holds images of {form.grid}: at most {MAX_FEATURES:,} values "
                "are supported; make the images smaller with ImageSchema(size=(height, "
                "width))"
            )
        x = _finite(pixels_of(profile.sample), 0)
        observed = x[~np.isnan(x)]
        if not len(observed):
            raise DataError(f"{source.name} holds no observed pixel")
        side = max(2, math.ceil(math.sqrt(form.grid[0] * form.grid[1] / MAX_PATCHES)))
        names = {IMAGE: _in_words(form, side), FILE: "names the images"}
        images = cls(
            columns=source.names, form=vars(form), measure=_measure(x, observed), patch=side,
            binary=bool(np.isin(observed, (0, 1)).all()) and len(np.unique(observed)) == 2,
            reasons={name: names[name] for name in source.names}, gaps={},
        )  # fmt: skip
        empty = np.isnan(x).mean(0)
        for name in images.layout.columns if empty.any() else ():
            images.gaps[name] = float(empty[images.layout.features(name)[0]])
        return images, profile

    def recipe(self) -> dict[str, Any]:
        """What was learned, as JSON."""
        form = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.form).items()}
        return super().recipe() | {"columns": [c.name for c in self.columns], "form": form}

    @cached_property
    def layout(self) -> Layout:
        """A cell for each pixel and channel, in patches."""
        center, scale = self.measure["center"], self.measure["scale"]
        if self.binary:
            slot = Slot("", "pixel", "bernoulli", center=center, nats_unobserved=NATS_UNOBSERVED,
                        scale=max(math.sqrt(center * (1 - center)), 1e-3))  # fmt: skip
        else:
            ends = self.form.limits or (self.measure["least"], self.measure["most"])
            whole = self.form.limits is not None and not self.form.resized
            slot = Slot("", "pixel", "student_t", unit=scale, step=1 / scale if whole else 0.0,
                        ends=tuple((end - center) / scale for end in ends))  # fmt: skip
        return pixels(slot, self.form.grid, self.patch)

    @cached_property
    def encoded_columns(self) -> list[Field]:
        """The patches."""
        return [Field(name, "patch") for name in self.layout.columns]

    @property
    def id_column(self) -> str | None:
        """The file, where images are files."""
        return FILE if FILE in [column.name for column in self.columns] else None

    def needs(self) -> list[str]:
        """The images alone."""
        return [IMAGE]

    def encode(self, rows: Rows, start: int = 0) -> Batch:
        """The encoded images. Raises: DataError for another shape, or an infinite pixel."""
        check_columns(self.needs(), rows.names, "this model")
        table = rows.arrow().select([IMAGE])
        form = image_spec_of(table)
        x = pixels_of(table)
        if x.shape[1] != len(self.layout) or (form is not None and form.grid != self.form.grid):
            given = form.grid if form is not None else (x.shape[1],)
            raise DataError(f"images are {given}, but this model expects {self.form.grid}")
        x = _finite(x, start)
        observed = ~np.isnan(x)
        numbers = x if self.binary else (x - self.measure["center"]) / self.measure["scale"]
        numbers = np.where(observed, numbers, 0).astype(np.float32, copy=False)
        codes = torch.zeros((len(x), 0), dtype=torch.int64)
        return Batch(torch.from_numpy(numbers), codes, torch.from_numpy(observed))

    def decode(self, batch: Batch) -> pa.Table:
        """Expected images in the original units, as floats."""
        x = self._values(batch.numbers.cpu().numpy())
        ends = self.form.limits or (-np.inf, np.inf)
        return self._table(x.clip(*ends), replace(self.form, stored="float32"))

    def drawn(self, batch: Batch) -> pa.Table:
        """Images of values that the type can hold, and that training met; unseen pixels NaN."""
        x = self._values(batch.numbers.cpu().numpy())
        x = x.clip(self.measure["least"], self.measure["most"])
        x = x if self.form.limits is None else np.round(x)
        observed = batch.observed.cpu().numpy()
        form = self.form if observed.all() else replace(self.form, stored="float32")
        return self._table(x if observed.all() else np.where(observed, x, np.nan), form)

    def texts(self, rows: Rows, column: str) -> list[str]:
        """The mean of a patch."""
        patch = pixels_of(rows.arrow().select([IMAGE]))[:, self.layout.features(column)]
        return [f"mean {text}" for text in number_texts(_means(patch).astype(np.float64))]

    def expected(self, column: str, features: np.ndarray, predicted: Prediction) -> Expected:
        """The range of the patch's mean, or that its mean fits and its pattern does not."""
        ends = (predicted.low, predicted.high)
        low, high = (self._values(part).mean(1).astype(np.float64) for part in ends)
        mean = self._values(features).mean(1).astype(np.float64)
        inside = (low <= mean) & (mean <= high)
        texts = [
            f"a different pattern, with a mean of {text} {LEVEL}" if fits else f"{text} {LEVEL}"
            for text, fits in zip(range_texts(low, high), inside, strict=True)
        ]
        return Expected(texts, np.zeros(len(features), bool), np.ones(len(features), bool))

    def mask_groups(self, most: int = GROUPS) -> list[np.ndarray]:
        """Patches, so that none is masked with the one below it."""
        layout = self.layout
        count = min(most, GROUPS, len(layout.columns))
        patches_across = -(-self.form.grid[1] // layout.patch)
        down, across = np.divmod(np.arange(len(layout.columns)), patches_across)
        group_of = ((3 * down + across) % count)[layout.column_of_feature]
        return [np.flatnonzero(group_of == group) for group in range(count)]

    @cached_property
    def maps(self) -> PixelMaps:
        """Maps of pixels."""
        return PixelMaps(self.form, self.layout.patch)

    def even(self, batch: Batch) -> Batch:
        """As they are: 31 images more would cost too much."""
        return batch

    def coordinates(self, batch: Batch) -> Float[Tensor, "row axis"]:
        """The means of patches in units of the image's contrast; its mean; its contrast."""
        return patch_coordinates(batch, self.layout, self.form.grid[2])

    def scale_deviance(self, deviance: Deviance, batch: Batch) -> Deviance:
        """As if each image had the usual contrast: else a faint one would never be anomalous."""
        contrast = mean_and_contrast(batch)[1]
        return deviance if self.binary else deviance / contrast.square()[:, None]

    def reach(self, half_width: PerFeature) -> PerFeature:
        """The image's usual contrast: an interval is about the mean of a patch."""
        return np.ones(half_width.shape)

    def pool_residuals(self, residuals: PerFeature) -> PerFeature:
        """The residual of a patch's mean at each of its pixels."""
        pooled = np.empty(residuals.shape)
        for name in self.layout.columns:
            patch = self.layout.features(name)
            pooled[:, patch] = _means(residuals[:, patch])[:, None]
        return pooled

    def images(self, table: pa.Table) -> np.ndarray | None:
        """The images of a table, if it holds any."""
        return None if image_spec_of(table) is None else image_rows.as_images(table)

    def _values(self, features: np.ndarray) -> np.ndarray:
        scale, center = self.measure["scale"], self.measure["center"]
        return features if self.binary else features * scale + center

    def _table(self, x: np.ndarray, form: ImageSpec) -> pa.Table:
        return pa.table([form.column(x)], schema=pa.schema([form.field()]))


def _size_of(schema: Schema | None) -> tuple[int, int] | None:
    size = schema.size if isinstance(schema, ImageSchema) else None
    return None if size is None else (size[0], size[1])


def _in_words(form: ImageSpec, side: int) -> str:
    height, width, channels = form.grid
    kind = "grey" if channels == 1 else f"{channels} channels"
    text = f"{height}x{width} pixels, {kind}, stored as {form.stored}, patches of {side}x{side}"
    if form.resized:
        text += f"; resized from {form.original[0]}x{form.original[1]}: "
        text += "ImageSchema(size=(height, width)) sets another size"
    return text


def _means(x: np.ndarray) -> np.ndarray:
    """The mean of what is known in each row; NaN where nothing is."""
    known = ~np.isnan(x)
    mean = np.where(known, x, 0).sum(1) / known.sum(1).clip(1)
    return np.where(known.any(1), mean, np.nan)


def _measure(x: np.ndarray, observed: np.ndarray) -> dict[str, float]:
    """Center and scale of all pixels, the least and the most of them."""
    with np.errstate(all="ignore"):
        some = x[~np.isnan(x).all(1)]
        contrast = float(np.median(np.nanstd(some.astype(np.float64), axis=1)))
    scale = max(contrast, 0.1 * float(observed.std(dtype=np.float64)))
    center = float(observed.mean(dtype=np.float64))
    scale = scale if scale > 1e-9 * max(abs(center), 1e-300) else max(abs(center), 1.0)
    ends = {"least": float(observed.min()), "most": float(observed.max())}
    return {"center": center, "scale": scale, **ends}


def _finite(x: np.ndarray, start: int) -> np.ndarray:
    infinite = np.isinf(x).any(1)
    if infinite.any():
        number = start + int(infinite.argmax()) + 1
        raise DataError(f"image {number} holds infinity; write NaN where a pixel is missing")
    return x
