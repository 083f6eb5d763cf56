"""A saved model: one safetensors file with a manifest as JSON in its header.

It is written atomically and read with suspicion: what the format permits and keyhole never writes
is refused. The manifest holds every learned number that is not a weight. See docs/format.md.
"""

import hashlib
import json
import math
import os
import platform
import re
import stat
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from keyhole.core.environment import version_of
from keyhole.core.files import atomic_write, faults_of, reason, resolve
from keyhole.core.parts import fits
from keyhole.core.progress import stage
from keyhole.errors import BundleError, FileError
from keyhole.store.strict import FORMAT, check_format, record, strict_json

MAX_HEADER_BYTES = 32 << 20  # a hundred thousand levels in several columns
MAX_TENSORS = 4_096  # in a file
MAX_FILE_BYTES = 1 << 32  # a billion weights
BLOCK_BYTES = 1 << 20
NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")
DTYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64}
SIGNATURE = re.compile(rb'\{"__metadata__":\{"sha256":"([0-9a-f]{64})","keyhole":"')
SIGNATURE_BYTES = 128  # that hold it, and the length before it
MAX_ABOUT_LETTERS = 200  # of one line: it is shown on a terminal
CURE = "give a file that keyhole fit or save wrote"

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Header:
    """The header: a JSON text, a checksum, tensors, the start of their bytes, the file's size."""

    text: str
    sha256: str
    tensors: dict[str, Any]
    start: int
    size: int


