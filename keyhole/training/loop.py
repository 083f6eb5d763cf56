"""One loop trains every network."""

import time
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from keyhole.core.environment import threads_for
from keyhole.core.progress import EvaluateCallback, Event, History, advanced, clock
from keyhole.errors import FitError
from keyhole.model.layers import move_averages
from keyhole.model.priors.base import StepLoss
from keyhole.training.checkpoint import Checkpoint, restore, state_of
from keyhole.training.config import KL_WARM_UP, Pace, TrainingConfig, rate_at
from keyhole.training.objective import Goal, OwnLoss
from keyhole.training.optimizer import AdamW
from keyhole.training.work import MultiplyAdds

# The running average of the weights spans about the last ninth of the steps so far:
# polynomial-decay averaging (Shamir and Zhang 2013, eta = 8).
AVERAGE = 8
ENDLESS = 10_000_000  # steps
STOPPED = "a callback stopped the run"
TRIAL_STEPS = 20  # timed before the run, for the estimate and the time budget

G = TypeVar("G", bound=Goal)


@dataclass
class Run(Generic[G]):
    """One training run: `loop` trains from the first step, or from the checkpoint's.

    `gradient_norm` is the largest norm of a step's gradient; `judged` the number of held-out rows
    that are judged after training.
    """

    network: nn.Module
    goal: G
    training: TrainingConfig
    on_evaluate: EvaluateCallback
    checkpoint: Checkpoint | None = None
    gradient_norm: float = 1.0
    judged: int = 0
    history: History = field(default_factory=History)
    best: dict[str, Tensor] = field(default_factory=dict)
    callback_failed: bool = False

    def __post_init__(self) -> None:
        self.device = self.training.torch_device()
        self.network.to(self.device)
        self.averaged = deepcopy(self.network).requires_grad_(False)
        rate, decay = self.training.learning_rate, self.training.weight_decay
        self.optimizer = AdamW(self.network, rate, decay)
        self.weights = list(self.network.parameters()), list(self.averaged.parameters())
        self.pace = Pace(clock(), 1, self.judged)

    def loop(self) -> History:
        """Train to the end of the plan, or until the held-out loss stops falling."""
        self.pace.start()
        step = self._resume()
        began, losses = time.monotonic(), torch.zeros((), device=self.device)
        done_before, at = step, self.pace.at(step)
        while not self.history.ended and (at < self.pace.parts or not step):
            losses, before = losses + self._step(step, at), at
            step, at = step + 1, self.pace.at(step + 1)
            over = at >= self.pace.parts
            if over or self.pace.due(before, at):
                self.history.planned = step if over else self.pace.planned(step)
                since = max(self.history.steps[-1] if self.history.steps else 0, done_before)
                self._evaluate(step, losses.item() / max(step - since, 1))
                losses = torch.zeros((), device=self.device)
                last = over or self.history.ended
                if self.checkpoint is not None and (last or self.checkpoint.due()):
                    self._save(step)
                self._tell(step, time.monotonic() - began, step - done_before)
                if self.history.ended == STOPPED and self.checkpoint is not None:
                    self._save(step)
        timed = self.pace.timed and step < self.pace.most
        ended = "the time budget was spent" if timed else "the planned steps were done"
        self.history.ended = self.history.ended or ended
        self.network.load_state_dict(self.best)
        self.network.eval()
        return self.history

    @torch.no_grad()
    def step_work(self) -> float:
        """The multiply-adds of a training step: its forward pass, counted, and twice that back."""
        with MultiplyAdds() as counted:
            self.goal.loss(self.network, 0, 1.0, self.averaged)
        return float(3 * counted.total)

    def _resume(self) -> int:
        """The step to go on from, after planning the run or loading its checkpoint."""
        saved = self.checkpoint.load() if self.checkpoint is not None else None
        if saved is not None:
            step, tensors, self.history = saved
            restore(tensors, self.network, self.averaged, self.best, self.optimizer)
            self.pace.most = self._most() if self.pace.timed else self.history.planned
            self._tell(step, 0.0, 0, f"resuming at step {step:,} of {self.history.planned:,}")
            return step
        self.history.planned, seconds = self._planned()
        self._evaluate(0, None)
        if self.checkpoint is not None:
            self._save(0)
        nats = self.history.held_out[0]
        self._call(Event(0, self.history.planned, nats, nats, 0.0, 0.0, seconds))
        return 0

    def _planned(self) -> tuple[int, float]:
        """The number of steps and the seconds they will take, from a few steps that are undone."""
        steps = self.pace.most = self._most()
        modules: list[Any] = [self.network, self.averaged, self.optimizer]
        before = [deepcopy(module.state_dict()) for module in modules]
        began = time.monotonic()
        self._step(0, 0)
        first, began = time.monotonic() - began, time.monotonic()
        trial = min(TRIAL_STEPS, steps)
        if self.pace.timed:
            trial = min(trial, max(int(self.pace.began / first / 50), 0))
        for step in range(trial):
            self._step(step, step)
        step_s = (time.monotonic() - began) / trial if trial else first
        for module, state in zip(modules, before, strict=True):
            module.load_state_dict(state)
        if not self.pace.timed:
            return steps, steps * step_s * 1.1
        self.history.wanted = self.training.steps_for(self.goal.rows, self.goal.shared)
        left = max(self.pace.clock.left() - self.pace.after(), 0.0)
        return max(1, min(steps, int(0.9 * left / step_s))), min(left, steps * step_s)

    def _most(self) -> int:
        """The number of steps in the config; with a budget alone, any number."""
        timed = self.pace.timed and self.training.steps is None
        goal = self.goal
        return ENDLESS if timed else self.training.steps_for(goal.rows, goal.shared)

    def _step(self, step: int, at: int) -> Tensor:
        """One step's loss; `at` is how far the schedule is."""
        self.optimizer.learning_rate = self._rate(at)
        if not self.network.training:  # to set it in all parts takes a twentieth of a small step
            self.network.train()
        penalty = self.training.penalty_at(at, self.pace.parts)
        losses = self.goal.loss(self.network, step, penalty, self.averaged)
        loss = losses.sum()  # members are independent
        self.optimizer.clear_gradients()
        loss.backward()
        weights, averages = self.weights
        nn.utils.clip_grad_norm_(weights, self.gradient_norm)
        self.optimizer.step()
        move_averages(averages, weights, (AVERAGE + 1) / (step + AVERAGE + 1))
        return loss.detach() / losses.shape[0]

    def _rate(self, at: int) -> float:
        """The learning rate at this position of the schedule."""
        at = self.pace.end_of_step(at)
        return self.training.learning_rate * rate_at(at, self.pace.parts, timed=self.pace.timed)

    @torch.no_grad()
    def _evaluate(self, step: int, loss: float | None) -> None:
        self.averaged.eval()
        began = time.monotonic()
        held_out = self.goal.held_out(self.averaged).item()
        self.pace.measured(time.monotonic() - began, self.goal.held_out_rows)
        loss = held_out if loss is None else loss  # nothing was trained on before step 1
        if not torch.isfinite(torch.tensor([loss, held_out])).all():
            self._explain_failure(step)
        past = self.history.held_out
        if not past or held_out < min(past):
            self.best = {name: t.clone() for name, t in self.averaged.state_dict().items()}
            self.history.best_step = step
        rate = self.optimizer.learning_rate if step else self._rate(0)
        self.history.add(step, loss, held_out, rate)
        patience, warm = self.training.patience, KL_WARM_UP * self.history.planned
        if patience is None or not step or len(past) <= patience:
            return
        if self.goal.warms_up and step <= warm:
            return  # the loss changes with the KL weight there
        if min(past[-patience:]) > min(past[:-patience]):
            self.history.ended = f"no improvement for {patience} evaluations"

    @torch.no_grad()
    def _explain_failure(self, step: int) -> None:
        """Raises: FitError that names the steps, and what to look at."""
        before = self.history.steps[-1] if self.history.steps else 0
        self.network.load_state_dict(self.best)
        raise FitError(
            f"the loss is NaN or infinite after step {before:,} (by step {step:,} of "
            f"{self.history.planned:,}); {self.goal.cause(self.network, step - 1)}try a "
            f"smaller learning rate than {self.training.learning_rate:g}"
        )

    def _save(self, step: int) -> None:
        if self.checkpoint is not None:
            state = state_of(self.network, self.averaged, self.best, self.optimizer)
            self.checkpoint.save(step, state, self.history)

    def _tell(self, step: int, seconds: float, done: int, note: str = "") -> None:
        left = seconds / done * (self.history.planned - step) if done else 0.0
        left = min(left, max(self.pace.clock.left() - self.pace.after(), 0.0))
        history = self.history
        steps = step if history.ended else history.planned
        if history.ended and not note:
            left, early = 0.0, f"stopped at step {step:,} of {history.planned:,}"
            note = f"{early}: {history.ended}; the best weights so far are used"
        losses = (history.loss[-1], history.held_out[-1])
        self._call(Event(step, steps, *losses, history.rate[-1], seconds, left, note))

    def _call(self, event: Event) -> None:
        """Call the callback; the run ends where it returns True."""
        try:
            stops = self.on_evaluate(event)
        except Exception:
            self.callback_failed = True
            raise
        if stops is True:
            self.history.ended = self.history.ended or STOPPED


def train(run: Run[G]) -> History:
    """Train the network of a run, to its best averaged weights.

    Raises: FitError if the loss is not a number, or if memory runs out: it names what was saved.
    """
    try:
        with threads_for(run.step_work()):
            return run.loop()
    except (MemoryError, RuntimeError) as fault:
        out_of_memory = isinstance(fault, MemoryError) or "memory" in str(fault)
        if run.callback_failed or not out_of_memory:
            raise
        saved = "nothing was saved"
        if run.checkpoint is not None and run.history.steps:
            saved = f"saved in {run.checkpoint.path}: the same command continues from there"
        message = f"out of memory at batch={run.goal.batch}; {saved}; try a smaller batch"
        raise FitError(message) from fault


def train_by(network: nn.Module, loss: StepLoss, steps: int, learning_rate: float) -> None:
    """Train a network by a loss of its own: the trainer of priors."""
    training = TrainingConfig(steps, learning_rate=learning_rate, patience=None, device="cpu")
    done = 0

    def count_steps(event: Event) -> None:
        nonlocal done
        advanced(event.step - done)
        done = event.step

    train(Run(network, OwnLoss(loss), training, count_steps))
