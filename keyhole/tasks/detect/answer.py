"""Answers of a detector: anomaly score, p-value, alarm and reasons."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from keyhole.data.frames import Label, label_of, outline, same_kind
from keyhole.data.lazy import pa

if TYPE_CHECKING:
    from keyhole.tasks.detect.calibration import Calibration
    from keyhole.tasks.detect.scorer import ScoredBlock


MAX_LINES, MAX_WIDTH = 5, 160  # rows of a repr, characters of each
FIGURES = ("anomaly_score", "score_std", "p_value")  # of each row


@dataclass(frozen=True)
class Reason:
    """A value that made its row anomalous; `share` is its part of the row's excess nats.

    `expected` says with its level what the rest of the row lets expect. `partners` are values of
    other columns that this one, usual by itself, does not go together with: "currency = USD".
    Cells of a row in which no value stands out are its most costly, with nothing `expected`.
    `numbers` are the value and the ends of the expected range (moments in seconds since 1970);
    None for levels, and where no range was expected. `view` is the property of a window that
    differs, such as "shape", where the value itself is usual.
    """

    column: str
    value: str
    expected: str
    share: float
    partners: tuple[str, ...] = ()
    stands_out: bool = True
    numbers: tuple[float, float, float] | None = None
    view: str = ""

    @property
    def direction(self) -> str:
        """Whether the value is "above" or "below" what was expected; "" within it or a level."""
        if self.numbers is None:
            return ""
        number, low, high = self.numbers
        return "above" if number > high else "below" if number < low else ""

    @property
    def described(self) -> str:
        """The value, and those of its partners."""
        return self.value + (f" with {' and '.join(self.partners)}" if self.partners else "")

    def __str__(self) -> str:
        value = f"{self.column} = {self.described}"
        return f"{value}, expected {self.expected}" if self.stands_out else value


def in_words(cells: Sequence[Reason], alarm: bool = True) -> str:
    """Why a row is anomalous, in one sentence; "" where nothing was asked of it."""
    if not cells or cells[0].stands_out:
        return "; ".join(map(str, cells))
    return f"{nothing_stands_out(alarm)} (most: {', '.join(map(str, cells))})"


def nothing_stands_out(alarm: bool) -> str:
    """What to say of a row whose values all fit what was expected in their place."""
    text = "no single value stands out"
    return f"the combination of all values is unusual; {text}" if alarm else text


@dataclass(frozen=True)
class Answer:
    """One entry a row, in the order asked; `reasons` holds the cells of rows that were explained.

    `anomaly_score` is in multiples of the usual: 1 is, 3 is three times as far out; NaN for a row
    with no observed cell (never an alarm). `score_std` is its standard deviation between nets,
    where the p-value is at most .1; NaN elsewhere.
    `views` says of explained rows what each view of the score gives, in its usual answer.
    Arrays, `reasons` and `strongest` go by position, from 0; `rows` holds the label of each: a
    pandas index (`label` "index"), the position itself, or the data row of a file, from 1
    ("row"). `like` is the frame that was given, without its columns.
    """

    rows: np.ndarray
    anomaly_score: np.ndarray
    score_std: np.ndarray
    p_value: np.ndarray
    alarm: np.ndarray
    reasons: dict[int, list[Reason]]
    ids: Any = None
    id_name: str | None = None
    label: Label = "position"
    views: dict[int, dict[str, float]] = field(default_factory=dict)
    like: Any = None

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, place: int) -> str:
        """What names a row to a person: its id, its pandas index, or "row 17", counted from 1."""
        if self.ids is not None:
            return f"{self.id_name} {self.ids[place].as_py()}"
        if self.label == "index":
            return f"index {self.rows[place]}"
        return f"row {self.rows[place] + (self.label == 'position')}"

    def labelled_like(self, data: Any) -> Answer:
        """The answer for rows of `data`: labelled by its index, and tables are of its kind."""
        label, like = label_of(data), outline(data)
        positions = np.arange(len(self))
        rows = like.index.to_numpy() if label == "index" else positions + (label == "row")
        return replace(self, rows=rows, label=label, like=like)

    def strongest(self, most: int = 10) -> np.ndarray:
        """The places of the most anomalous rows, strongest first."""
        order = np.argsort(-np.nan_to_num(self.anomaly_score, nan=-np.inf), kind="stable")
        return order[:most][~np.isnan(self.anomaly_score[order[:most]])]

    def patterns(self) -> list[Pattern]:
        """What groups of the explained alarms share, at most five; `str` makes each a sentence."""
        return shared(self.reasons, np.flatnonzero(self.alarm).tolist())

    def to_frame(self) -> Any:
        """The answer, one line a row, as the kind of frame that was given; Arrow for the others.

        A pandas frame has the index of the one given. Other tables begin with the id, or with
        `row` (files: from 1) or `position` (polars, Arrow, arrays: from 0).
        """
        return same_kind(self.arrow(), self.like)

    def arrow(self) -> pa.Table:
        """The answer as an Arrow table, one line a row."""
        reasons = [None] * len(self)
        for place, cells in self.reasons.items():
            reasons[place] = in_words(cells, bool(self.alarm[place]))  # pyright: ignore
        first = {} if self.label == "index" else {self.label: self.rows}
        first = first if self.ids is None else {self.id_name: self.ids}
        figures = {
            name: pa.array(getattr(self, name).astype(np.float32), from_pandas=True)
            for name in FIGURES
        }
        texts = pa.array(reasons, pa.string())
        return pa.table(first | figures | {"alarm": self.alarm, "reasons": texts})

    def __repr__(self) -> str:
        lines = [f"Answer: {len(self):,} rows, {int(self.alarm.sum()):,} alarms"]
        for place in self.strongest(MAX_LINES):
            alarm = ", alarm" if self.alarm[place] else ""
            reasons = in_words(self.reasons.get(int(place), []), bool(self.alarm[place]))
            why = f": {reasons}" if reasons else ""
            score = f"anomaly score {self.anomaly_score[place]:.2f}"
            lines.append(f"  {self.name(int(place))}: {score}{alarm}{why}"[:MAX_WIDTH])
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        lines = []
        for place in self.strongest():
            reasons = in_words(self.reasons.get(int(place), []), bool(self.alarm[place]))
            alarm = "alarm" if self.alarm[place] else ""
            lines.append(
                f"<tr><td>{html.escape(self.name(place))}</td><td>{self.anomaly_score[place]:.2f} "
                f"± {self.score_std[place]:.2f}</td>"
                f"<td>{self.p_value[place]:.3g}</td><td>{alarm}</td><td>{html.escape(reasons)}</td></tr>"
            )
        head = "".join(f"<th>{h}</th>" for h in ("row", "anomaly_score", "p", "", "reasons"))
        patterns = "".join(f"<li>{html.escape(str(pattern))}</li>" for pattern in self.patterns())
        return (
            f"<p>{len(self):,} rows, {int(self.alarm.sum()):,} alarms; the strongest:</p>"
            f"{patterns and f'<ul>{patterns}</ul>'}"
            f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        )


def join(answers: list[Answer]) -> Answer:
    """Answers of consecutive blocks as one."""
    reasons, start = {}, 0
    for answer in answers:
        reasons |= {start + place: cells for place, cells in answer.reasons.items()}
        start += len(answer)
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(answer, name) for answer in answers])
        for name in ("rows", *FIGURES, "alarm")
    }
    if answers[0].ids is not None:
        arrays["ids"] = pa.chunked_array([answer.ids for answer in answers]).combine_chunks()
    return replace(answers[0], reasons=reasons, **arrays)


def views_in_words(views: Mapping[str, float]) -> str:
    """What each view of the score gives for a row."""
    return ", ".join(f"{name} {value:.2g}" for name, value in views.items()) + " times the usual"


def answer_of(
    judged: ScoredBlock,
    calibration: Calibration,
    alarm: np.ndarray,
    reasons: dict[int, list[Reason]],
    id_column: str | None,
    views: dict[int, dict[str, float]] | None = None,
) -> Answer:
    """The answer for a scored block of a source's rows, numbered from 1."""
    id_name = id_column if id_column in judged.rows.names else None
    return Answer(
        rows=judged.start + 1 + np.arange(len(judged.rows)),
        anomaly_score=judged.anomaly_score,
        score_std=judged.score_std,
        p_value=calibration.p_value(judged.anomaly_score),
        alarm=alarm,
        reasons=reasons,
        ids=None if id_name is None else judged.rows.column(id_name),
        id_name=id_name,
        label="row",
        views=views or {},
    )


