"""Safetensors files, read with suspicion: what the format lets pass is refused here."""

import os
import re
from typing import Any

import torch
from torch import Tensor

from keyhole.errors import BundleError
from keyhole.store.strict import strict_json

MOST_HEADER_BYTES = 1 << 20
MOST_TENSORS = 4_096
NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")
DTYPES = {"F32": (torch.float32, 4), "F64": (torch.float64, 8), "I64": (torch.int64, 8)}


def read_tensors(
    path: str, expected: dict[str, tuple[int, ...]] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file and its metadata, after its header was checked.

    With `expected`, names and shapes must be those and all float32: checked before any memory
    is taken for them. Raises: BundleError.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    header, size = read_header(path)
    metadata = header.pop("__metadata__", {})
    _check_names(header)
    if expected is not None:
        _check_expected(header, expected)
    try:
        with open(path, "rb") as file:
            tensors = load(file.read(size))
    except (SafetensorError, ValueError, OSError) as fault:
        raise BundleError(f"{path} is damaged: {fault!s:.200}") from fault
    broken = [name for name, t in tensors.items() if t.is_floating_point() and not finite(t)]
    if broken:
        raise BundleError(f"{path} holds weights that are not numbers: {broken[0]!r}")
    return tensors, metadata


def read_header(path: str) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file and the file's size, read without trust in either.

    Raises: BundleError.
    """
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(MOST_HEADER_BYTES, size - 8):
                raise BundleError(f"{path} is truncated or no safetensors file")
            text = file.read(length)
    except OSError as fault:
        raise BundleError(f"{path} cannot be read: {fault.strerror}") from fault
    header = strict_json(text, path)
    if not isinstance(header, dict):
        raise BundleError(f"{path} is no safetensors file: its header is no object")
    metadata = header.get("__metadata__", {})
    texts = isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())
    if not texts or len(header) > MOST_TENSORS:
        raise BundleError(f"{path} has a header of {len(header):,} tensors or odd metadata")
    held = sum(_bytes(path, name, t) for name, t in header.items() if name != "__metadata__")
    if 8 + length + held != size:
        raise BundleError(
            f"{path} is truncated or altered: {size:,} bytes do not match its header"
        )
    return header, size


def finite(tensor: Tensor) -> bool:
    """True where every number is one."""
    return bool(torch.isfinite(tensor).all())


def _bytes(path: str, name: str, entry: Any) -> int:
    try:
        _, width = DTYPES[entry["dtype"]]
        shape = entry["shape"]
        if not all(type(n) is int and 0 <= n < 1 << 40 for n in shape) or len(shape) > 8:
            raise ValueError
    except (KeyError, TypeError, ValueError) as fault:
        raise BundleError(f"{path}: tensor {name!r:.80} has an odd type or shape") from fault
    count = width
    for n in shape:
        count *= n
    return count


def _check_names(header: dict[str, Any]) -> None:
    odd = [name for name in header if not NAME.fullmatch(name)]
    if odd:
        raise BundleError(f"a tensor has a name that is none of ours: {odd[0]!r:.80}")


def _check_expected(header: dict[str, Any], expected: dict[str, tuple[int, ...]]) -> None:
    if set(header) != set(expected):
        odd = sorted(set(header) ^ set(expected))
        raise BundleError(f"weights and manifest do not belong together: {odd[0]!r:.80}")
    for name, entry in header.items():
        if entry["dtype"] != "F32" or tuple(entry["shape"]) != expected[name]:
            raise BundleError(
                f"weights and manifest do not belong together: {name!r:.80} is "
                f"{entry['dtype']} {entry['shape']!r:.80}, expected F32 {list(expected[name])}"
            )
