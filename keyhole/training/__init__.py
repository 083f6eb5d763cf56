"""How a network learns: the plan, the question, the only loss, and one readable loop."""

from keyhole.core.progress import Event, History
from keyhole.training.config import TrainingConfig
from keyhole.training.corruptions import Corruption, Masking
from keyhole.training.loop import train, train_by

__all__ = ["Corruption", "Event", "History", "Masking", "TrainingConfig", "train", "train_by"]
