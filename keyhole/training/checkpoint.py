"""A run's state on disk: one safetensors file, replaced whole, so that any kill leaves one.

What is in it (weights, averages, optimiser moments, the step) and the seed decide every later
step: a resumed run ends in the same bits as one that was never stopped.
"""

import json
import os
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from keyhole.core.files import write_whole
from keyhole.errors import BundleError
from keyhole.training.history import History

EVERY_S = 5.0


@dataclass
class Checkpoint:
    """Where a run keeps its state, and the fingerprint of data and settings it belongs to."""

    path: str
    fingerprint: str
    saved_at: float = 0.0

    def due(self) -> bool:
        """True where the last save is long enough ago."""
        return time.monotonic() - self.saved_at >= EVERY_S

    def save(self, step: int, tensors: dict[str, Tensor], history: History) -> None:
        """Replace the file by the state after `step` steps."""
        from safetensors.torch import save

        note = json.dumps(
            {"step": step, "fingerprint": self.fingerprint, "history": asdict(history)}
        )
        held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_whole(self.path, save(held, metadata={"keyhole": note}))
        self.saved_at = time.monotonic()

    def load(self) -> tuple[int, dict[str, Tensor], History] | None:
        """The saved step, tensors and history; None where there are none, or of another run."""
        from keyhole.store.tensors import read_tensors

        self.saved_at = time.monotonic()
        if not os.path.exists(self.path):
            return None
        try:
            tensors, metadata = read_tensors(self.path)
            note: dict[str, Any] = json.loads(metadata["keyhole"])
            if note["fingerprint"] != self.fingerprint:
                return None
            return int(note["step"]), tensors, History(**note["history"])
        except (BundleError, KeyError, TypeError, ValueError):
            return None  # not ours, or damaged: the run starts again

    def clear(self) -> None:
        """Remove the file: the run is over and its model is kept elsewhere."""
        if os.path.exists(self.path):
            os.remove(self.path)


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


def restore(
    tensors: dict[str, Tensor],
    network: nn.Module,
    averaged: nn.Module,
    best: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Put a saved state back in place."""

    def under(prefix: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }

    network.load_state_dict(under("now."))
    averaged.load_state_dict(under("average."))
    best.update(under("best."))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in under("optimizer.").items():
        place, _, moment = name.partition(".")
        moments.setdefault(int(place), {})[moment] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
