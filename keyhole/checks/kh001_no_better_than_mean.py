"""KH001: does the net say more of a row than each column's own distribution does?"""

from keyhole.checks.base import Check
from keyhole.checks.evidence import Evidence

LEAST_GAIN = 0.02  # of the mean's nats, or nats a row, whichever is more


class NoBetterThanMean(Check):
    """The columns tell nothing of each other, or the net did not find it."""

    kind = "KH001"
    title = "no better than the mean"

    def ask(self, evidence: Evidence) -> str | None:
        """Nats of the cells that the net was asked for against those of the mean."""
        nats, _ = evidence.asked_nats
        gain = evidence.mean_nats - nats
        if gain > LEAST_GAIN * max(1.0, abs(evidence.mean_nats)):
            return None
        return (
            f"{'hidden cells' if evidence.hides else 'cells'} cost {nats:.2f} nats a row from the "
            f"net, and {evidence.mean_nats:.2f} from each column alone: the columns tell nothing "
            "of each other, or training was too short. Look for columns that belong together, or "
            "give more steps"
        )
