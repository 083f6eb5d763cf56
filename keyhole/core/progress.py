"""The wall clock of a fit, the stages of a long call, its history, and the progress bar."""

import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from types import MethodType
from typing import Any, TypeVar

from keyhole.errors import printable


@dataclass
class Clock:
    """The start of a fit, its time budget, and the share and seconds reserved for later work."""

    began: float
    budget_s: float | None = None
    reserved: float = 0.0  # share
    fixed_s: float = 0.0

    def allow(self, budget_s: float | None) -> None:
        """Set the time budget in seconds; None: no limit."""
        self.budget_s = budget_s

    def left(self) -> float:
        """The seconds until the budget is spent, negative beyond it; infinite without one."""
        if self.budget_s is None:
            return math.inf
        return self.began + self.budget_s - time.monotonic()

    def reserved_s(self) -> float:
        """The seconds reserved for later work."""
        budget = self.budget_s or 0.0
        return self.reserved * budget + min(self.fixed_s, budget / 3)

    def passing(self) -> Callable[[], float]:
        """A function of no arguments: the share spent, from now on, of the time before that."""
        began = self.left()
        limit = max(began - self.reserved_s(), 1e-9)
        return lambda: 0.0 if math.isinf(began) else min((began - self.left()) / limit, 1.0)


T = TypeVar("T")
_clock: ContextVar[Clock | None] = ContextVar("clock", default=None)


def clock() -> Clock:
    """The clock of the fit that runs; outside of one, a new clock."""
    return _clock.get() or Clock(time.monotonic())


@contextmanager
def wall_clock(reserved: float = 0.0, fixed_s: float = 0.0) -> Iterator[Clock]:
    """The clock of a fit; a fit inside another one shares its clock.

    `reserved` is the share of the budget, and `fixed_s` the seconds, for work after fits inside.
    """
    running = clock()
    token = _clock.set(running)
    running.reserved += reserved
    running.fixed_s += fixed_s
    try:
        yield running
    finally:
        running.reserved -= reserved
        running.fixed_s -= fixed_s
        _clock.reset(token)


def while_time_is_left(items: Iterable[T], times: float = 1.0) -> Iterator[T]:
    """The first item, then all for which `times` the slowest so far is left in the budget."""
    slowest_s = 0.0
    for i, item in enumerate(items):
        running = clock()
        if i and running.left() - running.reserved_s() < times * slowest_s:
            return
        began = time.monotonic()
        yield item
        slowest_s = max(slowest_s, time.monotonic() - began)


SILENCE_S = 2.0  # a line appears at least this often
POLL_S = 0.25
REPEAT_S = 30.0  # without a terminal, a stage that takes longer is named again


@dataclass
class Stages:
    """The current stage of a long call: its start, its progress, and the time of the last output.

    `total` is None if it is unknown. `shown` is True while a progress bar is shown.
    """

    name: str = "starting"
    began: float = field(default_factory=time.monotonic)
    spoke: float = field(default_factory=time.monotonic)
    total: int | None = None
    what: str = "rows"
    done: int = 0
    shown: bool = False

    def __str__(self) -> str:
        """`detect, 32,768 of 100,000 rows, 4 s so far`; at the start of a stage, its name."""
        done = f", {_amount(self.done, self.total)} {self.what}" if self.done else ""
        seconds = time.monotonic() - self.began
        return f"{self.name}{done}" + (f", {seconds:.0f} s so far" if seconds >= 1 else "")


def _amount(done: int, total: int | None) -> str:
    return f"{done:,} of {total:,}" if total else f"{done:,}"


Speaker = Callable[[Stages], None]
Class = TypeVar("Class", bound=type)
_stages: ContextVar[Stages | None] = ContextVar("stages", default=None)


def stage(name: str, total: int | None = None, what: str = "rows") -> None:
    """Begin a stage of a long call; `total` is the number of rows to process, if known."""
    running = _stages.get()
    if running is None:
        return
    if name != running.name:
        running.name, running.began, running.done, running.shown = name, time.monotonic(), 0, False
    running.total, running.what = total, what


def advanced(count: int) -> None:
    """Count more rows of the stage as done."""
    if running := _stages.get():
        running.done += count


def spoke() -> None:
    """Note that something was printed: the next line of a stage can wait."""
    if running := _stages.get():
        running.spoke = time.monotonic()


def shown(bar: bool) -> None:
    """Note that a progress bar appeared, or disappeared."""
    if running := _stages.get():
        running.shown, running.spoke = bar, time.monotonic()


@contextmanager
def spoken_stages(
    speak: Speaker, silence_s: float = SILENCE_S, name: str = "starting"
) -> Iterator[None]:
    """Call `speak` from a thread whenever nothing was printed for `silence_s` seconds."""
    running, ended, poll_s = Stages(name), threading.Event(), min(POLL_S, silence_s / 2)

    def poll() -> None:
        while not ended.wait(poll_s):
            silent_s = time.monotonic() - running.spoke
            if not running.shown and silent_s >= silence_s - poll_s:
                running.spoke = time.monotonic()
                speak(running)

    token = _stages.set(running)
    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _stages.reset(token)


@contextmanager
def lines_for_stages(name: str) -> Iterator[None]:
    """Lines on standard error after two silent seconds.

    Without a terminal a stage has one line, and others after 30, 60, 120, ... seconds.
    """
    if _stages.get() is not None:
        yield
        return
    terminal = sys.stderr.isatty()
    next_line_s: dict[str, float] = {}  # of each stage, by name

    def speak(running: Stages) -> None:
        seconds = time.monotonic() - running.began
        due_s = next_line_s.get(running.name, 0.0)
        if terminal or seconds >= due_s:
            next_line_s[running.name] = max(REPEAT_S, 2 * due_s)
            tell("wait", str(running))

    with spoken_stages(speak, SILENCE_S, name):
        yield


