"""What the net is asked: one file a corruption."""

from keyhole.training.corruptions.base import Corruption, Question
from keyhole.training.corruptions.features import Masking, Noise, Nothing, Swapping
from keyhole.training.corruptions.pixels import BlindSpot, Pairs, Recorrupted

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
