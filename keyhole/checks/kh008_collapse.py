"""KH008: does the code say anything? Asked of codes with noise."""

from keyhole.checks.base import Check
from keyhole.checks.evidence import Evidence

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
            "the decoder hardly listens. Let the decoder's scale be learnt (scale=shared), lower "
            "beta, or grant free_bits=0.1"
        )
