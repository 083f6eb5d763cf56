"""Training config: steps, batch, speed; and the schedule by steps or by a time budget.

With a budget every step reads the clock anew: on a machine that grows slower the schedule goes on
faster, so that the learning rate has come down when the time is over. Nothing done before is
changed: the share only grows, and the rate is at its peak until the end comes near (`rate_at`).
"""

import math
from dataclasses import dataclass

import torch

from keyhole.core.parts import Described
from keyhole.core.progress import Clock
from keyhole.errors import SettingError

WARM_UP = 0.05  # share of the run: a warm-up counts steps, not epochs
KL_WARM_UP = 0.2  # share of the run in which the price of a code rises to its own
STABLE, DECAY = 0.75, 0.2  # of a run with a time budget: when the rate goes down, how long
FLOOR = 0.02  # the learning rate ends at this share of its peak


class TrainingConfig(Described):
    """Steps, batch and speed; None means: by the data.

    `patience` is the number of evaluations without a better held-out loss before the run stops;
    `time_budget_s` is wall time from the start of `fit` to the fitted model: the schedule goes by
    the clock, so a run that is resumed, or repeated, ends in other bits. The
    code's price rises from 0 over the first fifth of the run. `members` nets train side by
    side: 3, or 5 folds below 1,000 rows.
    """

    family = "training"
    kind = "steps"

    def __init__(
        self,
        steps: int | None = None,
        *,
        batch: int | None = None,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-4,
        patience: int | None = 6,
        time_budget_s: float | None = None,
        members: int | None = None,
        device: str = "auto",
    ) -> None:
        self.steps = steps
        self.batch = batch
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.patience = patience
        self.time_budget_s = time_budget_s
        self.members = members
        self.device = device

    def check(self) -> None:
        """Raises: SettingError for a value that cannot be used."""
        for name in ("steps", "batch", "patience", "members"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise SettingError(f"{name}={value!r}: give a whole number from 1 up")
        for name in ("learning_rate", "time_budget_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SettingError(f"{name}={value!r}: it must be above zero")
        if not self.weight_decay >= 0:
            raise SettingError(f"weight_decay={self.weight_decay!r}: it must be zero or above")

    def steps_for(self, rows: int) -> int:
        """The steps asked for, or one for every eighth row, from 800 to 3,000."""
        return self.steps if self.steps is not None else int(min(max(800, rows // 8), 3_000))

    def batch_for(self, rows: int) -> int:
        """The rows of a step asked for, or a fiftieth of all, from 128 to 512."""
        return self.batch if self.batch is not None else int(min(max(128, rows // 50), 512))

    def penalty_at(self, step: int, steps: int) -> float:
        """The KL weight at a step: it rises linearly while the run warms up."""
        warm = KL_WARM_UP * steps
        return 1.0 if step >= warm else (step + 1) / (warm + 1)

    def torch_device(self) -> torch.device:
        """The device asked for; «auto» takes CUDA where there is one.

        Raises: SettingError for a device that this machine does not have.
        """
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as fault:
            said = str(fault).splitlines()[0]
            raise SettingError(f"device={self.device!r} cannot be used here: {said}") from fault
        return device


def shorter(training: TrainingConfig, rows: int) -> TrainingConfig:
    """A plan of half the steps: for a run that only compares widths."""
    found = TrainingConfig(**training.get_params())
    found.steps = max(1, training.steps_for(rows) // 2)
    return found


def rate_at(step: int, steps: int, *, timed: bool = False) -> float:
    """The share of the peak learning rate at a step: linear warm-up, then a half cosine.

    `timed`: where a clock ends the run it stays at its peak for three quarters, goes down by the
    root of what is gone of the next fifth (Hägele et al. 2024, arXiv:2405.18392), and stays at its
    floor. Whenever a machine grows slower, the steps done were those of the schedule that is left.
    """
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    if timed:
        gone = min(max((step / steps - STABLE) / DECAY, 0), 1)
        return max(1 - math.sqrt(gone), FLOOR)
    done = (step - warm) / max(1, steps - warm)
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * done))


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
