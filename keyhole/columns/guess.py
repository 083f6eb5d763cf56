"""Which kind a column is, and the reason in words: shown before training, open to override."""

from dataclasses import dataclass

import numpy as np

from keyhole.columns import cast, numerals
from keyhole.columns.identifier import ID_NAME, identifier
from keyhole.columns.numerals import OPPOSITE
from keyhole.columns.profile import MOST_LEVELS, Profile

LEAST_STEPS = 1_000  # floats between the least and the most number, so that numbers can be learnt
MOST_COUNT = 1_000  # larger whole numbers are amounts, not counts of things


@dataclass(frozen=True)
class Guess:
    """A kind and why it was guessed; a caution is something that the user should look at."""

    kind: str
    reason: str
    caution: str = ""


def guess(profile: Profile) -> Guess:
    """The kind of a column with this profile."""
    import pyarrow.types as pt

    kind = profile.arrow_type
    if profile.seen <= 0:
        return Guess("aside", "holds no value at all")
    if pt.is_boolean(kind):
        return Guess("flag", "true or false")
    if profile.dictionary and not profile.overflow and profile.levels:
        return _guess_levels(profile, "typed as levels, {} of them")
    if pt.is_timestamp(kind) or pt.is_date(kind):
        return Guess("moment", "typed as dates")
    if cast.is_text(kind):
        return _guess_text(profile)
    if pt.is_integer(kind) and profile.style:
        return Guess("moment", f"digits read as dates ({profile.style})")
    if cast.is_numeric(kind):
        return _guess_number(profile, pt.is_integer(kind))
    return Guess("aside", f"holds {kind}, which is no cell of a table")


def _guess_text(profile: Profile) -> Guess:
    if profile.style:
        return Guess("moment", f"texts read as dates ({profile.style})")
    if profile.numeric:
        number = _guess_number(profile, profile.whole)
        return Guess(number.kind, number.reason, "; ".join(_cautions(profile)))
    return _guess_texts(profile)


def _cautions(profile: Profile) -> list[str]:
    """What a user should look at in texts that are read as numbers."""
    cautions = []
    if profile.not_numbers:
        odd = f"{profile.not_numbers} cells are no numbers, such as {profile.odd!r:.40}"
        cautions.append(f"{odd}; they count as missing")
    reading = profile.reading
    if reading is not None and reading.example:
        sign = reading.format.decimal or "."
        one, other = (f"{numerals.one(reading.example, s):g}" for s in (sign, OPPOSITE[sign]))
        cautions.append(
            f"{reading.example!r} is read as {one}, and could be {other}: kind "
            f"'number:{OPPOSITE[sign]}' says so"
        )
    return cautions


def _guess_texts(profile: Profile) -> Guess:
    """The kind of texts that are neither dates nor numbers, digits that are a code among them."""
    reading = profile.reading
    note = ""
    if profile.readable and reading is not None:
        note = "digits are a code" if reading.code else "texts of digits"
        note = "more than one unit" if reading.units > 1 else note
        note = f"; {note}, kind 'number' reads them as numbers"
    if profile.ambiguous:
        first, second = profile.ambiguous
        note = f"; dates as {first} or {second}? kind 'moment:{first}' says which"
    if len(profile.levels) == 2 and not profile.overflow:
        return Guess("flag", "two texts", note[2:])
    if profile.heavy:
        return Guess("aside", "its different texts take too much memory: an identifier")
    if profile.overflow:
        return Guess("aside", f"more than {MOST_LEVELS:,} different texts: an identifier")
    return _guess_levels(profile, "{} different texts", note)


def _guess_levels(profile: Profile, reason: str, note: str = "") -> Guess:
    if profile.seen >= 20 and len(profile.levels) > 0.9 * profile.seen:
        return Guess("aside", "nearly every row has a level of its own: an identifier", note[2:])
    return Guess("category", reason.format(len(profile.levels)), note[2:])


def _guess_number(profile: Profile, integer: bool) -> Guess:
    import pyarrow.types as pt

    steps = profile.whole and profile.rising and profile.seen >= 20
    if steps and profile.span + 1 == profile.rows:
        return Guess("aside", "counts the rows one by one: an identifier")
    if integer and profile.rising and profile.seen >= 20 and ID_NAME.search(profile.name):
        return Guess("aside", "rises row by row and is named like an identifier")
    distinct = _distinct_numbers(profile)
    if distinct > 2 and _too_fine(profile):
        return Guess("aside", "numbers closer together than a float of their size can tell apart")
    if not pt.is_duration(profile.arrow_type) and (why := identifier(profile)):
        told = f"--kind {profile.name}=number, or Hints(kinds=...), learns it all the same"
        return Guess("aside", why, told)
    if distinct == 2:
        return Guess("flag", "two numbers")
    small = 0 <= profile.least <= 1 and profile.most <= MOST_COUNT
    if integer and distinct != 1 and small and profile.plain and _counts_things(profile):
        return Guess("count", "small whole numbers from 0 or 1 up")
    return Guess("number", "whole numbers" if profile.whole else "numbers")


def _distinct_numbers(profile: Profile) -> int:
    if profile.overflow:
        return MOST_LEVELS
    return len(profile.levels) + (profile.not_numbers > 0)


def _too_fine(profile: Profile) -> bool:
    """True where a float64 would make one number of many."""
    size = max(abs(profile.least), abs(profile.most))
    return profile.span < LEAST_STEPS * float(np.spacing(size))


def _counts_things(profile: Profile) -> bool:
    """Small numbers mostly, scattered at least about as much as a Poisson's would be."""
    numbers = profile.numbers()
    return bool((numbers <= 20).mean() >= 0.5 and numbers.var() >= 0.8 * numbers.mean())
