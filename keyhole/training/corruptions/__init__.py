"""Corruptions of training batches; an import line here registers them everywhere."""

from keyhole.training.corruptions.base import (
    CorruptedBatch,
    Corruption,
    Masking,
    NoCorruption,
    Noise,
    Swapping,
)
from keyhole.training.corruptions.items import ItemDropout
from keyhole.training.corruptions.pixels import BlindSpot, Pairs, Recorrupted

__all__ = [
    "BlindSpot", "CorruptedBatch", "Corruption", "ItemDropout", "Masking", "NoCorruption", "Noise",
    "Pairs", "Recorrupted", "Swapping",
]  # fmt: skip
