"""Rules between columns that all training rows keep: an order, a sum, a line.

Candidates come from the profile's sample and are checked on every row of the source. A rule is
listed only if rows with a shuffled column would often break it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, permutations
from typing import TYPE_CHECKING, Any

import numpy as np

from keyhole.core.parts import fits
from keyhole.data import cast
from keyhole.data.source import Source
from keyhole.errors import SettingError
from keyhole.modalities.tabular.columns import Column, Count, Datetime, Number
from keyhole.modalities.tabular.guess import look_alike
from keyhole.modalities.tabular.profile import SourceProfile

if TYPE_CHECKING:
    import pyarrow as pa


LEAST_ROWS = 20  # that hold a value in all columns of a rule
LEAST_BROKEN = 0.05  # share of rows that break it when a column is shuffled
EXPECTED_BROKEN = 10  # rows that would break it by chance: none has probability e^-10
MOST_COLUMNS, MOST_SUMMED = 100, 30  # numeric columns that are compared in pairs, in threes
FIRST_ROWS = 200  # looked at before all others
LEVELS = np.linspace(0.005, 0.995, 41)  # quantiles of a difference that are kept
UNITS_S = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86_400.0}
EXACT, EXACT_FLOAT32 = 1e-9, 1e-6  # of the largest number of a column


@dataclass(frozen=True)
class Rule:
    """One rule: "order" (a <= b), "sum" (a + unit * b = c) or "line" (b = slope * a + offset).

    `numbers` are [1 where a < b, else 0, then quantiles of b - a], [unit] or [slope, offset].
    """

    kind: str
    columns: list[str]
    numbers: list[float]

    def __str__(self) -> str:
        names, numbers = self.columns, self.numbers
        if self.kind == "order":
            return f"{names[0]} {'<' if numbers[0] else '<='} {names[1]}"
        if self.kind == "sum":
            unit = {s: f" {name}" for name, s in UNITS_S.items() if s > 1}.get(numbers[0], "")
            return f"{names[0]} + {names[1]}{unit} = {names[2]}"
        slope, offset = numbers
        times = "" if slope == 1 else f"{slope:g} * "
        plus = "" if offset == 0 else f" {'+' if offset > 0 else '-'} {abs(offset):g}"
        return f"{names[1]} = {times}{names[0]}{plus}"

    def to_json(self) -> dict[str, Any]:
        """The fields as a manifest holds them."""
        return asdict(self)

    def off(self, values: dict[str, np.ndarray]) -> np.ndarray:
        """By how much rows break the rule; 0 or less: not at all; NaN where a value is missing."""
        columns = [values[name] for name in self.columns]
        if self.kind == "order":
            return columns[0] - columns[1]
        if self.kind == "sum":
            return np.abs(columns[0] + self.numbers[0] * columns[1] - columns[2])
        return np.abs(self.numbers[0] * columns[0] + self.numbers[1] - columns[1])

    def broken(self, values: dict[str, np.ndarray], exact: dict[str, float]) -> np.ndarray:
        """True for rows that break the rule; a missing value breaks none."""
        off = self.off(values)
        if self.kind == "order":
            return off >= 0 if self.numbers[0] else off > 0
        return off > 2 * max(exact[name] for name in self.columns)


def check_rules(rules: list[dict[str, Any]], columns: Sequence[Column]) -> None:
    """Raises: SettingError for rules that no fit makes."""
    known = {column.name for column in ruled(columns)}
    wide = {"order": (2, 1 + len(LEVELS)), "sum": (3, 1), "line": (2, 2)}
    for rule in rules:
        names: Any = rule.get("columns")
        numbers: Any = rule.get("numbers")
        kind: Any = wide.get(str(rule.get("kind")))
        if (
            kind is None
            or set(rule) != {"kind", "columns", "numbers"}
            or not fits(names, list[str])
            or not fits(numbers, list[float])
            or (len(names), len(numbers)) != kind
            or len(set(names)) < len(names)
            or not set(names) <= known
            or not np.isfinite(numbers).all()
            or (rule["kind"] != "order" and numbers[0] == 0)
        ):
            raise SettingError(
                f"rules: {rule!r:.80} is not a valid rule between columns of this table"
            )


def values_of(table: pa.Table, columns: Sequence[Column]) -> dict[str, np.ndarray]:
    """The columns of a table as float64, datetimes in seconds, NaN for missing."""
    values = {}
    for column in columns:
        features = table.column(column.name)
        is_datetime = isinstance(column, Datetime)
        values[column.name] = (
            cast.seconds(features, column.style) if is_datetime else cast.floats(features)
        )[0]
    return values


def exactness(columns: Sequence[Column]) -> dict[str, float]:
    """How far a number of each column may be off by rounding alone."""
    tolerances = {}
    for column in columns:
        low, high = range_of(column)
        share = EXACT_FLOAT32 if getattr(column, "type", "") == "float" else EXACT
        tolerances[column.name] = share * max(abs(low), abs(high), 1e-300)
        if isinstance(column, Datetime):
            tolerances[column.name] = 1e-5  # a float64 of seconds holds microseconds only just
    return tolerances


def range_of(column: Column) -> tuple[float, float]:
    """The smallest and largest value of training, datetimes in seconds."""
    if isinstance(column, Datetime):
        return column.range_s[0], column.range_s[1]
    if isinstance(column, Count):
        return column.least, column.most
    if isinstance(column, Number):
        return column.range[0], column.range[1]
    return -np.inf, np.inf


def ruled(columns: Sequence[Column]) -> list[Column]:
    """The columns that rules can be about: numbers, counts and datetimes that vary."""
    ordered = [c for c in columns if isinstance(c, Number | Count | Datetime)]
    return [c for c in ordered if range_of(c)[0] < range_of(c)[1]]


def rules_of(
    source: Source, source_profile: SourceProfile, columns: Sequence[Column]
) -> list[Rule]:
    """The rules that all rows keep, of these columns."""
    every = columns = ruled(columns)
    if len(columns) > MOST_COLUMNS or look_alike(
        [source_profile.profiles[c.name] for c in columns]
    ):
        return []
    values, exact = values_of(source_profile.sample, columns), exactness(columns)
    lines = _lines(columns, values, exact)
    tied = {rule.columns[1] for rule in lines}
    columns = [c for c in columns if c.name not in tied]
    sums = _sums(columns, values, exact) if len(columns) <= MOST_SUMMED else []
    least = {column.name: range_of(column)[0] for column in columns}
    implied = {
        (part, rule.columns[2])
        for rule in sums
        for part, other in permutations(rule.columns[:2])
        if least[other] >= 0
    }
    orders = [r for r in _orders(columns, values) if tuple(r.columns) not in implied]
    rules = lines + sums + orders
    if rules and source_profile.rows > source_profile.sample.num_rows:
        rules = _kept_by_all(rules, source, every, exact)
    return _shortest(rules)


def _known(values: dict[str, np.ndarray], rule: Rule) -> np.ndarray:
    return ~np.isnan(sum(values[name] for name in rule.columns))


def _measure(column: Column) -> str:
    """What a column is measured in, as far as that is known: only alike ones are ordered."""
    if isinstance(column, Datetime):
        return "datetime"
    return "duration" if column.type.startswith("duration") else "number"  # pyright: ignore


def _lines(
    columns: list[Column], values: dict[str, np.ndarray], exact: dict[str, float]
) -> list[Rule]:
    """Columns that are a straight line of an earlier one: equal, shifted, or in another unit."""
    rules, tied = [], set()
    for a, b in combinations(columns, 2):
        if a.name in tied or b.name in tied or _measure(a) != _measure(b):
            continue
        x, y = values[a.name], values[b.name]
        known = ~np.isnan(x + y)
        x, y = x[known], y[known]
        if len(x) < LEAST_ROWS or np.ptp(x) == 0 or np.ptp(y) == 0:
            continue
        low, high = x.argmin(), x.argmax()
        slope = float((y[high] - y[low]) / (x[high] - x[low]))
        slope = float(f"{slope:.12g}")
        offset = float(f"{y[low] - slope * x[low]:.12g}")
        offset = 0.0 if abs(offset) <= exact[b.name] else offset
        if isinstance(a, Datetime) and slope != 1:
            continue
        rule = Rule("line", [a.name, b.name], [slope, offset])
        if slope and not rule.broken({a.name: x, b.name: y}, exact).any():
            rules.append(rule)
            tied.add(b.name)
    return rules


def _sums(
    columns: list[Column], values: dict[str, np.ndarray], exact: dict[str, float]
) -> list[Rule]:
    rules = []
    for a, c in permutations(columns, 2):
        if _measure(a) != _measure(c):
            continue
        for b in columns:
            is_datetime = _measure(a) == "datetime"
            if b in (a, c) or (is_datetime and _measure(b) == "datetime"):
                continue
            if not is_datetime and (_measure(b) != _measure(a) or b.name < a.name):
                continue  # a + b is b + a
            for unit in UNITS_S.values() if is_datetime and _measure(b) == "number" else (1.0,):
                rule = Rule("sum", [a.name, b.name, c.name], [unit])
                if _sums_up(rule, values, exact):
                    rules.append(rule)
    return _independent(rules)


def _sums_up(rule: Rule, values: dict[str, np.ndarray], exact: dict[str, float]) -> bool:
    first = {name: values[name][:FIRST_ROWS] for name in rule.columns}
    if rule.broken(first, exact).any() or rule.broken(values, exact).any():
        return False
    known = _known(values, rule)
    if known.sum() < LEAST_ROWS:
        return False
    share = [np.unique(values[name][known], return_counts=True)[1].max() for name in rule.columns]
    return max(share) <= (1 - LEAST_BROKEN) * known.sum()


def _independent(rules: list[Rule]) -> list[Rule]:
    """At most one sum for each total, and none of columns that another one already fixes."""
    independent, totals = [], set()
    for rule in rules:
        if rule.columns[2] not in totals:
            totals.add(rule.columns[2])
            independent.append(rule)
    return independent


def _orders(columns: list[Column], values: dict[str, np.ndarray]) -> list[Rule]:
    rules = []
    for a, b in permutations(columns, 2):
        if _measure(a) != _measure(b):
            continue
        x, y = values[a.name], values[b.name]
        if (x[:FIRST_ROWS] > y[:FIRST_ROWS]).any() or (x > y).any():
            continue
        known = ~np.isnan(x + y)
        x, y = x[known], y[known]
        if len(x) < LEAST_ROWS:
            continue
        shuffled = float(np.searchsorted(np.sort(y), x, side="left").mean() / len(y))
        if shuffled >= LEAST_BROKEN and shuffled * len(x) >= EXPECTED_BROKEN:
            strict = float((x < y).all())
            quantiles = np.quantile(y - x, LEVELS).tolist()
            rules.append(Rule("order", [a.name, b.name], [strict, *quantiles]))
    return rules


def _kept_by_all(
    rules: list[Rule], source: Source, columns: list[Column], exact: dict[str, float]
) -> list[Rule]:
    """The rules that no row of the source breaks; an order that is strict in all stays strict."""
    names = {name for rule in rules for name in rule.columns}
    columns = [c for c in columns if c.name in names]
    for block in source.blocks(65_536):
        values = values_of(block.arrow().select(sorted(names)), columns)
        unbroken = []
        for rule in rules:
            if rule.kind == "order" and (rule.off(values) == 0).any():
                unbroken.append(Rule(rule.kind, rule.columns, [0.0, *rule.numbers[1:]]))
            else:
                unbroken.append(rule)
            if unbroken[-1].broken(values, exact).any():
                unbroken.pop()
        rules = unbroken
    return rules


def _shortest(rules: list[Rule]) -> list[Rule]:
    """The rules without orders that follow from two others: a <= c, of a <= b and b <= c."""
    pairs = {tuple(rule.columns) for rule in rules if rule.kind == "order"}
    names = {name for pair in pairs for name in pair}
    return [
        rule
        for rule in rules
        if rule.kind != "order"
        or not any({(rule.columns[0], n), (n, rule.columns[1])} <= pairs for n in names)
    ]
