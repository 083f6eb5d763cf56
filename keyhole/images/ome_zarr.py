"""Zarr arrays and OME-Zarr: folders of chunks, read and written chunk by chunk."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from keyhole.core.files import folder_aside
from keyhole.errors import DataError
from keyhole.images.axes import Layout, layout_of
from keyhole.images.base import Asked, ImageFile, Put
from keyhole.images.faults import needed
from keyhole.images.npy import plane_names
from keyhole.images.stored import check_dtype, limits_of

HEADERS = ("zarr.json", ".zarray", ".zgroup", ".zattrs")


class ZarrFile(ImageFile):
    """The full level of a multiscale picture, or a plain array.

    A copy has its chunks, codecs and attributes. Coarser levels would still show the old pixels,
    so the copy has none.
    """

    kind = "zarr"
    endings = (".zarr",)
    folder = True

    def __init__(
        self, path: str, asked: Asked, *, inside: str, dtype: np.dtype, layout: Layout
    ) -> None:
        super().__init__(path, asked)
        self.inside = inside
        self.layout = layout
        size = (layout.height, layout.width, layout.channels)
        for name in plane_names(self.name, layout.planes):
            self.add(size, dtype, limits_of(dtype), name)

    @classmethod
    def opened(cls, path: str, asked: Asked) -> Self:
        """The array; a C axis of a microscope counts planes unless `axes` says otherwise."""
        node = _node(path)
        inside, letters = _full_level(node)
        array = node[inside] if inside else node
        check_dtype(array.dtype)
        if asked.axes or letters is None:
            layout = layout_of(array.shape, asked.axes)
        else:
            layout = layout_of(array.shape, letters, sample="S")
        file = cls(path, asked, inside=inside, dtype=array.dtype, layout=layout)
        scales = _multiscales(dict(node.attrs)) if inside else []
        file.levels = len(scales[0]["datasets"]) - 1 if scales else 0
        return file

    def stored(self, plane: int, y: slice, x: slice) -> np.ndarray:
        """A window; its chunks alone are read."""
        return self.layout.read(self._array(self.path, "r"), plane, y, x)

    @contextmanager
    def writing(self, path: str, note: str) -> Iterator[Put]:
        """The headers as they are; chunks are filled as rows arrive."""
        standing = os.listdir(path) if os.path.isdir(path) else []
        with folder_aside(path, standing) as temporary:
            self._copy_headers(temporary)
            array = self._array(str(temporary), "r+")

            def put(plane: int, y: slice, rows: np.ndarray) -> None:
                self.layout.write(array, plane, y, rows)

            yield put

    def _array(self, path: str, mode: Literal["r", "r+"]) -> Any:
        node = _node(path, mode)
        return node[self.inside] if self.inside else node

    def _copy_headers(self, target: Path) -> None:
        """The headers of the array and of every group above it."""
        parts = self.inside.split("/") if self.inside else []
        for depth in range(len(parts) + 1):
            place = os.path.join(*parts[:depth]) if depth else ""
            (target / place).mkdir(exist_ok=True)
            for header in HEADERS:
                given = Path(self.path) / place / header
                if given.exists():
                    shutil.copyfile(given, target / place / header)
                    _keep_one_level(target / place / header)


def _node(path: str, mode: Literal["r", "r+"] = "r") -> Any:
    try:
        import zarr
    except ImportError as fault:
        raise needed("zarr", "images") from fault
    if not any(os.path.exists(os.path.join(path, header)) for header in HEADERS):
        raise DataError("it holds no zarr array or group")
    if _grouped(path):  # what is consolidated is not copied, and may be stale
        return zarr.open_group(path, mode=mode, use_consolidated=False)
    return zarr.open_array(path, mode=mode)


def _grouped(path: str) -> bool:
    header = Path(path) / "zarr.json"
    if header.exists():
        return json.loads(header.read_text()).get("node_type") == "group"
    return (Path(path) / ".zgroup").exists()


def _full_level(node: Any) -> tuple[str, str | None]:
    """Where in the group the full picture stands, and the letters of its axes if it says them."""
    if not hasattr(node, "group_keys"):  # an array
        return "", _letters(node.metadata)
    scales = _multiscales(dict(node.attrs))
    if scales:
        first = scales[0]
        axes = [axis["name"] if isinstance(axis, dict) else axis for axis in first.get("axes", [])]
        inside = first["datasets"][0]["path"]
        # version 0.1 and 0.2 say nothing of axes, which are these five
        return inside, "".join(a[:1] for a in axes).upper() or "TCZYX"
    names = sorted(name for name, _ in node.arrays())
    if len(names) != 1:
        raise DataError(
            f"it is a group of {len(names)} arrays without multiscales; give the path of one array"
        )
    return names[0], _letters(node[names[0]].metadata)


def _letters(metadata: Any) -> str | None:
    names = getattr(metadata, "dimension_names", None) or ()
    letters = "".join(name or "" for name in names).upper()
    known = len(letters) == len(names) == len(set(letters)) and {"Y", "X"} <= set(letters)
    return letters if known else None


def _multiscales(attributes: dict[str, Any]) -> list[Any]:
    return attributes.get("ome", attributes).get("multiscales", [])


def _keep_one_level(header: Path) -> None:
    """Take out what names levels that are not copied."""
    content = json.loads(header.read_text())
    content.pop("consolidated_metadata", None)
    attributes = content if header.name == ".zattrs" else content.get("attributes", {})
    for scale in _multiscales(attributes):
        scale["datasets"] = scale["datasets"][:1]
    header.write_text(json.dumps(content, indent=2))
