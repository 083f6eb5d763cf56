"""Images of one shape as rows, from an array or from image files; resizing.

A row has a column `image` (all pixels: row, column, channel) and, for files, a column `file`.
The shape is in the metadata of the field, so it survives slices and Parquet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from keyhole.data.source import ArrowRows, Rows, Source
from keyhole.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


IMAGE = "image"
KEY = b"keyhole.image"
WORKING = 64  # longer side of images that are worked on, unless a hint says otherwise


@dataclass(frozen=True)
class ImageSpec:
    """What all images of a source are: shape as worked on, shape as they came, how stored.

    `flat` images have no axis of channels; `limits` are the least and the most that the stored
    type holds, None for floats.
    """

    grid: tuple[int, int, int]
    original: tuple[int, int]
    flat: bool = True
    stored: str = "float32"
    limits: tuple[float, float] | None = None

    @property
    def resized(self) -> bool:
        """True where images are not worked on as they came."""
        return self.grid[:2] != self.original

    @classmethod
    def of(cls, recipe: dict[str, Any]) -> ImageSpec:
        """The form that JSON says, where lists stand for pairs."""
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in recipe.items()
        }
        return cls(**fields)

    def sized(self, size: tuple[int, int] | None) -> ImageSpec:
        """The same images at this size, at most 64 pixels a side unless told."""
        if size is None:
            part = min(1.0, WORKING / max(self.original))
            size = (max(1, round(self.original[0] * part)), max(1, round(self.original[1] * part)))
        return replace(self, grid=(*size, self.grid[2]))

    def field(self) -> pa.Field:
        """The column of such images."""
        import pyarrow as pa

        plain = pa.float32() if self.resized or self.stored != "uint8" else pa.uint8()
        text = json.dumps(vars(self)).encode()
        return pa.field(IMAGE, pa.list_(plain, int(np.prod(self.grid))), metadata={KEY: text})

    def column(self, pixels: np.ndarray) -> pa.Array:
        """Pixels (image, ...) as that column."""
        import pyarrow as pa

        kind = self.field().type
        values = pa.array(np.ravel(pixels).astype(kind.value_type.to_pandas_dtype()))
        return pa.FixedSizeListArray.from_arrays(values, kind.list_size)


def image_spec_of(table: pa.Table) -> ImageSpec | None:
    """What images a table holds; None where it holds none."""
    if IMAGE not in table.column_names:
        return None
    text = (table.schema.field(IMAGE).metadata or {}).get(KEY)
    if text is None:
        return None
    return ImageSpec.of(json.loads(text))


def holds_images(source: Source) -> bool:
    """True where a source's rows are images; rows of text, which can be read once, are none."""
    if isinstance(source, ImageSource):
        return True
    if IMAGE not in source.names or not source.groups:
        return False
    first = next(iter(source.blocks(1)), None)
    return first is not None and image_spec_of(first.arrow()) is not None


def pixels_of(table: pa.Table) -> np.ndarray:
    """The images of a table as floats (image, cell)."""
    column = table.column(IMAGE).combine_chunks()
    wide, present = column.type.list_size, column.is_valid().to_numpy(zero_copy_only=False)
    flat = column.flatten().to_numpy(zero_copy_only=False)  # without the images that are null
    values = flat.reshape(-1, wide).astype(np.float32, copy=False)
    if present.all():
        return values
    whole = np.full((len(column), wide), np.nan, np.float32)
    whole[present] = values
    return whole