def heard_if_verbose(*names: str) -> Callable[[Class], Class]:
    """Decorates a class: these methods of a verbose model print their stages."""

    def decorate(cls: Class) -> Class:
        for name in names:
            setattr(cls, name, _VerboseMethod(name, getattr(cls, name)))
        return cls

    return decorate


@dataclass(frozen=True)
class _VerboseMethod:
    name: str
    method: Callable[..., Any]

    def __get__(self, model: Any, cls: type) -> Any:
        if model is None:
            return self.method
        bound = MethodType(self.method, model)
        # A task is verbose if its autoencoder is, fitted or not.
        models = (model, *(getattr(model, n, None) for n in ("autoencoder_", "autoencoder")))
        verbose = any(getattr(one, "verbose", False) for one in models)
        return lines_for_stages(self.name)(bound) if verbose else bound


@dataclass(frozen=True)
class Event:
    """One evaluation: training and held-out loss in nats per row, learning rate, seconds.

    `steps` is the planned number of steps, `note` a text where a run resumes.
    """

    step: int
    steps: int
    loss: float
    held_out: float
    rate: float
    seconds: float
    seconds_left: float
    note: str = ""


EvaluateCallback = Callable[[Event], Any]  # training stops where it returns True


@dataclass
class History:
    """The evaluations of a run, and how it ended.

    `wanted` is the number of steps for these rows if a time budget may allow fewer; else 0.
    """

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    best_step: int = 0
    planned: int = 0
    ended: str = ""
    wanted: int = 0

    def add(self, step: int, loss: float, held_out: float, rate: float) -> None:
        """Append one evaluation."""
        self.steps.append(step)
        self.loss.append(loss)
        self.held_out.append(held_out)
        self.rate.append(rate)

    def frame(self) -> Any:
        """The evaluations as a frame: pandas where it is installed, else Arrow."""
        try:
            import pandas
        except ImportError:
            import pyarrow

            return pyarrow.table(self.columns())
        return pandas.DataFrame(self.columns())

    def columns(self) -> dict[str, list[Any]]:
        """The evaluations as named columns, for a frame."""
        return {
            "step": self.steps, "loss": self.loss, "held_out": self.held_out, "rate": self.rate,
        }  # fmt: skip


def called_with_progress(on_evaluate: EvaluateCallback | None, verbose: bool) -> EvaluateCallback:
    """A callback that calls the user's, and shows progress if `verbose`.

    It returns True where the user's does.
    """
    show = progress() if verbose else None

    def call(event: Event) -> bool:
        import numpy as np

        answer = None if on_evaluate is None else on_evaluate(event)
        stops = isinstance(answer, bool | np.bool_) and bool(answer)
        if show is not None:
            show(replace(event, steps=event.step) if stops and event.step else event)
        return stops

    return call


def progress() -> EvaluateCallback:
    """A callback that shows step, held-out nats and time left; `tell` says where."""
    last_share = -1.0

    def print_line(event: Event) -> None:
        nonlocal last_share
        share, left = event.step / event.steps, clock_text(event.seconds_left)
        if event.step == 0:
            tell("train", f"{event.steps:,} steps, about {left}")
        elif event.note:
            tell("train", event.note)
        elif share >= last_share + 0.1 or event.step == event.steps:
            last_share = share
            tell("train", f"{share:4.0%}  held-out error {event.held_out:.3f}  {left} left")

    if not sys.stderr.isatty():
        return print_line
    bar = Bar("train")

    def show_bar(event: Event) -> None:
        text = event.note or f"held-out error {event.held_out:.3f}"
        bar.update(event.step, event.steps, f"steps, {text}")
        if event.step == event.steps:
            bar.stop()

    return show_bar


class Bar:
    """A progress bar on standard error; stages print no lines while it is shown.

    `transient`: it disappears at the end. After `stop`, `update` shows it again.
    """

    def __init__(self, label: str, *, transient: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        text = TextColumn("{task.description}", markup=False)
        self.bar = Progress(
            TextColumn(f"{label:<9}"), BarColumn(), text, TimeRemainingColumn(),
            console=Console(stderr=True), transient=transient,
        )  # fmt: skip

    def update(self, done: int, total: int | None, text: str) -> None:
        """Show the work done, the total if it is known, and a text."""
        if not self.bar.tasks:
            self.bar.add_task("")
        if not self.bar.live.is_started:
            self.bar.start()
            shown(True)
        text = printable(f"{_amount(done, total)} {text}")
        self.bar.update(self.bar.tasks[0].id, completed=done, total=total, description=text)

    def stop(self) -> None:
        """Hide the bar at the end, or after an error."""
        self.bar.stop()
        shown(False)


def in_notebook() -> bool:
    """True in a Jupyter kernel, which shows standard error in a red box, as if it had failed."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def tell(label: str, text: str) -> None:
    """Print a label and a text as one line; failures to write are ignored.

    On standard error, in a notebook on standard output.
    """
    spoke()
    stream = sys.stdout if in_notebook() else sys.stderr
    with suppress(OSError):
        stream.write(f"{printable(label):<9} {printable(text)}\n")
        stream.flush()


def clock_text(seconds: float) -> str:
    """`3 s`, `2:05`, `1:02:03`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
