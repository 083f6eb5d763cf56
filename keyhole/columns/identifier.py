"""Whole numbers that name rows and measure nothing: account numbers, phone numbers, keys."""

import re
from collections.abc import Iterator

import numpy as np
from scipy import stats

from keyhole.columns.profile import Profile

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
