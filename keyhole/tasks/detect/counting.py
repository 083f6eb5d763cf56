"""Answers blocks of rows, from several threads, and counts what all rows add up to.

Where alarms depend on all rows, blocks are drafted first, and finished once all are scored.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, Self

import numpy as np
from jaxtyping import Bool, Int64

from keyhole.autoencoder.input_validation import id_column_of
from keyhole.data.lazy import pa
from keyhole.data.source import ArrowRows
from keyhole.tasks.detect.answer import FIGURES, Answer, Pattern, Reason, answer_of, shared
from keyhole.tasks.detect.calibration import Discoveries
from keyhole.tasks.detect.explain import MAX_CELLS, explain
from keyhole.tasks.drift import Drift

if TYPE_CHECKING:
    from keyhole.data import Rows
    from keyhole.tasks.detect.detector import AnomalyDetector
    from keyhole.tasks.detect.scorer import ScoredBlock, Scorer

MAX_SHARED = 10_000  # alarms that are looked through for what they share
Reasons = dict[int, list[Reason]]
ARRAYS = ("rows", *FIGURES)  # of an answer, as they are written


@dataclass(frozen=True)
class Draft:
    """The answer for a block without alarms, and its rows at `places`, which may need reasons."""

    answer: Answer
    places: Int64[np.ndarray, " candidate"]
    candidates: Rows

    @classmethod
    def of(cls, answer: Answer, rows: Rows, candidates: Bool[np.ndarray, " row"]) -> Self:
        """The draft of a block of rows; the candidate rows are copied."""
        places = np.flatnonzero(candidates)
        return cls(answer, places, rows.take(places))

    def __len__(self) -> int:
        return len(self.answer)

    def finish(self, scorer: Scorer, threshold: float, *, explain_all: bool = False) -> Answer:
        """The answer with alarms above the threshold, and reasons: of alarms, or all candidates.

        Rows that get reasons are scored again, for what was masked is not kept.
        """
        alarm, reasons = self.answer.anomaly_score > threshold, {}
        explained = self.places if explain_all else self.places[alarm[self.places]]
        if len(explained):
            rows = self.candidates.take(np.searchsorted(self.places, explained))
            judged = scorer.score_block(rows, int(self.answer.rows[0]) - 1)
            by_line = explain(scorer, judged, np.arange(len(explained)), MAX_CELLS)
            reasons = {int(explained[line]): cells for line, cells in by_line.items()}
        return replace(self.answer, alarm=alarm, reasons=reasons)

    def write(self, file: BinaryIO) -> None:
        """Append the draft to a file, as two Arrow streams."""
        arrays = {name: getattr(self.answer, name) for name in ARRAYS}
        arrays["candidate"] = np.isin(np.arange(len(self)), self.places)
        table = pa.table(arrays)
        if self.answer.ids is not None:
            table = table.append_column(str(self.answer.id_name), self.answer.ids)
        for part in (table, self.candidates.arrow()):
            with pa.ipc.new_stream(file, part.schema) as stream:
                stream.write_table(part)

    @classmethod
    def read(cls, file: BinaryIO) -> Self:
        """The next draft of a file."""
        table, candidates = _read(file), _read(file)
        arrays: dict[str, Any] = {
            name: table.column(place).to_numpy() for place, name in enumerate(ARRAYS)
        }
        if table.num_columns > len(ARRAYS) + 1:
            arrays["ids"] = table.column(len(ARRAYS) + 1).combine_chunks()
            arrays["id_name"] = table.column_names[-1]
        answer = Answer(**arrays, alarm=np.zeros(len(table), bool), reasons={}, label="row")
        places = np.flatnonzero(table.column(len(ARRAYS)).to_numpy())
        return cls(answer, places, ArrowRows(candidates))


def _read(file: BinaryIO) -> pa.Table:
    with pa.ipc.open_stream(file) as stream:
        return stream.read_all()


class Output(Protocol):
    """A further output made from scored rows, such as a page."""

    def places(self, judged: ScoredBlock) -> Int64[np.ndarray, " place"]:
        """The rows of a block that need reasons."""
        ...

    def look(self, judged: ScoredBlock, reasons: Reasons) -> Any:
        """What is needed of a block; blocks come from several threads, in any order."""
        ...

    def add(self, part: Any) -> None:
        """Take what `look` returned; blocks come in their order, one at a time."""
        ...


class Outputs:
    """Hands scored blocks to outputs in the order of the rows."""

    def __init__(self, outputs: Sequence[Output]) -> None:
        self.outputs = outputs
        self.lock = threading.Lock()
        self.waiting: dict[int, tuple[int, list[Any]]] = {}  # rows and parts, by the first row
        self.next = 0

    def places(self, judged: ScoredBlock) -> Int64[np.ndarray, " place"]:
        """The rows of a block that need reasons."""
        empty = np.zeros(0, np.int64)
        return np.concatenate([empty, *(output.places(judged) for output in self.outputs)])

    def add(self, judged: ScoredBlock, reasons: Reasons) -> None:
        """Take a block in, and hand on all blocks whose turn it is."""
        parts = [output.look(judged, reasons) for output in self.outputs]
        with self.lock:
            self.waiting[judged.start] = len(judged.rows), parts
            while self.next in self.waiting:
                rows, parts = self.waiting.pop(self.next)
                for output, part in zip(self.outputs, parts, strict=True):
                    output.add(part)
                self.next += rows


@dataclass
class Counts:
    """Alarms, the reasons of some of them by row, and how alike the rows are."""

    drift: Drift
    discoveries: Discoveries | None = None
    alarms: int = 0
    reasons: Reasons = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The counts as JSON."""
        reasons = {row: [asdict(cell) for cell in cells] for row, cells in self.reasons.items()}
        discoveries = [] if self.discoveries is None else self.discoveries.to_json()
        counts = {"alarms": self.alarms, "reasons": reasons, "drift": self.drift.to_json()}
        return counts | {"discoveries": discoveries}

    def add_json(self, counts: dict[str, Any]) -> None:
        """Add counts that `to_json` made. Raises: KeyError, TypeError, ValueError for others."""
        reasons = {
            int(row): [Reason(**cell) for cell in cells]
            for row, cells in counts["reasons"].items()
        }
        if self.discoveries is not None:
            self.discoveries.add_json(counts["discoveries"])
        self.drift.add_json(counts["drift"])
        self.alarms += int(counts["alarms"])
        if len(self.reasons) < MAX_SHARED:
            self.reasons.update(reasons)


