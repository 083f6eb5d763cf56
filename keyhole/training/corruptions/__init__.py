"""What the net is asked: one file a corruption."""

from keyhole.training.corruptions.base import Corruption, Question
from keyhole.training.corruptions.masking import Masking

__all__ = ["Corruption", "Masking", "Question"]
