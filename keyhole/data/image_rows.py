"""Images of one shape as rows, from an array or from image files; resizing.

A row has a column `image` (all pixels: row, column, channel) and, for files, a column `file`.
The shape is in the metadata of the field, so that it survives slices and Parquet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from keyhole.data.lazy import pa
from keyhole.data.source import ArrowRows, Rows, Source
from keyhole.errors import DataError

IMAGE = "image"
KEY = b"keyhole.image"
MAX_SIDE = 64  # pixels of resized images if the schema gives no size


@dataclass(frozen=True)
class ImageSpec:
    """The images of a source: shape of a row, original height and width, and pixel type.

    `flat` images have no axis of channels; `limits` are those of the stored type, None for floats.
    """

    grid: tuple[int, int, int]
    original: tuple[int, int]
    flat: bool = True
    stored: str = "float32"
    limits: tuple[float, float] | None = None

    @property
    def resized(self) -> bool:
        """True if rows have another size than the original images."""
        return self.grid[:2] != self.original

    @classmethod
    def of(cls, recipe: dict[str, Any]) -> ImageSpec:
        """The spec of a JSON object, in which pairs are lists."""
        fields: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in recipe.items()}
        return cls(**fields)

    def sized(self, size: tuple[int, int] | None) -> ImageSpec:
        """The same images at this size; None: at most `MAX_SIDE` pixels a side."""
        scale = min(1.0, MAX_SIDE / max(self.original))
        height, width = size or (max(1, round(side * scale)) for side in self.original)
        return replace(self, grid=(height, width, self.grid[2]))

    def field(self) -> pa.Field:
        """The field of the column `image`."""
        plain = pa.float32() if self.resized or self.stored != "uint8" else pa.uint8()
        text = json.dumps(vars(self)).encode()
        return pa.field(IMAGE, pa.list_(plain, int(np.prod(self.grid))), metadata={KEY: text})

    def column(self, pixels: np.ndarray) -> pa.Array:
        """Pixels (image, ...) as the column `image`."""
        kind = self.field().type
        values = pa.array(np.ravel(pixels).astype(kind.value_type.to_pandas_dtype()))
        return pa.FixedSizeListArray.from_arrays(values, kind.list_size)


def image_spec_of(table: pa.Table) -> ImageSpec | None:
    """The spec of the images in a table; None if there are none."""
    field = table.schema.field(IMAGE) if IMAGE in table.column_names else None
    text = (field.metadata or {}).get(KEY) if field is not None else None
    return None if text is None else ImageSpec.of(json.loads(text))


def holds_images(source: Source) -> bool:
    """True if the rows of a source are images; a CSV, which can be read once, has none."""
    if isinstance(source, ImageSource):
        return True
    if IMAGE not in source.names or not source.groups:
        return False
    return any(image_spec_of(block.arrow()) for block in islice(source.blocks(1), 1))


def pixels_of(table: pa.Table) -> np.ndarray:
    """The images of a table as floats (image, pixel); NaN for a null image."""
    column = table.column(IMAGE).combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)  # without null images
    values = values.reshape(-1, column.type.list_size).astype(np.float32, copy=False)
    if not column.null_count:
        return values
    pixels = np.full((len(column), column.type.list_size), np.nan, np.float32)
    pixels[column.is_valid().to_numpy(zero_copy_only=False)] = values
    return pixels


def as_images(table: pa.Table) -> np.ndarray:
    """The images of a table as an array (image, height, width), with channels unless flat."""
    image_spec = image_spec_of(table)
    column = table.column(IMAGE).combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)
    shape = image_spec.grid if image_spec is not None else (column.type.list_size, 1, 1)
    images = values.reshape(len(column), *shape)
    return images[..., 0] if image_spec is None or image_spec.flat else images


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Images (image, height, width, channel) at another size, smoothed if they shrink."""
    from scipy import ndimage

    x = pixels.astype(np.float32)
    for axis, wanted in ((1, size[0]), (2, size[1])):
        ratio = x.shape[axis] / wanted
        if ratio == 1:
            continue
        if ratio > 1 and abs(ratio - round(ratio)) < 1e-9:  # means of whole blocks
            shape = (*x.shape[:axis], wanted, round(ratio), *x.shape[axis + 1 :])
            x = x.reshape(shape).mean(axis + 1)
            continue
        if ratio > 1:
            x = ndimage.gaussian_filter1d(x, (ratio - 1) / 2, axis=axis, mode="nearest")
        x = _interpolated(x, axis, wanted)
    return x


def _interpolated(x: np.ndarray, axis: int, wanted: int) -> np.ndarray:
    """Linear interpolation between the centres of pixels."""
    size, shape = x.shape[axis], [-1 if i == axis else 1 for i in range(x.ndim)]
    position = ((np.arange(wanted) + 0.5) * size / wanted - 0.5).clip(0, size - 1)
    low = np.floor(position).astype(int).clip(0, max(size - 2, 0))
    high = np.minimum(low + 1, size - 1)
    share = (position - low).astype(np.float32).reshape(shape)
    return x.take(low, axis) * (1 - share) + x.take(high, axis) * share


