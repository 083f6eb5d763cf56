"""Pixels that stand in a file as they are in memory: mapped for a moment, read or written."""

import math
import os
from dataclasses import dataclass

import numpy as np

from keyhole.errors import DataError


@dataclass(frozen=True)
class Raw:
    """An array in a file, from `offset` bytes on; a path of None is filled in by `at`."""

    path: str
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool = False

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize

    def array(self, *, write: bool = False, path: str | None = None) -> np.memmap:
        """The array, mapped. Drop it soon: pages that were touched count as memory while it lives.

        `path` may name a copy of the file.
        """
        return np.memmap(
            self.path if path is None else path,
            self.dtype,
            mode="r+" if write else "r",
            offset=self.offset,
            shape=self.shape,
            order="F" if self.fortran else "C",
        )

    def check_size(self) -> None:
        """Raises: DataError where the file ends before its pixels do."""
        size = os.path.getsize(self.path)
        if size < self.end:
            raise DataError(truncated(size, self.end))


def truncated(size: int, needed: int) -> str:
    """What is wrong with a file that is too short."""
    return f"it is truncated: {size:,} bytes, where its pixels need {needed:,}"


def reserve(path: str, start: bytes, size: int) -> None:
    """Write the start of a file and make it `size` bytes long; the rest is zeros."""
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(size)