MAX_PATTERNS = 5  # as many as a person reads
MIN_ROWS = 2  # alarms that share a value before it is a pattern
SPEAKS = 0.5  # of the share of a row's first cell: weaker cells do not speak for the row
NEW = 0.5  # of a pattern's rows stand in no pattern before it

Key = tuple[str, str, str, str]  # column, direction, level, view


@dataclass(frozen=True)
class Pattern:
    """A value that alarms share: `rows` are their positions, `of` how many have reasons.

    `direction` is "above" or "below" what was expected (a later moment is above), "" where there
    is none. `value` is the cell's text where it is the same in all rows, else "". `view` is the
    property of a window that differs, such as "shape", else "".
    """

    column: str
    direction: str
    value: str
    rows: tuple[int, ...]
    of: int
    view: str = ""

    @property
    def cell(self) -> str:
        """What the rows share, without how many they are."""
        if self.direction:
            same = f" = {self.value}," if self.value else ""
            return f"{self.column}{same} {self.direction} what was expected"
        if self.view:
            return f"{self.column} with another {self.view} than expected"
        if self.value:
            return f"{self.column} = {self.value!r}"
        return f"{self.column} does not fit the rest of its row"

    def __str__(self) -> str:
        return f"{len(self.rows):,} of {self.of:,} alarms: {self.cell}"


