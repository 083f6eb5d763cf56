"""One streaming pass over a table: a profile of each column and a sample of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keyhole.core.layout import MOST_LEVELS
from keyhole.data import cast, dates
from keyhole.data.numerals import OPPOSITE
from keyhole.data.source import ArrowRows, Source
from keyhole.modalities.tabular.profile import Parsed, Profile, reading_of, study

if TYPE_CHECKING:
    import pyarrow as pa


FIRST = 1_000  # texts that show whether a column holds numbers at all
MOST_BYTES = 1 << 20  # of texts that are parsed at once
MOST_DATES = 10_000  # texts that tell the format


def read_texts(profiles: dict[str, Profile], rows: ArrowRows, formats: dict[str, str]) -> None:
    """Give each profile its sample, and what its texts tell of numbers and moments.

    Where a column does not show its decimal sign, the other columns and the file do.
    """
    dialect = rows.dialect
    votes = Counter[str]()
    texts = []
    for name, profile in profiles.items():
        profile.sample = rows.column(name)
        profile.untyped = dialect is not None
        if cast.is_text(profile.sample.type):
            profile.sample = cast.texts(profile.sample)
            texts.append(profile)
    _read_numbers(texts, "", formats)
    for profile in profiles.values():
        if profile.reading is not None and profile.reading.sure:
            votes[profile.reading.format.decimal] += 1
        _moments(profile)
    prefer = votes.most_common(1)[0][0] if votes else ""
    prefer = prefer or (dialect.decimal if dialect is not None else "")
    if prefer:
        _read_numbers([p for p in texts if p.reading and not p.reading.sure], prefer, {})


def _read_numbers(profiles: list[Profile], prefer: str, formats: dict[str, str]) -> None:
    """Give profiles what their texts tell of numbers; None where they are none."""
    for some in _together(profiles):
        for profile, first in zip(some, Parsed.of([_first(p) for p in some]), strict=True):
            told = formats.get(profile.name, "")
            told = told if told in OPPOSITE else ""
            reading = reading_of(first, prefer, told)
            texts = profile.sample.drop_null()
            if reading.share >= 0.5 and len(texts) > FIRST:
                profile.reading = study(texts, prefer, told)
            else:
                profile.reading = reading if reading.share >= 0.5 else None


def _together(profiles: list[Profile]) -> Iterator[list[Profile]]:
    """The profiles in groups whose first texts are not too many bytes to be parsed at once."""
    some, size = [], 0
    for profile in profiles:
        some.append(profile)
        size += _first(profile).nbytes
        if size > MOST_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _first(profile: Profile) -> Any:
    """The texts that show whether a column holds numbers at all."""
    return profile.sample[: FIRST + profile.sample.null_count].drop_null()[:FIRST]


def _moments(profile: Profile) -> None:
    """How the column writes moments, where it shows it."""
    import pyarrow.types as pt

    sample = profile.sample
    if pt.is_integer(sample.type) and profile.least > 19e6 and profile.most < 21e12:
        profile.style = dates.digits_style(cast.texts(sample.drop_null()))
    if not cast.is_text(sample.type):
        return
    texts = sample.drop_null()
    if profile.reading is not None:
        profile.style = dates.digits_style(texts) if profile.reading.digits else None
        return
    some = np.linspace(0, len(texts) - 1, min(len(texts), MOST_DATES)).astype(np.int64)
    styles = dates.styles(texts.take(some))
    profile.style = styles[0] if len(styles) == 1 else None
    profile.ambiguous = (styles[0], styles[1]) if len(styles) > 1 else None


SAMPLE_ROWS = 65_536  # a quantile from so many is right to about .4 % of the rows
SAMPLE_BYTES = 256 << 20
BLOCK_ROWS = 65_536


class SourceProfile:
    """Profiles and a uniform sample of at most `SAMPLE_ROWS` rows, in their order.

    Images are not profiled; `most_bytes` bounds the sample. `formats` say how columns write
    numbers or moments, where a user tells it.
    """

    def __init__(
        self,
        source: Source,
        names: Sequence[str],
        kinds: dict[str, str] | None = None,
        formats: dict[str, str] | None = None,
        *,
        profiled: bool = True,
        most_bytes: int | None = None,
    ) -> None:
        self.rows = 0
        self.most, self.most_bytes = SAMPLE_ROWS, most_bytes or SAMPLE_BYTES
        self.profiles = {name: Profile(name) for name in names} if profiled else {}
        for name in (n for n, kind in (kinds or {}).items() if kind == "category"):
            self.profiles[name].most_numbers = MOST_LEVELS
        self.sample = self._read(source, list(names))
        if profiled:
            read_texts(self.profiles, ArrowRows(self.sample), formats or {})
            self._read_again(source)

    def _read_again(self, source: Source) -> None:
        """Profile the columns anew whose decimal sign turned out to be a comma."""
        names = [
            n for n, p in self.profiles.items()
            if p.reading and p.reading.format.decimal == "," and not p.style
        ]  # fmt: skip
        if not names:
            return
        first = {name: self.profiles[name] for name in names}
        for name in names:
            self.profiles[name] = Profile(
                name, decimal=",", untyped=first[name].untyped, reading=first[name].reading,
                sample=first[name].sample, most_numbers=first[name].most_numbers,
            )  # fmt: skip
        for block in source.blocks(BLOCK_ROWS):
            for name in names:
                self.profiles[name].add(block.column(name))

    def _read(self, source: Source, names: list[str]) -> pa.Table:
        import pyarrow as pa

        rng = np.random.default_rng(0)
        kept: list[Any] = []
        keys: list[np.ndarray] = []
        limit = 1.0  # rows with a key above it cannot be among the smallest any more
        for block in source.blocks(BLOCK_ROWS):
            self.rows += len(block)
            table = block.arrow().select(names)
            for name, profile in self.profiles.items():
                profile.add(_dictionary(table, name) or block.column(name))
            heavy = [name for name, profile in self.profiles.items() if profile.heavy]
            if heavy:  # set aside already: the sample does without its texts
                kept, table = [_without(t, heavy) for t in kept], _without(table, heavy)
            if len(block) and table.nbytes > self.most_bytes * len(block) // self.most:
                self.most = min(self.most, max(100, self.most_bytes * len(block) // table.nbytes))
            key = rng.random(len(block))
            chosen = np.flatnonzero(key < limit)
            kept.append(table if len(chosen) == len(block) else table.take(chosen))
            keys.append(key[chosen])
            if sum(map(len, keys)) > 2 * self.most:
                table = pa.concat_tables(kept, promote_options="permissive")
                table, key = _smallest(table, keys, self.most)
                kept, keys, limit = [table], [key], float(key.max())
        if not kept:
            return pa.table({name: pa.nulls(0) for name in names})
        table = pa.concat_tables(kept, promote_options="permissive")
        return _smallest(table, keys, self.most)[0]


def _dictionary(table: pa.Table, name: str) -> Any:
    """The column where it holds levels, which plain values would not tell; else None."""
    import pyarrow.types as pt

    return table.column(name) if pt.is_dictionary(table.schema.field(name).type) else None


def _without(table: pa.Table, names: list[str]) -> pa.Table:
    """The table with these columns null."""
    import pyarrow as pa

    for name in names:
        place = table.column_names.index(name)
        kind = table.schema.field(place).type
        if table.column(place).null_count < len(table):
            table = table.set_column(place, name, pa.nulls(len(table), kind))
    return table


def _smallest(table: pa.Table, keys: list[np.ndarray], most: int) -> tuple[pa.Table, np.ndarray]:
    key = np.concatenate(keys)
    if len(key) <= most:
        return table, key
    kept = np.sort(np.argpartition(key, most)[:most])
    return table.take(kept), key[kept]
