"""KH004: do rows differ at all in what they cost?"""

from keyhole.checks.base import Check
from keyhole.checks.evidence import Evidence


class ConstantScores(Check):
    """Scores that are all alike rank nothing."""

    kind = "KH004"
    title = "constant scores"

    def ask(self, evidence: Evidence) -> str | None:
        """The spread of held-out nats."""
        if evidence.spread > 1e-6:
            return None
        return (
            f"every held-out row costs the same {evidence.rebuilt_nats:.2f} nats: no row can "
            "stand out. Are all rows equal, or all columns constant?"
        )