class Detecting:
    """Answers blocks of rows by a detector, and counts; blocks may come from several threads.

    With `fdr`, alarms depend on all rows: each block is drafted, and finished after `decide`.
    """

    def __init__(
        self, detector: AnomalyDetector, fdr: float | None = None, outputs: Sequence[Output] = ()
    ) -> None:
        self.detector = detector
        self.fdr = fdr
        self.rate = detector.false_alarm_rate  # with `fdr`, decided by all rows
        self.outputs = Outputs(outputs)
        self.lock = threading.Lock()
        self.total, self.part = self._empty(), self._empty()

    @property
    def deferred(self) -> bool:
        """True where a block's answer depends on rows that come after it."""
        return self.fdr is not None

    def __call__(self, rows: Rows, start: int) -> pa.Table:
        """The answer for a block of rows whose first stands at `start`, one line a row."""
        judged = self.detector.scorer_.score_block(rows, start)
        alarm = judged.anomaly_score > self.detector.calibration_.threshold(self.rate)
        return self._counted(self._taken(judged, alarm), start)

    def draft(self, rows: Rows, start: int) -> Draft:
        """The scores of a block of rows, and those rows that may alarm."""
        judged = self.detector.scorer_.score_block(rows, start)
        answer = self._taken(judged, np.zeros(len(rows), bool))
        discoveries: Any = self.part.discoveries
        with self.lock:
            discoveries.add(judged.anomaly_score)
        return Draft.of(answer, rows, discoveries.may_alarm(judged.anomaly_score))

    def decide(self) -> None:
        """Choose the false alarm rate by all drafts; warns of too few calibration rows."""
        discoveries: Any = self.total.discoveries
        self.rate = discoveries.decide()

    def finish(self, draft: Draft, start: int) -> pa.Table:
        """The answer for a block that was drafted, one line a row."""
        threshold = self.detector.calibration_.threshold(self.rate)
        return self._counted(draft.finish(self.detector.scorer_, threshold), start)

    def _taken(self, judged: ScoredBlock, alarm: np.ndarray) -> Answer:
        """The answer for a scored block, which is counted in for drift and the outputs."""
        detector, counts = self.detector, self.part
        places = np.union1d(np.flatnonzero(alarm), self.outputs.places(judged))
        reasons = explain(detector.scorer_, judged, places)
        self.outputs.add(judged, reasons)
        own = {place: cells for place, cells in reasons.items() if alarm[place]}
        id_column = id_column_of(detector.autoencoder_)
        answer = answer_of(judged, detector.calibration_, alarm, own, id_column)
        counts.drift.add(judged.batch, answer.p_value, judged.unknown_groups)
        return answer

    def _counted(self, answer: Answer, start: int) -> pa.Table:
        counts = self.part
        with self.lock:
            counts.alarms += int(answer.alarm.sum())
            if len(counts.reasons) < MAX_SHARED:
                counts.reasons.update({start + i: c for i, c in answer.reasons.items()})
        return answer.arrow()

    def end_part(self) -> dict[str, Any]:
        """The counts since the last part, as JSON; they belong to the total from now on."""
        counts = self.part.to_json()
        self.total.add_json(counts)
        self.part = self._empty()
        return counts

    def add_part(self, counts: dict[str, Any]) -> None:
        """Count in a part that an earlier run has answered.

        Raises: KeyError, TypeError, ValueError for what `end_part` did not make, and where
        outputs need the rows themselves.
        """
        if self.outputs.outputs:
            raise ValueError("an output needs the rows of this part")
        self.total.add_json(counts)

    def patterns(self) -> list[Pattern]:
        """What groups of all alarms share."""
        return shared(self.total.reasons, sorted(self.total.reasons))

    def _empty(self) -> Counts:
        detector, share = self.detector, self.fdr
        discoveries = None if share is None else Discoveries(detector.calibration_, share)
        return Counts(Drift(detector.autoencoder_.model_.modality), discoveries)
