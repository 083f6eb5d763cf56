"""Which rows train, which stop the run, and which calibrate: fixed by a row's place or group.

From 1,000 rows up, one net trains and a tenth each (at most 20,000 rows) is held out for
stopping and for calibration. Below, five nets train side by side, each without its fold, so
that every row has a score from a net that has not seen it.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keyhole.core.environment import draws
from keyhole.data import cast
from keyhole.data.source import Rows
from keyhole.errors import DataError

FEW_ROWS = 1_000
FOLDS = 5
MEMBERS = 3  # nets on the same rows: their spread is the doubt
HELD_OUT_SHARE = 0.1
LEAST_HELD_OUT = 30  # rows of which a tenth can be held out
MOST_HELD_OUT = 20_000
MOST_RANKED = 1_000  # more groups fall evenly enough by chance
TRAIN, STOP, CALIBRATE = 0, 1, 2


@dataclass
class Split:
    """Assigns rows by a hash of their place, of their group, or by their time."""

    rows: int
    seed: int
    how: str = "random"  # "random", "group" or "time"
    column: str | None = None
    nets: int | None = None  # asked for; None: folds where rows are few, else MEMBERS
    latest: float = np.inf  # rows at or after it are held out, where time decides
    ranks: dict[str | None, int] = field(default_factory=dict)  # of few groups: dealt out evenly
    folds: int = field(init=False)

    def __post_init__(self) -> None:
        few = self.rows < FEW_ROWS and self.how != "time" and self.rows >= 2
        few = few and (not self.nets or self.rows < LEAST_HELD_OUT)
        self.folds = min(FOLDS, self.rows, len(self.ranks) or self.rows) if few else 0
        self.share = min(HELD_OUT_SHARE, MOST_HELD_OUT / max(self.rows, 1))

    @classmethod
    def of(
        cls, rows: int, seed: int, validation: str, sample: Any, nets: int | None = None
    ) -> "Split":
        """The split that hints ask for; `sample` is a survey's table."""
        how, _, column = validation.partition(":")
        if how == "group":
            return cls(rows, seed, how, column, nets, ranks=_ranks(sample, column, seed, rows))
        if how != "time":
            return cls(rows, seed, nets=nets)
        share = min(2 * HELD_OUT_SHARE, 2 * MOST_HELD_OUT / rows)
        times = _times(sample.column(column))
        times = times[np.isfinite(times)]
        if len(times) < 2 or times.min() == times.max():
            raise DataError(
                f"validation={validation!r}: column {column!r} holds no dates or numbers that "
                "differ, so no row is later than another; name another column"
            )
        return cls(rows, seed, how, column, nets, float(np.quantile(times, 1 - share)))

    @property
    def members(self) -> int:
        """How many nets train side by side."""
        return self.folds or self.nets or MEMBERS

    def assign(self, block: Rows, start: int) -> np.ndarray:
        """For each row its fold, or TRAIN, STOP or CALIBRATE where there are no folds."""
        draw = self._draw(block, start)
        if self.folds:
            return np.minimum((draw * self.folds).astype(np.int64), self.folds - 1)
        share = self.share
        if self.how == "time":
            held_out = _times(block.column(str(self.column))) >= self.latest
            return np.where(held_out, np.where(draw < 0.5, STOP, CALIBRATE), TRAIN)
        return np.where(draw < share, STOP, np.where(draw < 2 * share, CALIBRATE, TRAIN))

    def trains(self, block: Rows, start: int) -> np.ndarray:
        """(member, row): True where the member trains on the row."""
        part = self.assign(block, start)
        if self.folds:
            return part[None, :] != np.arange(self.folds)[:, None]
        return (part == TRAIN)[None, :]

    def _draw(self, block: Rows, start: int) -> np.ndarray:
        """A number in [0, 1) for each row; few rows are dealt out evenly."""
        if self.how == "group":
            texts = cast.texts(block.column(str(self.column))).to_pylist()
            keys = {text: self._draw_of_group(text) for text in set(texts)}
            return np.array([keys[text] for text in texts])
        if self.rows < FEW_ROWS:
            order = np.random.default_rng(self.seed).permutation(self.rows)
            return order[start : start + len(block)] / self.rows
        return draws(np.arange(start, start + len(block), dtype=np.uint64), self.seed)

    def _draw_of_group(self, text: str | None) -> float:
        """By its rank where groups are few, so that every part has one; by its hash else."""
        rank, groups = self.ranks.get(text), len(self.ranks)
        if rank is None:
            return _draw_of_text(text, self.seed)
        if self.folds:
            return (rank + 0.5) / groups
        each = max(1, round(self.share * groups))  # groups for stopping, and for calibration
        return 0.0 if rank < each else 1.5 * self.share if rank < 2 * each else 1.0


def _ranks(sample: Any, column: str, seed: int, rows: int) -> dict[str | None, int]:
    """The groups in the order of their draws where there are few, none where there are many.

    Raises: DataError where there are too few to hold one out.
    """
    groups = set(cast.texts(sample.column(column)).to_pylist())
    least = 2 if rows < FEW_ROWS else 3
    if len(groups) < least:
        raise DataError(
            f"validation='group:{column}': the column holds {len(groups)} group(s), at least "
            f"{least} are needed to hold one out; name another column"
        )
    if len(groups) > MOST_RANKED:
        return {}
    ordered = sorted(groups, key=lambda text: (_draw_of_text(text, seed), str(text)))
    return {text: rank for rank, text in enumerate(ordered)}


def _draw_of_text(text: str | None, seed: int) -> float:
    import hashlib

    key = hashlib.blake2b(str(text).encode(), digest_size=8).digest()
    return float(draws(np.frombuffer(key, np.uint64).copy(), seed)[0])


def _times(values: Any) -> np.ndarray:
    """Moments or numbers as floats that order the rows; a gap comes first."""
    values = cast.plain(values)
    style = (
        cast.datetime_style(cast.texts(values.drop_null())) if cast.is_text(values.type) else None
    )
    times, bad = cast.seconds(values, style or cast.ISO)
    if len(bad) == len(values) or (style is None and cast.is_text(values.type)):
        times, _ = cast.floats(values)
    return np.where(np.isnan(times), -np.inf, times)
