"""A run's state on disk: one safetensors file, replaced whole, so that any kill leaves one.

What is in it (weights, averages, optimiser moments, the step) and the seed decide every later
step: a resumed run ends in the same bits as one that was never stopped.
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

EVERY_S = 5.0


@dataclass(frozen=True)
class Note:
    """What a checkpoint says beside its tensors; `fingerprint` is of data, settings and seed."""

    step: int
    seed: int
    fingerprint: str
    made_by: str
    history: History


@dataclass
class Checkpoint:
    """Where a run keeps its state, and the fingerprint of data and settings it belongs to."""

    path: str
    fingerprint: str
    seed: int = 0
    saved_at: float = 0.0

    def due(self) -> bool:
        """True where the last save is long enough ago."""
        return time.monotonic() - self.saved_at >= EVERY_S

    def save(self, step: int, tensors: dict[str, Tensor], history: History) -> None:
        """Replace the file by the state after `step` steps.

        Raises: FileError.
        """
        note = json.dumps(asdict(Note(step, self.seed, self.fingerprint, _made_by(), history)))
        write_tensors(self.path, tensors, note)
        self.saved_at = time.monotonic()

    def load(self) -> tuple[int, dict[str, Tensor], History] | None:
        """The saved step, tensors and history; None where there are none, or of another run.

        A file that is there and cannot be used is said in a KeyholeWarning: the run starts again,
        and will write over it.
        """
        self.saved_at = time.monotonic()
        try:
            note, tensors = _read(self.path)
        except FileNotFoundError:
            return None
        except (BundleError, OSError) as fault:
            return self._not_used(str(fault))
        if note.fingerprint != self.fingerprint:
            return self._not_used("it is of other data, settings or another seed")
        if note.made_by != _made_by():
            return self._not_used(f"it was made by {note.made_by}, this is {_made_by()}")
        return note.step, tensors, note.history

    def _not_used(self, why: str) -> None:
        said = f"checkpoint {self.path} is not used: {why}; training starts again"
        warnings.warn(said, KeyholeWarning, stacklevel=2)


def seed_for(random_state: Any, path: str | None) -> int:
    """The seed of a fit: that of the checkpoint which it goes on from, where none was given.

    Raises: SettingError for what is no seed.
    """
    seed = seed_of(path) if path and random_state is None else None
    return seed_from(random_state) if seed is None else seed


def seed_of(path: str) -> int | None:
    """The seed of the run that left a checkpoint; None where there is none that can be read."""
    try:
        return _read(path)[0].seed
    except (BundleError, OSError):
        return None


def _read(path: str) -> tuple[Note, dict[str, Tensor]]:
    """Raises: BundleError, OSError."""
    with opened(path) as file, wrap_errors(path):
        header = read_header(file, path)
        check_tensors(file, header, path)
        note = record(Note, strict_json(header.text.encode(), path), path)
        return note, read_tensors(file, header, path)


def _made_by() -> str:
    """Whose arithmetic the state is: another version could go on from it and end elsewhere."""
    return f"keyhole {__version__}, torch {torch.__version__}"


def clear(path: str) -> None:
    """Remove a checkpoint: the run is over and its model is kept elsewhere."""
    with suppress(OSError):
        os.remove(path)


def state_of(
    network: nn.Module,
    averaged: nn.Module,
    best: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> dict[str, Tensor]:
    """Everything that later steps depend on, as named tensors."""
    found = {f"now.{name}": tensor for name, tensor in network.state_dict().items()}
    found |= {f"average.{name}": tensor for name, tensor in averaged.state_dict().items()}
    found |= {f"best.{name}": tensor for name, tensor in best.items()}
    for place, moments in optimizer.state_dict()["state"].items():
        found |= {f"optimizer.{place}.{name}": moment for name, moment in moments.items()}
    return found


def _like(weight: Tensor, moment: Tensor) -> Tensor:
    """A weight's moment in the weight's own memory order; a count of steps as it is."""
    return torch.empty_like(weight).copy_(moment) if moment.shape == weight.shape else moment


def restore(
    tensors: dict[str, Tensor],
    network: nn.Module,
    averaged: nn.Module,
    best: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Put a saved state back in place.

    Raises: BundleError where it is the state of another network.
    """

    def under(prefix: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }

    with wrap_errors("the checkpoint"):
        network.load_state_dict(under("now."))
        averaged.load_state_dict(under("average."))
        best.update(under("best."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in under("optimizer.").items():
            place, _, moment = name.partition(".")
            moments.setdefault(int(place), {})[moment] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
        for weight, held in optimizer.state.items():  # a fused step takes both in one order
            held |= {n: _like(weight, moment) for n, moment in held.items()}
