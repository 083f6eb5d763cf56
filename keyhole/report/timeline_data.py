"""The timeline as JSON for timeline.js."""

from __future__ import annotations

from typing import Any

import numpy as np

from keyhole.core.times import seconds_of
from keyhole.report.timeline import MachineTimeline, Timeline, gap_of
from keyhole.report.timeline_chart import geometry, in_words, resolution
from keyhole.report.words import base64_of, plain

MAX_LEVELS = 100  # of a channel, that have a name in the page


def packed(timeline: Timeline) -> dict[str, Any]:
    """What timeline.js draws; the bins of a `for_page` timeline."""
    names = [machine.name for machine in timeline.machines]
    events = [
        [names.index(event.group or ""), *map(seconds_of, (event.start, event.end)),
         round(event.anomaly_score, 3), plain(event.channel, 24)]
        for event in timeline.events or []
        if (event.group or "") in names
    ]  # fmt: skip
    # Channels of several machines have the same levels: they are in the page once.
    channels = {name: None for machine in timeline.machines for name in machine.channels}
    levels = {
        name: [plain(level, 20) for level in timeline.levels[name][:MAX_LEVELS]]
        for name in channels
        if name in timeline.levels
    }
    return {
        "geometry": geometry(timeline),
        "levels": list(levels.values()),
        "step": timeline.moments.every,
        "threshold": _finite(timeline.threshold),
        "eventThreshold": _finite(timeline.event_threshold),
        "machines": [_packed(machine, timeline, list(levels)) for machine in timeline.machines],
        "events": events,
    }


def _packed(
    machine: MachineTimeline, timeline: Timeline, with_levels: list[str]
) -> dict[str, Any]:
    bins = machine.bins
    index, panels = bins.extremes.index, []
    for place, name in enumerate(["", *machine.channels]):
        low, high = bins.extremes.low[:, place], bins.extremes.high[:, place]
        known = np.isfinite(low)
        base = float(low[known].min()) if known.any() else 0.0
        equal = bool((low[known] == high[known]).all())
        panels.append({
            "name": plain(name, 60),
            "levels": with_levels.index(name) if name in with_levels else None,
            "count": len(timeline.levels.get(name, [])),
            "base": base,
            "low": base64_of((low - base).astype("<f4")),
            "high": "" if equal else base64_of((high - base).astype("<f4")),
            "gap": gap_of(index[known], timeline.moments.pause / bins.width),
        })  # fmt: skip
    return {
        "text": in_words(timeline, machine),
        "note": resolution(timeline, machine),
        "steps": bins.steps,
        "first": int(index[0]),
        "index": base64_of((index - index[0]).astype("<u4")),
        "panels": panels,
    }


def _finite(number: float | None) -> float | None:
    return None if number is None or not np.isfinite(number) else float(number)
