"""Which axes of an array are a picture's height, width and channels, and which count pictures."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from keyhole.errors import DataError, SettingError

COLOURS = (3, 4)  # a last axis this long is taken for channels where no axes are given


@dataclass(frozen=True)
class Layout:
    """The planes of an array: `y`, `x` and `sample` are places of axes, all others count planes.

    The last `carried` channels (alpha) are no colours: they are copied as they are.
    """

    shape: tuple[int, ...]
    y: int
    x: int
    sample: int | None = None
    carried: int = 0

    @property
    def height(self) -> int:
        """Rows of a plane."""
        return self.shape[self.y]

    @property
    def width(self) -> int:
        """Columns of a plane."""
        return self.shape[self.x]

    @property
    def channels(self) -> int:
        """Colours of a pixel, without those that are carried."""
        return 1 if self.sample is None else self.shape[self.sample] - self.carried

    @property
    def counted(self) -> tuple[int, ...]:
        """The lengths of the axes that count planes."""
        return tuple(n for at, n in enumerate(self.shape) if at not in self._plane_axes)

    @property
    def planes(self) -> int:
        """How many planes there are."""
        return math.prod(self.counted)

    def read(self, array: Any, plane: int, y: slice, x: slice) -> np.ndarray:
        """A window as (height, width, channel), carried ones included; a view where it can be."""
        held = np.asarray(array[self._index(plane, y, x)])
        if self.sample is None:
            return (held.T if self.y > self.x else held)[..., None]
        return held.transpose(self._order)

    def write(self, array: Any, plane: int, y: slice, rows: np.ndarray) -> None:
        """Put rows of (height, width, channel) where `read` would find them."""
        if self.sample is None:
            flat = rows[..., 0]
            placed = flat.T if self.y > self.x else flat
        else:
            placed = rows.transpose(tuple(np.argsort(self._order)))
        array[self._index(plane, y, slice(None))] = placed

    @property
    def _plane_axes(self) -> tuple[int, ...]:
        axes = (self.y, self.x) if self.sample is None else (self.y, self.x, self.sample)
        return tuple(sorted(axes))

    @property
    def _order(self) -> tuple[int, ...]:
        places = self._plane_axes
        return tuple(places.index(at) for at in (self.y, self.x, self.sample) if at is not None)

    def _index(self, plane: int, y: slice, x: slice) -> tuple[Any, ...]:
        counts = iter(np.unravel_index(plane, self.counted) if self.counted else ())
        wanted = {self.y: y, self.x: x, self.sample: slice(None)}
        return tuple(
            wanted[at] if at in self._plane_axes else int(next(counts))
            for at in range(len(self.shape))
        )


def checked_axes(axes: str | None) -> str | None:
    """The letters in capitals.

    Raises: SettingError where they cannot name axes.
    """
    if axes is None:
        return None
    letters = axes.upper() if isinstance(axes, str) else ""
    distinct = letters.isalpha() and len(set(letters)) == len(letters)
    if not distinct or not {"Y", "X"} <= set(letters):
        raise SettingError(
            f"axes={axes!r} cannot be used; give one letter for each axis, Y and X among them, "
            "such as 'ZYX' or 'YXC'"
        )
    return letters


def layout_of(
    shape: tuple[int, ...], axes: str | None = None, *, sample: str = "", carried: int = 0
) -> Layout:
    """The planes of an array of this shape; `sample` is the letter of its channels, C or else S.

    Raises: DataError where the letters do not fit the shape, or nothing is in it.
    """
    letters = _guessed(shape) if axes is None else axes
    if len(letters) != len(shape):
        raise DataError(
            f"axes={letters!r} names {len(letters)} axes, but the shape is {shape}; "
            f"give one letter for each, such as {_example(shape)!r}"
        )
    if 0 in shape:
        raise DataError(f"it is empty: its shape is {shape}")
    channel = sample or ("C" if "C" in letters else "S")
    at = letters.index(channel) if channel in letters else None
    return Layout(tuple(shape), letters.index("Y"), letters.index("X"), at, carried)


def _guessed(shape: tuple[int, ...]) -> str:
    """The axes of an array of which nothing is said."""
    if len(shape) < 2:
        raise DataError(f"shape {shape} is no picture; give an array of (height, width) or more")
    if len(shape) == 3:
        colour = shape[2] in COLOURS and min(shape[:2]) > shape[2]
        return "YXC" if colour else "ZYX"
    if len(shape) > 4:
        raise DataError(
            f"the axes of shape {shape} are not clear; name them, such as axes={_example(shape)!r}"
        )
    if len(shape) == 4:
        return "ZYXC" if shape[3] in (1, *COLOURS) else "TZYX"
    return "YX"


def _example(shape: tuple[int, ...]) -> str:
    """Letters that would fit."""
    colour = len(shape) > 2 and shape[-1] in COLOURS
    letters = "NPQTZYX" + "C" * colour
    return letters[-len(shape) :] if 2 <= len(shape) <= len(letters) else "ZYX"
