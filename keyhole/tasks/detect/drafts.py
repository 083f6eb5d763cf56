"""Scored blocks of rows whose alarms are decided once all rows are scored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np
from jaxtyping import Bool, Int64

from keyhole.data.source import ArrowRows
from keyhole.tasks.detect.answer import Answer
from keyhole.tasks.detect.explain import MOST_CELLS, explain

if TYPE_CHECKING:
    import pyarrow as pa

    from keyhole.data import Rows
    from keyhole.tasks.detect.scorer import Scorer

ARRAYS = ("rows", "anomaly_score", "score_std", "p_value")  # of an answer, as they are written


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
            by_line = explain(scorer, judged, np.arange(len(explained)), MOST_CELLS)
            reasons = {int(explained[line]): cells for line, cells in by_line.items()}
        return replace(self.answer, alarm=alarm, reasons=reasons)

    def write(self, file: BinaryIO) -> None:
        """Append the draft to a file, as two Arrow streams."""
        import pyarrow as pa

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
        ids = id_name = None
        if table.num_columns > len(ARRAYS) + 1:
            ids, id_name = table.column(len(ARRAYS) + 1).combine_chunks(), table.column_names[-1]
        answer = Answer(
            **arrays, alarm=np.zeros(len(table), bool), reasons={}, ids=ids, id_name=id_name,
            label="row",
        )  # fmt: skip
        places = np.flatnonzero(table.column(len(ARRAYS)).to_numpy())
        return cls(answer, places, ArrowRows(candidates))


def _read(file: BinaryIO) -> pa.Table:
    import pyarrow as pa

    with pa.ipc.open_stream(file) as stream:
        return stream.read_all()
