"""Anomalies in sensor series: SKAB, planted faults, speed of a stream, changes of behaviour.

    python -m benchmarks.sensors [--only skab planted speed change] [--without keyhole] [...]

*skab*: 16 files of a water circuit with 8 sensors (github.com/waico/SKAB, valve1), each with one
anomaly. Protocol "first 400": fit on the first 400 rows of a file, as its authors do, and score
the whole file. Protocol "anomaly-free": fit once on anomaly-free.csv, and score every file.

`f1`, `false_alarm_rate` and `missing_rate` count the rows of all files together, at the method's
own threshold (`f1_after_400`: without the first 400 rows of each file). `auroc` and `vus_pr`
(buffers of 0 to 100 steps) are means over files, on the rows after the first 400. `nab` is NAB's
standard score of starts and ends of alarms against change points. Its windows have 60 s and start
at a change point, as in the authors' notebooks (`nab_left`: they end there, the default of their
evaluator).

anomaly-free.csv has four times the flow of the 16 files, so each of their rows alarms in every
baseline: only `auroc` and `vus_pr` compare there. The baselines (benchmarks/series_baselines.py)
share windows of 32 steps, and a threshold at the 0.99 quantile of scores from 5-fold blocked
cross-fitting on the training part.

*planted*: ten generated series of 8 channels at 1 s (benchmarks/series_made.py): 6,000 clean steps
to fit on, 6,000 steps with 14 faults in one channel each (two of each kind), 43,200 clean steps. A
fault is detected if an event overlaps it or the 60 s after it. An event is false if it overlaps no
fault. `right_channel` is the share of detected faults whose earliest event names the fault's
channel first. Intervals are bootstraps over series. The threshold of the two baselines is their
largest cross-fitted score.

*speed*: a stream with 8 channels on one thread. Bars: 20,000 rows per second in batches of 1,000;
2 ms (median) and 10 ms (99th percentile) for single rows; 10 MB of saved state.

*change*: ten correlated channels. `false_report` is the share of streams of 100,000 unchanged rows
with any report of a change. Delays are medians over the streams that report, for a shift by one
standard deviation in one channel, and for a channel that becomes independent.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.common import data, emit
from benchmarks.series_baselines import (
    METHODS,
    PARTS,
    WindowDetector,
    baseline_events,
    channels_of,
)
from benchmarks.series_made import KINDS, Series, World, planted_series
from benchmarks.series_metrics import Counts, changes_of, nab_standard, ratio_interval, vus_pr

FIRST_ROWS = 400
GRACE_S = 60
SECTIONS = ("planted", "speed", "change", "skab")

Judge = Callable[[pd.DataFrame], tuple[np.ndarray, np.ndarray]]
"""Anomaly scores and alarms of a frame's rows."""


