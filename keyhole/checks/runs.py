"""KH005, KH006, KH010 and KH011: was the run long enough, and does it generalise?"""

import numpy as np

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
                "that so many rows need: give more time, or take the answers as a first estimate"
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
            f"{evidence.rows} rows are too few to tell what is normal: take scores as rough, and "
            f"gather at least {FEW}"
        )


class UnfinishedWarmUp(Check):
    """While the KL weight rises, the net is trained on another loss than it is judged by."""

    kind = "KH010"
    title = "warm-up was not finished"

    def ask(self, evidence: Evidence) -> str | None:
        """The step that was kept against the last one of the warm-up."""
        best, warm = evidence.history.best_step, evidence.warm_steps
        if not evidence.code_nats or best >= warm:
            return None
        return (
            f"the best step was {best:,}, and the KL weight rose until step {warm:,}: the "
            "model was never trained at its full weight. Give more steps, or a smaller net"
        )


MOST_SHARE = 0.25  # of all that held-out rows gained by training


class Gap(Check):
    """A net that has memorised its rows."""

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
            f"{gained:.2f}: the net memorises rows. More rows, a narrower code, fewer "
            "hidden units, or more weight_decay would help"
        )
