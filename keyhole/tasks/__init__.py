"""One file a verb: a question put to the distribution that an Autoencoder is."""

from keyhole.tasks.answer import Answer, Cell
from keyhole.tasks.base import Task
from keyhole.tasks.denoiser import Denoiser
from keyhole.tasks.detect import Detect
from keyhole.tasks.detector import AnomalyDetector
from keyhole.tasks.embed import Embed
from keyhole.tasks.evaluate import Evaluation, evaluate
from keyhole.tasks.generator import Generator
from keyhole.tasks.impute import Impute
from keyhole.tasks.judge import Judgement, judge
from keyhole.tasks.reconstruct import Reconstruct
from keyhole.tasks.score import Score

__all__ = [
    "AnomalyDetector",
    "Answer",
    "Cell",
    "Denoiser",
    "Detect",
    "Embed",
    "Evaluation",
    "Generator",
    "Impute",
    "Judgement",
    "Reconstruct",
    "Score",
    "Task",
    "evaluate",
    "judge",
]  # fmt: skip
