"""KH009: are there code dimensions that never move?"""

from keyhole.checks.base import Check
from keyhole.checks.evidence import Evidence

MOST_DEAD = 0.1


class DeadUnits(Check):
    """Dimensions that are the same on every held-out row cost weights and tell nothing."""

    kind = "KH009"
    title = "dead code dimensions"

    def ask(self, evidence: Evidence) -> str | None:
        """The share of dimensions without variance."""
        if evidence.dead <= MOST_DEAD * evidence.width:
            return None
        return (
            f"{evidence.dead} of {evidence.width} code dimensions are the same on every held-out "
            "row: take a narrower code, a larger k (top_k), or a smaller weight (l1)"
        )
