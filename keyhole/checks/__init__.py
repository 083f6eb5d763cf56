"""Can this model be trusted? Asked after every fit; one file a question."""

from keyhole.checks.base import Check, Finding, examine, verdict
from keyhole.checks.evidence import Asked, Evidence, gather
from keyhole.checks.foresee import foresee
from keyhole.checks.kh001_no_better_than_mean import NoBetterThanMean
from keyhole.checks.kh002_worse_than_pca import WorseThanPCA
from keyhole.checks.kh003_copies import Copies
from keyhole.checks.kh004_constant_scores import ConstantScores
from keyhole.checks.kh005_still_learning import StillLearning
from keyhole.checks.kh006_few_rows import FewRows
from keyhole.checks.kh007_rebuilds_less_closely import RebuildsLessClosely
from keyhole.checks.kh008_collapse import Collapse
from keyhole.checks.kh009_dead_units import DeadUnits
from keyhole.checks.kh010_unfinished_warm_up import UnfinishedWarmUp
from keyhole.checks.kh011_gap import Gap
from keyhole.checks.kh015_worse_than_mean import WorseThanMean

__all__ = [
    "Asked", "Check", "Collapse", "ConstantScores", "Copies", "DeadUnits", "Evidence", "FewRows",
    "Finding", "Gap", "NoBetterThanMean", "RebuildsLessClosely", "StillLearning",
    "UnfinishedWarmUp", "WorseThanMean", "WorseThanPCA", "examine", "foresee", "gather", "verdict",
]  # fmt: skip
