"""Profiles of columns, and a sample of rows, from one streaming pass in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np

from keyhole.core.layout import MAX_LEVELS
from keyhole.data import cast, dates, levels
from keyhole.data.lazy import pa, pt
from keyhole.data.numerals import OPPOSITE, NumberFormat, Reading, study, study_columns
from keyhole.data.source import ArrowRows, Source

MAX_LEVEL_BYTES = 32 << 20  # of the levels' texts
MAX_NUMBERS = 64  # distinct numbers that are counted


@dataclass
class Profile:
    """Statistics of one column, added up block by block, and a sample of its values.

    `levels` counts texts, booleans, and up to `most_numbers` different numbers. Other values are
    counted only in a column that is typed as, or shall be, a category.
    """

    name: str
    arrow_type: Any = None
    rows: int = 0
    missing: int = 0
    least: float = np.inf
    most: float = -np.inf
    least_rows: int = 0  # that hold the least number
    most_rows: int = 0
    whole: bool = True  # all numbers are integers
    rising: bool = True  # each number is larger than the one before
    not_numbers: int = 0  # texts that are not numbers
    not_number: str = ""  # the first of them in the last block that has any
    levels: Counter[Any] = field(default_factory=Counter)
    overflow: bool = False  # there are more levels than are counted
    heavy: bool = False  # the levels' texts need too much memory
    level_bytes: int = 0
    sample: Any = None  # Arrow array of values from all over the table
    style: str | None = None  # the datetime format of all values
    ambiguous: tuple[str, str] | None = None  # two datetime formats that fit all values
    last: float = -np.inf
    infinite: int = 0  # the first row, from 1, with an infinite number
    dictionary: bool = False  # an Arrow dictionary or a pandas categorical
    most_numbers: int = MAX_NUMBERS  # distinct numbers that are counted
    decimal: str = "."  # the decimal sign of texts
    reading: Reading | None = None  # how texts write numbers
    untyped: bool = False  # texts of a CSV, which may hold any type
    exact_ends: list[str] | None = None  # least and most, where a float64 would round them

    @property
    def observed(self) -> int:
        """The number of cells with a value."""
        return self.rows - self.missing

    @property
    def ends(self) -> tuple[int, int]:
        """The numbers of rows that hold the least and the most number."""
        return self.least_rows, self.most_rows

    @property
    def span(self) -> float:
        """The most minus the least number, exact for whole numbers."""
        if self.exact_ends is not None and pt.is_integer(self.arrow_type):
            return int(self.exact_ends[1]) - int(self.exact_ends[0])
        return self.most - self.least

    @property
    def numeric(self) -> bool:
        """True for a column of numbers, not of codes that consist of digits."""
        text = self.reading
        coded = text and (text.code or text.units > 1 or (text.digits and not self.untyped))
        return self.readable and not coded

    @property
    def readable(self) -> bool:
        """True if at least nine tenths of the values are numbers."""
        return self.observed > 0 and self.not_numbers <= 0.1 * self.observed

    @property
    def format(self) -> NumberFormat | None:
        """How the column's texts write numbers; None for a column of another type."""
        return self.reading.format if self.reading is not None and self.readable else None

    @property
    def plain(self) -> bool:
        """False for texts that write money, percent, thousands or another decimal sign."""
        return self.format is None or self.format.plain

    def add(self, values: Any) -> None:
        """Add a block (an Arrow array)."""
        if pt.is_dictionary(values.type):
            self.dictionary, self.most_numbers = True, MAX_LEVELS
        values = cast.plain(values)
        if self.arrow_type is None or pt.is_null(self.arrow_type):
            self.arrow_type = values.type
        self.rows += len(values)
        if pt.is_boolean(values.type):
            self.missing += values.null_count
        else:
            self._measure(values)
        if not self.overflow and self._counts(values.type):
            text = cast.is_text(values.type) or pt.is_boolean(values.type)
            self._count_levels(levels.count(values), MAX_LEVELS if text else self.most_numbers)

    def _counts(self, arrow_type: Any) -> bool:
        if cast.is_text(arrow_type) or cast.is_numeric(arrow_type) or pt.is_boolean(arrow_type):
            return True
        countable = pt.is_temporal(arrow_type) and not pt.is_interval(arrow_type)
        return countable and self.most_numbers == MAX_LEVELS

    def _measure(self, values: Any) -> None:
        """Add gaps, range and order of a block of numbers."""
        numbers, bad = cast.floats(values, self.decimal)
        self.missing += int(np.isnan(numbers).sum()) - len(bad)
        if len(bad):
            self.not_numbers += len(bad)
            self.not_number = cast.texts(values[int(bad[0]) :][:1])[0].as_py()
        infinite = np.isinf(numbers)
        if infinite.any() and not self.infinite:
            self.infinite = self.rows - len(numbers) + int(infinite.argmax()) + 1
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            return
        self.whole = self.whole and bool((numbers == np.round(numbers)).all())
        self._count_ends(numbers, cast.ends_of(values))
        if pt.is_integer(values.type):  # a float64 cannot tell neighbours of 17 digits apart
            numbers = values.drop_null().to_numpy()
        if self.rising:
            self.rising = bool(numbers[0] > self.last and (numbers[1:] > numbers[:-1]).all())
            self.last = numbers[-1].item()

    def _count_ends(self, numbers: np.ndarray, exact: list[str] | None) -> None:
        """The least and the most number, how many rows hold each, and the exact ones."""
        least, most = float(numbers.min()), float(numbers.max())
        if least <= self.least:
            previous = self.least_rows if least == self.least else 0
            self.least, self.least_rows = least, previous + int((numbers == least).sum())
        if most >= self.most:
            previous = self.most_rows if most == self.most else 0
            self.most, self.most_rows = most, previous + int((numbers == most).sum())
        if exact is not None and self.exact_ends is not None:
            lows, highs = zip(map(Decimal, exact), map(Decimal, self.exact_ends), strict=True)
            exact = [f"{min(lows):f}", f"{max(highs):f}"]
        self.exact_ends = exact or self.exact_ends

    def _count_levels(self, counts: Counter[Any], most: int) -> None:
        """Add levels, until they are more than `most`, or their texts need too much memory."""
        texts = (key for key in counts if isinstance(key, str) and key not in self.levels)
        self.level_bytes += sum(map(len, texts))
        self.levels.update(counts)
        if self.level_bytes > MAX_LEVEL_BYTES:
            self.levels, self.overflow, self.heavy = Counter(), True, True
        elif len(self.levels) > most:
            self.levels, self.overflow = Counter(dict(self.levels.most_common(most))), True

    def numbers(self) -> np.ndarray:
        """The finite numbers of the sample."""
        numbers, _ = cast.floats(self.sample, self.decimal)
        return numbers[np.isfinite(numbers)]


