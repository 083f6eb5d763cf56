"""KH015: are there columns that the net predicts worse than their own mean does?"""

from keyhole.checks.base import Check
from keyhole.checks.evidence import Evidence

MOST_NAMES = 5


class WorseThanMean(Check):
    """The model as a whole may be good and mislead in one column."""

    kind = "KH015"
    title = "columns predicted worse than by their mean"

    def ask(self, evidence: Evidence) -> str | None:
        """The columns whose skill is clearly below 0, of the cells that the net was asked for."""
        if not evidence.worse:
            return None
        names = sorted(evidence.worse, key=lambda name: evidence.worse[name])
        texts = [f"{name!r} ({evidence.worse[name]:.0%})" for name in names[:MOST_NAMES]]
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        return (
            f"{', '.join(texts)}{more}: the error is larger than that of the column's mean, by "
            "the share given. Do not trust expected values and filled gaps of these columns. Look "
            "at them for rare extreme values, exclude them, or give more steps"
        )
