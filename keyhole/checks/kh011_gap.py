"""KH011: does the net know its training rows much better than others?"""

import numpy as np

from keyhole.checks.base import Check
from keyhole.checks.evidence import Evidence

MOST_SHARE = 0.25  # of all that held-out rows gained by training


class Gap(Check):
    """A net that has learnt its rows by heart."""

    kind = "KH011"
    title = "training rows cost much less than held-out ones"

    def ask(self, evidence: Evidence) -> str | None:
        """Training against held-out loss at the kept step."""
        history = evidence.history
        if history.best_step not in history.steps:
            return None
        at = history.steps.index(history.best_step)
        gained = history.held_out[0] - history.held_out[at]
        gap = history.held_out[at] - history.loss[at]
        if at == 0 or not np.isfinite(gap) or gap <= MOST_SHARE * max(gained, 1e-9):
            return None
        return (
            f"held-out rows cost {gap:.2f} nats more than training rows, where training gained "
            f"{gained:.2f}: the net learns rows by heart. More rows, a narrower code, fewer "
            "hidden units, or more weight_decay would help"
        )
