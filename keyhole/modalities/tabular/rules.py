"""Rules between columns that all training rows keep: an order, a sum, or a linear relation.

Candidates come from the profile's sample and are checked on every row of the source. Rules that
rows with a shuffled column would rarely break are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

import numpy as np

from keyhole.core.parts import fits
from keyhole.data import cast
from keyhole.data.lazy import pa
from keyhole.data.source import Source
from keyhole.errors import SettingError
from keyhole.modalities.profile import BLOCK_ROWS, SourceProfile
from keyhole.modalities.tabular.columns import Column, Count, Datetime, Number
from keyhole.modalities.tabular.guess import look_alike

MIN_ROWS = 20  # with a value in all columns of a rule
MIN_BROKEN = 0.05  # share of rows that break the rule if a column is shuffled
EXPECTED_BROKEN = 10  # rows that break the rule by chance: none has probability e^-10
MAX_COLUMNS, MAX_SUMMED = 100, 30  # numeric columns that are compared in pairs, in threes
FIRST_ROWS = 200  # checked before all others, because most candidates fail there
LEVELS = np.linspace(0.005, 0.995, 41)  # of the stored quantiles of a difference
UNITS_S = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86_400.0}
EXACT, EXACT_FLOAT32 = 1e-9, 1e-6  # rounding error relative to the largest number of a column
EXACT_S = 1e-5  # rounding error of a datetime: a float64 of seconds hardly resolves microseconds

Values = dict[str, np.ndarray]  # by column: float64, datetimes in seconds, NaN for missing


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

    def off(self, values: Values) -> np.ndarray:
        """How far rows are from keeping the rule; NaN if a value is missing."""
        columns = [values[name] for name in self.columns]
        if self.kind == "order":
            return columns[0] - columns[1]
        if self.kind == "sum":
            return np.abs(columns[0] + self.numbers[0] * columns[1] - columns[2])
        return np.abs(self.numbers[0] * columns[0] + self.numbers[1] - columns[1])

    def broken(self, values: Values, exact: dict[str, float]) -> np.ndarray:
        """True for rows that break the rule; rows with a missing value do not."""
        off = self.off(values)
        if self.kind == "order":
            return off >= 0 if self.numbers[0] else off > 0
        return off > 2 * max(exact[name] for name in self.columns)


def check_rules(rules: list[dict[str, Any]], columns: Sequence[Column]) -> None:
    """Raises: SettingError for invalid rules."""
    known = {column.name for column in ruled(columns)}
    sizes = {"order": (2, 1 + len(LEVELS)), "sum": (3, 1), "line": (2, 2)}
    for rule in rules:
        names: Any = rule.get("columns")
        numbers: Any = rule.get("numbers")
        size = sizes.get(str(rule.get("kind")))
        if (
            size is None
            or set(rule) != {"kind", "columns", "numbers"}
            or not fits(names, list[str])
            or not fits(numbers, list[float])
            or (len(names), len(numbers)) != size
            or len(set(names)) < len(names)
            or not set(names) <= known
            or not np.isfinite(numbers).all()
            or (rule["kind"] != "order" and numbers[0] == 0)
        ):
            raise SettingError(
                f"rules: {rule!r:.80} is not a valid rule between columns of this table"
            )


def values_of(table: pa.Table, columns: Sequence[Column]) -> Values:
    """The values of these columns."""
    values = {}
    for column in columns:
        array = table.column(column.name)
        dated = isinstance(column, Datetime)
        read = cast.seconds(array, column.style) if dated else cast.floats(array)
        values[column.name] = read[0]
    return values


def exactness(columns: Sequence[Column]) -> dict[str, float]:
    """The largest rounding error of a number of each column."""
    errors = {}
    for column in columns:
        size = max(*map(abs, range_of(column)), 1e-300)
        share = EXACT_FLOAT32 if getattr(column, "type", "") == "float" else EXACT
        errors[column.name] = EXACT_S if isinstance(column, Datetime) else share * size
    return errors


def range_of(column: Any) -> tuple[float, float]:
    """The smallest and largest value of training data, datetimes in seconds."""
    if isinstance(column, Count):
        return column.least, column.most
    low, high = column.range_s if isinstance(column, Datetime) else column.range
    return low, high


def ruled(columns: Sequence[Column]) -> list[Column]:
    """The numbers, counts and datetimes that vary: only these can have rules."""
    ordered = [c for c in columns if isinstance(c, Number | Count | Datetime)]
    return [c for c in ordered if range_of(c)[0] < range_of(c)[1]]


def rules_of(source: Source, profile: SourceProfile, columns: Sequence[Column]) -> list[Rule]:
    """The rules between these columns that all rows keep."""
    ruled_columns = ruled(columns)
    profiles = [profile.profiles[c.name] for c in ruled_columns]
    if len(profiles) > MAX_COLUMNS or look_alike(profiles):
        return []
    values, exact = values_of(profile.sample, ruled_columns), exactness(ruled_columns)
    lines = _lines(ruled_columns, values, exact)
    tied = {rule.columns[1] for rule in lines}
    free = [c for c in ruled_columns if c.name not in tied]
    sums = _sums(free, values, exact) if len(free) <= MAX_SUMMED else []
    least = {column.name: range_of(column)[0] for column in free}
    parts = [(rule.columns[2], *pair) for rule in sums for pair in permutations(rule.columns[:2])]
    implied = {(part, total) for total, part, other in parts if least[other] >= 0}
    rules = lines + sums + [r for r in _orders(free, values) if tuple(r.columns) not in implied]
    if rules and profile.rows > profile.sample.num_rows:
        rules = _unbroken(rules, source, ruled_columns, exact)
    return _without_implied(rules)


def _quantity(column: Column) -> str:
    """What a column measures, as far as known: only equal quantities are compared."""
    if isinstance(column, Datetime):
        return "datetime"
    return "duration" if column.type.startswith("duration") else "number"  # pyright: ignore


def _lines(columns: list[Column], values: Values, exact: dict[str, float]) -> list[Rule]:
    """Columns that are linear in an earlier one: equal, shifted, or in another unit."""
    rules, tied = [], set()
    for a, b in combinations(columns, 2):
        if a.name in tied or b.name in tied or _quantity(a) != _quantity(b):
            continue
        x, y = values[a.name], values[b.name]
        known = ~np.isnan(x + y)
        x, y = x[known], y[known]
        if len(x) < MIN_ROWS or np.ptp(x) == 0 or np.ptp(y) == 0:
            continue
        low, high = x.argmin(), x.argmax()
        slope = float(f"{(y[high] - y[low]) / (x[high] - x[low]):.12g}")
        offset = float(f"{y[low] - slope * x[low]:.12g}")
        offset = 0.0 if abs(offset) <= exact[b.name] else offset
        if isinstance(a, Datetime) and slope != 1:
            continue
        rule = Rule("line", [a.name, b.name], [slope, offset])
        if slope and not rule.broken({a.name: x, b.name: y}, exact).any():
            rules.append(rule)
            tied.add(b.name)
    return rules


def _sums(columns: list[Column], values: Values, exact: dict[str, float]) -> list[Rule]:
    rules: dict[str, Rule] = {}
    for a, c in permutations(columns, 2):
        if _quantity(a) != _quantity(c):
            continue
        for b in columns:
            quantity, dated = _quantity(b), _quantity(a) == "datetime"
            if b in (a, c) or (dated and quantity == "datetime"):
                continue
            if not dated and (quantity != _quantity(a) or b.name < a.name):
                continue  # a + b is b + a
            for unit in UNITS_S.values() if dated and quantity == "number" else (1.0,):
                rule = Rule("sum", [a.name, b.name, c.name], [unit])
                if c.name not in rules and _adds_up(rule, values, exact):
                    rules[c.name] = rule
    return list(rules.values())


def _adds_up(rule: Rule, values: Values, exact: dict[str, float]) -> bool:
    first = {name: values[name][:FIRST_ROWS] for name in rule.columns}
    if rule.broken(first, exact).any() or rule.broken(values, exact).any():
        return False
    known = ~np.isnan(sum(values[name] for name in rule.columns))
    if known.sum() < MIN_ROWS:
        return False
    most = [np.unique(values[name][known], return_counts=True)[1].max() for name in rule.columns]
    return max(most) <= (1 - MIN_BROKEN) * known.sum()


def _orders(columns: list[Column], values: Values) -> list[Rule]:
    rules = []
    for a, b in permutations(columns, 2):
        if _quantity(a) != _quantity(b):
            continue
        x, y = values[a.name], values[b.name]
        if (x[:FIRST_ROWS] > y[:FIRST_ROWS]).any() or (x > y).any():
            continue
        known = ~np.isnan(x + y)
        x, y = x[known], y[known]
        if len(x) < MIN_ROWS:
            continue
        shuffled = float(np.searchsorted(np.sort(y), x, side="left").mean() / len(y))
        if shuffled >= MIN_BROKEN and shuffled * len(x) >= EXPECTED_BROKEN:
            strict = float((x < y).all())
            quantiles = np.quantile(y - x, LEVELS).tolist()
            rules.append(Rule("order", [a.name, b.name], [strict, *quantiles]))
    return rules


def _unbroken(
    rules: list[Rule], source: Source, columns: list[Column], exact: dict[str, float]
) -> list[Rule]:
    """The rules that no row of the source breaks; `<` becomes `<=` if two values are equal."""
    names = {name for rule in rules for name in rule.columns}
    columns = [c for c in columns if c.name in names]
    for block in source.blocks(BLOCK_ROWS):
        values = values_of(block.arrow().select(sorted(names)), columns)
        for i, rule in enumerate(rules):
            if rule.kind == "order" and (rule.off(values) == 0).any():
                rules[i] = Rule(rule.kind, rule.columns, [0.0, *rule.numbers[1:]])
        rules = [rule for rule in rules if not rule.broken(values, exact).any()]
    return rules


def _without_implied(rules: list[Rule]) -> list[Rule]:
    """The rules without orders that follow from two others: a <= c from a <= b and b <= c."""
    pairs = {tuple(rule.columns) for rule in rules if rule.kind == "order"}
    names = {name for pair in pairs for name in pair}

    def implied(a: str, b: str) -> bool:
        return any({(a, name), (name, b)} <= pairs for name in names)

    return [rule for rule in rules if rule.kind != "order" or not implied(*rule.columns)]
