"""NIfTI volumes: slices along the third axis, times and the like as further planes.

Arrays in .npy files, mapped.

Zarr arrays and OME-Zarr: folders of chunks, read and written chunk by chunk.
"""

import gzip
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from keyhole.core.files import aside, beside, folder_aside
from keyhole.data.images.arrays import HELD_BYTES, Layout, Raw, held, layout_of, reserve, truncated
from keyhole.data.images.image import Asked, ImageFile, Limits, Put, check_dtype, limits_of, needed
from keyhole.errors import DataError

BLOCK_BYTES = 1 << 20


class NiftiFile(ImageFile):
    """A volume whose header, extensions and affine go into a copy byte for byte."""

    kind = "nifti"
    endings = (".nii", ".nii.gz")

    def __init__(
        self, path: str, asked: Asked, *, raw: Raw, layout: Layout, scale: tuple[float, float]
    ) -> None:
        super().__init__(path, asked)
        self.raw = raw
        self.layout = layout
        self.slope, self.intercept = scale
        limits = scaled_limits(limits_of(raw.dtype), *scale)
        size = (layout.height, layout.width, layout.channels)
        for name in plane_names(self.name, layout.planes):
            self.add(size, raw.dtype, limits, name)

    @classmethod
    def opened(cls, path: str, asked: Asked) -> Self:
        """The volume; a packed one is read through once, for its checksum stands at its end."""
        try:
            import nibabel as nib
        except ImportError as fault:
            raise needed("nibabel", "medical") from fault
        proxy: Any = nib.load(path).dataobj  # pyright: ignore[reportAttributeAccessIssue]
        dtype, shape = np.dtype(proxy.dtype), tuple(int(n) for n in proxy.shape)
        check_dtype(dtype)
        axes = asked.axes or "XYZTUVW"[: len(shape)]
        layout = layout_of(shape, axes)
        raw = Raw(path, int(proxy.offset), dtype, shape, fortran=True)
        if packed(path):
            size = _unpacked_bytes(path)
            if size < raw.end:
                raise DataError(truncated(size, raw.end))
        else:
            raw.check_size()
        scale = (float(proxy.slope), float(proxy.inter))
        return cls(path, asked, raw=raw, layout=layout, scale=scale)

    def stored(self, plane: int, y: slice, x: slice) -> np.ndarray:
        """A window: mapped, or from the volume that was unpacked last."""
        if not packed(self.path):
            return self.layout.read(self.raw.array(), plane, y, x)
        if self.raw.end - self.raw.offset <= HELD_BYTES:
            whole = held(self.path, "volume", self._unpacked)
            return self.layout.read(whole, plane, y, x)
        return self.layout.read(_Streamed(self.raw), plane, y, x)

    def real(self, plane: int, stored: np.ndarray) -> np.ndarray:
        """Stored values, scaled by the header."""
        return scaled(stored, self.slope, self.intercept)

    def unreal(self, plane: int, values: np.ndarray) -> np.ndarray:
        """Real values as the header has them stored."""
        return unscaled(values, self.slope, self.intercept)

    @contextmanager
    def writing(self, path: str, note: str) -> Iterator[Put]:
        """Pixels go to their place in an unpacked file; it is packed where `path` asks for it."""
        with gzip.open(self.path) if packed(self.path) else open(self.path, "rb") as file:
            start = file.read(self.raw.offset)
        with aside(path) as temporary, _unpacked_beside(temporary, path) as place:
            reserve(place, start, self.raw.end)

            def put(plane: int, y: slice, rows: np.ndarray) -> None:
                self.layout.write(self.raw.array(write=True, path=place), plane, y, rows)

            yield put

    def _unpacked(self) -> np.ndarray:
        with gzip.open(self.path) as file:
            file.seek(self.raw.offset)
            content = file.read(self.raw.end - self.raw.offset)
        return np.frombuffer(content, self.raw.dtype).reshape(self.raw.shape, order="F")


class _Streamed:
    """A packed volume too large to hold, of which what is asked for is unpacked."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw

    def __getitem__(self, index: Any) -> np.ndarray:
        from nibabel.fileslice import fileslice

        with gzip.open(self.raw.path) as file:
            return fileslice(
                file, index, self.raw.shape, self.raw.dtype, self.raw.offset, order="F"
            )


def packed(path: str) -> bool:
    """True for a name that says gzip."""
    return path.lower().endswith(".gz")


def scaled(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """`stored * slope + intercept` as float32, computed in double."""
    if slope == 1 and intercept == 0:
        return np.array(stored, np.float32, order="C")
    return np.ascontiguousarray(stored * np.float64(slope) + intercept, np.float32)


def unscaled(values: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """The inverse of `scaled`."""
    if slope == 1 and intercept == 0:
        return values
    return (values.astype(np.float64) - intercept) / slope


def scaled_limits(limits: Limits | None, slope: float, intercept: float) -> Limits | None:
    """The real values of the stored limits; a falling scale turns them round."""
    if limits is None:
        return None
    ends = sorted(end * slope + intercept for end in limits)
    return ends[0], ends[1]


def _unpacked_bytes(path: str) -> int:
    """The length of what is packed; reading to the end checks its sum."""
    size = 0
    with gzip.open(path) as file:
        while block := file.read(BLOCK_BYTES):
            size += len(block)
    return size


@contextmanager
def _unpacked_beside(temporary: str, path: str) -> Iterator[str]:
    """A file to fill: `temporary` itself, or one that is packed into it at the end."""
    if not packed(path):
        yield temporary
        return
    with beside(path) as scratch:
        yield scratch
        with (
            open(scratch, "rb") as file,
            open(temporary, "wb") as target,
            gzip.GzipFile(fileobj=target, mode="wb", filename="", mtime=0) as packing,
        ):
            shutil.copyfileobj(file, packing, BLOCK_BYTES)


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


HEADERS = ("zarr.json", ".zarray", ".zgroup", ".zattrs")


class ZarrFile(ImageFile):
    """The full level of a multiscale image, or a plain array.

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
    """Where in the group the full image stands, and the letters of its axes if it says them."""
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
