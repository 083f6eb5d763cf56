"""A run's state on disk: one safetensors file, replaced atomically, so that any kill leaves one.

Its content (weights, averages, optimiser moments, the step) and the seed decide every later step:
a resumed run ends in the same bits as one that was never stopped.
"""

import json
import os
import time
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from keyhole import __version__
from keyhole.core.environment import seed_from
from keyhole.core.progress import History
from keyhole.errors import BundleError, KeyholeWarning
from keyhole.store.bundle import check_tensors, opened, read_header, read_tensors, write_tensors
from keyhole.store.strict import record, strict_json, wrap_errors
from keyhole.training.optimizer import AdamW

EVERY_S = 5.0


@dataclass(frozen=True)
class Note:
    """The metadata of a checkpoint; `fingerprint` is of data, settings and seed."""

    step: int
    seed: int
    fingerprint: str
    made_by: str
    history: History


@dataclass
class Checkpoint:
    """The file of a run's state, and the fingerprint of its data and settings."""

    path: str
    fingerprint: str
    seed: int = 0
    saved_at: float = 0.0

    def due(self) -> bool:
        """True if the last save is long enough ago."""
        return time.monotonic() - self.saved_at >= EVERY_S

    def save(self, step: int, tensors: dict[str, Tensor], history: History) -> None:
        """Replace the file by the state after `step` steps. Raises: FileError."""
        note = json.dumps(asdict(Note(step, self.seed, self.fingerprint, _made_by(), history)))
        write_tensors(self.path, tensors, note)
        self.saved_at = time.monotonic()

    def load(self) -> tuple[int, dict[str, Tensor], History] | None:
        """The saved step, tensors and history; None without a file, or if it is of another run.

        A KeyholeWarning names a file that cannot be used: the run starts again and overwrites it.
        """
        self.saved_at = time.monotonic()
        try:
            note, tensors = _read(self.path)
        except FileNotFoundError:
            return None
        except (BundleError, OSError) as fault:
            return self._not_used(str(fault))
        if note.fingerprint != self.fingerprint:
            return self._not_used("it belongs to other data, settings or another seed")
        if note.made_by != _made_by():
            return self._not_used(f"it was made by {note.made_by}, but this is {_made_by()}")
        return note.step, tensors, note.history

    def _not_used(self, reason: str) -> None:
        message = f"checkpoint {self.path} is not used: {reason}; training starts again"
        warnings.warn(message, KeyholeWarning, stacklevel=2)


def seed_for(random_state: Any, path: str | None) -> int:
    """The seed of a fit; if none is given, that of the checkpoint that it goes on from.

    Raises: SettingError for an invalid seed.
    """
    if path and random_state is None:
        with suppress(BundleError, OSError):
            return _read(path)[0].seed
    return seed_from(random_state)


def _read(path: str) -> tuple[Note, dict[str, Tensor]]:
    """Raises: BundleError, OSError."""
    with opened(path) as file, wrap_errors(path):
        header = read_header(file, path)
        check_tensors(file, header, path)
        note = record(Note, strict_json(header.text.encode(), path), path)
        return note, read_tensors(file, header, path)


def _made_by() -> str:
    """The versions that wrote the state: another one could go on from it and end elsewhere."""
    return f"keyhole {__version__}, torch {torch.__version__}"


def clear(path: str) -> None:
    """Remove a checkpoint: the run is over and its model is saved elsewhere."""
    with suppress(OSError):
        os.remove(path)


def state_of(
    network: nn.Module,
    averaged: nn.Module,
    best: dict[str, Tensor],
    optimizer: AdamW,
) -> dict[str, Tensor]:
    """Everything that later steps depend on, as named tensors."""
    states = {"now": network.state_dict(), "average": averaged.state_dict(), "best": best}
    states |= {f"optimizer.{i}": tensors for i, tensors in optimizer.state_dict().items()}
    return {f"{part}.{name}": t for part, tensors in states.items() for name, t in tensors.items()}


def restore(
    tensors: dict[str, Tensor],
    network: nn.Module,
    averaged: nn.Module,
    best: dict[str, Tensor],
    optimizer: AdamW,
) -> None:
    """Load a saved state into a network, its average, its best weights and its optimiser.

    Raises: BundleError for the state of another network.
    """
    parts: dict[str, dict[str, Tensor]] = {"now": {}, "average": {}, "best": {}, "optimizer": {}}
    with wrap_errors("the checkpoint"):
        for full_name, tensor in tensors.items():
            part, _, name = full_name.partition(".")
            parts[part][name] = tensor
        network.load_state_dict(parts["now"])
        averaged.load_state_dict(parts["average"])
        best.update(parts["best"])
        moments: dict[int, dict[str, Tensor]] = {}
        for full_name, tensor in parts["optimizer"].items():
            place, _, name = full_name.partition(".")
            moments.setdefault(int(place), {})[name] = tensor
        optimizer.load_state_dict(moments)
