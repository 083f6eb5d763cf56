"""The kind of each column and the reason, guessed from its profile."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from keyhole.core.layout import MAX_LEVELS
from keyhole.data import cast, numerals
from keyhole.data.lazy import pt
from keyhole.data.numerals import OPPOSITE
from keyhole.data.vectors import is_vector, unequal
from keyhole.errors import DataError
from keyhole.modalities.profile import Profile

MIN_STEPS = 1_000  # floats between the least and the most number, so that numbers can be learned
MAX_COUNT = 1_000  # larger whole numbers are amounts, not counts of things
MIN_RISING_ROWS = 20  # fewer rows in order may be chance


@dataclass(frozen=True)
class Guess:
    """The kind of a column, the reason, and a caution if the user should check it."""

    kind: str
    reason: str
    caution: str = ""


def guess(profile: Profile) -> Guess:
    """The kind of a column with this profile. Raises: DataError for lists of unequal length."""
    arrow_type = profile.arrow_type
    if profile.observed <= 0:
        return Guess("ignored", "has no values")
    if pt.is_boolean(arrow_type):
        return Guess("boolean", "true or false")
    if profile.dictionary and not profile.overflow and profile.levels:
        return _guess_levels(profile, "has a categorical type, {} levels")
    if pt.is_timestamp(arrow_type) or pt.is_date(arrow_type):
        return Guess("datetime", "has a date type")
    if cast.is_text(arrow_type):
        return _guess_text(profile)
    if pt.is_integer(arrow_type) and profile.style:
        return Guess("datetime", f"digits read as dates ({profile.style})")
    if cast.is_numeric(arrow_type):
        return _guess_number(profile, pt.is_integer(arrow_type))
    if is_vector(arrow_type):  # lists of one length were spread as the source was opened
        raise DataError(unequal(profile.name))
    return Guess("ignored", f"holds {arrow_type}, which is not a value of a table")


def _guess_text(profile: Profile) -> Guess:
    if profile.style:
        return Guess("datetime", f"texts read as dates ({profile.style})")
    if profile.numeric:
        number = _guess_number(profile, profile.whole)
        return Guess(number.kind, number.reason, "; ".join(_cautions(profile)))
    caution, reading = "", profile.reading
    if profile.readable and reading is not None:
        digits = "digits are a code" if reading.code else "texts of digits"
        why = "more than one unit" if reading.units > 1 else digits
        caution = f"{why}, kind 'number' reads them as numbers"
    if profile.ambiguous:
        first, second = profile.ambiguous
        caution = f"dates as {first} or {second}? set the kind 'datetime:{first}' to choose"
    if len(profile.levels) == 2 and not profile.overflow:
        return Guess("boolean", "two texts", caution)
    if profile.heavy:
        return Guess("ignored", "its different texts need too much memory: an identifier")
    if profile.overflow:
        return Guess("ignored", f"more than {MAX_LEVELS:,} different texts: an identifier")
    return _guess_levels(profile, "{} different texts", caution)


def _cautions(profile: Profile) -> list[str]:
    cautions = []
    if profile.not_numbers:
        cells = f"{profile.not_numbers} cells are not numbers, such as {profile.not_number!r:.40}"
        cautions.append(f"{cells}; they are treated as missing")
    reading = profile.reading
    if reading is not None and reading.example:
        sign = reading.format.decimal or "."
        number, other = (f"{numerals.one(reading.example, s):g}" for s in (sign, OPPOSITE[sign]))
        cautions.append(
            f"{reading.example!r} is read as {number}; if it is {other}, set the kind "
            f"'number:{OPPOSITE[sign]}'"
        )
    return cautions


def _guess_levels(profile: Profile, reason: str, caution: str = "") -> Guess:
    if profile.observed >= 20 and len(profile.levels) > 0.9 * profile.observed:
        return Guess("ignored", "nearly every row has its own level: an identifier", caution)
    return Guess("category", reason.format(len(profile.levels)), caution)


def _guess_number(profile: Profile, integer: bool) -> Guess:
    rising = profile.rising and profile.observed >= MIN_RISING_ROWS
    if rising and profile.whole and profile.span + 1 == profile.rows:
        return Guess("ignored", "counts the rows one by one: an identifier")
    if rising and integer and ID_NAME.search(profile.name):
        return Guess("ignored", "rises row by row and is named like an identifier")
    levels = len(profile.levels) + (profile.not_numbers > 0)
    distinct = MAX_LEVELS if profile.overflow else levels
    size = max(abs(profile.least), abs(profile.most))
    if distinct > 2 and profile.span < MIN_STEPS * float(np.spacing(size)):
        return Guess("ignored", "its numbers differ by less than the precision of a float64")
    if not pt.is_duration(profile.arrow_type) and (why := identifier(profile)):
        caution = f"to learn it, use --kind {profile.name}=number or Schema(kinds=...)"
        return Guess("ignored", why, caution)
    if distinct == 2:
        return Guess("boolean", "two numbers")
    small = 0 <= profile.least <= 1 and profile.most <= MAX_COUNT
    if integer and distinct != 1 and small and profile.plain:
        numbers = profile.numbers()  # of counts most are small, the variance about a Poisson's
        if (numbers <= 20).mean() >= 0.5 and numbers.var() >= 0.8 * numbers.mean():
            return Guess("count", "small whole numbers from 0 or 1 up")
    return Guess("number", "whole numbers" if profile.whole else "numbers")


ID_NAME = re.compile(
    r"(^|[_\W])(id|uuid|guid|key|index|rowid|nr|acct|account|phone|tel|iban|ssn)$", re.IGNORECASE
)
DISTINCT = 0.9  # share of distinct numbers from which on a column may be an identifier
MIN_ROWS, MIN_NAMED_ROWS = 50, 20  # too few to tell uniform digits from a density
MIN_DIGITS, MIN_NAMED_DIGITS = 6, 5
EVEN = 0.005  # p-value of a Kolmogorov-Smirnov test from which on digits count as uniform
EXPECTED_TWICE = 10.0  # equal pairs that chance would make: none has probability e^-10
DENSE = 0.5  # share of the whole numbers between the ends, of numbers that rise row by row
WORDS = (2.0**31, 2.0**32, 2.0**63, 2.0**64)  # random keys fill a machine word
EPOCH_S = (1e9, 2.2e9)  # seconds since 1970 of the years 2001 to 2039
PREFIX_ROWS, PREFIX_SHARE = 10, 1 / 3  # rows per prefix; share of the prefixes that occur


def identifier(profile: Profile) -> str | None:
    """Why a column of whole numbers is an identifier; None if it may be a measurement.

    Amounts and sensors may differ in every row too, but their leading digits follow a density;
    those of account numbers are uniform. Times since 1970 are no identifiers.
    """
    named = bool(ID_NAME.search(profile.name))
    numbers = profile.numbers() if profile.whole else np.empty(0)
    least = MIN_NAMED_ROWS if named else MIN_ROWS
    values = np.unique(numbers)
    if len(numbers) < least or len(values) <= DISTINCT * len(numbers):
        return None
    first, last = EPOCH_S
    if any(first * u <= values[0] and values[-1] < last * u for u in (1, 1e3, 1e6, 1e9)):
        return None
    if len(values) == len(numbers) and _never_repeat(numbers, values):
        return "no number repeats, where chance would repeat some: an identifier"
    digits = MIN_NAMED_DIGITS if named else MIN_DIGITS
    if len(str(int(values[-1]))) < digits:
        return None
    if any(stats.kstest(x, "uniform").pvalue > EVEN for x in _fractions(values, digits)):
        return "long numbers that hardly repeat, with uniform digits: an identifier"
    return None


def _never_repeat(numbers: np.ndarray, values: np.ndarray) -> bool:
    """True if independent draws from this range would repeat some numbers (birthday problem)."""
    span = float(values[-1] - values[0]) + 1
    steps = np.diff(numbers)
    if (steps > 0).all() or (steps < 0).all():  # a time axis rises too, but leaves more out
        return len(values) >= DENSE * span
    step = np.diff(values).min()
    designed = step > 1 and (np.mod(values - values[0], step) == 0).all()  # an experiment's
    return not designed and len(values) ** 2 / (2 * span) >= EXPECTED_TWICE


def _fractions(values: np.ndarray, digits: int) -> Iterator[np.ndarray]:
    """The positions (0 to 1) of values in each block from which identifiers may be drawn.

    Blocks are machine words, numbers of one length, and the digits after a prefix.
    """
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
    for rest in range(length - 1, digits - 2, -1):  # digits after the prefix
        prefixes = np.unique(np.floor(values / 10.0**rest))
        possible = prefixes[-1] - prefixes[0] + 1
        scattered = len(prefixes) <= PREFIX_SHARE * possible
        if len(prefixes) == 1 or (scattered and len(prefixes) * PREFIX_ROWS <= len(values)):
            yield np.mod(values, 10.0**rest) / 10.0**rest


MIN_COLUMNS = 16  # that may look like one measure
MIN_SHARE = 0.5  # of the columns that span most of the common range


def measure(profiles: Sequence[Profile]) -> float | None:
    """The root mean variance of columns that share a scale; None if none of them varies."""
    varying = [p for p in profiles if p.numeric and p.most > p.least]
    variance = sum(float(p.numbers().var()) for p in varying)
    return float(np.sqrt(variance / len(varying))) if varying and variance > 0 else None


def look_alike(profiles: Sequence[Profile]) -> bool:
    """True for many columns of numbers over one range, with more than two values."""
    observed = [p for p in profiles if p.observed]
    varying = [p for p in observed if p.numeric and p.most > p.least]
    if len(varying) < MIN_COLUMNS or not all(p.numeric and not p.not_numbers for p in observed):
        return False
    least, most = min(p.least for p in varying), max(p.most for p in varying)
    room = 0.1 * (most - least)
    spanning = [p.least <= least + room and p.most >= most - room for p in varying]
    binary = all(len(p.levels) == 2 and not p.overflow for p in varying)
    return float(np.mean(spanning)) >= MIN_SHARE and not binary
