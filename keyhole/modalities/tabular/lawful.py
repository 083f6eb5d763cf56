"""Rows with given values, and drawn rows that keep the rules between columns."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from keyhole.data import cast
from keyhole.data.lazy import pa, pc, pt
from keyhole.data.levels import value_key
from keyhole.data.source import Rows
from keyhole.errors import BundleError, DataError, SettingError
from keyhole.modalities.tabular.columns import Boolean, Category, Column, Count, Datetime, Number
from keyhole.modalities.tabular.columns.base import Grid, snapped
from keyhole.modalities.tabular.rules import Rule, Values, exactness, range_of, values_of

TRIES = 16  # times that a row which breaks a rule is drawn again
CLOSE = 0.5  # share of both ranges up to which the differences of two columns are small
MIN_RANKED = 30  # rows from which on the ranks of differences are used
ROUNDS = 8  # of correction: one rule may undo another
Free = Mapping[str, np.ndarray]  # by column: True for rows whose value was drawn


@dataclass(frozen=True)
class Lawful:
    """The rules of a table, and their columns."""

    rules: Sequence[Rule]
    columns: Sequence[Column]
    grids: Mapping[str, Grid]

    def rows(self, draw: Callable[[np.ndarray], pa.Table], free: Free, seed: int) -> pa.Table:
        """The rows 0, 1, ... of `draw`, changed to keep the rules where they can.

        A row that breaks a rule is drawn again, so draws are those of the model given the rules.
        After `TRIES` the row is corrected: a difference is drawn from those of training data, a
        sum is computed. Rules whose values are all fixed are not applied.
        """
        count, rng = len(next(iter(free.values()))), np.random.default_rng(seed)
        table = self._solved(draw(np.arange(count)), free, rng)
        for _ in range(TRIES):
            broken = np.flatnonzero(self._unlawful(values_of(table, self.columns), free))
            if not len(broken):
                return table
            free_again = {name: rows[broken] for name, rows in free.items()}
            again = self._solved(draw(broken), free_again, rng)
            indices = np.arange(count)
            indices[broken] = count + np.arange(len(broken))
            table = pa.concat_tables([table, again.cast(table.schema)]).take(indices)
        return self.mended(table, free, seed)

    def whole(self, table: pa.Table, free: Free) -> pa.Table:
        """The rows, copies of others instead of broken ones. Raises: SettingError if all are."""
        broken = self.broken(values_of(table, self.columns), free)
        if not broken.any():
            return table
        unbroken = np.flatnonzero(~broken)
        if not len(unbroken):
            raise SettingError(
                f"no generated row satisfies {', '.join(map(str, self.rules[:3]))}; generate "
                "more rows, give fewer values, or switch rules off (rules=False, --no-rules)"
            )
        rows = np.arange(len(broken))
        return table.take(np.where(broken, unbroken[rows % len(unbroken)], rows))

    def mended(self, table: pa.Table, free: Free, seed: int = 0) -> pa.Table:
        """The rows with free values changed, within their ranges, where they break a rule."""
        rng = np.random.default_rng(seed)
        before = values_of(table, self.columns)
        values = dict(before)
        for _ in range(ROUNDS):
            if not self._unlawful(values, free).any():
                break
            for rule in self.rules:
                if rule.kind == "order":
                    self._order(rule, values, free, rng)
                else:
                    self._solve(rule, values, free, clip=True)
        return self._changed(table, values, before)

    def broken(self, values: Values, free: Free) -> np.ndarray:
        """True for rows that break a rule of a free value, or with a free value out of range."""
        broken = np.zeros(len(next(iter(values.values()))), bool)
        for rule in self.rules:
            any_free = np.any([free[name] for name in rule.columns], axis=0)
            broken |= any_free & rule.broken(values, self._exact)
            for name in rule.columns if rule.kind != "order" else ():
                (low, high), exact = self._ranges[name], self._exact[name]
                outside = (values[name] < low - exact) | (values[name] > high + exact)
                broken |= free[name] & outside
        return broken

    def _unlawful(self, values: Values, free: Free) -> np.ndarray:
        """The broken rows, and those whose two free values differ more than in training data."""
        unlawful = self.broken(values, free)
        for rule in self.rules:
            if rule.kind == "order":
                both = free[rule.columns[0]] & free[rule.columns[1]]
                unlawful |= both & (-rule.off(values) > _most_distance(rule))
        return unlawful

    def read(self, rows: Rows) -> pa.Table:
        """The columns of the rules, as a table."""
        return pa.table({column.name: rows.column(column.name) for column in self.columns})

    def overlaid(self, table: pa.Table, rows: pa.Table, free: Free) -> pa.Table:
        """Drawn rows with the fixed values of `rows`."""
        before, fixed = values_of(table, self.columns), values_of(rows, self.columns)
        values = {
            name: np.where(free[name] | np.isnan(array), before[name], array)
            for name, array in fixed.items()
        }
        return self._changed(table, values, before)

    def refuse(self, given: pa.Table, names: Sequence[str]) -> None:
        """Raises: SettingError for given values (one row) that break a rule together."""
        fixed = [column for column in self.columns if column.name in names]
        values = {c.name: np.array([np.nan]) for c in self.columns} | values_of(given, fixed)
        free = {name: np.isnan(array) for name, array in values.items()}
        advice = "give other values, or switch rules off (rules=False, --no-rules)"
        for rule in self.rules:
            known = [name for name in rule.columns if name in names]
            shown = ", ".join(f"{name}={given.column(name)[0].as_py()}" for name in known)
            if rule.broken(values, self._exact).any():
                raise SettingError(f"given {shown}: all training rows satisfy {rule}; {advice}")
            free_names = [name for name in rule.columns if free[name][0]]
            if rule.kind == "order" or len(free_names) != 1:
                continue
            name, column = free_names[0], self._by_name[free_names[0]]
            value, (low, high) = _solution(rule, name, values)[0], range_of(column)
            if not low - self._exact[name] <= value <= high + self._exact[name]:
                ends = column.text(column.typed(np.array([low, high])))  # pyright: ignore
                raise SettingError(
                    f"given {shown}: all training rows satisfy {rule}, and {name} was "
                    f"{ends[0]} to {ends[1]} there; {advice}"
                )

    def _solved(self, table: pa.Table, free: Free, rng: np.random.Generator) -> pa.Table:
        """The rows with sums and lines solved, and small differences as in training data."""
        before = values_of(table, self.columns)
        values = dict(before)
        for rule in self.rules:
            if rule.kind != "order":
                self._solve(rule, values, free)
                continue
            widths = [high - low for low, high in (self._ranges[name] for name in rule.columns)]
            if rule.numbers[-1] - rule.numbers[1] < CLOSE * min(widths):  # days of a stay in years
                self._match(rule, values, free, rng)
        return self._changed(table, values, before)

    def _solve(self, rule: Rule, values: Values, free: Free, *, clip: bool = False) -> None:
        """Solve a sum or line for the last free value; if that is clipped, for the one before."""
        unsolved = ~np.isnan(sum(values[name] for name in rule.columns))
        for name in reversed(rule.columns):
            rows = unsolved & free[name]
            if not rows.any():
                continue
            solution = _solution(rule, name, values)
            step = self.grids.get(name, {}).get("step")
            solution = snapped(solution, {"step": step}, 0.0) if step else solution
            clipped = np.clip(solution, *self._ranges[name]) if clip else solution
            values[name] = np.where(rows, clipped, values[name])
            unsolved &= ~(rows & (clipped == solution))

    def _order(self, rule: Rule, values: Values, free: Free, rng: np.random.Generator) -> None:
        """Move free values that break an order to a distance drawn from training data."""
        a, b = rule.columns
        both = free[a] & free[b]
        broken = rule.broken(values, self._exact) & (free[a] | free[b])
        broken |= both & (-rule.off(values) > _most_distance(rule))
        if not broken.any():
            return
        distance = self._distances(rule, rng.random(len(broken)))
        fixed: Any = {name: range_of(self._by_name[name]) for name in (a, b)}
        ranges = self._ranges if both[broken].all() else fixed
        move_b = broken & free[b]
        moved = np.where(move_b, np.clip(values[a] + distance, *ranges[b]), values[b])
        move_a = broken & free[a] & ((moved < values[a] + distance) | ~move_b)
        values[b] = moved
        values[a] = np.where(move_a, np.clip(moved - distance, *ranges[a]), values[a])

    def _match(self, rule: Rule, values: Values, free: Free, rng: np.random.Generator) -> None:
        """Move the second value, or else the first, to a difference as in training data.

        Independent draws of two columns have a wrong difference, but a useful rank of it.
        """
        a, b = rule.columns
        distance = -rule.off(values)
        rows = np.flatnonzero(~np.isnan(distance) & (free[a] | free[b]))
        levels = rng.random(len(rows))
        if len(rows) >= MIN_RANKED:
            levels = (np.argsort(np.argsort(distance[rows])) + levels) / len(rows)
        distance = self._distances(rule, levels)
        move_b = free[b][rows]
        first, second = values[a].copy(), values[b].copy()  # Arrow's memory is read-only
        second[rows] = np.where(move_b, first[rows] + distance, second[rows])
        first[rows] = np.where(move_b, first[rows], second[rows] - distance)
        values[a], values[b] = first, second

    def _distances(self, rule: Rule, levels: np.ndarray) -> np.ndarray:
        """Quantiles of the difference in training data, on the coarser step of both columns."""
        distances = np.interp(levels, np.linspace(0, 1, len(rule.numbers) - 1), rule.numbers[1:])
        steps = [self.grids.get(name, {}).get("step", [0.0])[0] for name in rule.columns]
        step = max(*steps, getattr(self._by_name[rule.columns[0]], "step_s", 0.0))
        distances = np.round(distances / step) * step if step else distances
        return np.maximum(distances, step if rule.numbers[0] else 0.0)

    def _changed(self, table: pa.Table, values: Values, before: Values) -> pa.Table:
        for name, numbers in values.items():
            changed = (numbers != before[name]) & ~np.isnan(numbers)
            if changed.any():
                new: Any = self._by_name[name].typed(np.where(changed, numbers, 0.0))  # pyright: ignore
                index = table.column_names.index(name)
                old = table.column(index)
                new = pc.if_else(pa.array(changed), new.cast(old.type), old)  # pyright: ignore
                table = table.set_column(index, name, new)
        return table

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    @cached_property
    def _ranges(self) -> dict[str, Any]:
        """The smallest and largest value that may be drawn."""
        grids = {c.name: self.grids.get(c.name, {}) for c in self.columns}
        return {c.name: grids[c.name].get("between", range_of(c)) for c in self.columns}

    @cached_property
    def _exact(self) -> dict[str, float]:
        return exactness(self.columns)


def _most_distance(rule: Rule) -> float:
    """The largest likely difference, a little beyond the outermost stored quantile."""
    middle, last = rule.numbers[len(rule.numbers) // 2], rule.numbers[-1]
    return last + 0.25 * max(last - middle, 0.0)


def _solution(rule: Rule, name: str, values: Values) -> np.ndarray:
    """A sum or a line solved for this column."""
    if rule.kind == "line":
        (a, b), (slope, offset) = rule.columns, rule.numbers
        return slope * values[a] + offset if name == b else (values[b] - offset) / slope
    (a, b, c), (unit,) = rule.columns, rule.numbers
    if name == c:
        return values[a] + unit * values[b]
    return (values[c] - values[a]) / unit if name == b else values[c] - unit * values[b]


def given_row(columns: list[Column], types: pa.Schema, given: Mapping[str, Any]) -> pa.Table:
    """One row with these values, all others missing, checked against what training data held.

    Raises: DataError for an unknown column, SettingError for a value outside of training data.
    """
    if not isinstance(given, Mapping):
        raise SettingError(f"given={given!r:.60}: give values by column, {{'price': 2.5}}")
    by_name = {column.name: column for column in columns}
    for name in given:
        if name not in by_name:
            hint = _hint(str(name), list(by_name), f"columns: {list(by_name)[:20]}", cutoff=0.5)
            raise DataError(f"given={name!r}: this model has no such column; {hint}")
    arrays = {}
    for field in types:
        if field.name not in given:
            arrays[field.name] = pa.nulls(1, field.type)
            continue
        value = given[field.name]
        _check(by_name[field.name], value)
        try:
            arrays[field.name] = _array(value, field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as fault:
            message = f"given {field.name}={value!r:.60}: the column has the type {field.type}"
            raise SettingError(message) from fault
    return pa.table(arrays)


def _array(value: Any, wanted: Any) -> Any:
    plain = wanted.value_type if pa.types.is_dictionary(wanted) else wanted
    if isinstance(value, str) and pa.types.is_integer(plain):
        value = float(value)  # some files write 1 as 1.0
    if isinstance(value, str) and not pa.types.is_string(plain):
        array = pa.array([value]).cast(plain)
    else:
        array = pa.array([value], plain)
        if isinstance(value, float) and array[0].as_py() != value and pa.types.is_integer(plain):
            raise ValueError("not a whole number")
    return array.dictionary_encode().cast(wanted) if plain is not wanted else array


def _check(column: Column, value: Any) -> None:
    """Raises: SettingError for a level, number or datetime outside of training data."""
    shown = f"given {column.name}={value!r:.60}"
    if isinstance(column, Category | Boolean):
        levels = column.levels if isinstance(column, Category) else [column.no, column.yes]
        known = [str(level) for level in levels]
        if value_key(str(value)) not in {value_key(level) for level in known}:
            hint = _hint(str(value), known, f"such as {levels[:8]}")
            raise SettingError(f"{shown}: this level is not in the training data; {hint}")
    if isinstance(column, Datetime):
        seconds, unreadable = cast.seconds(pa.array([value]), column.style)
        (least, most), texts = column.range_s, column.met()
        point_mass = column.point_mass is not None and seconds[0] == column.point_mass[0]
        if len(unreadable) or not (least <= seconds[0] <= most or point_mass):
            raise SettingError(
                f"given {column.name}={value!s:.60}: the training data range from {texts[0]} "
                f"to {texts[1]}"
            )
    if isinstance(column, Number | Count):
        try:
            number = float(value)
        except (TypeError, ValueError):
            return  # `given_row` checks the type
        least, most = range_of(column)
        if not least <= number <= most:
            raise SettingError(f"{shown}: the training data range from {least:g} to {most:g}")


def check_types(columns: list[Column], schema: pa.Schema) -> None:
    """Raises: BundleError for decoded values of a type that a kind of column does not make."""
    for column in columns:
        type_ = schema.field(column.name).type
        plain = pt.is_integer(type_) or pt.is_floating(type_)
        if isinstance(column, Number | Count):
            valid = plain or pt.is_duration(type_)
        else:  # a date may be a number: 20240131, epochs
            written = pt.is_timestamp(type_) or pt.is_date(type_) or pt.is_string(type_)
            dated = written or (plain and getattr(column, "style", cast.ISO) != cast.ISO)
            valid = dated or not isinstance(column, Datetime)
        if not valid:
            raise BundleError(f"column {column.name!r:.80} is a {column.kind} of type {type_}")


def _hint(name: str, known: list[str], otherwise: str, cutoff: float = 0.6) -> str:
    close = difflib.get_close_matches(name, known, 1, cutoff=cutoff)
    return f"did you mean {close[0]!r}?" if close else otherwise
