"""Safetensors files, read with suspicion: what the format lets pass is refused here."""

import os
import re
import stat
from typing import Any, BinaryIO

import torch
from torch import Tensor

from keyhole.errors import BundleError
from keyhole.store.strict import strict_json

MOST_HEADER_BYTES = 1 << 20
MOST_TENSORS = 4_096
MOST_BYTES = 1 << 32  # a billion weights
NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")
WIDTHS = {"F32": 4, "F64": 8, "I64": 8}  # bytes a number

Shapes = dict[str, tuple[int, ...]]


def opened(path: str | os.PathLike[str], *, links: bool = True) -> BinaryIO:
    """A regular file, open for reading; a pipe or a device could be read for ever.

    Without `links`, a link is not followed: it may lead anywhere.

    Raises: BundleError, OSError.
    """
    if not links and os.path.islink(path):
        raise BundleError(f"{path} is no file of its own but a link, and links are not followed")
    odd = 0 if links else getattr(os, "O_NOFOLLOW", 0)
    odd |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, os.O_RDONLY | odd), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise BundleError(f"{path} is no file")
    return file


def read_tensors(
    file: BinaryIO, where: str, expected: Shapes | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file and its metadata, after its header was checked.

    With `expected`, names and shapes must be those and all float32: checked before any memory
    is taken for them. Raises: BundleError.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    header, size = read_header(file, where)
    metadata = header.pop("__metadata__", {})
    if expected is not None:
        _check_expected(header, expected)
    try:
        file.seek(0)
        tensors = load(file.read(size))
    except (SafetensorError, ValueError, OSError) as fault:
        raise BundleError(f"{where} is damaged: {fault!s:.200}") from fault
    broken = [name for name, t in tensors.items() if t.is_floating_point() and not finite(t)]
    if broken:
        raise BundleError(f"{where} holds weights that are not numbers: {broken[0]!r}")
    return tensors, metadata


def read_header(file: BinaryIO, where: str) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file and the file's size, read without trust in either.

    Raises: BundleError.
    """
    try:
        size = os.fstat(file.fileno()).st_size
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MOST_HEADER_BYTES, size - 8):
            raise BundleError(f"{where} is truncated or no safetensors file")
        text = file.read(length)
    except OSError as fault:
        raise BundleError(f"{where} cannot be read: {fault.strerror}") from fault
    header = strict_json(text, where)
    if not isinstance(header, dict):
        raise BundleError(f"{where} is no safetensors file: its header is no object")
    metadata = header.get("__metadata__", {})
    texts = isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())
    if not texts or len(header) > MOST_TENSORS:
        raise BundleError(f"{where} has a header of {len(header):,} tensors or odd metadata")
    held = sum(_bytes(where, name, t) for name, t in header.items() if name != "__metadata__")
    if 8 + length + held != size or size > MOST_BYTES:
        raise BundleError(
            f"{where} is truncated, altered or too large: {size:,} bytes, its header says "
            f"{8 + length + held:,}, at most {MOST_BYTES:,} are read"
        )
    return header, size


def finite(tensor: Tensor) -> bool:
    """True where every number is one."""
    return bool(torch.isfinite(tensor).all())


def _bytes(where: str, name: str, entry: Any) -> int:
    if not NAME.fullmatch(name):
        raise BundleError(f"{where}: a tensor has a name that is none of ours: {name!r:.80}")
    try:
        count, shape = WIDTHS[entry["dtype"]], entry["shape"]
        if not all(type(n) is int and 0 <= n < 1 << 40 for n in shape) or len(shape) > 8:
            raise ValueError
    except (KeyError, TypeError, ValueError) as fault:
        raise BundleError(f"{where}: tensor {name!r:.80} has an odd type or shape") from fault
    for n in shape:
        count *= n
    return count


def _check_expected(header: dict[str, Any], expected: Shapes) -> None:
    if set(header) != set(expected):
        odd = sorted(set(header) ^ set(expected))
        raise BundleError(f"weights and manifest do not belong together: {odd[0]!r:.80}")
    for name, entry in header.items():
        if entry["dtype"] != "F32" or tuple(entry["shape"]) != expected[name]:
            raise BundleError(
                f"weights and manifest do not belong together: {name!r:.80} is "
                f"{entry['dtype']} {entry['shape']!r:.80}, expected F32 {list(expected[name])}"
            )
