"""Can this model be trusted? Asked after every fit; importing a file registers its checks."""

from keyhole.checks.denoising import DenoisingEvidence
from keyhole.checks.evidence import CHECKS, Check, Evidence, Finding, TrainInfo, examine, gather
from keyhole.checks.items import ItemEvidence
from keyhole.checks.rows import predict_collapse

__all__ = [
    "CHECKS", "Check", "DenoisingEvidence", "Evidence", "Finding", "ItemEvidence", "TrainInfo",
    "examine", "gather", "predict_collapse",
]  # fmt: skip
