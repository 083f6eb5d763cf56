"""Which kind a column is, and the reason in words: shown before training, open to override."""

from dataclasses import dataclass

from keyhole.columns import cast
from keyhole.columns.identifier import ID_NAME, identifier
from keyhole.columns.profile import MOST_LEVELS, Profile

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
    if profile.dictionary and not profile.overflow and not pt.is_temporal(kind):
        return Guess("category", f"typed as levels, {len(profile.levels)} of them")
    if pt.is_timestamp(kind) or pt.is_date(kind):
        return Guess("moment", "typed as dates")
    if cast.is_text(kind):
        return _guess_text(profile)
    if pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind) or pt.is_duration(kind):
        return _guess_number(profile, pt.is_integer(kind))
    return Guess("aside", f"holds {kind}, which is no cell of a table")


def _guess_text(profile: Profile) -> Guess:
    if profile.numeric:
        found = _guess_number(profile, profile.whole)
        if profile.not_numbers:
            odd = f"{profile.not_numbers} cells are no numbers, such as {profile.odd!r:.40}"
            return Guess(found.kind, found.reason, f"{odd}; they count as missing")
        return found
    if profile.style:
        return Guess("moment", f"texts read as dates ({profile.style})")
    if len(profile.levels) == 2 and not profile.overflow:
        return Guess("flag", "two texts")
    if profile.overflow:
        return Guess("aside", f"more than {MOST_LEVELS:,} different texts: an identifier")
    if profile.seen >= 20 and len(profile.levels) > 0.9 * profile.seen:
        return Guess("aside", "nearly every row has a text of its own: an identifier")
    return Guess("category", f"{len(profile.levels)} different texts")


def _guess_number(profile: Profile, integer: bool) -> Guess:
    import pyarrow.types as pt

    steps = profile.whole and profile.rising and profile.seen >= 20
    if steps and profile.most - profile.least + 1 == profile.rows:
        return Guess("aside", "counts the rows one by one: an identifier")
    if integer and profile.rising and profile.seen >= 20 and ID_NAME.search(profile.name):
        return Guess("aside", "rises row by row and is named like an identifier")
    if not pt.is_duration(profile.arrow_type) and (why := identifier(profile)):
        told = f"--kind {profile.name}=number, or Hints(kinds=...), learns it all the same"
        return Guess("aside", why, told)
    distinct = _distinct_numbers(profile)
    if distinct == 2:
        return Guess("flag", "two numbers")
    small = 0 <= profile.least <= 1 and profile.most <= MOST_COUNT
    if integer and distinct != 1 and small and _counts_things(profile):
        return Guess("count", "small whole numbers from 0 or 1 up")
    return Guess("number", "whole numbers" if profile.whole else "numbers")


def _distinct_numbers(profile: Profile) -> int:
    if profile.overflow:
        return MOST_LEVELS
    return len(profile.levels) + (profile.not_numbers > 0)


def _counts_things(profile: Profile) -> bool:
    """Small numbers mostly, scattered at least about as much as a Poisson's would be."""
    numbers = profile.numbers()
    return bool((numbers <= 20).mean() >= 0.5 and numbers.var() >= 0.8 * numbers.mean())
