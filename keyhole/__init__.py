"""Autoencoders for practical use: an autoencoder is a distribution p(x | code(x)).

The estimators, `Schema`, `TrainingConfig`, `evaluate` and the errors are imported from here,
parts from `keyhole.bottlenecks`, `heads`, `nets`, `priors` and `corruptions`. Each is loaded at
its first use, so that `import keyhole` and `keyhole --help` cost next to nothing.
"""

import os
import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keyhole.autoencoder import Autoencoder
    from keyhole.errors import (
        BundleError,
        DataError,
        FileError,
        FitError,
        KeyholeError,
        KeyholeWarning,
        SettingError,
    )
    from keyhole.modalities import ImageSchema, InteractionSchema, Schema, SeriesSchema
    from keyhole.model import bottlenecks as bottlenecks
    from keyhole.model import heads as heads
    from keyhole.model import nets as nets
    from keyhole.model import priors as priors
    from keyhole.tasks import AnomalyDetector, Denoiser, Generator, Imputer, Recommender, evaluate
    from keyhole.training import TrainingConfig
    from keyhole.training import corruptions as corruptions

# OpenMP's threads spin while they wait: beside another busy process a step on two threads then
# takes ten to fifty times as long. It reads this when torch is loaded; the user's value stays.
if "torch" not in sys.modules:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
__all__ = [
    "AnomalyDetector",
    "Autoencoder",
    "BundleError",
    "DataError",
    "Denoiser",
    "FileError",
    "FitError",
    "Generator",
    "ImageSchema",
    "Imputer",
    "InteractionSchema",
    "KeyholeError",
    "KeyholeWarning",
    "Recommender",
    "Schema",
    "SeriesSchema",
    "SettingError",
    "TrainingConfig",
    "evaluate",
]

_MODULES = {
    "autoencoder": ("Autoencoder",),
    "errors": (
        "BundleError", "DataError", "FileError", "FitError", "KeyholeError", "KeyholeWarning",
        "SettingError",
    ),
    "modalities": ("ImageSchema", "InteractionSchema", "Schema", "SeriesSchema"),
    "tasks": ("AnomalyDetector", "Denoiser", "Generator", "Imputer", "Recommender", "evaluate"),
    "training": ("TrainingConfig",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
_PARTS = {
    "bottlenecks": "model", "heads": "model", "nets": "model", "priors": "model",
    "corruptions": "training",
}  # fmt: skip


class _PartModules(MetaPathFinder, Loader):
    """Makes `keyhole.bottlenecks` and the like: the public names of folders further down."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The module of a family of parts; None for any other."""
        package, _, family = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == __name__ and family in _PARTS else None

    def create_module(self, spec: ModuleSpec) -> None:
        """The default one."""

    def exec_module(self, module: ModuleType) -> None:
        """Take the public names of the family's folder."""
        family = module.__name__.partition(".")[2]
        folder = import_module(f"keyhole.{_PARTS[family]}.{family}")
        vars(module).update(
            {name: getattr(folder, name) for name in folder.__all__},
            __all__=folder.__all__, __doc__=folder.__doc__,
        )  # fmt: skip


sys.meta_path.append(_PartModules())


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"keyhole.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'keyhole' has no attribute {name!r}")
    return getattr(import_module(f"keyhole.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
