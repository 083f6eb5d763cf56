"""What the net is asked: one file a corruption."""

from keyhole.training.corruptions.base import CorruptedBatch, Corruption
from keyhole.training.corruptions.features import Masking, NoCorruption, Noise, Swapping
from keyhole.training.corruptions.pixels import BlindSpot, Pairs, Recorrupted

__all__ = [
    "BlindSpot",
    "CorruptedBatch",
    "Corruption",
    "Masking",
    "NoCorruption",
    "Noise",
    "Pairs",
    "Recorrupted",
    "Swapping",
]
