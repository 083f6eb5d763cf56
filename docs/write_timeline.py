"""Draws docs/images/sensor_timeline.svg: the timeline of a page, on a pump made by this script.

It takes less than a minute: `python docs/write_timeline.py`.
"""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from keyhole import AnomalyDetector, Autoencoder, Schema, TrainingConfig
from keyhole.errors import KeyholeWarning
from keyhole.report import score_rows
from keyhole.report.timeline_chart import timeline_chart
from keyhole.report.words import FOLDER

PICTURE = Path(__file__).with_name("images") / "sensor_timeline.svg"
MINUTES, STEPS = 3_000, 150  # of training
WARM_UP = 120  # minutes, until the bearing is as hot as it stays
OWN_RULES = (".fill-", ".stroke-", ".band")


def pump(minutes: int, seed: int) -> pd.DataFrame:
    """A pump that runs in cycles of half an hour: flow, pressure, current, vibration, heat."""
    rng, t = np.random.default_rng(seed), np.arange(minutes)
    earlier = np.arange(-WARM_UP, minutes)
    load = 0.5 + 0.4 * np.sin(earlier / 30 * 2 * np.pi)
    warmth = np.convolve(load, np.exp(-np.arange(WARM_UP) / 20) / 20, "full")[WARM_UP:][:minutes]
    load = load[WARM_UP:]
    return pd.DataFrame({
        "time": pd.Timestamp("2024-05-01") + pd.to_timedelta(t, unit="min"),
        "flow": 40 + 20 * load + 0.6 * rng.normal(size=minutes),
        "pressure": 3 + 2 * load**2 + 0.06 * rng.normal(size=minutes),
        "current": 8 + 6 * load + 0.2 * rng.normal(size=minutes),
        "vibration": 1 + 0.3 * load + 0.05 * rng.normal(size=minutes),
        "bearing heat": 35 + 12 * warmth + 0.3 * rng.normal(size=minutes),
    })


def with_faults(rows: pd.DataFrame) -> pd.DataFrame:
    """A spike, a valve that sticks, and a bearing that vibrates first and is hot later."""
    t = np.arange(len(rows))
    rows.loc[700, "current"] += 9
    rows.loc[1_500:1_590, "pressure"] = rows["pressure"][1_500]
    wear = np.clip((t - 2_300) / 250, 0, 1) * (t < 2_650)
    rows["vibration"] += 0.6 * wear
    rows["bearing heat"] += 9 * np.clip((t - 2_420) / 200, 0, 1) * (t < 2_650)
    return rows


def standing_alone(chart: str) -> str:
    """The chart of a page with the page's colours, light and dark, as a file of its own."""
    css = (FOLDER / "style.css").read_text()
    light, dark = (re.search(start + r" \{\s*color-scheme.*?\}", css, re.S)[0].partition("{")[2]
                   for start in (r":root", r':root\[data-theme="dark"\]'))
    rules = [line for line in css.splitlines() if line.startswith(OWN_RULES)]
    style = (
        f":root {{{light} @media (prefers-color-scheme: dark) {{ :root {{{dark} }}\n"
        f"svg {{ background: var(--page); font-family: system-ui, sans-serif; }}\n"
        + "\n".join(rules)
    )
    head, rest = chart.split(">", 1)
    head = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"').replace(' tabindex="0"', "")
    return f"{head}><style>{style}</style>{rest}"


if __name__ == "__main__":
    warnings.simplefilter("ignore", KeyholeWarning)
    template = Autoencoder(training=TrainingConfig(STEPS), random_state=0)
    detector = AnomalyDetector(template, schema=Schema(time="time"))
    detector.fit(pump(MINUTES, 0))
    today = with_faults(pump(3_000, 1))
    scored = score_rows(detector, today)
    PICTURE.write_text(standing_alone(timeline_chart(scored.timeline)))
