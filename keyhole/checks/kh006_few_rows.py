"""KH006: are there rows enough to learn from?"""

from keyhole.checks.base import Check
from keyhole.checks.evidence import Evidence

FEW = 50


class FewRows(Check):
    """From a handful of rows a net learns those rows."""

    kind = "KH006"
    title = "few rows"

    def ask(self, evidence: Evidence) -> str | None:
        """The number of rows trained on."""
        if evidence.rows >= FEW:
            return None
        return (
            f"{evidence.rows} rows are too few to tell what is usual: take scores as hints, and "
            f"gather at least {FEW}"
        )
