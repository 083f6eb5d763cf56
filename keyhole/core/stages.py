"""What a long call is doing at the moment, for whoever waits for it."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Event, Thread
from types import MethodType
from typing import Any, TypeVar

from keyhole.printable import printable

SILENCE_S = 2.0  # nobody who waits hears nothing for longer
POLL_S = 0.25


@dataclass
class Stages:
    """The stage that runs, since when, how far it is, and when something was last said.

    `total` is None where it is not known. `shown` is True while a bar says what goes on.
    """

    name: str = "starting"
    began: float = field(default_factory=time.monotonic)
    spoke: float = field(default_factory=time.monotonic)
    total: int | None = None
    what: str = "rows"
    done: int = 0
    shown: bool = False

    def begin(self, name: str, total: int | None, what: str) -> None:
        """Another stage begins."""
        if name != self.name:
            self.name, self.began, self.done, self.shown = name, time.monotonic(), 0, False
        self.total, self.what = total, what

    def silent_s(self) -> float:
        """The seconds since something was said."""
        return 0.0 if self.shown else time.monotonic() - self.spoke

    def __str__(self) -> str:
        """«detect, 32,768 of 100,000 rows, 4 s so far»; a stage that has just begun, its name."""
        of = f" of {self.total:,}" if self.total else ""
        done = f", {self.done:,}{of} {self.what}" if self.done else ""
        seconds = time.monotonic() - self.began
        return f"{self.name}{done}" + (f", {seconds:.0f} s so far" if seconds >= 1 else "")


Speaker = Callable[[Stages], None]
Class = TypeVar("Class", bound=type)
_stages: ContextVar[Stages | None] = ContextVar("stages", default=None)


def stage(name: str, total: int | None = None, what: str = "rows") -> None:
    """Say which stage of a long call begins, and how much there is to do where that is known."""
    running = _stages.get()
    if running is not None:
        running.begin(name, total, what)


def advanced(count: int) -> None:
    """So many more rows of the stage are done."""
    running = _stages.get()
    if running is not None:
        running.done += count


def spoke() -> None:
    """Something was said to whoever waits, so the stages need not speak for a while."""
    running = _stages.get()
    if running is not None:
        running.spoke = time.monotonic()


def shown(bar: bool) -> None:
    """From now on a bar says what goes on, or no longer."""
    running = _stages.get()
    if running is not None:
        running.shown, running.spoke = bar, time.monotonic()


@contextmanager
def spoken_stages(
    speak: Speaker, silence_s: float = SILENCE_S, name: str = "starting"
) -> Iterator[None]:
    """Call `speak` from a thread whenever nothing was said for `silence_s` seconds."""
    running, ended, poll_s = Stages(name), Event(), min(POLL_S, silence_s / 2)

    def watch() -> None:
        while not ended.wait(poll_s):
            if running.silent_s() >= silence_s - poll_s:
                running.spoke = time.monotonic()
                speak(running)

    token = _stages.set(running)
    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _stages.reset(token)


@contextmanager
def lines_for_stages(name: str) -> Iterator[None]:
    """Lines on standard error whenever nothing was said for two seconds.

    On a terminal every time, elsewhere once for each stage. Inside another one nothing is added.
    """
    if _stages.get() is not None:
        yield
        return
    terminal, named = sys.stderr.isatty(), set()

    def speak(running: Stages) -> None:
        if terminal or running.name not in named:
            named.add(running.name)
            with suppress(OSError):  # where nobody can hear it, the work goes on
                sys.stderr.write(f"{'wait':<9} {printable(str(running))}\n")
                sys.stderr.flush()

    with spoken_stages(speak, SILENCE_S, name):
        yield


def heard_if_verbose(*names: str) -> Callable[[Class], Class]:
    """Decorates a class: where its model is verbose, the stages of these methods are heard."""

    def decorate(cls: Class) -> Class:
        for name in names:
            setattr(cls, name, _Heard(name, getattr(cls, name)))
        return cls

    return decorate


@dataclass(frozen=True)
class _Heard:
    """A method whose stages are heard where its model is verbose."""

    name: str
    method: Callable[..., Any]

    def __get__(self, asked: Any, cls: type) -> Any:
        if asked is None:
            return self.method
        bound = MethodType(self.method, asked)
        return lines_for_stages(self.name)(bound) if _is_verbose(asked) else bound


def _is_verbose(asked: Any) -> bool:
    """True for a verbose model, and for a task of one, fitted or not."""
    models = (asked, *(getattr(asked, name, None) for name in ("autoencoder_", "autoencoder")))
    return any(getattr(model, "verbose", False) for model in models)
