"""Drawn rows that keep the rules between columns: drawn again, then corrected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from keyhole.data.source import Rows
from keyhole.errors import SettingError
from keyhole.modalities.tabular.columns import Column
from keyhole.modalities.tabular.columns.grids import Grid, snapped
from keyhole.modalities.tabular.rules import Rule, exactness, range_of, values_of

if TYPE_CHECKING:
    import pyarrow as pa


TRIES = 16  # times that a row which breaks a rule is drawn again
CLOSE = 0.5  # share of both ranges that the differences of training reach over
LEAST_RANKED = 30  # rows whose differences have ranks
ROUNDS = 8  # of mending: one rule may undo another
Free = Mapping[str, np.ndarray]  # by column: True for rows whose cell was drawn


@dataclass(frozen=True)
class Lawful:
    """The rules of a table, and the columns that they are about."""

    rules: Sequence[Rule]
    columns: Sequence[Column]
    grids: Mapping[str, Grid]

    def rows(self, draw: Callable[[np.ndarray], pa.Table], free: Free, seed: int) -> pa.Table:
        """The rows that `draw` gives for places 0, 1, ..., each keeping all rules it can keep.

        A row that breaks a rule is drawn again, so draws are those of the model given the rules. A
        row that still breaks one is mended: a difference is drawn from those of training, a sum is
        counted. Rules of cells that are all fixed are left as they are.
        """
        import pyarrow as pa

        count, rng = len(next(iter(free.values()))), np.random.default_rng(seed)
        table = self._counted(draw(np.arange(count)), free, rng)
        for _ in range(TRIES):
            values = values_of(table, self.columns)
            wrong = np.flatnonzero(self.broken(values, free) | self._unlikely(values, free))
            if not len(wrong):
                return table
            some = {name: features[wrong] for name, features in free.items()}
            again = self._counted(draw(wrong), some, rng)
            place = np.arange(count)
            place[wrong] = count + np.arange(len(wrong))
            table = pa.concat_tables([table, again.cast(table.schema)]).take(place)
        return self.mended(table, free, seed)

    def whole(self, table: pa.Table, free: Free) -> pa.Table:
        """The rows; in place of one that keeps breaking a rule, another of them.

        Raises: SettingError where all of them break one.
        """
        wrong = self.broken(values_of(table, self.columns), free)
        if not wrong.any():
            return table
        good = np.flatnonzero(~wrong)
        if not len(good):
            raise SettingError(
                f"no row was drawn that keeps {', '.join(map(str, self.rules[:3]))}; ask for more "
                "rows, give less, or switch rules off (rules=False, --no-rules)"
            )
        return table.take(np.where(wrong, good[np.arange(len(wrong)) % len(good)],
                                   np.arange(len(wrong))))  # fmt: skip

    def mended(self, table: pa.Table, free: Free, seed: int = 0) -> pa.Table:
        """The rows with free cells changed where they break a rule, within what training met."""
        rng = np.random.default_rng(seed)
        values = values_of(table, self.columns)
        before = {name: features.copy() for name, features in values.items()}
        for _ in range(ROUNDS):
            wrong = self.broken(values, free)
            unlikely = self._unlikely(values, free)
            if not (wrong | unlikely).any():
                break
            for rule in self.rules:
                if rule.kind == "order":
                    self._ordered(rule, values, free, rng)
                else:
                    self._count(rule, values, free, within=True)
        return self._put(table, values, before)

    def broken(self, values: dict[str, np.ndarray], free: Free) -> np.ndarray:
        """True for rows that break a rule in which a free cell takes part, or leave a range."""
        wrong = np.zeros(len(next(iter(values.values()))), bool)
        for rule in self.rules:
            some = np.any([free[name] for name in rule.columns], axis=0)
            wrong |= some & rule.broken(values, self._exact)
            for name in rule.columns if rule.kind != "order" else ():
                low, high = self._ranges[name]
                exact = self._exact[name]
                outside = (values[name] < low - exact) | (values[name] > high + exact)
                wrong |= some & free[name] & outside
        return wrong

    def _unlikely(self, values: dict[str, np.ndarray], free: Free) -> np.ndarray:
        """True for rows with a difference of two drawn cells beyond those of training."""
        wrong = np.zeros(len(next(iter(values.values()))), bool)
        for rule in self.rules:
            if rule.kind == "order":
                both = free[rule.columns[0]] & free[rule.columns[1]]
                wrong |= both & (-rule.off(values) > _reach(rule))
        return wrong

    def read(self, rows: Rows) -> pa.Table:
        """The columns of the rules, as a table."""
        import pyarrow as pa

        return pa.table({column.name: rows.column(column.name) for column in self.columns})

    def overlaid(self, table: pa.Table, rows: pa.Table, free: Free) -> pa.Table:
        """Drawn rows with the fixed cells exactly as `rows` hold them."""
        values, fixed = values_of(table, self.columns), values_of(rows, self.columns)
        before = {name: features.copy() for name, features in values.items()}
        for name, features in fixed.items():
            values[name] = np.where(free[name] | np.isnan(features), values[name], features)
        return self._put(table, values, before)

    def refuse(self, given: pa.Table, names: Sequence[str]) -> None:
        """Raises: SettingError for given values (one row) that no row can hold together."""
        fixed = [column for column in self.columns if column.name in names]
        values = {c.name: np.array([np.nan]) for c in self.columns} | values_of(given, fixed)
        free = {name: np.isnan(features) for name, features in values.items()}
        for rule in self.rules:
            shown = ", ".join(
                f"{n}={given.column(n)[0].as_py()}" for n in rule.columns if n in names
            )
            if rule.broken(values, self._exact).any():
                raise SettingError(
                    f"given {shown}: all training rows keep {rule}; give other values, or switch "
                    "rules off (rules=False, --no-rules)"
                )
            if rule.kind == "order" or sum(free[name][0] for name in rule.columns) != 1:
                continue
            (name,) = [name for name in rule.columns if free[name][0]]
            wanted = _solved(rule, name, values)[0]
            low, high = range_of(self._by_name[name])
            if not low - self._exact[name] <= wanted <= high + self._exact[name]:
                column = self._by_name[name]
                ends = column.text(column.typed(np.array([low, high])))  # pyright: ignore
                raise SettingError(
                    f"given {shown}: all training rows keep {rule}, and {name} was {ends[0]} to "
                    f"{ends[1]} there; give other values, or switch rules off (rules=False, "
                    "--no-rules)"
                )

    def _counted(self, table: pa.Table, free: Free, rng: np.random.Generator) -> pa.Table:
        """The rows with sums and lines counted, and close differences as those of training."""
        values = values_of(table, self.columns)
        before = {name: features.copy() for name, features in values.items()}
        for rule in self.rules:
            if rule.kind != "order":
                self._count(rule, values, free)
            elif self._close(rule):
                self._match(rule, values, free, rng)
        return self._put(table, values, before)

    def _count(
        self, rule: Rule, values: dict[str, np.ndarray], free: Free, *, within: bool = False
    ) -> None:
        """One free cell of each row, the last of the rule, as the others ask for.

        `within` the range of its column: where that cuts it off, the next free cell follows.
        """
        left = ~np.isnan(sum(values[name] for name in rule.columns))
        for name in reversed(rule.columns):
            rows = left & free[name]
            if not rows.any():
                continue
            wanted = _solved(rule, name, values)
            step = self.grids.get(name, {}).get("step")
            wanted = snapped(wanted, {"step": step}, 0.0) if step else wanted
            feature = np.clip(wanted, *self._ranges[name]) if within else wanted
            values[name] = np.where(rows, feature, values[name])
            left = left & ~(rows & (feature == wanted))

    def _ordered(
        self, rule: Rule, values: dict[str, np.ndarray], free: Free, rng: np.random.Generator
    ) -> None:
        """Two cells in order: the free one at a distance drawn from those of training."""
        a, b = rule.columns
        both = free[a] & free[b]
        wrong = rule.broken(values, self._exact) & (free[a] | free[b])
        wrong |= both & (-rule.off(values) > _reach(rule))
        if not wrong.any():
            return
        away = self._away(rule, rng.random(len(wrong)))
        ends = range_of if not both[wrong].all() else lambda column: self._ranges[column.name]
        (low_a, high_a), (low_b, high_b) = (ends(self._by_name[name]) for name in (a, b))
        move_b = wrong & free[b]
        moved = np.where(move_b, np.clip(values[a] + away, low_b, high_b), values[b])
        still = wrong & free[a] & ((moved < values[a] + away) | ~move_b)
        values[b] = moved
        values[a] = np.where(still, np.clip(moved - away, low_a, high_a), values[a])

    def _close(self, rule: Rule) -> bool:
        """True where two columns differ by little of their ranges: a stay, beside a year."""
        reach = [high - low for low, high in (self._ranges[name] for name in rule.columns)]
        return rule.numbers[-1] - rule.numbers[1] < CLOSE * min(reach)

    def _match(
        self, rule: Rule, values: dict[str, np.ndarray], free: Free, rng: np.random.Generator
    ) -> None:
        """The second cell, or else the first, at the distance of training with the rank drawn.

        Two cells that are drawn apart know their distance badly; its rank keeps what goes with it.
        """
        a, b = rule.columns
        away = -rule.off(values)
        rows = np.flatnonzero(~np.isnan(away) & (free[a] | free[b]))
        levels = rng.random(len(rows))
        if len(rows) >= LEAST_RANKED:
            levels = (np.argsort(np.argsort(away[rows])) + levels) / len(rows)
        away = self._away(rule, levels)
        move_b = free[b][rows]
        first, second = values[a].copy(), values[b].copy()  # Arrow's own memory is read-only
        second[rows] = np.where(move_b, first[rows] + away, second[rows])
        first[rows] = np.where(move_b, first[rows], second[rows] - away)
        values[a], values[b] = first, second

    def _away(self, rule: Rule, levels: np.ndarray) -> np.ndarray:
        """Quantiles of the difference in training, on the coarser step of both columns."""
        places = np.linspace(0, 1, len(rule.numbers) - 1)
        away = np.interp(levels, places, rule.numbers[1:])
        steps = [self.grids.get(name, {}).get("step", [0.0])[0] for name in rule.columns]
        step = max(*steps, getattr(self._by_name[rule.columns[0]], "step_s", 0.0))
        away = np.round(away / step) * step if step else away
        return np.maximum(away, step if rule.numbers[0] else 0.0)

    def _put(
        self, table: pa.Table, values: dict[str, np.ndarray], before: dict[str, np.ndarray]
    ) -> pa.Table:
        """The table with the values that changed."""
        import pyarrow as pa
        import pyarrow.compute as pc

        for place, name in enumerate(table.column_names):
            if name not in values:
                continue
            changed = (values[name] != before[name]) & ~np.isnan(values[name])
            if changed.any():
                now: Any = self._by_name[name].typed(np.where(changed, values[name], 0.0))  # pyright: ignore
                old = table.column(place)
                now = pc.if_else(pa.array(changed), now.cast(old.type), old)  # pyright: ignore
                table = table.set_column(place, name, now)
        return table

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    @cached_property
    def _ranges(self) -> dict[str, tuple[float, float]]:
        """Between which ends cells may be drawn."""
        return {
            c.name: tuple(self.grids.get(c.name, {}).get("between", range_of(c)))  # pyright: ignore
            for c in self.columns
        }

    @cached_property
    def _exact(self) -> dict[str, float]:
        return exactness(self.columns)


def _reach(rule: Rule) -> float:
    """The largest difference that is drawn, a little beyond the outermost quantile kept."""
    middle, last = rule.numbers[len(rule.numbers) // 2], rule.numbers[-1]
    return last + 0.25 * max(last - middle, 0.0)


def _solved(rule: Rule, name: str, values: dict[str, np.ndarray]) -> np.ndarray:
    """What a column must hold, by the others of a sum or a line."""
    if rule.kind == "line":
        (a, b), (slope, offset) = rule.columns, rule.numbers
        return slope * values[a] + offset if name == b else (values[b] - offset) / slope
    (a, b, c), (unit,) = rule.columns, rule.numbers
    if name == c:
        return values[a] + unit * values[b]
    if name == b:
        return (values[c] - values[a]) / unit
    return values[c] - unit * values[b]
