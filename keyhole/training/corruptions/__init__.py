"""What the net is asked: one file a corruption."""

from keyhole.training.corruptions.base import Corruption, Question
from keyhole.training.corruptions.blind_spot import BlindSpot
from keyhole.training.corruptions.masking import Masking
from keyhole.training.corruptions.noise import Noise
from keyhole.training.corruptions.nothing import Nothing
from keyhole.training.corruptions.pairs import Pairs
from keyhole.training.corruptions.recorrupted import Recorrupted
from keyhole.training.corruptions.swapping import Swapping

__all__ = [
    "BlindSpot",
    "Corruption",
    "Masking",
    "Noise",
    "Nothing",
    "Pairs",
    "Question",
    "Recorrupted",
    "Swapping",
]