def shared(reasons: Mapping[int, Sequence[Reason]], places: Iterable[int]) -> list[Pattern]:
    """What groups of these rows share, the largest first: at most five patterns.

    A pattern is the first cell of some row: its column, and its direction or level. It holds
    each row where such a cell speaks. They are chosen greedily, each for the rows that no pattern
    before it holds, at least two of them; rows without a cell are not counted, and those in which
    no value stands out share nothing.
    """
    explained = [int(place) for place in places if reasons.get(int(place))]
    firsts = {_key(reasons[place][0]) for place in explained if reasons[place][0].stands_out}
    rows_of_key: dict[Key, dict[int, str]] = {key: {} for key in sorted(firsts)}
    for place in explained:
        for cell in reasons[place]:
            speaks = cell.stands_out and cell.share >= SPEAKS * reasons[place][0].share
            if speaks and _key(cell) in rows_of_key:
                rows_of_key[_key(cell)][place] = cell.value
    patterns, covered_rows = [], set()
    while rows_of_key and len(patterns) < MAX_PATTERNS:
        key = max(
            rows_of_key,
            key=lambda one: (len(rows_of_key[one].keys() - covered_rows), len(rows_of_key[one])),
        )
        rows = rows_of_key.pop(key)
        gain = len(rows.keys() - covered_rows)
        if gain < MIN_ROWS:
            break
        if gain < NEW * len(rows):
            continue
        covered_rows |= rows.keys()
        values = set(rows.values())
        same = values.pop() if len(values) == 1 and (key[1] or key[2]) else key[2]
        patterns.append(Pattern(*key[:2], same, tuple(sorted(rows)), len(explained), key[3]))
    return sorted(patterns, key=lambda pattern: -len(pattern.rows))


def _key(cell: Reason) -> Key:
    """What makes two cells alike: a level is itself, a number is its direction or its view."""
    level = cell.value if cell.numbers is None and not cell.view else ""
    return cell.column, cell.direction, level, cell.view
