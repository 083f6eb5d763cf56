"""Volumes: NIfTI (slices of the third and later axes are planes), .npy arrays, and Zarr."""

import gzip
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from keyhole.core.files import atomic_folder, atomic_write, scratch_file
from keyhole.data.images.arrays import (
    CACHE_BYTES,
    AxisLayout,
    MappedArray,
    cached,
    layout_of,
    reserve,
)
from keyhole.data.images.image import (
    ImageFile,
    OpenOptions,
    WriteRows,
    check_dtype,
    optional,
)
from keyhole.errors import DataError

BLOCK_BYTES = 1 << 20


class NiftiFile(ImageFile):
    """A volume; copies have its header, extensions and affine, byte for byte."""

    kind = "nifti"
    endings = (".nii", ".nii.gz")
    mapped: MappedArray
    layout: AxisLayout

    @classmethod
    def opened(cls, path: str, options: OpenOptions) -> Self:
        """The volume; a gzipped one is read to its end once, to verify its checksum."""
        with optional("nibabel", "medical"):
            import nibabel
        file = cls(path, options)
        proxy: Any = nibabel.load(path).dataobj  # pyright: ignore
        dtype, shape = np.dtype(proxy.dtype), tuple(int(n) for n in proxy.shape)
        check_dtype(dtype)
        file.layout = layout_of(shape, options.axes or "XYZTUVW"[: len(shape)])
        file.mapped = MappedArray(path, int(proxy.offset), dtype, shape, fortran=True)
        size = _unpacked_bytes(path) if packed(path) else os.path.getsize(path)
        file.mapped.check_size(size)
        for name in file.plane_names(file.layout.planes):
            scale = float(proxy.slope), float(proxy.inter)
            file.add(file.layout.size, dtype, name, scale=scale)
        return file

    def raw_window(self, plane: int, y: slice, x: slice) -> np.ndarray:
        """A window: mapped, cut from the cached volume, or decompressed."""
        if not packed(self.path):
            return self.layout.read(self.mapped.array(), plane, y, x)
        small = self.mapped.end - self.mapped.offset <= CACHE_BYTES
        volume = cached(self.path, "volume", self._unpacked) if small else _Streamed(self.mapped)
        return self.layout.read(volume, plane, y, x)

    @contextmanager
    def writing(self, path: str, note: str) -> Iterator[WriteRows]:
        """Write pixels into an uncompressed file, then gzip it if `path` ends in .gz."""
        with gzip.open(self.path) if packed(self.path) else open(self.path, "rb") as file:
            start = file.read(self.mapped.offset)
        with atomic_write(path) as temporary, _unpacked_beside(temporary, path) as unpacked:
            reserve(unpacked, start, self.mapped.end)
            copy = replace(self.mapped, path=unpacked)
            yield lambda *band: self.layout.write(copy.array(write=True), *band)

    def _unpacked(self) -> np.ndarray:
        with gzip.open(self.path) as file:
            file.seek(self.mapped.offset)
            content = file.read(self.mapped.end - self.mapped.offset)
        return np.frombuffer(content, self.mapped.dtype).reshape(self.mapped.shape, order="F")


@dataclass(frozen=True)
class _Streamed:
    """A gzipped volume too large for the cache: each window is decompressed."""

    mapped: MappedArray

    def __getitem__(self, index: Any) -> np.ndarray:
        from nibabel.fileslice import fileslice

        with gzip.open(self.mapped.path) as file:
            return fileslice(
                file, index, self.mapped.shape, self.mapped.dtype, self.mapped.offset, order="F"
            )


def packed(path: str) -> bool:
    """True for a gzip ending."""
    return path.lower().endswith(".gz")


def _unpacked_bytes(path: str) -> int:
    """The uncompressed size; reading to the end verifies the checksum."""
    with gzip.open(path) as file:
        return sum(map(len, iter(lambda: file.read(BLOCK_BYTES), b"")))


@contextmanager
def _unpacked_beside(temporary: str, path: str) -> Iterator[str]:
    """A file to fill: `temporary`, or a scratch file that is then gzipped into it."""
    if not packed(path):
        yield temporary
        return
    with scratch_file(path) as scratch:
        yield scratch
        with (
            open(scratch, "rb") as file,
            open(temporary, "wb") as target,
            gzip.GzipFile(fileobj=target, mode="wb", filename="", mtime=0) as packing,
        ):
            shutil.copyfileobj(file, packing, BLOCK_BYTES)


