"""Can this model be trusted? Asked after every fit; one file a question."""

from keyhole.checks.against_baselines import (
    NoBetterThanMean,
    RebuildsLessClosely,
    WorseThanMean,
    WorseThanPCA,
)
from keyhole.checks.base import Check, Finding, examine
from keyhole.checks.codes import Collapse, ConstantScores, Copies, DeadUnits
from keyhole.checks.denoising import (
    DenoisingEvidence,
    FewPixels,
    ImagesLeftOut,
    NeighboursShareNoise,
    WorseThanFilter,
)
from keyhole.checks.evidence import Evidence, TrainInfo, gather
from keyhole.checks.predict_collapse import predict_collapse
from keyhole.checks.runs import FewRows, Gap, StillLearning, UnfinishedWarmUp

__all__ = [
    "Check",
    "Collapse",
    "ConstantScores",
    "Copies",
    "DeadUnits",
    "DenoisingEvidence",
    "Evidence",
    "FewPixels",
    "FewRows",
    "Finding",
    "Gap",
    "ImagesLeftOut",
    "NeighboursShareNoise",
    "NoBetterThanMean",
    "RebuildsLessClosely",
    "StillLearning",
    "TrainInfo",
    "UnfinishedWarmUp",
    "WorseThanFilter",
    "WorseThanMean",
    "WorseThanPCA",
    "examine",
    "gather",
    "predict_collapse",
]  # fmt: skip
