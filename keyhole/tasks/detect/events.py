"""Alarms of a sensor series grouped into events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Event:
    """A stretch of time in which a machine's windows alarm.

    `start`, `end` and `peak` are moments in UTC: the first and the last step of the windows that
    alarm, and the last step of the most anomalous one, whose score is `anomaly_score`.
    `channels` are those to blame, the one that started it first, in the order in which they
    joined; `seconds` is how long after the start each joined. `group` is the machine, None for a
    series of one. `open` is True while the event goes on.
    """

    start: np.datetime64
    end: np.datetime64
    peak: np.datetime64
    anomaly_score: float
    channels: tuple[str, ...]
    seconds: tuple[float, ...]
    group: str | None = None
    open: bool = False

    @property
    def channel(self) -> str:
        """The channel that started it."""
        return self.channels[0]