def write_tensors(
    path: str | os.PathLike[str],
    tensors: dict[str, Tensor],
    text: str,
    check: Callable[[], None] = lambda: None,
) -> str:
    """Atomically write tensors and a JSON text as one file; returns its checksum.

    `check` is called just before the file is renamed. No second copy of the tensors is made.
    Raises: FileError; BundleError for what could not be read back.
    """
    entries, buffers = _file_layout(tensors)
    digest = _digest(text, entries)
    for buffer in buffers:
        digest.update(buffer)
    metadata = {"sha256": digest.hexdigest(), "keyhole": text}
    header = json.dumps(
        {"__metadata__": metadata, **entries}, ensure_ascii=False, separators=(",", ":")
    ).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > MAX_HEADER_BYTES:
        raise BundleError(
            f"the model cannot be saved: what it learned takes {len(header) >> 20} MB and at most "
            f"{MAX_HEADER_BYTES >> 20} MB are read; exclude columns with long texts"
        )
    with atomic_write(path, check) as temporary, open(temporary, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for buffer in buffers:
            file.write(buffer)
    return metadata["sha256"]


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, open for reading: a pipe can block. Raises: BundleError, OSError."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise BundleError(f"{path} is {_kind(status)}; {CURE}")
    return os.fdopen(handle, "rb")


def _kind(status: os.stat_result) -> str:
    return "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"


def read_header(file: BinaryIO, where: str) -> Header:
    """The header of a file, not checked against the rest. Raises: BundleError, OSError."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= min(size - 8, MAX_HEADER_BYTES) or size > MAX_FILE_BYTES:
        raise BundleError(f"{where} is truncated, too large or not a keyhole model; {CURE}")
    entries = strict_json(file.read(length), where)
    metadata: Any = entries.pop("__metadata__", None) if isinstance(entries, dict) else None
    if not fits(metadata, dict[str, str]) or set(metadata) != {"sha256", "keyhole"}:
        raise BundleError(f"{where} is not a keyhole model: it has no manifest; {CURE}")
    return Header(metadata["keyhole"], metadata["sha256"], entries, 8 + length, size)


def check_tensors(file: BinaryIO, header: Header, where: str) -> None:
    """Compare header, file size and checksum. Raises: BundleError, OSError."""
    if len(header.tensors) > MAX_TENSORS:
        raise BundleError(f"{where} has {len(header.tensors):,} tensors, at most {MAX_TENSORS:,}")
    end = header.start + sum(_bytes(where, name, t) for name, t in header.tensors.items())
    if end != header.size:
        raise BundleError(
            f"{where} is truncated or altered: {header.size:,} bytes, its header says {end:,}"
        )
    digest = _digest(header.text, header.tensors)
    file.seek(header.start)
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
    if digest.hexdigest() != header.sha256:
        raise BundleError(f"{where} was altered: it does not match its checksum")


def read_tensors(
    file: BinaryIO, header: Header, where: str, expected: Shapes | None = None
) -> dict[str, Tensor]:
    """The tensors of a file that `check_tensors` has passed.

    With `expected`, names and shapes must be those and all float32: checked before any memory
    is taken for them. Tensors must fill the file one after the other. Raises: BundleError.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if expected is not None:
        _check_expected(header.tensors, expected)
    try:
        file.seek(0)
        tensors = load(file.read(header.size))
    except (SafetensorError, ValueError, OSError) as fault:
        raise BundleError(f"{where} is damaged: {fault!s:.200}") from fault
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise BundleError(f"{where} holds weights that are NaN or infinite: {name!r}")
    return tensors


def _file_layout(tensors: dict[str, Tensor]) -> tuple[dict[str, Any], list[memoryview]]:
    """The header's entries, and the tensors' bytes in the order of the file."""
    codes = {dtype: code for code, dtype in DTYPES.items()}
    entries, buffers, end = {}, [], 0
    # The widest numbers are first, so that each tensor is aligned.
    for name, tensor in sorted(tensors.items(), key=lambda t: (-t[1].element_size(), t[0])):
        if tensor.dtype not in codes:
            raise BundleError(f"{name!r} cannot be saved: its type is {tensor.dtype}")
        buffers.append(tensor.detach().cpu().contiguous().reshape(-1).numpy().data)
        begin, end = end, end + buffers[-1].nbytes
        entries[name] = {
            "dtype": codes[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    return entries, buffers


def _digest(text: str, entries: dict[str, Any]) -> Any:
    """The checksum of a header; the caller adds the bytes of the tensors."""
    return hashlib.sha256(text.encode() + json.dumps(entries, sort_keys=True).encode())


def _bytes(where: str, name: str, entry: Any) -> int:
    if not NAME.fullmatch(name):
        raise BundleError(f"{where}: a tensor has an invalid name: {name!r:.80}")
    try:
        count, shape = DTYPES[entry["dtype"]].itemsize, entry["shape"]
        if not all(type(n) is int and 0 <= n < 1 << 40 for n in shape) or len(shape) > 8:
            raise ValueError
    except (KeyError, TypeError, ValueError) as fault:
        raise BundleError(f"{where}: tensor {name!r:.80} has an invalid type or shape") from fault
    return count * math.prod(shape)


def _check_expected(entries: dict[str, Any], expected: Shapes) -> None:
    odd = sorted(set(entries) ^ set(expected))
    message = "weights and manifest do not belong together: "
    if odd:
        raise BundleError(f"{message}{odd[0]!r:.80}")
    for name, entry in entries.items():
        if entry["dtype"] != "F32" or tuple(entry["shape"]) != expected[name]:
            raise BundleError(
                f"{message}{name!r:.80} is {entry['dtype']} {entry['shape']!r:.80}, "
                f"expected F32 {list(expected[name])}"
            )


@dataclass(frozen=True)
class Manifest:
    """The manifest of a model: these keys, of these types."""

    format: int
    about: dict[str, str]
    sections: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Save:
    """One save of a model: the path of its file, and the checksum that tells it from the next."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Bundle:
    """A model's sections by name ("autoencoder", "detect", ...), its weights, what made it.

    The file stays open, so that weights and sections are of one save even if it is replaced.
    """

    sections: dict[str, Any]
    about: dict[str, str]
    path: str
    handle: int
    header: Header
    save: Save

    def __post_init__(self) -> None:
        weakref.finalize(self, os.close, self.handle)

    def tensors(self, expected: Shapes) -> dict[str, Tensor]:
        """The weights, which must have these names and shapes. Raises: BundleError."""
        with os.fdopen(os.dup(self.handle), "rb") as file:
            return read_tensors(file, self.header, self.path, expected)


def write_bundle(
    path: str | os.PathLike[str],
    sections: dict[str, Any],
    tensors: dict[str, Tensor],
    read: Save | None = None,
) -> Save | None:
    """Save a model atomically; returns the save that the model now belongs to.

    `read` is the save that the model was read from: no other save at its path is replaced.
    Raises: FileError, BundleError for invalid numbers or texts, SettingError for an invalid path.
    """
    stage("writing the model")
    target = resolve(path)
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or not tensor.isfinite().all():
            raise BundleError(f"weights {name!r} are not float32 numbers; the model is not saved")
    text = _manifest(sections)
    check_replaceable(target, read)
    with faults_of(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    sha256 = write_tensors(target, tensors, text, lambda: check_replaceable(target, read))
    return Save(target, sha256) if read is not None and read.path == target else read


def check_replaceable(path: str | os.PathLike[str], read: Save | None = None) -> None:
    """Raises: FileError for a file that is not a model, or another save than `read`."""
    target = resolve(path)
    with faults_of(target):
        if target.exists() and not target.is_file():
            raise FileError(f"{target} is {_kind(target.stat())}; give the name of a file")
        if not target.exists() or not target.stat().st_size:
            return
        with open(target, "rb") as file:  # the checksum that a model states at its beginning
            signature = SIGNATURE.match(file.read(SIGNATURE_BYTES), 8)
    if signature is None:
        raise FileError(
            f"{target} is not a keyhole model and would be lost; save elsewhere or remove it"
        )
    if read is not None and read.path == target and read.sha256 != signature[1].decode():
        raise FileError(
            f"{target} has changed since this model was read from it, and these changes would "
            "be lost; load it again and repeat, or save elsewhere"
        )


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """The model in a file, its checksum compared. Raises: BundleError, SettingError."""
    stage("reading the model")
    try:
        source, path = resolve(path), os.fspath(path)
        with opened(path) as file:
            header = read_header(file, path)
            value = strict_json(header.text.encode(), f"the manifest of {path}")
            check_format(value, path)
            manifest = record(Manifest, value, f"the manifest of {path}")
            check_tensors(file, header, path)
            if not all(
                len(t) <= MAX_ABOUT_LETTERS and t.isprintable() for t in manifest.about.values()
            ):
                raise BundleError(f"{path} has an invalid entry 'about'")
            save, handle = Save(source, header.sha256), os.dup(file.fileno())
            return Bundle(manifest.sections, manifest.about, path, handle, header, save)
    except FileNotFoundError as fault:
        raise BundleError(f"{path} does not exist; {CURE}") from fault
    except OSError as fault:
        raise BundleError(f"{path!r:.200} cannot be read: {reason(fault)}") from fault


def _manifest(sections: dict[str, Any]) -> str:
    """The manifest's text. Raises: BundleError for a section that could not be read back."""
    about = {name: version_of(name) for name in ("keyhole", "torch", "scikit-learn", "pyarrow")}
    about["python"] = platform.python_version()
    about["created"] = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        manifest = vars(Manifest(FORMAT, about, sections))
        text = json.dumps(manifest, ensure_ascii=False, allow_nan=False)
        strict_json(text.encode(), "the manifest")
    except BundleError as fault:
        raise BundleError(
            f"the model cannot be saved: {fault!s:.200}; exclude columns with many texts"
        ) from fault
    except (TypeError, ValueError) as fault:
        raise BundleError(f"the model cannot be saved: {fault!s:.200}") from fault
    return text
