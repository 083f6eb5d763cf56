"""How the text columns of a table write numbers and moments, told by a sample of its rows."""

from __future__ import annotations

from collections import Counter

import numpy as np

from keyhole.columns import cast, dates
from keyhole.columns.numerals import OPPOSITE, Reading, study
from keyhole.columns.profile import Profile
from keyhole.sources.base import ArrowRows

FIRST = 1_000  # texts that show whether a column holds numbers at all
MOST_DATES = 10_000  # texts that tell the format


def read_texts(profiles: dict[str, Profile], rows: ArrowRows, formats: dict[str, str]) -> None:
    """Give each profile its sample, and what its texts tell of numbers and moments.

    Where a column does not show its decimal sign, the other columns and the file do.
    """
    dialect = rows.dialect
    votes = Counter[str]()
    for name, profile in profiles.items():
        profile.sample = rows.column(name)
        profile.untyped = dialect is not None
        if cast.is_text(profile.sample.type):
            profile.sample = cast.texts(profile.sample)
            told = formats.get(name, "")
            profile.reading = _numbers(profile, told=told if told in OPPOSITE else "")
            if profile.reading is not None and profile.reading.sure:
                votes[profile.reading.format.decimal] += 1
        _moments(profile)
    prefer = votes.most_common(1)[0][0] if votes else ""
    prefer = prefer or (dialect.decimal if dialect is not None else "")
    for profile in profiles.values():
        if prefer and profile.reading is not None and not profile.reading.sure:
            profile.reading = _numbers(profile, prefer)


def _numbers(profile: Profile, prefer: str = "", told: str = "") -> Reading | None:
    """What the texts tell of numbers; None where they are none."""
    texts = profile.sample.drop_null()
    first = study(texts[:FIRST], prefer, told)
    if first.share < 0.5:
        return None
    return first if len(texts) <= FIRST else study(texts, prefer, told)


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