class NpyFile(ImageFile):
    """The planes of an array; axes are guessed from the shape unless given."""

    kind = "npy"
    endings = (".npy",)
    mapped: MappedArray
    layout: AxisLayout

    @classmethod
    def opened(cls, path: str, options: OpenOptions) -> Self:
        """The array; the file's length is checked."""
        file = cls(path, options)
        with open(path, "rb") as stream:
            version = np.lib.format.read_magic(stream)
            readers = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            if version not in readers:
                raise DataError(f"unsupported .npy version {version}")
            shape, fortran, dtype = readers[version](stream)
            file.mapped = MappedArray(path, stream.tell(), dtype, shape, fortran)
        check_dtype(dtype)
        file.layout = layout_of(shape, options.axes)
        file.mapped.check_size(os.path.getsize(path))
        for name in file.plane_names(file.layout.planes):
            file.add(file.layout.size, dtype, name)
        return file

    def raw_window(self, plane: int, y: slice, x: slice) -> np.ndarray:
        """A window, mapped."""
        return self.layout.read(self.mapped.array(), plane, y, x)

    @contextmanager
    def writing(self, path: str, note: str) -> Iterator[WriteRows]:
        """Copy the header, then write the pixels."""
        with open(self.path, "rb") as file:
            start = file.read(self.mapped.offset)
        with atomic_write(path) as temporary:
            reserve(temporary, start, self.mapped.end)
            copy = replace(self.mapped, path=temporary)
            yield lambda *band: self.layout.write(copy.array(write=True), *band)


HEADERS = ("zarr.json", ".zarray", ".zgroup", ".zattrs")


class ZarrFile(ImageFile):
    """The full level of a multiscale image, or an array; a copy has no (stale) reduced levels."""

    kind = "zarr"
    endings = (".zarr",)
    folder = True
    inside: str  # the path of the array in the group
    layout: AxisLayout

    @classmethod
    def opened(cls, path: str, options: OpenOptions) -> Self:
        """The array; a C axis (of a microscope) counts planes unless `axes` is given."""
        file, node = cls(path, options), _node(path)
        file.inside, letters = _full_level(node)
        array = node[file.inside] if file.inside else node
        check_dtype(array.dtype)
        if options.axes or letters is None:
            file.layout = layout_of(array.shape, options.axes)
        else:
            file.layout = layout_of(array.shape, letters, sample="S")
        for name in file.plane_names(file.layout.planes):
            file.add(file.layout.size, array.dtype, name)
        scales = _multiscales(dict(node.attrs)) if file.inside else []
        file.levels = len(scales[0]["datasets"]) - 1 if scales else 0
        return file

    def raw_window(self, plane: int, y: slice, x: slice) -> np.ndarray:
        """A window; only its chunks are read."""
        return self.layout.read(self._array(self.path, "r"), plane, y, x)

    @contextmanager
    def writing(self, path: str, note: str) -> Iterator[WriteRows]:
        """Copy the headers, then write chunks as rows arrive."""
        with atomic_folder(path) as temporary:
            self._copy_headers(temporary)
            yield partial(self.layout.write, self._array(str(temporary), "r+"))

    def _array(self, path: str, mode: Literal["r", "r+"]) -> Any:
        node = _node(path, mode)
        return node[self.inside] if self.inside else node

    def _copy_headers(self, target: Path) -> None:
        parts = self.inside.split("/") if self.inside else []
        for depth in range(len(parts) + 1):
            group = os.path.join(*parts[:depth]) if depth else ""
            (target / group).mkdir(exist_ok=True)
            for header in HEADERS:
                given = Path(self.path) / group / header
                if given.exists():
                    shutil.copyfile(given, target / group / header)
                    _remove_levels(target / group / header)


def _node(path: str, mode: Literal["r", "r+"] = "r") -> Any:
    with optional("zarr", "images"):
        import zarr
    if not any(os.path.exists(os.path.join(path, header)) for header in HEADERS):
        raise DataError("it is not a zarr array or group")
    header, grouped = Path(path) / "zarr.json", (Path(path) / ".zgroup").exists()
    if header.exists():
        grouped = json.loads(header.read_text()).get("node_type") == "group"
    if grouped:  # consolidated metadata may be stale, and is not copied
        return zarr.open_group(path, mode=mode, use_consolidated=False)
    return zarr.open_array(path, mode=mode)


def _full_level(node: Any) -> tuple[str, str | None]:
    """The path of the full image in the group, and the letters of its axes if known."""
    if not hasattr(node, "group_keys"):  # an array
        return "", _letters(node.metadata)
    scales = _multiscales(dict(node.attrs))
    if scales:
        first = scales[0]
        axes = [axis["name"] if isinstance(axis, dict) else axis for axis in first.get("axes", [])]
        inside = first["datasets"][0]["path"]
        # versions 0.1 and 0.2 have no axes entry; they always have these five
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


def _remove_levels(header: Path) -> None:
    """Remove the entries of levels that are not copied."""
    content = json.loads(header.read_text())
    content.pop("consolidated_metadata", None)
    attributes = content if header.name == ".zattrs" else content.get("attributes", {})
    for scale in _multiscales(attributes):
        scale["datasets"] = scale["datasets"][:1]
    header.write_text(json.dumps(content, indent=2))
