"""KH002: does the net beat the linear net that is known in closed form?"""

from keyhole.checks.base import Check
from keyhole.checks.evidence import Evidence


class WorseThanPCA(Check):
    """A net that loses to PCA at its own width costs more and tells less."""

    kind = "KH002"
    title = "worse than PCA at equal width"

    def ask(self, evidence: Evidence) -> str | None:
        """Nats of hidden cells, guessed from the rest, against probabilistic PCA's."""
        if evidence.guessed_nats <= evidence.pca_guessed_nats:
            return None
        return (
            f"hidden cells cost {evidence.guessed_nats:.2f} nats a row, and "
            f"{evidence.pca_guessed_nats:.2f} by PCA with {evidence.width} components: give more "
            "steps, or use PCA"
        )
