"""The timeline as SVG, and the table of its events; timeline.js zooms into the same SVG.

It shows one machine: a panel of the anomaly score, one for each channel, and a band for each event
across all of them. The style sheet colours it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from jaxtyping import Float

from keyhole.core.decimation import Extremes
from keyhole.core.times import duration_text, moment_text, seconds_of
from keyhole.report.charts import LETTER, Axis, tick_texts, upward
from keyhole.report.timeline import MachineTimeline, Timeline, gap_of
from keyhole.report.words import count, number, plain, template
from keyhole.tasks.detect.events import Event

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 960, 84, 28, 34, 36  # pixels: of the chart, and around it
WIDE = WIDTH - RIGHT - LEFT  # pixels: of a panel
NAME, GAP = 15, 9  # pixels: above a panel for its name, and below it
SCORE_HEIGHT, CHANNEL_HEIGHT = 84, 44  # pixels: of a panel
COLUMNS = 480  # of a path; a page without JavaScript shows no more
ROOM = 0.06  # of a vertical axis beyond the values at both ends
LOGARITHMIC_FROM, LEAST_SCORE = 20.0, 0.1  # ratio of the highest score to the lowest; the floor
MAX_TICK_LETTERS, MAX_LEVEL_TICKS = 11, 4
MIN_BAND = 1.5  # pixels
SCORE = "anomaly score (1: a typical row)"
LISTED_EVENTS = 60  # in the table


@dataclass(frozen=True)
class Panel:
    """One row of the chart, in pixels; `lines` are thresholds: height and kind."""

    name: str
    top: float
    height: float
    path: str
    beyond: str  # the path of what is above the threshold
    ticks: list[tuple[float, str]]
    lines: list[tuple[float, str]]


@dataclass(frozen=True)
class Band:
    """An event across all panels, in pixels; without a label where it has no room.

    `title` is its tooltip.
    """

    left: float
    width: float
    label: str
    title: str = ""


def tops(channels: int) -> list[tuple[float, float]]:
    """Where each panel begins and how high it is: the anomaly score, then the channels."""
    places, top = [], float(TOP)
    for height in [SCORE_HEIGHT, *[CHANNEL_HEIGHT] * channels]:
        places.append((top + NAME, float(height)))
        top += NAME + height + GAP
    return places


def geometry(timeline: Timeline) -> dict[str, Any]:
    """Where timeline.js finds what."""
    return {
        "left": LEFT, "right": WIDTH - RIGHT, "room": ROOM,
        "panels": tops(len(timeline.machines[0].channels)),
        "logarithmicFrom": LOGARITHMIC_FROM, "leastScore": LEAST_SCORE, "minBand": MIN_BAND,
        "score": SCORE, "top": TOP,
    }  # fmt: skip


def timeline_chart(timeline: Timeline) -> str:
    """The whole time of the first machine, as an element of the page."""
    machine = timeline.machines[0]
    places = tops(len(machine.channels))
    bins = machine.bins
    time = Axis("", float(bins.first[0]), max(float(bins.last[-1]), float(bins.first[0]) + 1e-6))
    panels = [_score_panel(timeline, machine, time)]
    panels += [_channel_panel(timeline, machine, i, time) for i in range(1, len(places))]
    start, end = (moment_text(moment) for moment in (time.low, time.high))
    bottom = places[-1][0] + places[-1][1]
    return template("timeline.svg.j2").render(
        width=WIDTH, height=bottom + BOTTOM, left=LEFT, wide=WIDE, top=TOP,
        bottom=bottom, panels=panels, bands=_bands(machine.events, time),
        ticks=time_ticks(time), label=f"time, UTC, from {start} to {end}", title=_title(machine),
        text=in_words(timeline, machine),
    )  # fmt: skip


@dataclass(frozen=True)
class Vertical:
    """The vertical axis of a panel, its ticks as they are written; scores may be logarithmic."""

    low: float
    high: float
    ticks: list[tuple[float, str]]
    logarithmic: bool = False

    @classmethod
    def of_levels(cls, levels: list[str]) -> Vertical:
        """The axis of a channel with levels."""
        places = range(0, len(levels) - 1, -(-len(levels) // MAX_LEVEL_TICKS))
        ticks = [(float(i), plain(levels[i], MAX_TICK_LETTERS)) for i in places]
        return cls(-0.5, len(levels) - 1.0, ticks)

    @classmethod
    def of_numbers(cls, values: np.ndarray, *, may_be_logarithmic: bool = False) -> Vertical:
        """The axis that shows all these values."""
        values = values[np.isfinite(values)]
        least, most = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        if may_be_logarithmic and most > LOGARITHMIC_FROM * max(least, LEAST_SCORE):
            low, high = (float(np.log10(max(end, LEAST_SCORE))) for end in (least, most))
            powers = range(int(np.ceil(low)), int(np.floor(high)) + 1)
            ticks = [(float(power), f"{10.0**power:,.4g}") for power in powers]
            room = ROOM * (high - low)
            return cls(low - room, high + room, ticks, logarithmic=True)
        room = ROOM * (most - least) or 0.5 * max(abs(most), 1e-9)
        axis = upward("", least - room, most + room, most_ticks=3)
        texts = tick_texts(axis.ticks)
        if max(map(len, texts), default=0) > MAX_TICK_LETTERS:
            texts = [f"{tick:.4g}" for tick in axis.ticks]
        return cls(axis.low, axis.high, list(zip(axis.ticks, texts, strict=True)))

    def places(self, values: Any, height: float) -> np.ndarray:
        """Pixels from the top, of a panel of this height."""
        if self.logarithmic:
            values = np.log10(np.maximum(values, LEAST_SCORE))
        return height * (1 - Axis("", self.low, self.high).place(values))

    def tick_places(self, height: float) -> list[tuple[float, str]]:
        """Ticks in pixels from the top."""
        axis = Axis("", self.low, self.high)
        return [(height * (1 - float(axis.place(tick))), text) for tick, text in self.ticks]


def _score_panel(timeline: Timeline, machine: MachineTimeline, time: Axis) -> Panel:
    """The anomaly score, and the thresholds; what is above the alarm threshold in its colour."""
    top, height = tops(0)[0]
    line = _Line.of(timeline, machine, 0, time)
    limits = {"alarms": timeline.threshold, "events": timeline.event_threshold or np.nan}
    limits = {kind: limit for kind, limit in limits.items() if np.isfinite(limit)}
    values = np.concatenate([line.low, line.high, [*limits.values()]])
    axis = Vertical.of_numbers(values, may_be_logarithmic=True)
    upper, lower = (axis.places(values, height) for values in (line.high, line.low))
    lines = [(float(axis.places(limit, height)), kind) for kind, limit in limits.items()]
    above = line.high > timeline.threshold
    floor = np.minimum(lower[above], lines[0][0] if lines else np.inf)
    beyond = path_of(line.x[above], upper[above], floor, np.ones(int(above.sum()), bool))
    path = path_of(line.x, upper, lower, line.broken)
    return Panel(SCORE, top, height, path, beyond, axis.tick_places(height), lines)


def _channel_panel(timeline: Timeline, machine: MachineTimeline, place: int, time: Axis) -> Panel:
    """The channel at this place, from 1."""
    top, height = tops(place)[place]
    name, line = machine.channels[place - 1], _Line.of(timeline, machine, place, time)
    levels = timeline.levels.get(name, [])
    values = np.concatenate([line.low, line.high])
    axis = Vertical.of_levels(levels) if levels else Vertical.of_numbers(values)
    upper, lower = (axis.places(values, height) for values in (line.high, line.low))
    path = path_of(line.x, upper, lower, line.broken)
    return Panel(plain(name), top, height, path, "", axis.tick_places(height), [])


@dataclass(frozen=True)
class _Line:
    """The bins of a panel that hold a value: pixels across, ends, and where the line is broken."""

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray
    broken: np.ndarray

    @classmethod
    def of(cls, timeline: Timeline, machine: MachineTimeline, place: int, time: Axis) -> _Line:
        """The line of the column at this place: 0 is the anomaly score."""
        bins, extremes = machine.bins, machine.bins.extremes
        low, high = extremes.low[:, place], extremes.high[:, place]
        known = np.isfinite(low)
        gap = gap_of(extremes.index[known], timeline.moments.pause / bins.width)
        broken = np.diff(extremes.index[known], prepend=-(2**62)) > gap
        return cls(WIDE * time.place(bins.middle[known]), low[known], high[known], broken)


def path_of(
    x: Float[np.ndarray, " bin"],
    top: Float[np.ndarray, " bin"],
    bottom: Float[np.ndarray, " bin"],
    broken: np.ndarray,
) -> str:
    """A line through bins from end to end of each, pixels; it begins anew where it is `broken`.

    Bins of one column of the path are drawn as one.
    """
    if not len(x):
        return ""
    column = np.clip(x / WIDE * COLUMNS, 0, COLUMNS - 1).astype(np.int64)
    column = column if len(np.unique(column)) < len(x) > COLUMNS else np.arange(len(x))
    values = np.column_stack([x, top, bottom, np.where(broken, -1.0, 0.0)])
    parts, path, previous = Extremes.of(column, values), [], 0.0
    lows, highs = parts.low.tolist(), parts.high.tolist()
    for i, (low, high) in enumerate(zip(lows, highs, strict=True)):
        across, ends = (low[0] + high[0]) / 2, (low[1], high[2])
        start = low[3] < 0
        near, far = sorted(ends, key=lambda y: abs(y - previous))
        path.append(f"{'M' if start else 'L'}{across:.5g} {near:.4g}")
        alone = start and (i + 1 == len(lows) or lows[i + 1][3] < 0)
        if far != near:
            path.append(f"V{far:.4g}")
        elif alone:
            path.append("h.1")  # a dot
        previous = far
    return "".join(path)


def _bands(events: list[Event], time: Axis) -> list[Band]:
    """A band for each event; labels go to the strongest first."""
    taken, bands = [], {}
    for event in sorted(events, key=lambda event: -event.anomaly_score):
        ends = [seconds_of(event.start), seconds_of(event.end)]
        left, right = (WIDE * time.place(ends)).tolist()
        label = plain(event.channel, 24)
        room = left - 4, left + LETTER * len(label) + 4
        free = room[1] < WIDE and all(room[1] < a or room[0] > b for a, b in taken)
        if free:
            taken.append(room)
        title = f"{label} first, anomaly score {number(event.anomaly_score)}"
        bands[event] = Band(left, max(right - left, MIN_BAND), label if free else "", title)
    return [bands[event] for event in events]


def time_ticks(time: Axis) -> list[tuple[float, str]]:
    """Ticks of a time axis in pixels from its left end."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    ends: list[Any] = [datetime.fromtimestamp(end, UTC) for end in (time.low, time.high)]
    locator = AutoDateLocator(minticks=4, maxticks=9, tz=UTC)
    days = [float(day) for day in locator.tick_values(*ends)]
    low, high = (float(date2num(end)) for end in ends)
    days = [day for day in days if low <= day <= high]
    texts = ConciseDateFormatter(locator, tz=UTC).format_ticks(days)
    places = (WIDE * (day - low) / (high - low) for day in days)
    return list(zip(places, texts, strict=True))


