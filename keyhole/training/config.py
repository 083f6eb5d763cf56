"""Training config: steps, batch, speed; and the schedule by steps or by a time budget.

With a budget every step reads the clock again: if the machine slows down, the schedule advances
faster, so that the learning rate has decayed when the time is over. The share of the schedule only
grows, and the rate stays at its peak until the end is near (`rate_at`).
"""

import math
from dataclasses import KW_ONLY, dataclass

import torch

from keyhole.core.parts import Described
from keyhole.core.progress import Clock
from keyhole.errors import SettingError

WARM_UP = 0.05  # share of the run: a warm-up counts steps, not epochs
KL_WARM_UP = 0.2  # share of the run in which the KL weight rises to its full value
STABLE, DECAY = 0.75, 0.2  # of a run with a time budget: when the rate goes down, how long
FLOOR = 0.02  # the learning rate ends at this share of its peak
EVALUATIONS = 30  # over the planned run
PARTS = 10_000  # of a schedule that goes by time
MIN_STEPS, MIN_SHARED_STEPS = 800, 300  # of a run, where it is not asked for
AFTER_PASSES = 24  # over held-out rows, for checks and calibration after training
MIN_AFTER_S, AFTER_SHARE = 1.0, 0.05  # for what does not depend on rows


@dataclass(eq=False, repr=False)
class TrainingConfig(Described):
    """How long and how fast a model is trained.

    With a time budget the schedule follows the clock, so a run that is repeated or resumed ends
    in other bits.

    Parameters
    ----------
    steps : int, default=None
        Training steps. None: one for every eighth row, from 800 to 3,000.
    batch : int, default=None
        Rows of a step. None: a fiftieth of all rows, from 128 to 512.
    learning_rate : float, default=3e-3
        Its peak: it rises over the first twentieth of the run, then falls to 2 % of the peak.
    weight_decay : float, default=1e-4
        Of AdamW, for weights alone.
    patience : int, default=6
        Evaluations without a better held-out loss before the run stops. None: it never stops
        early.
    time_budget_s : float, default=None
        Seconds from the start of `fit` to the fitted model. None: no limit.
    members : int, default=None
        Nets that are trained side by side. None: 3, or 5 below 1,000 rows.
    device : str, default="auto"
        A torch device, such as "cpu" or "cuda:1". "auto": CUDA where there is one.

    Raises
    ------
    SettingError
        In `fit`, for an invalid value or an absent device.

    Examples
    --------
    >>> from keyhole import Autoencoder, TrainingConfig
    >>> model = Autoencoder(training=TrainingConfig(steps=2_000, time_budget_s=60))
    >>> model.set_params(training__learning_rate=1e-3).training.learning_rate
    0.001
    """

    family = "training"
    kind = "steps"

    steps: int | None = None
    _: KW_ONLY
    batch: int | None = None  # rows of a step
    learning_rate: float = 3e-3  # its peak
    weight_decay: float = 1e-4
    patience: int | None = 6  # evaluations without a better held-out loss before the run stops
    time_budget_s: float | None = None  # wall time from the start of `fit` to the fitted model
    members: int | None = None  # nets trained side by side; None: 3, or 5 folds below 1,000 rows
    device: str = "auto"

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

    def steps_for(self, rows: int, shared: int = 0) -> int:
        """The steps asked for, or one for every eighth row, from 800 to 3,000.

        `shared` is how many rows after a row share values with it: windows of a series that are
        nearly alike need fewer steps, from 300.
        """
        if self.steps is not None:
            return self.steps
        alike = rows // (shared + 1)
        return int(min(max(MIN_STEPS if not shared else MIN_SHARED_STEPS, alike // 8), 3_000))

    def batch_for(self, rows: int) -> int:
        """The rows of a step asked for, or a fiftieth of all, from 128 to 512."""
        return self.batch if self.batch is not None else int(min(max(128, rows // 50), 512))

    def penalty_at(self, step: int, steps: int) -> float:
        """The KL weight at a step: it rises linearly while the run warms up."""
        warm = KL_WARM_UP * steps
        return 1.0 if step >= warm else (step + 1) / (warm + 1)

    def torch_device(self) -> torch.device:
        """The device asked for; "auto": CUDA if there is one. Raises: SettingError if not."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as fault:
            reason = str(fault).splitlines()[0]
            raise SettingError(f"device={self.device!r} cannot be used here: {reason}") from fault
        return device


def shorter(training: TrainingConfig, rows: int, shared: int = 0) -> TrainingConfig:
    """The config with half the steps: for a run that only compares widths."""
    steps = max(1, training.steps_for(rows, shared) // 2)
    return TrainingConfig(**training.get_params()).set_params(steps=steps)


def rate_at(step: int, steps: int, *, timed: bool = False) -> float:
    """The share of the peak learning rate at a step: linear warm-up, then a half cosine.

    `timed`: where a clock ends the run it stays at its peak for three quarters, decays with the
    square root of time over the next fifth (Hägele et al. 2024, arXiv:2405.18392), and stays at
    its floor. So a machine may slow down: the steps done fit the schedule that is left.
    """
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    if timed:
        gone = min(max((step / steps - STABLE) / DECAY, 0), 1)
        return max(1 - math.sqrt(gone), FLOOR)
    done = (step - warm) / max(1, steps - warm)
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass
class Pace:
    """The progress of a schedule: `at(step)` of `parts`, by time too if the clock has a budget.

    `most` is the number of steps, `judged` that of held-out rows that are judged after training.
    """

    clock: Clock
    most: int
    judged: int
    row_s: float = 0.0  # for a pass over a held-out row, by the last evaluation
    evaluation_s: float = 0.0  # for the last evaluation
    began: float = 0.0  # seconds left of the budget when the run began
    evaluated: float = 0.0  # seconds left of it after the last evaluation
    furthest: int = 0
    stride: int = 0  # what the last step took of the schedule

    @property
    def timed(self) -> bool:
        """True if a budget ends the run."""
        return self.clock.budget_s is not None

    @property
    def parts(self) -> int:
        """The end of the schedule."""
        return PARTS if self.timed else self.most

    def start(self) -> None:
        """Note that training begins now."""
        self.began = self.evaluated = self.clock.left()

    def at(self, step: int) -> int:
        """How far the schedule is before this step; `parts` when it is over."""
        if not self.timed:
            return step
        limit = max(self.began - self.after(), 1e-9)
        share = max((self.began - self.clock.left()) / limit, step / self.most)
        before, self.furthest = self.furthest, max(self.furthest, min(int(PARTS * share), PARTS))
        self.stride = self.furthest - before
        return self.furthest

    def end_of_step(self, at: int) -> int:
        """How far the schedule will be after a step that takes as long as the last one.

        Otherwise, if steps take long, the last of them would begin before the rate has decayed.
        """
        return min(at + self.stride, PARTS) if self.timed else at

    def due(self, before: int, now: int) -> bool:
        """True if an evaluation is due between two positions of the schedule.

        With a budget at most a fifth of the time goes to evaluations.
        """
        every = max(1, self.parts // EVALUATIONS)
        if not self.timed:
            return now // every > before // every
        interval = max(self.began / EVALUATIONS, 4 * self.evaluation_s)
        return self.evaluated - self.clock.left() >= interval

    def measured(self, evaluation_s: float, rows: int) -> None:
        """Note that an evaluation of these rows has just taken these seconds."""
        self.evaluation_s, self.row_s = evaluation_s, evaluation_s / max(rows, 1)
        self.evaluated = self.clock.left()

    def after(self) -> float:
        """The seconds reserved for the last evaluation and for what follows training."""
        budget = self.clock.budget_s or 0.0
        fixed = max(AFTER_SHARE * budget, min(MIN_AFTER_S, budget / 4))
        fixed += self.clock.reserved_s() + self.evaluation_s
        return fixed + AFTER_PASSES * self.judged * self.row_s

    def planned(self, step: int) -> int:
        """The expected number of steps of the run."""
        if not self.timed:
            return self.most
        return max(step, round(step * PARTS / max(self.furthest, 1)), 1)
