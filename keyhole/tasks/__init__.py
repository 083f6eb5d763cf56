"""Tasks: questions put to a fitted Autoencoder.

The task modules imported here are light: they import torch and pyarrow when they answer, so that
`keyhole --help` can list them. The other names are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from keyhole.tasks.base import Embed, Reconstruct, Score, Task
from keyhole.tasks.detect.task import Detect
from keyhole.tasks.impute import Impute

if TYPE_CHECKING:
    from keyhole.tasks.denoiser import Denoiser
    from keyhole.tasks.detect.answer import Answer, Reason
    from keyhole.tasks.detect.detector import AnomalyDetector
    from keyhole.tasks.detect.evaluate import Evaluation, evaluate
    from keyhole.tasks.detect.export import export_onnx
    from keyhole.tasks.generator import Generator
    from keyhole.tasks.imputer import Imputer
    from keyhole.tasks.realism import Judgement, judge
    from keyhole.tasks.recommend.recommender import Recommender
    from keyhole.tasks.sparse import read_sparse, sparse_codes

__all__ = [
    "AnomalyDetector", "Answer", "Denoiser", "Detect", "Embed", "Evaluation", "Generator",
    "Impute", "Imputer", "Judgement", "Reason", "Recommender", "Reconstruct", "Score", "Task",
    "evaluate", "export_onnx", "judge", "read_sparse", "sparse_codes",
]  # fmt: skip

_LATE = {
    "AnomalyDetector": "detect.detector",
    "Answer": "detect.answer",
    "Reason": "detect.answer",
    "Denoiser": "denoiser",
    "Evaluation": "detect.evaluate",
    "Generator": "generator",
    "Imputer": "imputer",
    "Judgement": "realism",
    "evaluate": "detect.evaluate",
    "export_onnx": "detect.export",
    "Recommender": "recommend.recommender",
    "judge": "realism",
    "read_sparse": "sparse",
    "sparse_codes": "sparse",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'keyhole.tasks' has no attribute {name!r}")
    return getattr(import_module(f"keyhole.tasks.{_LATE[name]}"), name)
