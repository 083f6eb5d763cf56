"""KH002: does the net beat the linear net that is known in closed form?"""

from keyhole.checks.base import Check
from keyhole.checks.evidence import Evidence


class WorseThanPCA(Check):
    """A net that loses to PCA at its own width costs more and tells less."""

    kind = "KH002"
    title = "worse than PCA at equal width"

    def ask(self, evidence: Evidence) -> str | None:
        """Nats of the cells that the net was asked for, against probabilistic PCA's."""
        nats, floor = evidence.asked_nats
        if nats <= floor:
            return None
        asked = "hidden cells" if evidence.hides else "cells in sight"
        return (
            f"{asked} cost {nats:.2f} nats a row, and {floor:.2f} by PCA with "
            f"{evidence.width} components: give more steps, or use PCA"
        )
