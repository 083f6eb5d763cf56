"""Arrays in .npy files, mapped."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import numpy as np

from keyhole.core.files import aside
from keyhole.errors import DataError
from keyhole.images.axes import Layout, layout_of
from keyhole.images.base import Asked, ImageFile, Put
from keyhole.images.raw import Raw, reserve
from keyhole.images.stored import check_dtype, limits_of


class NpyFile(ImageFile):
    """The planes of an array; the axes are guessed by shape where none are given."""

    kind = "npy"
    endings = (".npy",)

    def __init__(self, path: str, asked: Asked, raw: Raw, layout: Layout) -> None:
        super().__init__(path, asked)
        self.raw = raw
        self.layout = layout
        size = (layout.height, layout.width, layout.channels)
        for name in plane_names(self.name, layout.planes):
            self.add(size, raw.dtype, limits_of(raw.dtype), name)

    @classmethod
    def opened(cls, path: str, asked: Asked) -> Self:
        """The array; its header is checked against the length of the file."""
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            reads = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            if version not in reads:
                raise DataError(f"it is written in version {version} of the format")
            shape, fortran, dtype = reads[version](file)
            raw = Raw(path, file.tell(), dtype, shape, fortran)
        check_dtype(dtype)
        layout = layout_of(shape, asked.axes)
        raw.check_size()
        return cls(path, asked, raw, layout)

    def stored(self, plane: int, y: slice, x: slice) -> np.ndarray:
        """A window, mapped."""
        return self.layout.read(self.raw.array(), plane, y, x)

    @contextmanager
    def writing(self, path: str, note: str) -> Iterator[Put]:
        """The header as it is, and room for the pixels."""
        with open(self.path, "rb") as file:
            start = file.read(self.raw.offset)
        with aside(path) as temporary:
            reserve(temporary, start, self.raw.end)

            def put(plane: int, y: slice, rows: np.ndarray) -> None:
                self.layout.write(self.raw.array(write=True, path=temporary), plane, y, rows)

            yield put


def plane_names(name: str, planes: int) -> list[str]:
    """The file's name, with the plane's number where there are several."""
    return [name] if planes == 1 else [f"{name}[{plane}]" for plane in range(planes)]
