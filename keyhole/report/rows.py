"""The scores, codes and reasons of the rows that a page shows, and the map of their codes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from keyhole.autoencoder.input_validation import blocks_of, id_column_of, open_rows
from keyhole.core.progress import clock, stage
from keyhole.data import Source
from keyhole.report.timeline import Timeline, TimelineCollector, TimelinePart
from keyhole.report.words import base64_of, plain
from keyhole.tasks.detect.answer import Pattern, Reason, shared
from keyhole.tasks.detect.detector import AnomalyDetector, columns_read
from keyhole.tasks.detect.events import Event, EventCollector
from keyhole.tasks.detect.explain import explain
from keyhole.tasks.detect.scorer import ScoredBlock
from keyhole.tasks.drift import Drift

ALL_NAMED = 2_000  # rows; if there are more, only the strongest have names
MAX_STRONGEST = 200  # rows of the map that have a name and reasons
MAX_POINTS = 100_000  # of the map
MAX_REASONS = 3  # of a row, shown at the pointer
EMPTY = 255  # the level of a row without anomaly score


@dataclass(frozen=True)
class ScoredRows:
    """The scores of a detector: one entry a row, in the order of the input.

    `anomaly_score` is in multiples of the usual, NaN for an empty row; `score_std` is its standard
    deviation between ensemble members, NaN if there is one member. A row alarms above `threshold`
    (NaN or infinite if no row can); `contamination` is the estimated share of outliers in
    training. `ids` name the rows, "row 17" counted from 1 if there is no id column; if there are
    more than `ALL_NAMED` rows, only the strongest have one. `reasons` maps a row's index to its
    strongest cells: column, value, expected value ("" if no value of the row stands out), and
    share of the row's excess score, from 0 to 1. `patterns` are shared by groups of the strongest
    alarms. `remarks` are sentences on data drift.
    """

    name: str
    anomaly_score: np.ndarray
    score_std: np.ndarray
    p_value: np.ndarray
    alarm: np.ndarray
    threshold: float
    false_alarm_rate: float
    contamination: float
    codes: np.ndarray  # (row, code)
    ids: list[str]
    reasons: dict[int, list[tuple[str, str, str, float]]]
    patterns: list[Pattern]
    remarks: list[str]
    calibrated_on: int = 0  # rows; 0 if unknown
    timeline: Timeline | None = None  # of a series

    def __len__(self) -> int:
        return len(self.anomaly_score)

    def strongest(self, most: int) -> np.ndarray:
        """The indices of the most anomalous rows, strongest first, without empty rows."""
        return strongest(self.anomaly_score, most)


def strongest(anomaly_score: np.ndarray, most: int) -> np.ndarray:
    """The indices of the `most` highest anomaly scores, highest first, without NaN."""
    order = np.argsort(-np.nan_to_num(anomaly_score, nan=-np.inf), kind="stable")[:most]
    return order[~np.isnan(anomaly_score[order])]


def score_rows(
    detector: AnomalyDetector,
    data: Any,
    *,
    name: str | None = None,
    events: Sequence[Event] | None = None,
    event_threshold: float | None = None,
    false_events: str | None = None,
) -> ScoredRows:
    """Score the rows of a frame, an array, or a path for the page.

    Only rows that may be among the strongest are explained and have their id. `events`, which
    begin above `event_threshold`, are shown in the timeline of a series: by default, its own, of
    which at most `false_events` ("1/day") are false.
    Raises: DataError.
    """
    stage("scoring the rows for the page")
    model, scorer = detector.autoencoder_, detector.scorer_
    source: Any = open_rows(model, data)
    if hasattr(source, "wanted"):
        source.wanted = [column for column in columns_read(detector) if column in source.names]
    collector, began, remarks = RowCollector(detector, false_events), clock().left(), []
    for start, rows in blocks_of(model, source):
        block_s = began - clock().left() if start else 0.0
        if start and clock().left() < 2 * block_s:  # for one more block, and for the page
            remarks = [f"only the first {start:,} rows are shown: the time budget is spent"]
            break
        began = clock().left()
        judged = scorer.score_block(rows, start)
        reasons = explain(scorer, judged, collector.places(judged))
        collector.add(collector.look(judged, reasons))
    return collector.scored(
        source, name=name, remarks=remarks, events=events, event_threshold=event_threshold
    )


@dataclass(frozen=True)
class Part:
    """What a page needs of a block of rows."""

    anomaly_score: Float[np.ndarray, " row"]
    score_std: Float[np.ndarray, " row"]
    codes: Float[np.ndarray, "row code"]
    names: dict[int, str]
    reasons: dict[int, list[Reason]]
    timeline: TimelinePart | None = None
    events: Any = None


class RowCollector:
    """Collects scores block by block; `top` holds the highest anomaly scores, ascending."""

    def __init__(self, detector: AnomalyDetector, false_events: str | None = None) -> None:
        self.detector = detector
        modality = detector.autoencoder_.model_.modality
        self.drift = Drift(modality)
        series = modality.moments
        self.timeline = None if series is None else TimelineCollector(series)
        self.events = None if series is None else EventCollector(detector, false_events)
        self.parts: list[Part] = []
        self.top = np.full(MAX_STRONGEST, -np.inf)

    def places(self, judged: ScoredBlock) -> Int64[np.ndarray, " place"]:
        """The rows of a block that may be among the strongest of all, strongest first."""
        places = strongest(judged.anomaly_score, MAX_STRONGEST)
        return places[judged.anomaly_score[places] >= self.top[0]]

    def look(self, judged: ScoredBlock, reasons: dict[int, list[Reason]]) -> Part:
        """Scores and codes of a block; names and reasons of rows that may be shown with them."""
        model, start, score = self.detector.autoencoder_, judged.start, judged.anomaly_score
        p_value = self.detector.calibration_.p_value(score)
        self.drift.add(judged.batch, p_value, judged.unknown_groups)
        strong = self.places(judged).tolist()
        first = range(max(0, min(len(score), ALL_NAMED - start)))
        column = id_column_of(model)
        ids = judged.rows.column(column) if column in judged.rows.names else None
        names = {
            start + i: f"row {start + i + 1}" if ids is None else f"{column} {ids[i].as_py()}"
            for i in {*first, *strong}
        }
        codes = model.model_.code_of(judged.batch)
        none = np.full((1, codes.shape[1]), np.nan, codes.dtype)  # of a row without a sample
        codes = np.concatenate([codes, none])[judged.samples]
        return Part(
            score, judged.score_std, codes, names,
            {start + i: reasons[i] for i in strong},
            None if self.timeline is None else self.timeline.look(judged, reasons),
            None if self.events is None else self.events.look(judged, reasons),
        )  # fmt: skip

    def add(self, part: Part) -> None:
        """Take a block in; blocks come in the order of their rows."""
        if self.timeline is not None and part.timeline is not None:
            self.timeline.add(part.timeline)
        if self.events is not None:
            self.events.add(part.events)
        self.parts.append(replace(part, timeline=None, events=None))  # bins have its readings
        known = part.anomaly_score[~np.isnan(part.anomaly_score)]
        self.top = np.sort(np.concatenate([self.top, known]))[-MAX_STRONGEST:]

    def scored(
        self,
        source: Source,
        *,
        name: str | None = None,
        rate: float | None = None,
        remarks: Sequence[str] = (),
        events: Sequence[Event] | None = None,
        event_threshold: float | None = None,
    ) -> ScoredRows:
        """The rows of a source for a page; `rate` replaces the detector's false alarm rate.

        `events`, which begin above `event_threshold`, are shown in the timeline of a series: by
        default, its own.
        """
        calibration, passed_over = self.detector.calibration_, getattr(source, "passed_over", "")
        anomaly_score = np.concatenate([part.anomaly_score for part in self.parts])
        rate = self.detector.false_alarm_rate if rate is None else rate
        threshold = calibration.threshold(rate)
        alarm = anomaly_score > threshold
        shown = strongest(anomaly_score, MAX_STRONGEST).tolist()
        cells = {row: cells for part in self.parts for row, cells in part.reasons.items()}
        names = {row: text for part in self.parts for row, text in part.names.items()}
        named = {*range(min(ALL_NAMED, len(anomaly_score))), *shown}
        timeline = self._timeline(threshold, events, event_threshold)
        return ScoredRows(
            name=name or os.path.basename(source.name),
            anomaly_score=anomaly_score,
            score_std=np.concatenate([part.score_std for part in self.parts]),
            p_value=calibration.p_value(anomaly_score),
            alarm=alarm,
            threshold=threshold,
            false_alarm_rate=rate,
            contamination=calibration.apart(),
            codes=np.concatenate([part.codes for part in self.parts]),
            ids=[names[row] if row in named else "" for row in range(len(anomaly_score))],
            reasons={
                row: [(c.column, c.described, c.expected, c.share) for c in cells[row]]
                for row in shown
            },
            patterns=shared(cells, [row for row in shown if alarm[row]]),
            remarks=[*self.drift.remarks(), *filter(None, [passed_over]), *remarks],
            calibrated_on=len(calibration.anomaly_scores),
            timeline=timeline,
        )

    def _timeline(
        self, threshold: float, events: Sequence[Event] | None, event_threshold: float | None
    ) -> Any:
        """The timeline of a series, with its own events where no others are given."""
        if self.timeline is None or self.events is None:
            return None
        if events is None:
            events, event_threshold = self.events.events(), self.events.rule.threshold
        return self.timeline.timeline(threshold, events, event_threshold)


@dataclass(frozen=True)
class CodeMap:
    """The data of the map, and what its caption says."""

    data: dict[str, Any]  # JSON for map.js
    rows: np.ndarray  # indices of the rows shown, in order
    shown: int
    alarms: int
    all_alarms: bool
    far: int  # points beyond the edge, drawn on it
    shares: list[float]  # of the codes' variance, across and up
    narrow: bool  # a code of one number: the anomaly score is the height


def pack(scored: ScoredRows, most: int = MAX_POINTS) -> CodeMap:
    """The map of the scored rows: all, or the strongest, alarms and a random sample."""
    rows = choose(scored, most)
    points, shares = plane(scored)
    grid, far = on_grid(points[rows])
    anomaly_score, alarm = scored.anomaly_score[rows], scored.alarm[rows]
    known = ~np.isnan(anomaly_score)
    finite = np.nan_to_num(anomaly_score, posinf=np.nan, neginf=np.nan)
    knots = levels(finite)
    level = np.full(len(rows), EMPTY, np.uint8)
    level[known] = np.searchsorted(
        (knots[1:] + knots[:-1]) / 2, np.nan_to_num(anomaly_score[known])
    )
    ends = np.nanquantile(finite, [0.01, 0.995]) if np.isfinite(finite).any() else [0, 1]
    data = {
        "count": len(rows),
        "xy": base64_of(grid.astype("<u2")),
        "level": base64_of(level),
        "knots": [round(float(knot), 4) for knot in knots],
        "ends": [round(float(end), 4) for end in ends],
        "alarm": base64_of(np.packbits(alarm, bitorder="little")),
        "row": "" if len(rows) == len(scored) else base64_of(varints(np.diff(rows, prepend=0))),
        "named": named(scored, rows),
    }
    return CodeMap(
        data, rows, len(rows), int(alarm.sum()), bool(alarm.sum() == scored.alarm.sum()), far,
        shares, narrow=scored.codes.shape[1] < 2,
    )  # fmt: skip


def choose(scored: ScoredRows, most: int) -> np.ndarray:
    """The indices of the rows shown, in order: all if there are at most `most`."""
    total = len(scored)
    if total <= most:
        return np.arange(total)
    score = np.nan_to_num(scored.anomaly_score, nan=-np.inf)
    shown = np.zeros(total, bool)
    shown[scored.strongest(min(most, MAX_STRONGEST))] = True
    alarms = np.flatnonzero(scored.alarm & ~shown)
    shown[alarms[np.argsort(-score[alarms], kind="stable")[: most - shown.sum()]]] = True
    others = np.flatnonzero(~shown)
    shown[np.random.default_rng(0).choice(others, most - shown.sum(), replace=False)] = True
    return np.flatnonzero(shown)


def plane(scored: ScoredRows) -> tuple[np.ndarray, list[float]]:
    """Each row's two coordinates, and the share of the codes' variance along each.

    They are the first two principal components of the codes; for a code of one number, the code
    and the row's anomaly score.
    """
    codes = np.nan_to_num(np.asarray(scored.codes, np.float64), posinf=0, neginf=0)
    if codes.shape[1] == 1:
        height = np.nan_to_num(scored.anomaly_score.astype(float), posinf=0, neginf=0)
        return np.stack([codes[:, 0], height], 1), [1.0, 0.0]
    centred = codes - codes.mean(0)
    variance, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), [0, 1]])
    whole = max(float(variance.sum()), 1e-300)
    return centred @ axes, [float(part) / whole for part in variance[::-1][:2].clip(0)]


def on_grid(points: np.ndarray) -> tuple[np.ndarray, int]:
    """The coordinates as integers from 0 to 65,535, and how many points lie beyond the edge.

    Points beyond twice the usual range are drawn at the edge, so that a few outliers do not
    compress the rest.
    """
    low, high = np.quantile(points, [0.002, 0.998], axis=0)
    reach = 0.5 * (high - low)
    low, high = np.maximum(points.min(0), low - reach), np.minimum(points.max(0), high + reach)
    far = int(((points < low) | (points > high)).any(1).sum())
    span = np.where(high > low, high - low, 1.0)
    share = np.where(high > low, (points - low) / span, 0.5)
    return np.round(share.clip(0, 1) * 65_535), far


def levels(anomaly_score: np.ndarray) -> np.ndarray:
    """At most 255 levels of the anomaly score: half spaced by rank, half by value."""
    known = anomaly_score[~np.isnan(anomaly_score)]
    if not len(known):
        return np.zeros(1)
    by_rank = np.quantile(known, np.linspace(0, 1, 128))
    return np.unique(np.concatenate([by_rank, np.linspace(known.min(), known.max(), 127)]))


def varints(numbers: np.ndarray) -> np.ndarray:
    """Integers as bytes, seven bits each; the highest bit is set if more bytes follow."""
    encoded = bytearray()
    for number in numbers.tolist():
        rest = number
        while rest > 127:
            encoded.append(rest & 127 | 128)
            rest >>= 7
        encoded.append(rest)
    return np.frombuffer(bytes(encoded), np.uint8)


def named(scored: ScoredRows, rows: np.ndarray) -> list[Any]:
    """[point, name, score, reasons, score_std] of the strongest rows, then of others."""
    point = {int(row): i for i, row in enumerate(rows)}
    strongest = [int(row) for row in scored.strongest(MAX_STRONGEST) if int(row) in point]
    entries: list[Any] = []
    for row in strongest:
        reasons = [
            [*(plain(text, 40) for text in texts), round(float(share), 3)]
            for *texts, share in scored.reasons.get(row, [])[:MAX_REASONS]
        ]
        score, score_std = (
            round(value, 3) if np.isfinite(value) else None
            for value in (float(scored.anomaly_score[row]), float(scored.score_std[row]))
        )
        entries.append([point[row], plain(scored.ids[row]), score, reasons, score_std])
    if len(scored) <= ALL_NAMED:
        others = set(point) - set(strongest)
        entries += [[point[row], plain(scored.ids[row]), None, [], None] for row in sorted(others)]
    return entries
