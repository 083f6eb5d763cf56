"""One file a verb: a question put to the distribution that an Autoencoder is."""

from keyhole.tasks.answer import Answer, Cell
from keyhole.tasks.base import Task
from keyhole.tasks.detect import AnomalyDetector
from keyhole.tasks.embed import Embed
from keyhole.tasks.evaluate import Evaluation, evaluate
from keyhole.tasks.impute import Impute
from keyhole.tasks.reconstruct import Reconstruct

__all__ = [
    "AnomalyDetector",
    "Answer",
    "Cell",
    "Embed",
    "Evaluation",
    "Impute",
    "Reconstruct",
    "Task",
    "evaluate",
]  # fmt: skip
