"""The plane that was decoded last: a compressed picture is not decoded again for every window."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

HELD_BYTES = 512 << 20  # what is larger is decoded again

_last: list[tuple[Any, np.ndarray]] = []


def held(path: str, part: Any, decode: Callable[[], np.ndarray]) -> np.ndarray:
    """What `decode` gives for this part of a file, from memory where it was the last asked for."""
    state = os.stat(path)
    key = (os.path.abspath(path), state.st_mtime_ns, state.st_size, part)
    for known, array in tuple(_last):
        if known == key:
            return array
    _last.clear()  # before decoding: two planes are never held at once
    array = decode()
    array.flags.writeable = False
    if array.nbytes <= HELD_BYTES:
        _last[:] = [(key, array)]
    return array


def forget() -> None:
    """Let go of the plane that is held."""
    _last.clear()
