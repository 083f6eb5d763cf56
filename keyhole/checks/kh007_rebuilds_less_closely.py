"""KH007: does PCA keep cells in sight more closely at the same width?"""

from keyhole.checks.base import Check
from keyhole.checks.evidence import Evidence


class RebuildsLessClosely(Check):
    """A note, not a fault: a net trained to guess hidden cells gives up some copying."""

    kind = "KH007"
    title = "rebuilds cells in sight less closely than PCA"

    def ask(self, evidence: Evidence) -> str | None:
        """Rebuilt nats against those of PCA, under the same likelihood."""
        if not evidence.hides or evidence.rebuilt_nats <= evidence.pca_rebuilt_nats:
            return None
        return (
            f"cells in sight cost {evidence.rebuilt_nats:.2f} nats a row, and "
            f"{evidence.pca_rebuilt_nats:.2f} by PCA with {evidence.width} components: where "
            "codes shall only store and restore rows, use PCA, a wider code, or hide fewer cells"
        )
