"""KH003, KH004, KH008 and KH009: do scores tell rows apart, and does the code carry anything?"""

from keyhole.checks.base import Check
from keyhole.checks.evidence import Evidence

LEAST_SHARE = 0.1


class Copies(Check):
    """Shuffled columns and noise must cost more than rows do."""

    kind = "KH003"
    title = "copies its input"

    def ask(self, evidence: Evidence) -> str | None:
        """How much of the gain over the mean is lost where columns do not belong together."""
        gain = evidence.mean_nats - evidence.rebuilt_nats
        lost = min(evidence.shuffled_nats, evidence.noise_nats) - evidence.rebuilt_nats
        if gain <= 0 or lost > LEAST_SHARE * gain:
            return None
        return (
            f"shuffled columns cost {evidence.shuffled_nats:.2f} nats and noise "
            f"{evidence.noise_nats:.2f}, rows {evidence.rebuilt_nats:.2f}: the net rebuilds "
            f"anything, so a strange row will look normal. Use a narrower code than "
            f"{evidence.width} or mask more values in training"
        )


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


LEAST_NATS = 1.0  # a row
LEAST_ACTIVE = 0.1  # of the dimensions
ACTIVE_NATS = 0.05  # a row, of a dimension that is at work


class Collapse(Check):
    """A posterior that is the prior tells nothing of its row."""

    kind = "KH008"
    title = "the code has collapsed"

    def ask(self, evidence: Evidence) -> str | None:
        """Nats a row, and the dimensions that carry any."""
        nats = evidence.code_nats
        active = sum(n > ACTIVE_NATS for n in nats)
        if not nats or (sum(nats) >= LEAST_NATS and active >= LEAST_ACTIVE * len(nats)):
            return None
        return (
            f"the code carries {sum(nats):.2f} nats a row, in {active} of {len(nats)} dimensions: "
            "the decoder hardly uses it. Let the decoder's scale be learned (scale=shared), lower "
            "beta, or set free_bits=0.1"
        )


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
