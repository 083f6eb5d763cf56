"""What pictures of one shape are, as the metadata of the column that holds them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from keyhole.sources.base import Source

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE = "image"
KEY = b"keyhole.picture"
WORKING = 64  # longer side of pictures that are worked on, unless a hint says otherwise


@dataclass(frozen=True)
class Form:
    """What all pictures of a source are: shape as worked on, shape as they came, how stored.

    `flat` pictures have no axis of channels; `limits` are the least and the most that the stored
    type holds, None for floats.
    """

    grid: tuple[int, int, int]
    original: tuple[int, int]
    flat: bool = True
    stored: str = "float32"
    limits: tuple[float, float] | None = None

    @property
    def resized(self) -> bool:
        """True where pictures are not worked on as they came."""
        return self.grid[:2] != self.original

    @classmethod
    def of(cls, said: dict[str, Any]) -> Form:
        """The form that JSON says, where lists stand for pairs."""
        held: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in said.items()}
        return cls(**held)

    def sized(self, size: tuple[int, int] | None) -> Form:
        """The same pictures at this size, at most 64 pixels a side unless told."""
        if size is None:
            part = min(1.0, WORKING / max(self.original))
            size = (max(1, round(self.original[0] * part)), max(1, round(self.original[1] * part)))
        return replace(self, grid=(*size, self.grid[2]))

    def field(self) -> pa.Field:
        """The column of such pictures."""
        import pyarrow as pa

        plain = pa.float32() if self.resized or self.stored != "uint8" else pa.uint8()
        said = json.dumps(vars(self)).encode()
        return pa.field(IMAGE, pa.list_(plain, int(np.prod(self.grid))), metadata={KEY: said})

    def column(self, pixels: np.ndarray) -> pa.Array:
        """Pixels (picture, ...) as that column."""
        import pyarrow as pa

        kind = self.field().type
        values = pa.array(np.ravel(pixels).astype(kind.value_type.to_pandas_dtype()))
        return pa.FixedSizeListArray.from_arrays(values, kind.list_size)


def form_of(table: pa.Table) -> Form | None:
    """What pictures a table holds; None where it holds none."""
    if IMAGE not in table.column_names:
        return None
    said = (table.schema.field(IMAGE).metadata or {}).get(KEY)
    if said is None:
        return None
    return Form.of(json.loads(said))


def holds_pictures(source: Source) -> bool:
    """True where a source's rows are pictures."""
    if IMAGE not in source.names:
        return False
    first = next(iter(source.blocks(1)), None)
    return first is not None and form_of(first.arrow()) is not None


def pixels_of(table: pa.Table) -> np.ndarray:
    """The pictures of a table as floats (picture, cell)."""
    column = table.column(IMAGE).combine_chunks()
    wide, there = column.type.list_size, column.is_valid().to_numpy(zero_copy_only=False)
    held = column.flatten().to_numpy(zero_copy_only=False)  # without the pictures that are null
    values = held.reshape(-1, wide).astype(np.float32, copy=False)
    if there.all():
        return values
    whole = np.full((len(column), wide), np.nan, np.float32)
    whole[there] = values
    return whole


def as_pictures(table: pa.Table) -> np.ndarray:
    """The pictures of a table as an array (picture, height, width), with channels if they had."""
    form = form_of(table)
    column = table.column(IMAGE).combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)
    shape = form.grid if form is not None else (column.type.list_size, 1, 1)
    pictures = values.reshape(len(column), *shape)
    return pictures[..., 0] if form is None or form.flat else pictures