def _title(machine: MachineTimeline) -> str:
    return "Timeline" + (f" of {plain(machine.name, 60)}" if machine.name else "")


def in_words(timeline: Timeline, machine: MachineTimeline) -> str:
    """The chart for a screen reader."""
    bins, step = machine.bins, timeline.moments.every
    scores = bins.extremes.high[:, 0]
    highest = number(float(np.nanmax(scores))) if np.isfinite(scores).any() else "unknown"
    events = "" if timeline.events is None else f"{count(len(machine.events), 'event')}; "
    start, end = moment_text(bins.first[0], step), moment_text(bins.last[-1], step)
    return (
        f"From {start} to {end} UTC: the anomaly score, up to {highest} times the "
        f"usual, threshold {number(timeline.threshold)}; "
        f"{events}{count(len(machine.channels), 'channel')}, those to blame first: "
        f"{', '.join(plain(name, 40) for name in machine.channels)}."
    )


def resolution(timeline: Timeline, machine: MachineTimeline) -> str:
    """What one point of the page is, in a sentence."""
    step, width = timeline.moments.every, machine.bins.width
    if width <= step:
        return f"Each point is one step of {duration_text(step)}."
    return (
        f"The page holds the least and the greatest value of every {duration_text(width)} "
        f"({round(width / step):,} steps); zoomed in further, these ranges are shown and nothing "
        "between them."
    )


def event_lines(timeline: Timeline) -> list[dict[str, str]]:
    """The events as lines of a table, in the order of time."""
    step, events = timeline.moments.every, timeline.events or []
    strongest = sorted(range(len(events)), key=lambda i: -events[i].anomaly_score)
    names, shown, place = [m.name for m in timeline.machines], [], 0
    for i, event in enumerate(events):
        on_chart = (event.group or "") in names
        if i in strongest[:LISTED_EVENTS]:
            shown.append(_line(event, step) | {"place": str(place) if on_chart else ""})
        place += on_chart
    return shown


def _line(event: Event, step: float) -> dict[str, str]:
    start, end, peak = map(seconds_of, (event.start, event.end, event.peak))
    joined = list(zip(event.channels, event.seconds, strict=True))[1:]
    return {
        "machine": plain(event.group or "", 60),
        "start": moment_text(start, step),
        "end": "goes on" if event.open else moment_text(end, step),
        "lasts": duration_text(end - start),
        "peak": moment_text(peak, step),
        "anomaly_score": number(event.anomaly_score),
        "channel": plain(event.channel, 60),
        "others": plain(", ".join(f"{name} after {duration_text(s)}" for name, s in joined), 400),
    }
