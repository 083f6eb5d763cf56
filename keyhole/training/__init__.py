"""How a network learns: the plan, the question, the only loss, and one readable loop."""

from keyhole.training.corruptions import Corruption, Masking
from keyhole.training.history import Event, History
from keyhole.training.loop import Trained, train
from keyhole.training.plan import Plan

__all__ = ["Corruption", "Event", "History", "Masking", "Plan", "Trained", "train"]
