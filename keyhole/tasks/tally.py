"""What a detector's answers add up to: kept part by part, so that a resumed run counts all."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from keyhole.tasks.answer import Cell
from keyhole.tasks.likeness import Likeness
from keyhole.tasks.patterns import Pattern, shared

if TYPE_CHECKING:
    import pyarrow as pa

    from keyhole.sources import Rows
    from keyhole.tasks.detector import AnomalyDetector
    from keyhole.tasks.impute import Impute

MOST_SHARED = 10_000  # alarms that are looked through for what they share


@dataclass
class Counts:
    """Alarms, the reasons of some of them by row, and how alike the rows are."""

    likeness: Likeness
    alarms: int = 0
    because: dict[int, list[Cell]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The counts as JSON."""
        because = {row: [asdict(cell) for cell in cells] for row, cells in self.because.items()}
        return {"alarms": self.alarms, "because": because, "likeness": self.likeness.to_json()}

    def add_json(self, counts: dict[str, Any]) -> None:
        """Add counts that `to_json` made. Raises: KeyError, TypeError, ValueError for others."""
        because = {
            int(row): [Cell(**cell) for cell in cells] for row, cells in counts["because"].items()
        }
        self.likeness.add_json(counts["likeness"])
        self.alarms += int(counts["alarms"])
        if len(self.because) < MOST_SHARED:
            self.because.update(because)


class Detecting:
    """Answers blocks of rows by a detector, and counts; blocks may come from several threads."""

    def __init__(self, detector: AnomalyDetector, rate: float | None = None) -> None:
        self.detector = detector
        self.rate = rate
        self.lock = threading.Lock()
        self.total, self.part = self._empty(), self._empty()

    def __call__(self, rows: Rows, start: int) -> pa.Table:
        """The answer for a block of rows whose first stands at `start`, one line a row."""
        counts = self.part
        answer = self.detector.answer_rows(rows, start, likeness=counts.likeness, rate=self.rate)
        with self.lock:
            counts.alarms += int(answer.alarm.sum())
            if len(counts.because) < MOST_SHARED:
                counts.because.update({start + i: c for i, c in answer.because.items()})
        return answer.arrow()

    def end_part(self) -> dict[str, Any]:
        """The counts since the last part, as JSON; they belong to the total from now on."""
        counts = self.part.to_json()
        self.add_part(counts)
        self.part = self._empty()
        return counts

    def add_part(self, counts: dict[str, Any]) -> None:
        """Count in a part that an earlier run has answered.

        Raises: KeyError, TypeError, ValueError for what `end_part` did not make.
        """
        self.total.add_json(counts)

    def patterns(self) -> list[Pattern]:
        """What groups of all alarms share."""
        return shared(self.total.because, sorted(self.total.because))

    def _empty(self) -> Counts:
        return Counts(Likeness(self.detector.autoencoder_.table_))


class Filling:
    """Fills blocks of rows by an imputation, and counts the filled cells part by part."""

    def __init__(self, task: Impute) -> None:
        self.task = task
        self.blocks = 0  # whose cells are counted in a part

    def __call__(self, rows: Rows, start: int) -> pa.Table:
        """A block of rows whose first stands at `start`, without gaps."""
        return self.task.table(rows, start)

    def end_part(self) -> dict[str, Any]:
        """How many cells of each column were filled since the last part, as JSON."""
        counts = Counter[str]()
        for block in self.task.counts[self.blocks :]:
            counts.update(block)
        self.blocks = len(self.task.counts)
        return {"filled": dict(counts)}

    def add_part(self, counts: dict[str, Any]) -> None:
        """Count in a part that an earlier run has answered.

        Raises: KeyError, TypeError, ValueError for what `end_part` did not make.
        """
        filled = {str(name): int(count) for name, count in dict(counts["filled"]).items()}
        self.task.counts.append(filled)
        self.blocks += 1
