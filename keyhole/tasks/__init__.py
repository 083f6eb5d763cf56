"""One file a verb: a question put to the distribution that an Autoencoder is."""

from keyhole.tasks.base import Task
from keyhole.tasks.denoise.denoiser import Denoiser
from keyhole.tasks.detect.answer import Answer, Cell
from keyhole.tasks.detect.detector import AnomalyDetector, Detect
from keyhole.tasks.detect.evaluate import Evaluation, evaluate
from keyhole.tasks.embed import Embed
from keyhole.tasks.generate.generator import Generator
from keyhole.tasks.generate.judge import Judgement, judge
from keyhole.tasks.impute import Impute
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
