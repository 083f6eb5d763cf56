"""What a long call is doing at the moment, for whoever waits for it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Event, Thread

SILENCE_S = 2.0  # nobody who waits hears nothing for longer
POLL_S = 0.25

Speaker = Callable[[str, float], None]  # of a stage and the seconds it has taken so far


@dataclass
class Stages:
    """The stage that runs, since when, and when something was last said."""

    name: str = "starting"
    began: float = field(default_factory=time.monotonic)
    spoke: float = field(default_factory=time.monotonic)

    def begin(self, name: str) -> None:
        """Another stage begins."""
        if name != self.name:
            self.name, self.began = name, time.monotonic()

    def silent_s(self) -> float:
        """The seconds since something was said."""
        return time.monotonic() - self.spoke


_stages: ContextVar[Stages | None] = ContextVar("stages", default=None)


def stage(name: str) -> None:
    """Say which stage of a long call begins."""
    running = _stages.get()
    if running is not None:
        running.begin(name)


def spoke() -> None:
    """Something was said to whoever waits, so the stages need not speak for a while."""
    running = _stages.get()
    if running is not None:
        running.spoke = time.monotonic()


@contextmanager
def spoken_stages(speak: Speaker, silence_s: float = SILENCE_S) -> Iterator[None]:
    """Call `speak` from a thread whenever nothing was said for `silence_s` seconds."""
    running, ended = Stages(), Event()

    def watch() -> None:
        while not ended.wait(min(POLL_S, silence_s / 2)):
            if running.silent_s() >= silence_s - POLL_S:
                running.spoke = time.monotonic()
                speak(running.name, running.spoke - running.began)

    token = _stages.set(running)
    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _stages.reset(token)