class Keyhole:
    """All that this file asks of the library."""

    def __init__(self, train: pd.DataFrame):
        keyhole: Any = import_module("keyhole")
        schema = keyhole.Schema(time="datetime")
        self.detector = keyhole.AnomalyDetector(schema=schema, random_state=0).fit(train)

    def judge(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Anomaly score and alarm of each row."""
        answer = self.detector.answer(frame)
        return np.asarray(answer.anomaly_score, float), np.asarray(answer.alarm, bool)

    def events(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Events with start, end, peak and channel."""
        return pd.DataFrame(self.detector.events(frame))

    def stream(self) -> Any:
        """A new stream of the detector."""
        return self.detector.stream()

    @staticmethod
    def change_count(stream: Any) -> int:
        """How many changes of the world a stream has reported."""
        changes = stream.changes
        reported: Any = changes() if callable(changes) else changes
        return len(reported)


def skab_frame(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep=";", parse_dates=["datetime"])


def judged_by(method: str, train: pd.DataFrame) -> Judge:
    """The judge that a method fits on these rows."""
    if method == "keyhole":
        return Keyhole(train).judge
    detector = WindowDetector.fit(METHODS[method], channels_of(train).to_numpy())

    def judge(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        scores = detector.anomaly_scores(channels_of(frame).to_numpy())
        return scores, scores > detector.threshold

    return judge


def skab_figures(method: str, files: list[pd.DataFrame], clean: pd.DataFrame | None) -> dict:
    """One line: a judge fitted on the clean series, or on the first rows of each file."""
    whole, later = Counts(), Counts()
    areas, volumes, times = [], [], []
    judge = None if clean is None else judged_by(method, clean)
    for file in files:
        frame = file.drop(columns=["anomaly", "changepoint"])
        scores, alarms = (judge or judged_by(method, frame.iloc[:FIRST_ROWS]))(frame)
        labels = file["anomaly"].to_numpy(int)
        rest = slice(FIRST_ROWS, None)
        whole += Counts.of(labels, alarms)
        later += Counts.of(labels[rest], alarms[rest])
        areas.append(roc_auc_score(labels[rest], scores[rest]))
        volumes.append(vus_pr(labels[rest], scores[rest]))
        changes = np.flatnonzero(file["changepoint"])
        times.append((file["datetime"], changes, changes_of(alarms)))
    return {
        "f1": whole.f1(), "false_alarm_rate": whole.false_alarm_rate(),
        "missing_rate": whole.missing_rate(), "f1_after_400": later.f1(),
        "auroc": np.mean(areas), "vus_pr": np.mean(volumes),
        "nab": nab_standard(times, "right"), "nab_left": nab_standard(times, "left"),
        "files": len(files),
    }  # fmt: skip


def skab(methods: list[str]) -> None:
    """A line for each protocol and method."""
    folder = data("skab")
    paths = sorted(folder.glob("valve1/*.csv"), key=lambda path: int(path.stem))
    files = [skab_frame(path) for path in paths]
    clean = skab_frame(folder / "anomaly-free.csv")
    for protocol, train in (("first 400", None), ("anomaly-free", clean)):
        for method in methods:
            began = time.process_time()
            figures = skab_figures(method, files, train)
            seconds = time.process_time() - began
            emit("sensors skab", protocol=protocol, method=method, **figures, cpu_seconds=seconds)


@dataclass(frozen=True)
class Outcome:
    """What the events of one series are worth; arrays have an entry a fault."""

    kinds: np.ndarray
    detected: np.ndarray
    right_channel: np.ndarray
    false_events: int
    clean_days: float


def outcome_of(series: Series, events: pd.DataFrame) -> Outcome:
    """Events beside the faults that were planted."""
    origin = series.frame["datetime"].iloc[0]
    first, last = (
        (pd.to_datetime(events[name]) - origin).dt.total_seconds().to_numpy()
        for name in ("start", "end")
    )
    overlaps = np.zeros((len(series.faults), len(events)), bool)
    right_channel = np.zeros(len(series.faults), bool)
    for i, fault in enumerate(series.faults):
        overlaps[i] = (last >= fault.start) & (first < fault.end + GRACE_S)
        if overlaps[i].any():
            earliest = int(np.where(overlaps[i], first, np.inf).argmin())
            right_channel[i] = str(events["channel"].iloc[earliest]) == fault.channel
    faulty_s = sum(fault.end - fault.start + GRACE_S for fault in series.faults)
    return Outcome(
        kinds=np.array([fault.kind for fault in series.faults]),
        detected=overlaps.sum(1) > 0,
        right_channel=right_channel,
        false_events=int((overlaps.sum(0) == 0).sum()),
        clean_days=(len(series.judged) - faulty_s) / 86_400,
    )


def shares(outcomes: list[Outcome], kinds: Sequence[str]) -> dict[str, Any]:
    """Of these kinds of fault: shares detected, and of those with the right channel."""
    chosen = [np.isin(outcome.kinds, kinds) for outcome in outcomes]
    faults = np.array([rows.sum() for rows in chosen])
    detected = np.array([o.detected[rows].sum() for o, rows in zip(outcomes, chosen)])
    right = np.array([o.right_channel[rows].sum() for o, rows in zip(outcomes, chosen)])
    return {
        "detected": detected.sum() / faults.sum(),
        "detected_interval": ratio_interval(detected, faults),
        "right_channel": right.sum() / detected.sum() if detected.sum() else None,
        "right_channel_interval": ratio_interval(right, detected),
        "faults": int(faults.sum()),
    }


def events_by(method: str, series: Series) -> pd.DataFrame:
    """Events of what follows the first part, by a detector fitted on that part."""
    if method == "keyhole":
        return Keyhole(series.train).events(series.judged)
    return baseline_events(PARTS[method], series.train, series.judged)


def planted(methods: list[str], seeds: int) -> None:
    """A line for each method that gives events, with all kinds of fault and each by itself."""
    for method in [method for method in methods if method == "keyhole" or method in PARTS]:
        began = time.process_time()
        outcomes = []
        for seed in range(seeds):
            series = planted_series(seed)
            outcomes.append(outcome_of(series, events_by(method, series)))
        false = np.array([outcome.false_events for outcome in outcomes], float)
        days = np.array([outcome.clean_days for outcome in outcomes])
        emit(
            "sensors planted", method=method, **shares(outcomes, list(KINDS)),
            false_events_a_day=false.sum() / days.sum(),
            false_events_a_day_interval=ratio_interval(false, days), clean_days=days.sum(),
            by_kind={kind: shares(outcomes, [kind]) for kind in KINDS}, series=seeds,
            cpu_seconds=time.process_time() - began,
        )  # fmt: skip


def resident_mb() -> float:
    """Memory of this process now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def endless(frame: pd.DataFrame, size: int, count: int) -> Iterator[pd.DataFrame]:
    """So many batches of a frame's rows, over and over, their times always going on."""
    start = frame["datetime"].iloc[0]
    for i in range(count):
        first = i * size % (len(frame) - size + 1)
        batch = frame.iloc[first : first + size].copy()
        seconds = pd.to_timedelta(np.arange(i * size, (i + 1) * size), unit="s")
        batch["datetime"] = start + seconds
        yield batch.reset_index(drop=True)


def timed(stream: Any, batches: Iterator[pd.DataFrame]) -> np.ndarray:
    """Seconds of each push."""
    seconds = []
    for batch in batches:
        began = time.perf_counter()
        stream.push(batch)
        seconds.append(time.perf_counter() - began)
    return np.array(seconds)


def saved_mb(stream: Any) -> float | None:
    """Size of a stream's saved state; None where it cannot be saved."""
    if not hasattr(stream, "save"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        stream.save(str(Path(folder) / "state.keyhole"))
        return sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6


def speed(batch: int = 1_000, batches: int = 1_000, single: int = 2_000) -> None:
    """Rows a second, latency of single rows, size of the state and growth of memory."""
    series = planted_series(0)
    detector, frame = Keyhole(series.train), series.judged
    stream = detector.stream()
    timed(stream, endless(frame, batch, batches // 10))
    before, seconds = resident_mb(), timed(stream, endless(frame, batch, batches))
    growth = resident_mb() - before
    alone = detector.stream()
    timed(alone, endless(frame, batch, 1))
    single_ms = 1e3 * timed(alone, endless(frame, 1, single))
    emit(
        "sensors speed", rows_a_second=batch * batches / seconds.sum(), batch=batch,
        single_row_ms=np.median(single_ms), single_row_ms_p99=np.quantile(single_ms, 0.99),
        state_mb=saved_mb(stream), growth_mb=growth, rows=batch * batches,
        bar="20,000 rows a second, 2 and 10 ms, 10 MB, no growth",
    )  # fmt: skip


def rows_to_report(detector: Keyhole, frames: Iterator[pd.DataFrame]) -> float:
    """Rows pushed until a stream first reports a change; infinity where it never does."""
    stream, rows = detector.stream(), 0
    for frame in frames:
        stream.push(frame)
        rows += len(frame)
        if detector.change_count(stream):
            return rows
    return np.inf


def change(streams: int, rows: int = 100_000, at: int = 10_000, batch: int = 50) -> None:
    """False reports in unchanged streams, and the delay of true ones.

    A stream that reports before its change is left out.
    """
    world = World(0)
    train = world.rows(20_000, np.random.default_rng([0, 3]))
    detector = Keyhole(next(world.frames(train, len(train))))
    if not hasattr(detector.stream(), "changes"):
        emit("sensors change", absent="stream.changes")
        return
    clean = [world.rows(rows, np.random.default_rng([seed, 4])) for seed in range(streams)]
    reports = [rows_to_report(detector, world.frames(part, 1_000)) for part in clean]
    figures: dict[str, Any] = {"false_report": np.mean(np.isfinite(reports))}
    for kind in ("shift", "correlation"):
        delays = []
        for seed in range(streams):
            changed = world.changed(kind, 2 * at, at, np.random.default_rng([seed, 5]))
            delays.append(rows_to_report(detector, world.frames(changed, batch)) - at)
        true = np.array([delay for delay in delays if delay > 0])
        reported = true[np.isfinite(true)]
        figures |= {
            f"{kind}_detected": len(reported) / max(len(true), 1),
            f"{kind}_delay": float(np.median(reported)) if len(reported) else None,
        }
    emit("sensors change", **figures, streams=streams, rows=rows, delay_resolution=batch)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--without", nargs="+", default=[], help="methods to leave out")
    parser.add_argument("--seeds", type=int, default=10, help="planted series")
    parser.add_argument("--streams", type=int, default=20, help="streams of each kind of change")
    options = parser.parse_args()
    torch.set_num_threads(1)
    methods = [m for m in ("keyhole", *METHODS) if m not in options.without]
    if "planted" in options.only:
        planted(methods, options.seeds)
    if "keyhole" in methods and "speed" in options.only:
        speed()
    if "keyhole" in methods and "change" in options.only:
        change(options.streams)
    if "skab" in options.only:  # last: it stops where the files are absent
        skab(methods)


if __name__ == "__main__":
    main()
