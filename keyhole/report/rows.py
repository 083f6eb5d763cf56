"""The scores, codes and reasons of the rows that a page shows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64

from keyhole.autoencoder.input_validation import blocks_of, id_column_of, open_rows
from keyhole.core.progress import clock, stage
from keyhole.data import Source
from keyhole.data.lazy import pa
from keyhole.report.png import beside, png_url
from keyhole.report.timeline import Timeline, TimelineCollector, TimelinePart
from keyhole.tasks.detect.answer import Pattern, Reason, shared
from keyhole.tasks.detect.calibration import Discoveries
from keyhole.tasks.detect.detector import AnomalyDetector, columns_read
from keyhole.tasks.detect.events import Event, EventCollector
from keyhole.tasks.detect.explain import explain
from keyhole.tasks.detect.scorer import ScoredBlock
from keyhole.tasks.drift import Drift, Remark

ALL_NAMED = 2_000  # rows; if there are more, only the strongest have names
MAX_STRONGEST = 200  # rows of the map that have a name and reasons
MAX_COLOURED_ROWS = 100_000  # with more, the map is not coloured by columns
MAX_IMAGES = 10  # anomaly maps on a page, of the most anomalous images
FALSE_SHARE = 0.1  # of the alarms that stand out clearly, at most


@dataclass(frozen=True)
class ScoredRows:
    """The scores of a detector: one entry a row, in the order of the input.

    `anomaly_score` is 1 for a typical row, NaN for an empty one; `score_std` is its standard
    deviation between ensemble members, NaN if there is one member. A row alarms above `threshold`
    (NaN or infinite if no row can); `contamination` is the estimated share of outliers in
    training. `ids` name the rows, "row 17" counted from 1 if there is no id column; if there are
    more than `ALL_NAMED` rows, only the strongest have one. `reasons` maps a row's index to its
    strongest cells: column, value, expected value ("" if no value of the row stands out), and
    share of the row's excess score, from 0 to 1. `patterns` are shared by groups of the strongest
    alarms. `remarks` are on data drift. `sure` counts rows that stand out so far that at most
    `FALSE_SHARE` of them should be false alarms; None if p-values cannot tell. `columns` colour
    the map, `images` are URLs of anomaly maps. `training`: the model was trained on these rows.
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
    remarks: list[Remark]
    calibrated_on: int = 0  # rows; 0 if unknown
    timeline: Timeline | None = None  # of a series
    sure: int | None = None
    columns: Any = None  # an Arrow table, a line for each row; None without
    images: dict[int, str] = field(default_factory=dict)
    views: dict[int, dict[str, float]] = field(default_factory=dict)  # of the strongest rows
    training: bool = False

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
    training: bool = False,
) -> ScoredRows:
    """Score the rows of a frame, an array, or a path for the page.

    Only rows that may be among the strongest are explained and have their id. `events`, which
    begin above `event_threshold`, are shown in the timeline of a series: by default, its own, of
    which at most `false_events` ("1/day") are false. `training`: these are the rows of the fit,
    and the page says so. Raises: DataError.
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
            text = f"only the first {start:,} rows are shown: the time budget is spent"
            remarks = [Remark("left_out", text)]
            break
        began = clock().left()
        judged = scorer.score_block(rows, start)
        reasons = explain(scorer, judged, collector.places(judged))
        collector.add(collector.look(judged, reasons))
    scored = collector.scored(
        source, name=name, remarks=remarks, events=events, event_threshold=event_threshold
    )
    return replace(scored, training=training)


def _texts(cell: Reason) -> tuple[str, str, str, float]:
    """Column, value, expected value, and share of the score."""
    return cell.column, cell.described, cell.expected, cell.share


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
    columns: Any = None
    images: dict[int, str] = field(default_factory=dict)
    views: dict[int, dict[str, float]] = field(default_factory=dict)


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
        self.rows = 0
        self.coloured = modality.supports("cards") is None  # its columns mean something
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
        views = self.detector.scorer_.views_of(judged, strong)
        codes = model.model_.code_of(judged.batch)
        none = np.full((1, codes.shape[1]), np.nan, codes.dtype)  # of a row without a sample
        codes = np.concatenate([codes, none])[judged.samples]
        return Part(
            score, judged.score_std, codes, names,
            {start + i: reasons[i] for i in strong},
            None if self.timeline is None else self.timeline.look(judged, reasons),
            None if self.events is None else self.events.look(judged, reasons),
            self._columns(judged), self._images(judged, strong[:MAX_IMAGES]),
            {start + i: views for i, views in views.items()},
        )  # fmt: skip

    def _columns(self, judged: ScoredBlock) -> Any:
        """The values of the columns in the original units; None if there are too many rows."""
        if not self.coloured or judged.start + len(judged.anomaly_score) > MAX_COLOURED_ROWS:
            return None
        return self.detector.autoencoder_.model_.modality.decode_observed(judged.batch)

    def _images(self, judged: ScoredBlock, places: list[int]) -> dict[int, str]:
        """The strongest rows of a block beside their anomaly maps, if they are images."""
        modality = self.detector.autoencoder_.model_.modality
        if modality.maps is None or not places:
            return {}
        some = torch.tensor(places)
        maps = self.detector.scorer_.anomaly_map(judged.batch.take(some))
        images: Any = modality.images(judged.rows.arrow().take(places))
        return {
            judged.start + place: png_url(beside(image, anomaly_map))
            for place, image, anomaly_map in zip(places, images, maps, strict=True)
        }

    def add(self, part: Part) -> None:
        """Take a block in; blocks come in the order of their rows."""
        if self.timeline is not None and part.timeline is not None:
            self.timeline.add(part.timeline)
        if self.events is not None:
            self.events.add(part.events)
        self.rows += len(part.anomaly_score)
        if self.rows > MAX_COLOURED_ROWS:  # the columns so far are not needed
            self.parts = [replace(earlier, columns=None) for earlier in self.parts]
        self.parts.append(replace(part, timeline=None, events=None))  # bins have its readings
        known = part.anomaly_score[~np.isnan(part.anomaly_score)]
        self.top = np.sort(np.concatenate([self.top, known]))[-MAX_STRONGEST:]

    def scored(
        self,
        source: Source,
        *,
        name: str | None = None,
        rate: float | None = None,
        remarks: Sequence[Remark] = (),
        events: Sequence[Event] | None = None,
        event_threshold: float | None = None,
    ) -> ScoredRows:
        """The rows of a source for a page; `rate` replaces the detector's false alarm rate.

        `events`, which begin above `event_threshold`, are shown in the timeline of a series: by
        default, its own.
        """
        calibration = self.detector.calibration_
        anomaly_score = self._joined("anomaly_score")
        rate = self.detector.false_alarm_rate if rate is None else rate
        threshold = calibration.threshold(rate)
        alarm = anomaly_score > threshold
        shown = strongest(anomaly_score, MAX_STRONGEST).tolist()
        cells, names = self._merged("reasons"), self._merged("names")
        named = {*range(min(ALL_NAMED, len(anomaly_score))), *shown}
        remarks = [*self._remarks(source, rate), *remarks]
        return ScoredRows(
            name=name or os.path.basename(source.name.rstrip("/")),
            anomaly_score=anomaly_score,
            score_std=self._joined("score_std"),
            p_value=calibration.p_value(anomaly_score),
            alarm=alarm,
            threshold=threshold,
            false_alarm_rate=rate,
            contamination=calibration.apart(),
            codes=self._joined("codes"),
            ids=[names[row] if row in named else "" for row in range(len(anomaly_score))],
            reasons={row: [_texts(cell) for cell in cells[row]] for row in shown},
            patterns=shared(cells, [row for row in shown if alarm[row]]),
            remarks=remarks,
            calibrated_on=len(calibration.anomaly_scores),
            timeline=self._timeline(threshold, events, event_threshold),
            sure=self._sure(anomaly_score, remarks),
            columns=self._all_columns(),
            images=self._merged("images"),
            views=self._merged("views"),
        )

    def _joined(self, name: str) -> np.ndarray:
        """An array of all rows."""
        return np.concatenate([getattr(part, name) for part in self.parts])

    def _merged(self, name: str) -> dict[int, Any]:
        """What some rows have, by row."""
        return {row: own for part in self.parts for row, own in getattr(part, name).items()}

    def _remarks(self, source: Source, rate: float) -> list[Remark]:
        """What differs from training, what the rate rests on, and which files were not read."""
        passed_over = getattr(source, "passed_over", "")
        notes = [Remark("rate", text) for text in self.detector.calibration_.remarks(rate)]
        files = [Remark("left_out", passed_over)] if passed_over else []
        return [*self.drift.differences(), *notes, *files]

    def _sure(self, anomaly_score: np.ndarray, remarks: Sequence[Remark]) -> int | None:
        """How many rows alarm if at most `FALSE_SHARE` of them may be false."""
        if any(remark.about == "rates" for remark in remarks):
            return None  # p-values are not those of such rows
        calibration = self.detector.calibration_
        discoveries = Discoveries(calibration, FALSE_SHARE)
        discoveries.add(anomaly_score)
        rate = discoveries.false_alarm_rate()
        return int((anomaly_score > calibration.threshold(rate)).sum()) if rate else 0

    def _all_columns(self) -> Any:
        """The columns of all rows; None if a block has none."""
        tables = [part.columns for part in self.parts]
        if not tables or any(table is None for table in tables):
            return None
        return pa.concat_tables(tables)

    def _timeline(
        self, threshold: float, events: Sequence[Event] | None, event_threshold: float | None
    ) -> Any:
        """The timeline of a series, with its own events where no others are given."""
        if self.timeline is None or self.events is None:
            return None
        if events is None:
            events, event_threshold = self.events.events(), self.events.rule.threshold
        return self.timeline.timeline(threshold, events, event_threshold)
