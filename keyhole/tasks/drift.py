"""Does new data look like the training data? The data drift report beside every answer."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from keyhole.core.records import Batch
from keyhole.modalities import Modality
from keyhole.tasks.detect.scorer import unknown_groups_in_words

BINS = 50  # of p-values
MIN_ROWS = 30  # with fewer, shares say little
FAR = 0.15  # distance between distribution functions that a person should know of


@dataclass(frozen=True)
class Remark:
    """A sentence on rows beside the training rows, and what it is about.

    "rates": p-values, so the promised false alarm rate; "few": too few rows to tell; "alike":
    nothing differs; "left_out": rows or files that were not read.
    """

    about: Literal["rates", "level", "gaps", "group", "few", "alike", "left_out", "rate"]
    text: str


@dataclass
class Drift:
    """Counts over the blocks of an answer: gaps, unseen levels, p-values."""

    table: Modality
    rows: int = 0
    gaps: dict[str, int] = field(default_factory=dict)
    unseen: dict[str, int] = field(default_factory=dict)
    unknown_groups: set[str] = field(default_factory=set)  # groups
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, batch: Batch, p_value: np.ndarray, unknown_groups: Iterable[str] = ()) -> None:
        """Count a block in, and its unknown groups; blocks may come from several threads."""
        missing = (~batch.observed).float().mean(0).numpy() if len(batch) else np.zeros(0)
        shares: dict[str, list[float]] = {}  # of gaps; a channel has several columns
        for column in self.table.encoded_columns if len(batch) else ():
            share = float(missing[self.table.layout.features(column.name)[0]])
            shares.setdefault(self.table.title(column.name), []).append(share)
        bins = np.clip((p_value[~np.isnan(p_value)] * BINS).astype(np.int64), 0, BINS - 1)
        counts = {
            "rows": len(p_value),
            "unknown_groups": unknown_groups,
            "counts": np.bincount(bins, minlength=BINS),
            "gaps": {name: round(np.mean(s) * len(p_value)) for name, s in shares.items()},
            "unseen": self.table.unseen_levels(batch),
        }
        with self.lock:
            self.add_json(counts)

    def to_json(self) -> dict[str, Any]:
        """The counts as JSON."""
        return {
            "rows": self.rows, "gaps": self.gaps, "unseen": self.unseen,
            "unknown_groups": sorted(self.unknown_groups), "counts": self.counts.tolist(),
        }  # fmt: skip

    def add_json(self, counts: dict[str, Any]) -> None:
        """Add counts that `to_json` made.

        Raises: KeyError, TypeError, ValueError for others.
        """
        self.rows += int(counts["rows"])
        self.unknown_groups.update(counts["unknown_groups"])
        self.counts += np.array(counts["counts"], np.int64)
        for name in ("gaps", "unseen"):
            sums = getattr(self, name)
            sums.update({n: sums.get(n, 0) + int(count) for n, count in counts[name].items()})

    def __repr__(self) -> str:
        return f"Drift of {self.rows:,} rows: " + "; ".join(self.remarks())

    def remarks(self) -> list[str]:
        """Sentences on what differs; one that says so where nothing does."""
        return [remark.text for remark in self.differences()]

    def differences(self) -> list[Remark]:
        """What differs, with what each sentence is about; one remark where nothing does."""
        groups = [unknown_groups_in_words(self.unknown_groups)] if self.unknown_groups else []
        remarks = [Remark("group", text) for text in groups]
        remarks += [
            Remark("level", f"column {name!r}: {count:,} of {self.rows:,} rows have a level that "
                   "is not in the training data")
            for name, count in sorted(self.unseen.items(), key=lambda item: -item[1])[:3]
            if count
        ]  # fmt: skip
        remarks += [Remark("gaps", text) for text in self._gaps()]
        remarks += [Remark("rates", text) for text in self._p_values()]
        if self.rows < MIN_ROWS:
            text = f"{self.rows:,} rows are too few to compare them with the training data"
            remarks.append(Remark("few", text))
        return remarks or [Remark("alike", "these rows look like the training data")]

    def _gaps(self) -> list[str]:
        remarks = []
        for name, count in self.gaps.items():
            share, usual = count / max(self.rows, 1), self.table.gaps.get(name, 0.0)
            if self.rows >= MIN_ROWS and share > usual + max(0.05, usual):
                remarks.append(f"column {name!r}: {share:.0%} gaps, {usual:.0%} in training")
        return remarks[:3]

    def _p_values(self) -> list[str]:
        n = int(self.counts.sum())
        if n < MIN_ROWS:
            return []
        distance = np.cumsum(self.counts) / n - np.arange(1, BINS + 1) / BINS
        worst = int(np.abs(distance).argmax())
        if abs(distance[worst]) <= max(FAR, 1.63 / np.sqrt(n)):  # 1 % point of Kolmogorov's test
            return []
        share, expected = np.cumsum(self.counts)[worst] / n, (worst + 1) / BINS
        word = "more" if distance[worst] > 0 else "less"
        return [
            f"these rows are {word} anomalous than the training rows: {share:.0%} have a p-value "
            f"of at most {expected:.2g}, {expected:.0%} would be expected; if they are meant to "
            "be normal, the false alarm rate does not hold here"
        ]
