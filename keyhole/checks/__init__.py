"""Can this model be trusted? Asked after every fit; one file a question."""

from keyhole.checks.against_baselines import (
    NoBetterThanMean,
    RebuildsLessClosely,
    WorseThanMean,
    WorseThanPCA,
)
from keyhole.checks.base import Check, Finding, examine, verdict
from keyhole.checks.codes import Collapse, ConstantScores, Copies, DeadUnits
from keyhole.checks.evidence import Asked, Evidence, gather
from keyhole.checks.predict_collapse import predict_collapse
from keyhole.checks.runs import FewRows, Gap, StillLearning, UnfinishedWarmUp

__all__ = [
    "Asked",
    "Check",
    "Collapse",
    "ConstantScores",
    "Copies",
    "DeadUnits",
    "Evidence",
    "FewRows",
    "Finding",
    "Gap",
    "NoBetterThanMean",
    "RebuildsLessClosely",
    "StillLearning",
    "UnfinishedWarmUp",
    "WorseThanMean",
    "WorseThanPCA",
    "examine",
    "gather",
    "predict_collapse",
    "verdict",
]  # fmt: skip
