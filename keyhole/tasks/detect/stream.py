"""Answers for a sensor series that goes on: rows come one at a time, or a few together.

A row is answered when the window that it belongs to is complete, less than a stride of steps
later, with the score that `AnomalyDetector.answer` has for it. What is in memory does not grow:
a window of readings for each machine, the events that go on, and means of the newest windows.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from keyhole.core.files import faults_of, resolve, write_whole
from keyhole.data.frames import arrow_table, few_rows, is_frame, outline, same_kind
from keyhole.data.lazy import pa
from keyhole.data.source import ArrowRows, check_columns
from keyhole.data.tracks import NONE, Windows
from keyhole.data.windows import FEW_ROWS, Windower
from keyhole.errors import BundleError, DataError, KeyholeWarning
from keyhole.store import wrap_errors
from keyhole.tasks.detect.answer import Answer
from keyhole.tasks.detect.events import AlarmWindows, Event, EventBuilder, EventRule, names_of
from keyhole.tasks.detect.explain import check_explained, explain
from keyhole.tasks.detect.scorer import unknown_groups_in_words
from keyhole.tasks.detect.world import Change, WorldMonitor

if TYPE_CHECKING:
    from keyhole.tasks.detect.detector import AnomalyDetector
    from keyhole.tasks.detect.scorer import ScoredBlock

MAX_STATE_BYTES = 1 << 28  # of a saved stream: thousands of machines
FORMAT = 1  # of a saved stream


@dataclass(frozen=True)
class Update:
    """What a push of rows has answered: the rows, events that began or ended, and changes.

    `answer` holds the rows whose windows are complete now, `answer.rows` counts them from the
    first row of the stream, which is 1; `groups` names their machines.
    """

    answer: Answer
    groups: list[str] | None = None
    group_name: str | None = None
    events: list[Event] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    like: Any = None  # what was pushed, without its rows

    def to_frame(self) -> Any:
        """The answers, one line a row, as the kind of frame that was pushed; Arrow for others."""
        return same_kind(self.arrow(), outline(self.like))

    def arrow(self) -> pa.Table:
        """The answers as an Arrow table, one line a row: its number, time, machine, and score."""
        table = self.answer.arrow()
        if self.groups is not None:
            table = table.add_column(1, str(self.group_name), pa.array(self.groups, pa.string()))
        return table.add_column(0, "row", pa.array(self.answer.rows))


class Stream:
    """A detector's answers for a series whose rows are pushed as they come.

    `events` are those that go on now, `changes` all changes of the world that were reported.
    """

    def __init__(
        self,
        detector: AnomalyDetector,
        *,
        false_events: str | None = None,
        explain_rows: str = "alarms",
    ) -> None:
        check_explained(explain_rows)
        self.detector = detector
        self.false_events = false_events
        self.rule = EventRule.of(detector, false_events)
        self.explain_rows = explain_rows
        self.modality: Any = detector.autoencoder_.model_.modality
        self.spec = self.modality.spec
        self.windower = Windower(self.spec)
        self.builder = EventBuilder(self.rule, list(self.modality.titles))
        self.world = WorldMonitor(detector.scorer_)
        self.changes: list[Change] = []  # all that were reported
        self.unknown_groups: set[str] = set()
        self.note: dict[str, Any] = {}  # of the caller, saved with the stream

    def push(self, X: Any) -> Update:
        """Answer what these rows complete: a frame, or a dict of lists or single values.

        Raises: DataError for rows without a column that the model reads.
        """
        complete = self.windower.push(self._rows(X))
        update = self._update(complete, X[:0] if is_frame(X) else None)
        for name in self.windower.silent:
            group = name if self.spec.group is not None else None
            update.events.extend(self.builder.leave(group))
            self.world.forget(name)
        self.windower.silent.clear()
        return update

    def close(self) -> Update:
        """Answer what is left; events that go on are reported as they are."""
        update = self._update(self.windower.close(), None)
        update.events.extend(self.builder.end())
        return update

    @cached_property
    def _nothing(self) -> Update:
        """The update where no row is complete."""
        return self._answer([], None, {})

    @property
    def events(self) -> list[Event]:
        """The events that go on."""
        return self.builder.going_on()

    @property
    def counts(self) -> list[str]:
        """Rows that were not used, in sentences."""
        return self.windower.counts.sentences()

    def _rows(self, X: Any) -> ArrowRows:
        steps, names = self.modality.steps, self.spec.names
        if isinstance(X, dict):
            check_columns(names, list(X), "this model")
            lists = {n: _values(X[n]) for n in names}
            if len({len(values) for values in lists.values()}) != 1:
                raise DataError("the columns of these rows are of different lengths")
            return steps.typed_lists(lists)
        if (lists := few_rows(X, names, FEW_ROWS)) is not None:
            return steps.typed_lists(lists)
        if isinstance(X, ArrowRows):
            rows = X
        elif is_frame(X):
            rows = ArrowRows(arrow_table(X, names))
        else:
            raise DataError(f"a stream takes frames or dicts of rows, not {type(X).__name__}")
        check_columns(names, rows.names, "this model")
        return steps.typed(rows)

    def _update(self, complete: list[Windows], like: Any) -> Update:
        answered = [part.answering() for part in complete if len(part.rows)]
        if not answered:
            return replace(self._nothing, events=[], changes=[], like=like)
        tables = [part.table for part in answered if part.table.num_rows]
        if not tables:
            return replace(self._answer(answered, None, {}), like=like)
        scorer = self.detector.scorer_
        judged = scorer.score_block(ArrowRows(pa.concat_tables(tables)))
        self._tell_unknown(judged.unknown_groups)
        threshold = self.detector.calibration_.threshold(self.detector.false_alarm_rate)
        alarm = judged.anomaly_score > threshold
        explained = {"alarms": alarm, "all": ~np.isnan(judged.anomaly_score)}
        places = np.flatnonzero(explained.get(self.explain_rows, alarm & False))
        reasons = explain(scorer, judged, places)
        update = replace(self._answer(answered, judged, reasons), like=like)
        groups, times = names_of(self.modality, judged)
        update.events.extend(self._events(judged, groups, times))
        moments = np.rint(times * 1e3).astype("datetime64[ms]")
        update.changes.extend(self.world.add(judged.batch, moments, groups))
        self.changes += update.changes
        return update

    def _answer(
        self, parts: list[Windows], judged: ScoredBlock | None, reasons: dict[int, Any]
    ) -> Update:
        """The answer for the rows of parts; `reasons` are those of windows."""
        rows, times, lines, groups, first = [], [], [], [], 0
        for part in parts:
            rows.append(part.rows)
            times.append(part.times)
            lines.append(np.where(part.window == NONE, NONE, part.window + first))
            groups += [part.group] * len(part.rows)
            first += part.table.num_rows
        line = np.concatenate([*lines, np.zeros(0, np.int64)])
        score, std = (
            np.append([] if judged is None else getattr(judged, name), np.nan)[line]
            for name in ("anomaly_score", "score_std")
        )
        moments = np.concatenate([*times, np.zeros(0)])
        calibration = self.detector.calibration_
        threshold = calibration.threshold(self.detector.false_alarm_rate)
        own = {i: reasons[window] for i, window in enumerate(line.tolist()) if window in reasons}
        answer = Answer(
            rows=1 + np.concatenate([*rows, np.zeros(0, np.int64)]),
            anomaly_score=score, score_std=std, p_value=calibration.p_value(score),
            alarm=score > threshold, reasons=own, ids=_moments(moments), id_name=self.spec.time,
            label="row",
        )  # fmt: skip
        machines = groups if self.spec.group is not None else None
        return Update(answer, machines, self.spec.group)

    def _events(
        self, judged: ScoredBlock, groups: list[str | None], times: np.ndarray
    ) -> list[Event]:
        windows = AlarmWindows.of(self.detector, judged, self.rule.threshold)
        events = self.builder.add(windows)
        latest = dict(zip(groups, times.tolist(), strict=True))  # of each machine, the last
        for group, time in latest.items():
            events += self.builder.passed(group, time)
        return events

    def _tell_unknown(self, groups: set[str]) -> None:
        if groups - self.unknown_groups:
            self.unknown_groups |= groups
            text = unknown_groups_in_words(self.unknown_groups)
            warnings.warn(text, KeyholeWarning, stacklevel=4)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save where the stream stands, to go on by `detector.stream(state=path)`.

        The model itself is not in the file. Raises: FileError.
        """
        state = {
            "format": FORMAT,
            "model": self.detector.autoencoder_.model_.fingerprint,
            "false_events": self.rule.false_events,
            "windower": self.windower.to_json(),
            "events": self.builder.to_json(),
            "world": self.world.to_json(),
            "note": self.note,
        }
        write_whole(path, json.dumps(state, ensure_ascii=False, allow_nan=False))

    def resume(self, path: str | os.PathLike[str]) -> Self:
        """Go on where a saved stream stood. Raises: BundleError for another model's, FileError."""
        target = resolve(path)
        with faults_of(target):
            size = target.stat().st_size
            text = target.read_bytes() if size <= MAX_STATE_BYTES else b""
        if not text:
            raise BundleError(f"{path} is empty, or larger than {MAX_STATE_BYTES >> 20} MB")
        with wrap_errors(f"{path}"):
            state = json.loads(text, parse_constant=_refuse)
            if not isinstance(state, dict) or state.get("format") != FORMAT:
                raise BundleError(f"{path} is the state of another version of keyhole")
            if state["model"] != self.detector.autoencoder_.model_.fingerprint:
                raise BundleError(f"{path} is the state of a stream of another model")
            self.windower = Windower.from_json(self.spec, state["windower"])
            if self.false_events is None:  # as it was when the state was saved
                self.rule = EventRule.of(self.detector, str(state["false_events"]))
                self.builder.rule = self.rule
            self.builder.take_json(state["events"])
            self.world = WorldMonitor.from_json(self.detector.scorer_, state["world"])
            self.note = dict(state["note"])
        return self


def _values(values: Any) -> list[Any]:
    """The values of a column of a dict, or its only one."""
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        return [values]
    return values.to_pylist() if hasattr(values, "to_pylist") else list(values)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def _moments(seconds: np.ndarray) -> Any:
    """Seconds as time stamps, null for none."""
    known = np.isfinite(seconds)
    micros = np.rint(np.where(known, seconds, 0.0) * 1e6).astype(np.int64)
    return pa.array(micros, mask=~known).cast(pa.timestamp("us"))
