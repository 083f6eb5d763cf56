"""KH005: was the run long enough?"""

from keyhole.checks.base import Check
from keyhole.checks.evidence import Evidence

LATE = 0.15  # the last share of the run
ENOUGH = 0.5  # of the steps that the rows ask for, where a time budget ended the run
LEAST_SHARE = 0.05  # of all that was gained, gained that late


class StillLearning(Check):
    """A held-out loss that still falls at the end asks for more steps."""

    kind = "KH005"
    title = "was still learning"

    def ask(self, evidence: Evidence) -> str | None:
        """What the last part of the run gained, as a share of the whole."""
        history = evidence.history
        held_out, done = history.held_out, history.steps[-1] if history.steps else 0
        if done < ENOUGH * history.wanted and "budget" in history.ended:
            return (
                f"the time budget ended training after {done:,} of about {history.wanted:,} steps "
                "that so many rows ask for: give more time, or take the answers as a first guess"
            )
        if len(held_out) < 8 or history.best_step < history.planned:
            return None
        late = held_out[int(len(held_out) * (1 - LATE)) - 1] - held_out[-1]
        whole = held_out[0] - held_out[-1]
        if whole <= 0 or late <= LEAST_SHARE * whole:
            return None
        return (
            f"the last {LATE:.0%} of the run still gained {late / whole:.0%} of everything "
            f"gained: give more than {history.planned:,} steps"
        )
