"""Alarms of a sensor series grouped into events, at a promised number of false ones a day.

The windows of an event are at least as anomalous as the event threshold. Two that are at most a
window's length apart belong to the same event, and one alone is none: an anomaly is in several
windows, for they overlap. The threshold is the p-value at which so many windows of normal data
alarm as false events are promised. As each of them counts by itself, there are fewer events.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from jaxtyping import Float

from keyhole.core.times import duration_text, moment_text, seconds_of
from keyhole.data import cast
from keyhole.data.frames import outline, same_kind
from keyhole.data.lazy import pa
from keyhole.errors import KeyholeWarning, SettingError
from keyhole.tasks.detect.titles import excess_of

if TYPE_CHECKING:
    from keyhole.tasks.detect.detector import AnomalyDetector
    from keyhole.tasks.detect.scorer import ScoredBlock

FALSE_EVENTS = "1/day"  # of a machine
UNITS = {"hour": 3_600.0, "day": 86_400.0, "week": 604_800.0, "month": 2_592_000.0}  # seconds
RATE = re.compile(r"(\d+(?:\.\d*)?|\.\d+) ?(?:/|a|per) ?(hour|day|week|month)")
MAX_EVENTS = 100  # of a rate that is a small number
MIN_WINDOWS = 2  # of an event; by so many is decided which channel started it
JOINS = 4.0  # times the usual excess (in squared units): then a channel is part of an event
MAX_NAMED = 4  # channels of an event in a sentence
SEPARATOR = " > "  # between channels in the order in which they joined


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

    def __repr__(self) -> str:
        return f"<Event {in_words(self)}>"

    @property
    def channel(self) -> str:
        """The channel that started it."""
        return self.channels[0]


def seconds_for_one(false_events: str) -> float:
    """How long a machine runs for one false event on average: "1/day" is 86,400.

    Raises: SettingError.
    """
    match = RATE.fullmatch(str(false_events).strip())
    if match is None or float(match[1]) == 0:
        raise SettingError(
            f"false_events={false_events!r:.40}: write a number and a unit of time, such as "
            f"1/day, 2/week or 0.5/hour (units: {', '.join(UNITS)})"
        )
    return UNITS[match[2]] / float(match[1])


@dataclass(frozen=True)
class EventRule:
    """Which windows belong to an event: those whose score is above `threshold`.

    `false_events` is what is promised, and `seconds` are those for one; `p_value` is that of the
    threshold. `every`, `stride` and `window` are those of the series, in seconds.
    """

    threshold: float
    p_value: float
    false_events: str
    every: float
    stride: float
    window: float

    @classmethod
    def of(cls, detector: AnomalyDetector, false_events: str | None = None) -> Self:
        """The rule for so many false events of a machine; windows of an event alarm as rows do.

        Warns where fewer false events cannot be promised. Raises: SettingError.
        """
        modality: Any = detector.autoencoder_.model_.modality
        if (why_not := modality.supports("events")) is not None:
            raise SettingError(why_not)
        rate, spec = false_events or FALSE_EVENTS, modality.spec
        stride = spec.every * spec.stride
        p_value = min(stride / seconds_for_one(rate), detector.false_alarm_rate)
        calibration = detector.calibration_
        least = calibration.least_rate()
        if calibration.threshold(p_value) == np.inf:
            rows, possible = len(calibration.anomaly_scores), _rate_text(least / stride)
            warnings.warn(
                f"a rate of {rate} false events needs more than {rows:,} calibration windows; "
                f"the lowest possible rate, {possible}, is used: fit on a longer series",
                KeyholeWarning, stacklevel=3,
            )  # fmt: skip
            p_value, rate = least, possible
        return cls(
            calibration.threshold(p_value * (1 + 1e-9)), p_value, rate,
            spec.every, stride, spec.every * spec.window,
        )  # fmt: skip

    @property
    def promise(self) -> str:
        """How many false events are promised, in words."""
        return (
            f"at most {self.false_events} for each machine are false (windows with a p-value "
            f"of at most {self.p_value:.2g})"
        )


def _rate_text(a_second: float) -> str:
    """So many events, in the longest unit of time in which they are at most a hundred."""
    fitting = (unit for unit in reversed(UNITS) if a_second * UNITS[unit] <= MAX_EVENTS)
    unit = next(fitting, "hour")
    return f"{a_second * UNITS[unit]:.3g}/{unit}"


class AlarmWindows(NamedTuple):
    """Windows above the event threshold, in the order of time of each machine.

    `times` are those of their last steps, in seconds; `excess` is how far out each channel is, in
    multiples of the usual.
    """

    groups: list[str | None]
    times: Float[np.ndarray, " window"]
    scores: Float[np.ndarray, " window"]
    excess: Float[np.ndarray, "window channel"]

    @classmethod
    def of(cls, detector: AnomalyDetector, judged: ScoredBlock, threshold: float) -> Self:
        """Those of a scored block."""
        samples = judged.samples
        lines, first = np.unique(samples, return_index=True)
        scores = judged.anomaly_score[first[lines >= 0]]
        lines = lines[lines >= 0]
        above = scores > threshold
        lines, scores = lines[above], scores[above]
        scorer = detector.scorer_
        if not len(lines):
            none = np.zeros(0)
            return cls([], none, none, np.zeros((0, len(scorer.table.titles))))
        groups, times = names_of(scorer.table, judged)
        excess = excess_of(scorer, judged, lines)[0]
        return cls([groups[i] for i in lines], times[lines], scores, excess)


def names_of(modality: Any, judged: ScoredBlock) -> tuple[list[str | None], np.ndarray]:
    """The machine of each window of a block, and the time of its last step in seconds."""
    labels, spec = modality.labels(judged.rows), modality.spec
    if not labels:
        return [], np.zeros(0)
    times = cast.seconds(labels[spec.time])[0]
    groups = labels.get(spec.group)
    return [None] * len(times) if groups is None else groups.to_pylist(), times


@dataclass
class Draft:
    """An event that goes on; `excess` is the sum over its first windows, `joined` by channel."""

    start: float
    end: float
    peak: float
    anomaly_score: float
    windows: int
    excess: list[float]
    joined: dict[int, float] = field(default_factory=dict)
    first: int | None = None


class EventBuilder:
    """Groups windows into events as they come; what it holds does not grow with time."""

    def __init__(self, rule: EventRule, channels: list[str]) -> None:
        self.rule = rule
        self.channels = channels
        self.drafts: dict[str | None, Draft] = {}

    def add(self, windows: AlarmWindows) -> list[Event]:
        """The events that these windows begin, and those that have ended before them."""
        events = []
        for group, time, score, excess in zip(*windows, strict=True):
            draft = self.drafts.get(group)
            if draft is not None and abs(time - draft.end) > self.rule.window:
                events += self._ended(group)  # later, or the clock has jumped back
                draft = None
            if draft is None:
                start = float(time) - self.rule.stride + self.rule.every
                draft = Draft(start, time, time, score, 0, [0.0] * len(self.channels))
                self.drafts[group] = draft
            elif time <= draft.end:
                continue  # a window that answers rows of two blocks
            self._take(draft, float(time), float(score), excess)
            if draft.windows == MIN_WINDOWS:
                events.append(self._event(group, draft, open=True))
        return events

    def _take(self, draft: Draft, time: float, score: float, excess: np.ndarray) -> None:
        draft.end, draft.windows = time, draft.windows + 1
        if score > draft.anomaly_score:
            draft.anomaly_score, draft.peak = score, time
        if draft.windows <= MIN_WINDOWS:
            draft.excess = (np.array(draft.excess) + excess).tolist()
            draft.first = int(np.argmax(draft.excess))
        for channel in np.argsort(-excess, kind="stable").tolist():
            if excess[channel] >= JOINS:
                draft.joined.setdefault(channel, time)

    def passed(self, group: str | None, time: float) -> list[Event]:
        """The event of a machine that ends because another window of it is far from it."""
        draft = self.drafts.get(group)
        if draft is None or abs(time - draft.end) <= self.rule.window:
            return []
        return self._ended(group)

    def leave(self, group: str | None) -> list[Event]:
        """The event of a machine of which no row comes any more."""
        return self._ended(group) if group in self.drafts else []

    def going_on(self) -> list[Event]:
        """The events that go on."""
        return [self._event(g, d, open=True) for g, d in self.drafts.items() if _is_event(d)]

    def end(self) -> list[Event]:
        """The events that go on where the data end."""
        events, self.drafts = self.going_on(), {}
        return events

    def _ended(self, group: str | None) -> list[Event]:
        draft = self.drafts.pop(group)
        return [self._event(group, draft, open=False)] if _is_event(draft) else []

    def _event(self, group: str | None, draft: Draft, *, open: bool) -> Event:
        first = draft.first or 0
        others = [channel for channel in draft.joined if channel != first]
        order = [first, *sorted(others, key=lambda channel: draft.joined[channel])]
        joined = [max(draft.joined.get(i, draft.start) - draft.start, 0.0) for i in order]
        seconds = (0.0, *joined[1:])
        start, end, peak = (_moment(t) for t in (draft.start, draft.end, draft.peak))
        names = tuple(self.channels[i] for i in order)
        return Event(start, end, peak, draft.anomaly_score, names, seconds, group, open)

    def to_json(self) -> list[Any]:
        """The events that go on, as JSON."""
        return [[group, asdict(draft)] for group, draft in self.drafts.items()]

    def take_json(self, state: list[Any]) -> None:
        """Go on with the events of `to_json`. Raises: KeyError, TypeError, ValueError."""
        for group, values in state:
            joined = {int(channel): float(time) for channel, time in values["joined"].items()}
            draft = Draft(**{**values, "joined": joined})
            own, channels = {*joined, draft.first or 0}, len(self.channels)
            if len(draft.excess) != channels or not own <= set(range(channels)):
                raise ValueError("channels of another model")
            self.drafts[group] = draft


def _is_event(draft: Draft) -> bool:
    return draft.windows >= MIN_WINDOWS


def _moment(seconds: float) -> np.datetime64:
    return np.datetime64(round(seconds * 1e3), "ms")


class EventCollector:
    """The events of all rows of a source, as an output of their scored blocks."""

    def __init__(self, detector: AnomalyDetector, false_events: str | None = None) -> None:
        self.detector = detector
        self.rule = EventRule.of(detector, false_events)
        self.parts: list[AlarmWindows] = []
        self.latest: dict[str | None, float] = {}

    def places(self, judged: ScoredBlock) -> np.ndarray:
        """No row: events need no reasons."""
        return np.zeros(0, np.int64)

    def look(self, judged: ScoredBlock, reasons: Any) -> tuple[AlarmWindows, dict[Any, float]]:
        """The windows above the threshold, and the time of each machine's last window."""
        groups, times = names_of(self.detector.scorer_.table, judged)
        latest: dict[Any, float] = {}
        for group, time in zip(groups, times.tolist(), strict=True):
            latest[group] = max(time, latest.get(group, time))
        return AlarmWindows.of(self.detector, judged, self.rule.threshold), latest

    def add(self, part: tuple[AlarmWindows, dict[Any, float]]) -> None:
        """Take a block in."""
        windows, latest = part
        if len(windows.times):
            self.parts.append(windows)
        for group, time in latest.items():
            self.latest[group] = max(time, self.latest.get(group, time))

    def events(self) -> list[Event]:
        """All events, in the order of their start; rows may have been in any order."""
        builder = EventBuilder(self.rule, list(self.detector.scorer_.table.titles))
        events = builder.add(self._in_order()) if self.parts else []
        for group, time in self.latest.items():
            events += builder.passed(group, time)
        begun = [*(event for event in events if not event.open), *builder.end()]
        return sorted(begun, key=lambda event: (event.start, event.group or ""))

    def _in_order(self) -> AlarmWindows:
        groups = [group for part in self.parts for group in part.groups]
        arrays: list[Any] = [part[1:] for part in self.parts]
        times, scores, excess = (np.concatenate(each) for each in zip(*arrays, strict=True))
        order = np.argsort(times, kind="stable")
        return AlarmWindows([groups[i] for i in order], times[order], scores[order], excess[order])