def as_images(table: pa.Table) -> np.ndarray:
    """The images of a table as an array (image, height, width), with channels if they had."""
    image_spec = image_spec_of(table)
    column = table.column(IMAGE).combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)
    shape = image_spec.grid if image_spec is not None else (column.type.list_size, 1, 1)
    images = values.reshape(len(column), *shape)
    return images[..., 0] if image_spec is None or image_spec.flat else images


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Images (image, height, width, channel) at another size, smoothed where they shrink."""
    from scipy import ndimage

    x = pixels.astype(np.float32)
    for axis, wanted in ((1, size[0]), (2, size[1])):
        ratio = x.shape[axis] / wanted
        if ratio == 1:
            continue
        whole = round(ratio) if abs(ratio - round(ratio)) < 1e-9 and ratio > 1 else 0
        if whole:  # blocks of so many pixels: their mean
            shape = (*x.shape[:axis], wanted, whole, *x.shape[axis + 1 :])
            x = x.reshape(shape).mean(axis + 1)
            continue
        if ratio > 1:
            x = ndimage.gaussian_filter1d(x, (ratio - 1) / 2, axis=axis, mode="nearest")
        x = _interpolated(x, axis, wanted)
    return x


def _interpolated(x: np.ndarray, axis: int, wanted: int) -> np.ndarray:
    """Straight lines between the middles of pixels."""
    size = x.shape[axis]
    at = ((np.arange(wanted) + 0.5) * size / wanted - 0.5).clip(0, size - 1)
    low = np.floor(at).astype(int).clip(0, max(size - 2, 0))
    high = np.minimum(low + 1, size - 1)
    share = (at - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return x.take(low, axis) * (1 - share) + x.take(high, axis) * share


FILE = "file"
SMALLEST, MOST_CHANNELS = 4, 16
BLOCK_BYTES = 64 << 20


class Held(Protocol):
    """Images that can be read one after the other."""

    def __len__(self) -> int: ...

    def read(self, indices: range) -> np.ndarray:
        """Some of them as they came, (image, height, width, channel)."""
        ...

    @property
    def files(self) -> list[str] | None:
        """What each is called, where they are files."""
        ...


@dataclass(frozen=True)
class HeldArray:
    """Images in one array (image, height, width, channel)."""

    values: np.ndarray
    files: list[str] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def read(self, indices: range) -> np.ndarray:
        """A slice."""
        return self.values[indices.start : indices.stop]


@dataclass(frozen=True)
class HeldFiles:
    """Images in files, each read when it is wanted, and brought to one size."""

    images: Any
    size: tuple[int, int] | None = None  # None: all are of one

    @property
    def files(self) -> list[str]:
        """Their names."""
        return [image.name for image in self.images]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: range) -> np.ndarray:
        """Some of them."""
        whole = (self.images[i].upright() for i in indices)
        return np.stack(
            [x if self.size is None else resized(x[None], self.size)[0] for x in whole]
        )


@dataclass(frozen=True)
class ImageSource:
    """Rows that are images; they come in blocks of bounded memory."""

    held: Held
    form: ImageSpec
    name: str
    passed_over: str = ""  # which files of the folder were, in words

    @property
    def names(self) -> list[str]:
        """`image`, and `file` before it where images are files."""
        return [IMAGE] if self.held.files is None else [FILE, IMAGE]

    @property
    def rows(self) -> int | None:
        """How many images there are."""
        return len(self.held)

    @property
    def groups(self) -> int:
        """None can be read at random: they are held, or spooled, as they come."""
        return 0

    def group(self, place: int) -> Rows:
        """None is there."""
        raise IndexError

    def blocks(self, rows: int) -> Iterator[Rows]:
        """The images in order."""
        import pyarrow as pa

        a_image = 4 * max(int(np.prod(self.form.original)), 1) * self.form.grid[2]
        step = max(1, min(rows, BLOCK_BYTES // a_image))
        for start in range(0, len(self.held), step):
            indices = range(start, min(start + step, len(self.held)))
            pixels = self.held.read(indices)
            if pixels.shape[1:3] != self.form.grid[:2]:
                pixels = resized(pixels, self.form.grid[:2])
            columns, files = [self.form.column(pixels)], self.held.files
            fields = [self.form.field()]
            if files is not None:
                columns.insert(0, pa.array(files[indices.start : indices.stop], pa.string()))
                fields.insert(0, pa.field(FILE, pa.string()))
            yield ArrowRows(pa.table(columns, schema=pa.schema(fields)))

    def sized(self, size: tuple[int, int] | None, *, any_size: bool = False) -> ImageSource:
        """The same images at this size; with `any_size`, whatever size each of them has.

        Raises: DataError that names an image of another size than the first.
        """
        held = self.held
        if isinstance(held, HeldFiles):
            first = held.images[0]
            odd = next((p for p in held.images if p.upright_size != first.upright_size), None)
            if odd is not None and not any_size:
                sizes = ["x".join(map(str, p.upright_size)) for p in (odd, first)]
                raise DataError(
                    f"{odd.name} is {sizes[0]}, and {first.name} is {sizes[1]}: "
                    "images of one size are needed; "
                    "ImageSchema(size=(height, width)) resizes all"
                )
            form = self.form.sized(size)
            held = replace(held, size=form.grid[:2] if form.resized or odd is not None else None)
        return replace(self, held=held, form=self.form.sized(size))

    def like(self, form: ImageSpec, *, any_size: bool) -> ImageSource:
        """The same images as a model takes them; with `any_size`, whatever their own size.

        Raises: DataError for images of another shape, or grey ones where it takes colour.
        """
        if self.form.grid[2] != form.grid[2]:
            kinds = ["grey" if c == 1 else f"of {c} channels" for c in
                     (self.form.grid[2], form.grid[2])]  # fmt: skip
            raise DataError(
                f"{self.name} holds images that are {kinds[0]}; this model was fitted on "
                f"images that are {kinds[1]}"
            )
        (height, width), (wanted, across) = self.form.original, form.original
        if (height, width) != (wanted, across) and not any_size:
            raise DataError(
                f"{self.name} holds images of {height}x{width}; this model was fitted on "
                f"images of {wanted}x{across}; fit it with "
                "ImageSchema(size=(height, width)) to have all sizes resized"
            )
        return self.sized(form.grid[:2], any_size=any_size)


def array_images(values: np.ndarray) -> ImageSource:
    """The source of an array (image, height, width) or (image, height, width, channel).

    Raises: DataError for what are no images.
    """
    shape = values.shape
    grid = (shape[1], shape[2], shape[3] if values.ndim == 4 else 1)
    if min(grid[:2]) < SMALLEST or not 1 <= grid[2] <= MOST_CHANNELS:
        raise DataError(
            f"Expected 2D array, got {values.ndim}D array instead, shape {shape}: Found array "
            f"with dim {values.ndim}. Images are (n, height, width) or (n, height, width, "
            f"channels), from {SMALLEST} pixels a side and up to {MOST_CHANNELS} channels"
        )
    whole = values.dtype.kind in "iub"
    info = np.iinfo(values.dtype if values.dtype.kind != "b" else np.uint8) if whole else None
    stored = "uint8" if values.dtype.kind == "b" else str(values.dtype)
    limits = None if info is None else (float(info.min), float(info.max))
    image_spec = ImageSpec(
        grid, (grid[0], grid[1]), values.ndim == 3, stored if whole else "float32", limits
    )
    return ImageSource(HeldArray(values.reshape(len(values), *grid)), image_spec, "the array")


def file_images(path: str) -> ImageSource:
    """The source of a folder, a glob or a file of images.

    Raises: DataError that names an image with other channels than the first, FileError.
    """
    from keyhole.data.images import open_images, warn_infinite, warn_passed_over

    opened = open_images(path)
    warn_passed_over(opened)
    images = list(opened.images)
    warn_infinite(images)
    if not images:
        raise DataError(f"{path} holds 0 images: a minimum of 1 is required")
    first = images[0]
    odd = next((p for p in images if p.channels != first.channels), None)
    if odd is not None:
        texts = [f"{p.name} has {p.channels} channel(s)" for p in (odd, first)]
        raise DataError(f"{texts[0]}, and {texts[1]}: give grey images, or colour ones")
    grid, kind = (*first.upright_size, first.channels), np.dtype(first.dtype)
    if min(grid[:2]) < SMALLEST:
        raise DataError(f"{first.name} is {grid[0]}x{grid[1]}: {SMALLEST} pixels a side at least")
    ends = first.limits if kind.kind in "iub" else None
    limits = None if ends is None else (float(ends[0]), float(ends[1]))
    stored = "uint8" if kind.kind == "b" else str(kind)
    image_spec = ImageSpec(grid, grid[:2], first.channels == 1, stored, limits)
    passed_over = opened.passed_over_in_words() if opened.ignored else ""
    return ImageSource(HeldFiles(images), image_spec, path, passed_over)