FIRST = 1_000  # texts that show whether a column holds numbers at all
BATCH_BYTES = 1 << 20  # of texts that are parsed together
MAX_DATES = 10_000  # texts from which a datetime format is learned


def read_texts(profiles: dict[str, Profile], rows: ArrowRows, formats: dict[str, str]) -> None:
    """Set the sample of each profile, and how its texts write numbers and datetimes.

    A column whose texts do not decide the decimal sign has that of the other columns or the file.
    """
    for name, profile in profiles.items():
        values = rows.column(name)
        profile.sample = cast.texts(values) if cast.is_text(values.type) else values
        profile.untyped = rows.dialect is not None
    texts = [p for p in profiles.values() if cast.is_text(p.sample.type)]
    _read_numbers(texts, formats)
    for profile in profiles.values():
        _read_datetimes(profile)
    signs = Counter(p.reading.format.decimal for p in texts if p.reading and p.reading.sure)
    common = signs.most_common(1)[0][0] if signs else ""
    if prefer := common or (rows.dialect.decimal if rows.dialect else ""):
        _read_numbers([p for p in texts if p.reading and not p.reading.sure], {}, prefer)


def _read_numbers(profiles: list[Profile], formats: dict[str, str], prefer: str = "") -> None:
    """Set how the texts of profiles write numbers; None if fewer than half are numbers."""
    for batch in _batches(profiles):
        signs = [formats.get(profile.name, "") for profile, _ in batch]
        signs = [sign if sign in OPPOSITE else "" for sign in signs]
        readings = study_columns([texts for _, texts in batch], signs, prefer)
        for (profile, _), sign, reading in zip(batch, signs, readings, strict=True):
            numeric, texts = reading.share >= 0.5, profile.sample.drop_null()
            if numeric and len(texts) > FIRST:
                reading = study(texts, prefer, sign)  # noqa: PLW2901
            profile.reading = reading if numeric else None


def _batches(profiles: list[Profile]) -> Iterator[list[tuple[Profile, Any]]]:
    """Profiles with their first texts, in batches of about `BATCH_BYTES`."""
    batch = []
    for profile in profiles:
        texts = profile.sample[: FIRST + profile.sample.null_count].drop_null()[:FIRST]
        batch.append((profile, texts))
        if sum(some.nbytes for _, some in batch) > BATCH_BYTES:
            yield batch
            batch = []
    yield from [batch] if batch else []