FILE = "file"
MIN_SIDE, MAX_CHANNELS = 4, 16
BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class ImageSource:
    """Rows that are images, in blocks of bounded memory."""

    images: Any  # an array (image, height, width, channel), or a list of `Image` in files
    spec: ImageSpec
    name: str
    passed_over: str = ""  # a text about files of the folder that are not images

    @property
    def names(self) -> list[str]:
        """`image`, after `file` if images are files."""
        return [FILE, IMAGE] if isinstance(self.images, list) else [IMAGE]

    @property
    def rows(self) -> int | None:
        """The number of images."""
        return len(self.images)

    @property
    def groups(self) -> int:
        """0: images are read in order."""
        return 0

    def group(self, index: int) -> Rows:
        """Images have no groups."""
        raise NotImplementedError

    def blocks(self, rows: int) -> Iterator[Rows]:
        """The images in order."""
        size = self.spec.grid[:2]
        image_bytes = 4 * max(int(np.prod(self.spec.original)), 1) * self.spec.grid[2]
        step = max(1, min(rows, BLOCK_BYTES // image_bytes))
        for start in range(0, len(self.images), step):
            pixels = images = self.images[start : start + step]
            if isinstance(images, list):
                pixels = np.stack([resized(image.upright()[None], size)[0] for image in images])
            elif images.shape[1:3] != size:
                pixels = resized(images, size)
            table = pa.table([self.spec.column(pixels)], schema=pa.schema([self.spec.field()]))
            if isinstance(images, list):
                names = pa.array([image.name for image in images], pa.string())
                table = table.add_column(0, FILE, names)
            yield ArrowRows(table)

    def sized(self, size: tuple[int, int] | None, *, any_size: bool = False) -> ImageSource:
        """The same images at this size; with `any_size`, original sizes may differ.

        Raises: DataError if an image has another size than the first.
        """
        if isinstance(self.images, list) and not any_size:
            first = self.images[0]
            other = next((p for p in self.images if p.upright_size != first.upright_size), None)
            if other is not None:
                sizes = ["x".join(map(str, p.upright_size)) for p in (other, first)]
                raise DataError(
                    f"{other.name} is {sizes[0]}, but {first.name} is {sizes[1]}: all images "
                    "must have the same size; ImageSchema(size=(height, width)) resizes them"
                )
        return replace(self, spec=self.spec.sized(size))

    def like(self, spec: ImageSpec, *, any_size: bool) -> ImageSource:
        """The same images as rows of this spec. Raises: DataError for another size or channels."""
        channels = [s.grid[2] for s in (self.spec, spec)]
        kind, fitted = ("grey" if n == 1 else f"of {n} channels" for n in channels)
        if kind != fitted:
            raise DataError(
                f"{self.name} holds images that are {kind}, but this model was fitted on "
                f"images that are {fitted}"
            )
        size, fitted = ("x".join(map(str, s.original)) for s in (self.spec, spec))
        if size != fitted and not any_size:
            raise DataError(
                f"{self.name} holds images of {size}; this model was fitted on images of {fitted};"
                " to resize all images, fit it with ImageSchema(size=(height, width))"
            )
        return self.sized(spec.grid[:2], any_size=any_size)


def array_images(values: np.ndarray) -> ImageSource:
    """The source of an array (image, height, width[, channel]). Raises: DataError for others."""
    shape = values.shape
    grid = (shape[1], shape[2], shape[3] if values.ndim == 4 else 1)
    if min(grid[:2]) < MIN_SIDE or not 1 <= grid[2] <= MAX_CHANNELS:
        raise DataError(
            f"Expected 2D array, got {values.ndim}D array instead, shape {shape}: Found array "
            f"with dim {values.ndim}. Images are (n, height, width) or (n, height, width, "
            f"channels), from {MIN_SIDE} pixels a side and up to {MAX_CHANNELS} channels"
        )
    from keyhole.data.images.image import limits_of

    dtype = np.dtype(np.uint8) if values.dtype.kind == "b" else values.dtype
    limits = limits_of(dtype)
    stored = "float32" if limits is None else str(dtype)
    spec = ImageSpec(grid, grid[:2], values.ndim == 3, stored, limits)
    return ImageSource(values.reshape(len(values), *grid), spec, "the array")


def file_images(path: str) -> ImageSource:
    """The images of a folder, a glob or a file as rows. Raises: DataError, FileError."""
    from keyhole.data.images import open_images, warn_infinite, warn_passed_over

    opened = open_images(path)
    warn_passed_over(opened)
    images = list(opened.images)
    warn_infinite(images)
    if not images:
        raise DataError(f"{path} holds 0 images: a minimum of 1 is required")
    first = images[0]
    other = next((p for p in images if p.channels != first.channels), None)
    if other is not None:
        texts = [f"{p.name} has {p.channels} channel(s)" for p in (other, first)]
        raise DataError(f"{texts[0]}, and {texts[1]}: give grey images, or colour ones")
    height, width = first.upright_size
    if min(height, width) < MIN_SIDE:
        raise DataError(
            f"{first.name} is {height}x{width}: at least {MIN_SIDE} pixels per side are needed"
        )
    stored = "uint8" if first.dtype.kind == "b" else str(first.dtype)
    grid, size = (height, width, first.channels), (height, width)
    spec = ImageSpec(grid, size, first.channels == 1, stored, first.limits)
    passed_over = opened.passed_over_in_words() if opened.ignored else ""
    return ImageSource(images, spec, path, passed_over)