def events_of(
    detector: AnomalyDetector, blocks: Iterable[ScoredBlock], false_events: str | None = None
) -> list[Event]:
    """The events of scored blocks."""
    collector = EventCollector(detector, false_events)
    for judged in blocks:
        collector.add(collector.look(judged, {}))
    return collector.events()


def table_of(events: list[Event], group: str | None, like: Any = None) -> Any:
    """Events as a table, one a line, in the kind of frame of `like`; `group` names machines."""
    columns: dict[str, Any] = {}
    if group is not None:
        columns[group] = pa.array([event.group for event in events], pa.string())
    for name in ("start", "end", "peak"):
        moments = np.array([getattr(event, name) for event in events], "datetime64[ms]")
        columns[name] = pa.array(moments, pa.timestamp("ms"))
    order = [SEPARATOR.join(event.channels) for event in events]
    columns |= {
        "channel": pa.array([event.channel for event in events], pa.string()),
        "channels": pa.array(order, pa.string()),
        "anomaly_score": pa.array([event.anomaly_score for event in events], pa.float32()),
        "open": pa.array([event.open for event in events], pa.bool_()),
    }
    return same_kind(pa.table(columns), outline(like))


def as_json(event: Event) -> dict[str, Any]:
    """An event as JSON: moments as ISO 8601."""
    moments = {name: str(getattr(event, name)) for name in ("start", "end", "peak")}
    others = {name: list(getattr(event, name)) for name in ("channels", "seconds")}
    return {
        "group": event.group, **moments, "channel": event.channel, **others,
        "anomaly_score": round(event.anomaly_score, 4), "open": event.open,
    }  # fmt: skip


def in_words(event: Event) -> str:
    """An event in one line."""
    machine = "" if event.group is None else f"{event.group}: "
    start, end = (seconds_of(moment) for moment in (event.start, event.end))
    step = 1.0 if start == round(start) else 1e-3
    text = f"{machine}since {moment_text(start, step)}"
    if not event.open:
        text = f"{machine}{moment_text(start, step)} to {moment_text(end, step)} "
        text += f"({duration_text(end - start)})"
    joined = zip(event.channels[1:MAX_NAMED], event.seconds[1:MAX_NAMED], strict=True)
    others = "".join(f", then {name} (after {duration_text(s)})" for name, s in joined)
    more = len(event.channels) - MAX_NAMED
    others += f" and {more} more" if more > 0 else ""
    return f"{text}: {event.channel} first{others}; anomaly score {event.anomaly_score:.1f}"
