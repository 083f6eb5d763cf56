"""The map of the codes as SVG, for browsers without JavaScript and for print."""

from __future__ import annotations

import numpy as np

from keyhole.report.charts import ALARM, NET, Axis, Chart
from keyhole.report.code_map import CodeMap
from keyhole.report.rows import ScoredRows
from keyhole.report.words import count, number, plain

MAX_ALARMS, MAX_OTHERS = 80, 250  # points of the chart
EDGE, ROOM = 65_535.0, 1_500.0  # of the grid of a map, and around it
RADII = {NET: 2.2, ALARM: 3.4}  # pixels


def map_chart(scored: ScoredRows, packed: CodeMap) -> str:
    """The strongest alarms and a sample of the other rows, each with a tooltip."""
    across, up = packed.labels
    axes = (Axis(label, -ROOM, EDGE + ROOM) for label in (across, up))
    chart = Chart(*axes, height=420)
    score, alarm = scored.anomaly_score[packed.rows], scored.alarm[packed.rows]
    alarms = np.flatnonzero(alarm)
    alarms = alarms[np.argsort(-score[alarms], kind="stable")][:MAX_ALARMS]
    others = np.flatnonzero(~alarm)
    if len(others) > MAX_OTHERS:
        others = np.random.default_rng(0).choice(others, MAX_OTHERS, replace=False)
    for places, colour in ((others, NET), (alarms, ALARM)):
        rows = packed.rows[places].tolist()
        titles = [
            f"{plain(scored.ids[row], 24) or f'row {row + 1}'}: anomaly score "
            f"{number(float(scored.anomaly_score[row]))}"
            for row in rows
        ]
        x, y = packed.grid[places].T
        chart.dots(x, y, colour, RADII[colour], titles)
    label = f"Map of {count(len(others) + len(alarms), 'row')}, {count(len(alarms), 'alarm')}."
    return chart.svg(label, [("a row", NET, "●"), ("an alarm", ALARM, "●")])