def _read_datetimes(profile: Profile) -> None:
    values = profile.sample.drop_null()
    if pt.is_integer(values.type) and profile.least > 19e6 and profile.most < 21e12:
        profile.style = dates.digits_style(cast.texts(values))
    if not cast.is_text(values.type):
        return
    if profile.reading is not None:
        profile.style = dates.digits_style(values) if profile.reading.digits else None
        return
    indices = np.linspace(0, len(values) - 1, min(len(values), MAX_DATES)).astype(np.int64)
    styles = dates.styles(values.take(indices))
    profile.style = styles[0] if len(styles) == 1 else None
    profile.ambiguous = (styles[0], styles[1]) if len(styles) > 1 else None


SAMPLE_ROWS = 65_536  # the standard error of a quantile's rank is then at most 0.2 %
SAMPLE_BYTES = 256 << 20
BLOCK_ROWS = 65_536


class SourceProfile:
    """Profiles of the columns of a source, and a uniform sample of its rows in their order.

    Images are not `profiled`. `formats` are number and datetime formats that a user gave.
    """

    def __init__(
        self,
        source: Source,
        names: Sequence[str],
        kinds: dict[str, str] | None = None,
        formats: dict[str, str] | None = None,
        *,
        profiled: bool = True,
        most_bytes: int = SAMPLE_BYTES,
    ) -> None:
        self.rows = 0
        self.profiles = {name: Profile(name) for name in names} if profiled else {}
        for name in (n for n, kind in (kinds or {}).items() if kind == "category"):
            self.profiles[name].most_numbers = MAX_LEVELS
        self.sample = self._read(source, list(names), most_bytes)
        if profiled:
            read_texts(self.profiles, ArrowRows(self.sample), formats or {})
            self._read_commas(source)

    def _read_commas(self, source: Source) -> None:
        """Profile columns with decimal commas again: the first pass took them for points."""
        commas = {
            p.name: Profile(
                p.name, decimal=",", untyped=p.untyped, reading=p.reading, sample=p.sample,
                most_numbers=p.most_numbers,
            )
            for p in self.profiles.values()
            if p.reading and p.reading.format.decimal == "," and not p.style
        }  # fmt: skip
        self.profiles |= commas
        for block in source.blocks(BLOCK_ROWS) if commas else ():
            for name, profile in commas.items():
                profile.add(block.column(name))

    def _read(self, source: Source, names: list[str], most_bytes: int) -> pa.Table:
        """Profile all blocks; returns the rows with the smallest random keys."""
        rng, most_rows = np.random.default_rng(0), SAMPLE_ROWS
        tables: list[pa.Table] = []
        keys: list[np.ndarray] = []
        limit = 1.0  # rows with a larger key are not in the sample
        for block in source.blocks(BLOCK_ROWS):
            self.rows += len(block)
            table = block.arrow().select(names)
            for name, profile in self.profiles.items():
                coded = pt.is_dictionary(table.schema.field(name).type)
                profile.add(table.column(name) if coded else block.column(name))
            heavy = [name for name, profile in self.profiles.items() if profile.heavy]
            if heavy:  # such columns are ignored, so the sample does not need them
                tables, table = [_emptied(t, heavy) for t in tables], _emptied(table, heavy)
            if len(block) and table.nbytes:
                most_rows = min(most_rows, max(100, most_bytes * len(block) // table.nbytes))
            key = rng.random(len(block))
            chosen = np.flatnonzero(key < limit)
            tables.append(table if len(chosen) == len(block) else table.take(chosen))
            keys.append(key[chosen])
            if sum(map(len, keys)) > 2 * most_rows:
                table, key = _smallest(tables, keys, most_rows)
                tables, keys, limit = [table], [key], float(key.max())
        if not tables:
            return pa.table({name: pa.nulls(0) for name in names})
        return _smallest(tables, keys, most_rows)[0]


def _emptied(table: pa.Table, names: list[str]) -> pa.Table:
    for name in names:
        nulls = pa.nulls(len(table), table.schema.field(name).type)
        table = table.set_column(table.column_names.index(name), name, nulls)
    return table


def _smallest(
    tables: list[pa.Table], keys: list[np.ndarray], count: int
) -> tuple[pa.Table, np.ndarray]:
    """The `count` rows with the smallest keys, in their order, and these keys."""
    table, key = pa.concat_tables(tables, promote_options="permissive"), np.concatenate(keys)
    if len(key) <= count:
        return table, key
    rows = np.sort(np.argpartition(key, count)[:count])
    return table.take(rows), key[rows]
