"""The kind of each column and the reason, guessed from its profile."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from keyhole.data import cast, numerals
from keyhole.data.numerals import OPPOSITE
from keyhole.modalities.tabular.profile import MOST_LEVELS, Profile

ID_NAME = re.compile(
    r"(^|[_\W])(id|uuid|guid|key|index|rowid|nr|acct|account|phone|tel|iban|ssn)$", re.IGNORECASE
)
DISTINCT = 0.9  # share of the rows from which on values hardly repeat
LEAST_ROWS, LEAST_NAMED_ROWS = 50, 20  # fewer do not tell even digits from a density
LEAST_DIGITS, LEAST_NAMED_DIGITS = 6, 5
EVEN = 0.005  # p-value of Kolmogorov's and Smirnov's test from which on digits count as even
EXPECTED_TWICE = 10.0  # pairs that chance would make equal: none has probability e^-10
DENSE = 0.5  # share of the whole numbers between the ends, of numbers that rise row by row
WORDS = (2.0**31, 2.0**32, 2.0**63, 2.0**64)  # random keys fill a machine word
EPOCH_S = (1e9, 2.2e9)  # seconds since 1970 of the years 2001 to 2039
PREFIX_ROWS, PREFIX_SHARE = 10, 1 / 3  # rows a prefix; share of the prefixes in between


def identifier(profile: Profile) -> str | None:
    """Why a column of whole numbers only names its rows; None where it may measure something.

    Amounts, incomes and sensors may differ in every row too, but their leading digits follow a
    density; those of account numbers are even. Times since 1970 are no identifiers.
    """
    named = bool(ID_NAME.search(profile.name))
    numbers = profile.numbers() if profile.whole else np.empty(0)
    least = LEAST_NAMED_ROWS if named else LEAST_ROWS
    values = np.unique(numbers)
    if len(numbers) < least or len(values) <= DISTINCT * len(numbers) or _times(values):
        return None
    if len(values) == len(numbers) and _dealt_out(numbers, values):
        return "no number comes twice, where chance would repeat some: an identifier"
    digits = LEAST_NAMED_DIGITS if named else LEAST_DIGITS
    if len(str(int(values[-1]))) < digits:
        return None
    if any(stats.kstest(place, "uniform").pvalue > EVEN for place in _places(values, digits)):
        return "long numbers that hardly repeat, with digits as if at random: an identifier"
    return None


def _times(values: np.ndarray) -> bool:
    """True where all could be seconds since 1970, or thousandths, millionths, billionths."""
    low, high = EPOCH_S
    return any(low * part <= values[0] and values[-1] < high * part for part in (1, 1e3, 1e6, 1e9))


def _dealt_out(numbers: np.ndarray, values: np.ndarray) -> bool:
    """True where numbers are used up one by one: the birthday problem would repeat some."""
    span = float(values[-1] - values[0]) + 1
    steps = np.diff(numbers)
    if (steps > 0).all() or (steps < 0).all():  # a time axis rises too, but leaves more out
        return len(values) >= DENSE * span
    even = bool((np.mod(values - values[0], np.diff(values).min()) == 0).all())
    if even and np.diff(values).min() > 1:  # the points of a design, shuffled
        return False
    return len(values) ** 2 / (2 * span) >= EXPECTED_TWICE


def _places(values: np.ndarray, digits: int) -> Iterator[np.ndarray]:
    """Where in a whole block of numbers the values lie, 0 to 1, for each block that holds them."""
    low, high = float(values[0]), float(values[-1])
    for word in WORDS:
        if low >= 0 and word / 2 < high < word:
            yield values / word
        if low < 0 and -word / 2 <= low < -word / 4 and word / 4 < high < word / 2:
            yield values / word + 0.5
    if low < 0:
        return
    length = len(str(int(high)))
    block = 10.0**length
    yield values / block
    if len(str(int(low))) < length:
        return
    yield (values - block / 10) / (block - block / 10)
    for rest in range(length - 1, digits - 2, -1):  # digits after a prefix
        prefixes = np.unique(np.floor(values / 10.0**rest))
        between = prefixes[-1] - prefixes[0] + 1
        scattered = len(prefixes) <= PREFIX_SHARE * between
        several = len(prefixes) * PREFIX_ROWS <= len(values)
        if len(prefixes) == 1 or (scattered and several):
            yield np.mod(values, 10.0**rest) / 10.0**rest


LEAST_COLUMNS = 16
LEAST_SHARE = 0.5  # of the columns reach over most of the common range


def measure(profiles: Sequence[Profile]) -> float | None:
    """The scale that the columns share: their root mean variance; None where they share none."""
    varying = [p for p in profiles if p.numeric and p.most > p.least]
    variance = sum(float(p.numbers().var()) for p in varying)
    return float(np.sqrt(variance / len(varying))) if varying and variance > 0 else None


def look_alike(profiles: Sequence[Profile]) -> bool:
    """True for many columns, all of numbers, with more than two values, over one range."""
    held = [p for p in profiles if p.observed]
    varying = [p for p in held if p.numeric and p.most > p.least]
    if len(varying) < LEAST_COLUMNS or not all(p.numeric and not p.not_numbers for p in held):
        return False
    least, most = min(p.least for p in varying), max(p.most for p in varying)
    room = 0.1 * (most - least)
    wide = [p.least <= least + room and p.most >= most - room for p in varying]
    two = all(len(p.levels) == 2 and not p.overflow for p in varying)
    return float(np.mean(wide)) >= LEAST_SHARE and not two


LEAST_STEPS = 1_000  # floats between the least and the most number, so that numbers can be learned
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
    if profile.observed <= 0:
        return Guess("ignored", "holds no value at all")
    if pt.is_boolean(kind):
        return Guess("boolean", "true or false")
    if profile.dictionary and not profile.overflow and profile.levels:
        return _guess_levels(profile, "typed as levels, {} of them")
    if pt.is_timestamp(kind) or pt.is_date(kind):
        return Guess("datetime", "typed as dates")
    if cast.is_text(kind):
        return _guess_text(profile)
    if pt.is_integer(kind) and profile.style:
        return Guess("datetime", f"digits read as dates ({profile.style})")
    if cast.is_numeric(kind):
        return _guess_number(profile, pt.is_integer(kind))
    return Guess("ignored", f"holds {kind}, which is not a value of a table")


def _guess_text(profile: Profile) -> Guess:
    if profile.style:
        return Guess("datetime", f"texts read as dates ({profile.style})")
    if profile.numeric:
        number = _guess_number(profile, profile.whole)
        return Guess(number.kind, number.reason, "; ".join(_cautions(profile)))
    return _guess_texts(profile)


def _cautions(profile: Profile) -> list[str]:
    """What a user should look at in texts that are read as numbers."""
    cautions = []
    if profile.not_numbers:
        odd = f"{profile.not_numbers} cells are no numbers, such as {profile.not_number!r:.40}"
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
        note = f"; dates as {first} or {second}? set the kind 'datetime:{first}' to choose"
    if len(profile.levels) == 2 and not profile.overflow:
        return Guess("boolean", "two texts", note[2:])
    if profile.heavy:
        return Guess("ignored", "its different texts take too much memory: an identifier")
    if profile.overflow:
        return Guess("ignored", f"more than {MOST_LEVELS:,} different texts: an identifier")
    return _guess_levels(profile, "{} different texts", note)


def _guess_levels(profile: Profile, reason: str, note: str = "") -> Guess:
    if profile.observed >= 20 and len(profile.levels) > 0.9 * profile.observed:
        return Guess("ignored", "nearly every row has a level of its own: an identifier", note[2:])
    return Guess("category", reason.format(len(profile.levels)), note[2:])


def _guess_number(profile: Profile, integer: bool) -> Guess:
    import pyarrow.types as pt

    steps = profile.whole and profile.rising and profile.observed >= 20
    if steps and profile.span + 1 == profile.rows:
        return Guess("ignored", "counts the rows one by one: an identifier")
    if integer and profile.rising and profile.observed >= 20 and ID_NAME.search(profile.name):
        return Guess("ignored", "rises row by row and is named like an identifier")
    distinct = _distinct_numbers(profile)
    if distinct > 2 and _too_fine(profile):
        return Guess(
            "ignored", "numbers closer together than a float of their size can tell apart"
        )
    if not pt.is_duration(profile.arrow_type) and (why := identifier(profile)):
        told = f"--kind {profile.name}=number, or Schema(kinds=...), learns it all the same"
        return Guess("ignored", why, told)
    if distinct == 2:
        return Guess("boolean", "two numbers")
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
