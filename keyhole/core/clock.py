"""The wall time of a fit: from its start to its written model, whatever else the machine does."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar


@dataclass
class Clock:
    """When a fit began, how many seconds it may take, and what is kept for what follows."""

    began: float
    budget_s: float | None = None
    reserved: float = 0.0  # share
    fixed_s: float = 0.0

    def allow(self, budget_s: float | None) -> None:
        """Have the fit that runs end after so many seconds; None: no limit."""
        self.budget_s = budget_s

    def left(self) -> float:
        """The seconds until the budget is spent, negative beyond it; infinite without one."""
        if self.budget_s is None:
            return math.inf
        return self.began + self.budget_s - time.monotonic()

    def reserved_s(self) -> float:
        """The seconds kept for what comes after the work at hand."""
        budget = self.budget_s or 0.0
        return self.reserved * budget + min(self.fixed_s, budget / 3)

    def passing(self) -> Callable[[], float]:
        """What tells the share that is gone, from now on, of the time for the work at hand."""
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
    """Count a fit's time from here; inside another one, from there.

    `reserved` is the share of a budget, and `fixed_s` the seconds, for what follows fits inside.
    """
    running = _clock.get()
    here = running or Clock(time.monotonic())
    token = _clock.set(here)
    here.reserved, here.fixed_s = here.reserved + reserved, here.fixed_s + fixed_s
    try:
        yield here
    finally:
        here.reserved, here.fixed_s = here.reserved - reserved, here.fixed_s - fixed_s
        _clock.reset(token)


def while_time_is_left(items: Iterable[T], times: float = 1.0) -> Iterator[T]:
    """The first of the items, then as many as the budget of the fit that runs leaves time for.

    Another one begins where `times` the slowest so far would end in time; all without a budget.
    """
    slowest_s = 0.0
    for place, item in enumerate(items):
        running = clock()
        if place and running.left() - running.reserved_s() < times * slowest_s:
            return
        began = time.monotonic()
        yield item
        slowest_s = max(slowest_s, time.monotonic() - began)
