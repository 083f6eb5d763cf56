"""The timeline of a series: channels and anomaly score over time, collected in one pass.

Each machine has a bounded number of bins (`keyhole.core.decimation`), so a page of a million rows
takes as much memory as one of ten thousand, and a spike of one row stays visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from keyhole.core.decimation import Bins
from keyhole.tasks.detect.answer import Reason
from keyhole.tasks.detect.events import Event
from keyhole.tasks.detect.scorer import ScoredBlock

if TYPE_CHECKING:
    from keyhole.modalities.series.moments import Moments, Readings

MAX_BINS, MIN_BINS = 4_096, 256  # of a machine
MAX_ENDS = 1 << 22  # ends of bins of all machines and channels in memory: 64 MB
MAX_TRACKED = 1_000  # machines whose bins are kept
MAX_CHANNELS = 12  # panels of channels
MAX_MACHINES = 12  # that a page holds
MAX_EVENTS = 200  # that a page holds, those of the highest anomaly score
PAGE_ENDS = 56_000  # ends of bins that a page holds, about: 300 kB


@dataclass(frozen=True)
class TimelinePart:
    """A block of rows for the timeline; `blame` adds up the shares of each channel's reasons."""

    readings: Readings
    anomaly_score: Float[np.ndarray, " row"]
    blame: Float[np.ndarray, "machine channel"]


@dataclass(frozen=True)
class MachineTimeline:
    """The bins of a machine: the anomaly score, then its channels, those to blame first."""

    name: str
    channels: list[str]
    bins: Bins
    events: list[Event]


@dataclass(frozen=True)
class Timeline:
    """What a page shows of a series over time.

    `events` are those shown, in the order of time, `more_events` how many are not; None if no
    events were asked for. Machines with the strongest events come first.
    """

    moments: Moments
    machines: list[MachineTimeline]
    more_machines: int
    more_channels: int
    events: list[Event] | None
    more_events: int
    threshold: float
    event_threshold: float | None = None

    @property
    def levels(self) -> dict[str, list[str]]:
        """The levels of the channels that have some."""
        return self.moments.levels


@dataclass
class TimelineCollector:
    """Collects a timeline block by block; see `Output` in tasks/detect/counting.py."""

    moments: Moments
    bins: dict[str, Bins] = field(default_factory=dict)
    blame: dict[str, np.ndarray] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)

    def look(self, judged: ScoredBlock, reasons: dict[int, list[Reason]]) -> TimelinePart:
        """The readings of a block, and how much each channel is to blame for its scores."""
        readings = self.moments.read(judged.rows)
        blame = np.zeros((len(readings.times.machines), len(self.moments.channels)))
        channel = {name: i for i, name in enumerate(self.moments.channels)}
        for place, own in reasons.items():
            for reason in own:
                if reason.column in channel:
                    line = readings.times.machine[place], channel[reason.column]
                    blame[line] += reason.share
        return TimelinePart(readings, judged.anomaly_score, blame)

    def add(self, part: TimelinePart) -> None:
        """Take a block in."""
        values = np.column_stack([part.anomaly_score, part.readings.values])
        values[~np.isfinite(values)] = np.nan
        times = part.readings.times
        for place, name in enumerate(times.machines):
            rows = np.flatnonzero(times.machine == place)
            bins = self._bins_of(name)
            if bins is not None:
                bins.add(times.seconds[rows], values[rows])
                self.blame[name] = self.blame[name] + part.blame[place]

    def _bins_of(self, name: str) -> Bins | None:
        """The bins of a machine; a new one may leave fewer bins for each. None beyond the most."""
        if name not in self.bins and len(self.bins) >= MAX_TRACKED:
            self.left_out.add(name)
            return None
        if name not in self.bins:
            columns = len(self.moments.channels) + 1
            most = MAX_ENDS // (2 * columns * (len(self.bins) + 1))
            most = int(np.clip(most, MIN_BINS, MAX_BINS))
            for bins in self.bins.values():
                bins.limit(most)
            self.bins[name] = Bins(self.moments.every, most, columns)
            self.blame[name] = np.zeros(columns - 1)
        return self.bins[name]

    def timeline(
        self,
        threshold: float,
        events: Sequence[Event] | None = None,
        event_threshold: float | None = None,
    ) -> Timeline | None:
        """The timeline so far with these events; None without a row that has a time."""
        names = [name for name, bins in self.bins.items() if len(bins)]
        if not names:
            return None
        strongest = sorted(events or [], key=lambda event: -event.anomaly_score)
        shown = sorted(strongest[:MAX_EVENTS], key=lambda event: event.start)
        highest = {name: self._highest(name, strongest) for name in names}
        names.sort(key=lambda name: highest[name], reverse=True)  # stable
        machines = [self._machine(name, shown) for name in names[:MAX_MACHINES]]
        return Timeline(
            self.moments,
            machines,
            more_machines=len(names) + len(self.left_out) - len(machines),
            more_channels=max(len(self.moments.channels) - MAX_CHANNELS, 0),
            events=None if events is None else shown,
            more_events=len(strongest) - len(shown),
            threshold=threshold,
            event_threshold=event_threshold,
        )

    def _highest(self, name: str, events: list[Event]) -> tuple[float, float]:
        """The score of a machine's strongest event, and its highest anomaly score."""
        own = [event.anomaly_score for event in events if (event.group or "") == name]
        scores = self.bins[name].extremes.high[:, 0]
        return max(own, default=0.0), float(np.nan_to_num(scores, nan=-np.inf).max())

    def _machine(self, name: str, events: list[Event]) -> MachineTimeline:
        """A machine's bins without the channels that are left out."""
        channels, own = self.moments.channels, [e for e in events if (e.group or "") == name]
        started = [sum(event.channel == channel for event in own) for channel in channels]
        order = np.lexsort((-self.blame[name], -np.array(started)))[:MAX_CHANNELS]
        bins = self.bins[name].copy()
        bins.take(np.concatenate([[0], order + 1]))
        return MachineTimeline(name, [channels[i] for i in order.tolist()], bins, own)


def for_page(timeline: Timeline, most_ends: int = PAGE_ENDS) -> Timeline:
    """The timeline with so few bins that about `most_ends` ends are left."""
    columns = sum(len(machine.channels) + 1 for machine in timeline.machines)
    most, machines = max(most_ends // (2 * columns), MIN_BINS // 2), []
    for machine in timeline.machines:
        bins = machine.bins.copy()
        bins.limit(most)
        while np.ptp(bins.extremes.index) >= 2**32:  # places in the page are of 32 bits
            bins.coarsen()
        machines.append(replace(machine, bins=bins))
    return replace(timeline, machines=machines)


def gap_of(index: np.ndarray, pause: float) -> float:
    """From how many bins without a value on the line of a channel is broken.

    A channel that has a reading only every few bins is no channel with gaps.
    """
    usual = float(np.median(np.diff(index))) if len(index) > 1 else 1.0
    return max(pause, 3 * usual, 1.0)
