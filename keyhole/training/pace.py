"""How far a run is in its schedule: by steps, or by the wall time that a budget leaves.

With a budget every step asks the clock anew: a machine that grows slower makes the schedule go
on faster, so that the learning rate has come down when the time is over. Nothing done before is
changed: the share only grows, and the rate is at its peak until the end comes near (`rate_at`).
"""

from dataclasses import dataclass

from keyhole.core.clock import Clock

EVALUATIONS = 30  # over the planned run
PARTS = 10_000  # of a schedule that goes by time
AFTER_PASSES = 24  # over held-out rows: settling, checks and calibration after training
LEAST_AFTER_S, AFTER_SHARE = 1.0, 0.05  # and what does not depend on rows


@dataclass
class Pace:
    """`at(step)` of `parts`; `most` steps, by time too where the clock has a budget.

    `judged` is how many held-out rows are judged after training; `row_s` is what a pass over one
    of them takes, and `evaluation_s` what an evaluation takes, as the last one measured it.
    """

    clock: Clock
    most: int
    judged: int
    row_s: float = 0.0
    evaluation_s: float = 0.0
    began: float = 0.0  # seconds left of the budget when the run began
    evaluated: float = 0.0  # seconds left of it after the last evaluation
    furthest: int = 0
    stride: int = 0  # what the last step took of the schedule

    @property
    def timed(self) -> bool:
        """True where a budget ends the run."""
        return self.clock.budget_s is not None

    @property
    def parts(self) -> int:
        """What `at` goes up to."""
        return PARTS if self.timed else self.most

    def start(self) -> None:
        """Training begins now."""
        self.began = self.evaluated = self.clock.left()

    def at(self, step: int) -> int:
        """How far the schedule is before this step; `parts` where it is over."""
        if not self.timed:
            return step
        limit = max(self.began - self.after(), 1e-9)
        share = max((self.began - self.clock.left()) / limit, step / self.most)
        before, self.furthest = self.furthest, max(self.furthest, min(int(PARTS * share), PARTS))
        self.stride = self.furthest - before
        return self.furthest

    def end_of_step(self, at: int) -> int:
        """How far the schedule will be when a step that begins there has ended, by the last one.

        Where steps take long the last of them would else begin before the rate has come down.
        """
        return min(at + self.stride, PARTS) if self.timed else at

    def due(self, before: int, now: int) -> bool:
        """True where an evaluation is due between two places of the schedule.

        With a budget at most a fifth of the time goes to evaluations.
        """
        every = max(1, self.parts // EVALUATIONS)
        if not self.timed:
            return now // every > before // every
        least = max(self.began / EVALUATIONS, 4 * self.evaluation_s)
        return self.evaluated - self.clock.left() >= least

    def measured(self, evaluation_s: float, rows: int) -> None:
        """An evaluation of so many rows has just taken these seconds."""
        self.evaluation_s, self.row_s = evaluation_s, evaluation_s / max(rows, 1)
        self.evaluated = self.clock.left()

    def after(self) -> float:
        """The seconds that are kept for the last evaluation and for what follows training."""
        budget = self.clock.budget_s or 0.0
        fixed = max(AFTER_SHARE * budget, min(LEAST_AFTER_S, budget / 4))
        fixed += self.clock.reserved_s() + self.evaluation_s
        return fixed + AFTER_PASSES * self.judged * self.row_s

    def planned(self, step: int) -> int:
        """The steps that the run will have, as far as can be told now."""
        if not self.timed:
            return self.most
        return max(step, round(step * PARTS / max(self.furthest, 1)), 1)
