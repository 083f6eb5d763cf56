"""Safetensors files with a JSON text in the header: written atomically, read with suspicion.

What the format permits and keyhole never writes is refused.
"""

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

from keyhole.core.files import aside
from keyhole.core.parts import fits
from keyhole.errors import BundleError
from keyhole.store.strict import strict_json

MOST_HEADER_BYTES = 32 << 20  # a hundred thousand levels in several columns
MOST_TENSORS = 4_096
MOST_BYTES = 1 << 32  # a billion weights
BLOCK_BYTES = 1 << 20
NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")
DTYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64}
SIGNATURE = re.compile(rb'\{"__metadata__":\{"sha256":"([0-9a-f]{64})","keyhole":"')
SIGNATURE_BYTES = 128  # that hold it, and the length before it
CURE = "give a file that keyhole fit or save wrote"

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Header:
    """What a file says about itself: a JSON text, a checksum, and its tensors by name.

    The bytes of the tensors begin at `start`; `size` is that of the file.
    """

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

    `check` is called at the last moment before the file takes its place. No second copy of the
    tensors is made. Raises: FileError; BundleError for what could not be read back.
    """
    entries, buffers = _laid_out(tensors)
    digest = _digest(text, entries)
    for buffer in buffers:
        digest.update(buffer)
    metadata = {"sha256": digest.hexdigest(), "keyhole": text}
    header = json.dumps(
        {"__metadata__": metadata, **entries}, ensure_ascii=False, separators=(",", ":")
    ).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > MOST_HEADER_BYTES:
        raise BundleError(
            f"the model cannot be saved: what it learned takes {len(header) >> 20} MB and at most "
            f"{MOST_HEADER_BYTES >> 20} MB are read; exclude columns with long texts"
        )
    with aside(path, check) as temporary, open(temporary, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for buffer in buffers:
            file.write(buffer)
    return metadata["sha256"]


def checksum_at(path: str | os.PathLike[str]) -> str | None:
    """The checksum that a file of ours states at its beginning; None for any other file.

    Raises: OSError.
    """
    with open(path, "rb") as file:
        signature = SIGNATURE.match(file.read(SIGNATURE_BYTES), 8)
    return None if signature is None else signature.group(1).decode()


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, open for reading; a pipe or a device could be read for ever.

    Raises: BundleError, OSError.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise BundleError(f"{path} is {kind}; {CURE}")
    return os.fdopen(handle, "rb")


def read_header(file: BinaryIO, where: str) -> Header:
    """The header of a file that keyhole wrote; `check_tensors` compares it with the rest.

    Raises: BundleError, OSError.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= min(size - 8, MOST_HEADER_BYTES) or size > MOST_BYTES:
        raise BundleError(f"{where} is truncated, too large or not a keyhole model; {CURE}")
    entries = strict_json(file.read(length), where)
    metadata: Any = entries.pop("__metadata__", None) if isinstance(entries, dict) else None
    if not fits(metadata, dict[str, str]) or set(metadata) != {"sha256", "keyhole"}:
        raise BundleError(f"{where} is not a keyhole model: it has no manifest; {CURE}")
    return Header(metadata["keyhole"], metadata["sha256"], entries, 8 + length, size)


def check_tensors(file: BinaryIO, header: Header, where: str) -> None:
    """Compare the header with the size of the file and with its checksum.

    Raises: BundleError, OSError.
    """
    if len(header.tensors) > MOST_TENSORS:
        raise BundleError(f"{where} has {len(header.tensors):,} tensors, at most {MOST_TENSORS:,}")
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
    broken = [name for name, t in tensors.items() if t.is_floating_point() and not finite(t)]
    if broken:
        raise BundleError(f"{where} holds weights that are not numbers: {broken[0]!r}")
    return tensors


def _laid_out(tensors: dict[str, Tensor]) -> tuple[dict[str, Any], list[memoryview]]:
    """The header's entries, and the numbers in the order of the file.

    The widest numbers are first, so that each tensor is aligned. Raises: BundleError.
    """
    codes = {dtype: code for code, dtype in DTYPES.items()}
    entries, buffers, end = {}, [], 0
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


def finite(tensor: Tensor) -> bool:
    """True if every number is finite."""
    return bool(torch.isfinite(tensor).all())


def _digest(text: str, entries: dict[str, Any]) -> Any:
    """The checksum of a file as far as its header; the bytes of the tensors are to be added."""
    return hashlib.sha256(text.encode() + json.dumps(entries, sort_keys=True).encode())


def _bytes(where: str, name: str, entry: Any) -> int:
    if not NAME.fullmatch(name):
        raise BundleError(f"{where}: a tensor has an invalid name: {name!r:.80}")
    try:
        count, shape = DTYPES[entry["dtype"]].itemsize, entry["shape"]
        if not all(type(n) is int and 0 <= n < 1 << 40 for n in shape) or len(shape) > 8:
            raise ValueError
    except (KeyError, TypeError, ValueError) as fault:
        raise BundleError(f"{where}: tensor {name!r:.80} has an odd type or shape") from fault
    return count * math.prod(shape)


def _check_expected(entries: dict[str, Any], expected: Shapes) -> None:
    if set(entries) != set(expected):
        odd = sorted(set(entries) ^ set(expected))
        raise BundleError(f"weights and manifest do not belong together: {odd[0]!r:.80}")
    for name, entry in entries.items():
        if entry["dtype"] != "F32" or tuple(entry["shape"]) != expected[name]:
            raise BundleError(
                f"weights and manifest do not belong together: {name!r:.80} is "
                f"{entry['dtype']} {entry['shape']!r:.80}, expected F32 {list(expected[name])}"
            )
