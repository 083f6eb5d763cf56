"""How the text columns of a table write numbers and moments, told by a sample of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from keyhole.columns import cast, dates
from keyhole.columns.numerals import OPPOSITE
from keyhole.columns.profile import Profile
from keyhole.columns.reading import Parsed, reading_of, study
from keyhole.sources.base import ArrowRows

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
