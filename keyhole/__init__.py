"""Autoencoders that people put to work: an autoencoder is a distribution p(x | code(x)).

The public names; each is imported when it is first asked for, so that `import keyhole` and
`keyhole --help` cost next to nothing.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keyhole.autoencoder.estimator import Autoencoder
    from keyhole.errors import KeyholeError, KeyholeWarning
    from keyhole.modalities import Schema
    from keyhole.model.bottlenecks import Plain, Variational
    from keyhole.model.nets import MLP
    from keyhole.report import write_report
    from keyhole.tasks import (
        AnomalyDetector,
        Answer,
        Denoiser,
        Embed,
        Evaluation,
        Generator,
        Impute,
        Reconstruct,
    )
    from keyhole.tasks.detect.evaluate import evaluate
    from keyhole.training import Masking, TrainingConfig

# OpenMP's threads spin while they wait: beside another busy process a step on two threads then
# takes ten to fifty times as long. It reads this when torch is loaded; the user's word stands.
if "torch" not in sys.modules:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
__all__ = [
    "MLP",
    "AnomalyDetector",
    "Answer",
    "Autoencoder",
    "Denoiser",
    "Embed",
    "Evaluation",
    "Generator",
    "Impute",
    "KeyholeError",
    "KeyholeWarning",
    "Masking",
    "Plain",
    "Reconstruct",
    "Schema",
    "TrainingConfig",
    "Variational",
    "evaluate",
    "write_report",
]  # fmt: skip

_ROOMS = {
    "model.bottlenecks": ("Plain", "Variational"),
    "errors": ("KeyholeError", "KeyholeWarning"),
    "autoencoder": ("Autoencoder",),
    "modalities": ("Schema",),
    "model.nets": ("MLP",),
    "report": ("write_report",),
    "tasks": (
        "Answer", "AnomalyDetector", "Denoiser", "Embed", "Evaluation", "Generator", "Impute",
        "Reconstruct", "evaluate",
    ),
    "training": ("Masking", "TrainingConfig"),
}  # fmt: skip
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'keyhole' has no attribute {name!r}")
    return getattr(import_module(f"keyhole.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
